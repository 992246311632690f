//! MM-Vet files: `mm-vet.json` of the official release, and where it lies beside it LLaVA's `llava-mm-vet.jsonl`, which says
//! what is asked.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde::Deserialize;

use super::files::{self, Listed};
use super::prompts::SENTENCES;
use super::{Benchmark, Conventions, FormScore, Judged, Loaded, Question, Submission, shown};
use crate::score::Answers;
use crate::score::mmvet::{self, Grades, Item, MmVetScore};
use crate::{EvalError, Table};

/// The form `mmvet`.
pub struct MmVet;

/// Where pictures lie.
const FOLDERS: [&str; 2] = ["images", "mm-vet/images"];

#[derive(Deserialize)]
struct Entry {
    imagename: String,
    question: String,
    answer: String,
    capability: BTreeSet<String>,
}

struct Questions {
    questions: Vec<Question>,
    items: Vec<Item>,
    /// What the judge reads, without the sentence that a question file may add.
    asked: Vec<String>,
}

impl Benchmark for MmVet {
    fn form(&self) -> &'static str {
        "mmvet"
    }

    fn files(&self) -> &'static str {
        "mm-vet.json"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let [path, listed] = ["mm-vet.json", "llava-mm-vet.jsonl"].map(|name| dir.join(name));
        match (path.is_file(), listed.is_file()) {
            (true, _) => {}
            (false, false) => return Ok(None),
            (false, true) => {
                return Err(EvalError::file(
                    &listed,
                    "mm-vet.json, which has the answers, is not beside it",
                ));
            }
        }
        let entries: Vec<(String, Entry)> = files::entries(&path)?;
        let mut asked: HashMap<String, Listed> = HashMap::new();
        if listed.is_file() {
            for ask in files::listed(&listed)? {
                asked.insert(format!("v1_{}", ask.question_id), ask);
            }
        }
        let mut all = Questions {
            questions: Vec::new(),
            items: Vec::new(),
            asked: Vec::new(),
        };
        for (name, entry) in entries {
            let wrong =
                |problem: String| EvalError::file(&path, format!("question {name}: {problem}"));
            let (image, text) = match asked.remove(&name) {
                Some(ask) => (ask.image, ask.text),
                None if listed.is_file() => {
                    return Err(wrong(format!(
                        "is not asked in {}; the two files must be of one release",
                        listed.display()
                    )));
                }
                None => (entry.imagename, entry.question.clone()),
            };
            let picture = files::picture_in(dir, &FOLDERS, &image).map_err(wrong)?;
            let number = name.trim_start_matches("v1_");
            all.questions.push(Question {
                id: format!("mmvet/{number}"),
                pictures: vec![picture],
                text,
                form: self.form(),
                truth: entry.answer.clone(),
                longest: SENTENCES,
            });
            all.asked.push(entry.question);
            all.items.push(Item {
                id: name,
                capabilities: entry.capability,
                truth: entry.answer,
            });
        }
        match asked.values().next() {
            None => Ok(Some(Box::new(all))),
            Some(ask) => Err(ask.wrong(
                &listed,
                "is not in mm-vet.json; the two files must be of one release",
            )),
        }
    }
}

impl Questions {
    /// Mean share of the truths' parts that stand in the answers, in per cent.
    fn contained(&self, answers: &Answers) -> f64 {
        let both = self.questions.iter().zip(&self.items);
        let each = both.map(|(question, item)| {
            let answer = answers.get(&question.id).unwrap_or_default();
            100.0 * mmvet::contained(answer, &item.truth)
        });
        crate::score::mean(each)
    }
}

impl Questions {
    fn form_score(&self, answers: &Answers, score: Option<MmVetScore>) -> FormScore {
        let contained = self.contained(answers);
        let mut table = score.as_ref().map(table).unwrap_or_default();
        table.note += &format!(
            "Not MM-Vet, without a judge: {} % of the truths' parts stand word for word in the answers.",
            shown(contained)
        );
        if score.is_none() {
            table.title = "MM-Vet has no score without a judge".to_owned();
            table.note +=
                " MM-Vet's own score takes one: --judge-url, or a file of grades with --grades.";
        }
        FormScore {
            form: "mmvet",
            measure: "mean grade",
            percent: score.as_ref().map(|score| score.total),
            questions: self.questions.len(),
            details: serde_json::json!({"graded": score, "parts_contained_no_mmvet": contained}),
            table,
            conventions: Conventions::default(),
            combined: None,
        }
    }
}

impl Loaded for Questions {
    fn questions(&self) -> &[Question] {
        &self.questions
    }

    fn keep(&mut self, count: usize) {
        self.questions.truncate(count);
        self.items.truncate(count);
        self.asked.truncate(count);
    }

    /// Without a judge: what [`mmvet::contained`] says.
    fn credit(&self, index: usize, answer: &str) -> f64 {
        mmvet::contained(answer, &self.items[index].truth)
    }

    fn score(&self, answers: &Answers) -> FormScore {
        self.form_score(answers, None)
    }

    fn graded(&self, answers: &Answers, grades: &Grades) -> Result<FormScore, String> {
        let lacks = self
            .items
            .iter()
            .find(|item| !grades.contains_key(&item.id));
        match lacks {
            Some(item) => Err(format!("no grade for {}", item.id)),
            None => Ok(self.form_score(answers, Some(mmvet::score(&self.items, grades)))),
        }
    }

    fn submissions(&self, answers: &Answers) -> Vec<Submission> {
        let rows = self
            .questions
            .iter()
            .zip(&self.items)
            .map(|(question, item)| {
                let answer = answers.get(&question.id).unwrap_or_default();
                (item.id.clone(), answer.into())
            });
        let rows: serde_json::Map<String, serde_json::Value> = rows.collect();
        Submission::json("mm-vet_results.json", &rows)
    }

    fn judged(&self, answers: &Answers) -> Vec<Judged> {
        let all = self.questions.iter().zip(&self.items).zip(&self.asked);
        let judged = all.map(|((question, item), asked)| Judged {
            id: item.id.clone(),
            question: asked.clone(),
            truth: item.truth.clone(),
            answer: answers.get(&question.id).unwrap_or_default().to_owned(),
        });
        judged.collect()
    }
}

fn table(score: &MmVetScore) -> Table {
    let judges: Vec<&str> = score.judges.iter().map(String::as_str).collect();
    let title = format!("MM-Vet, graded by {}, %", judges.join(", "));
    let mut table = Table::new(
        title,
        &["questions of", "capabilities", "questions", "grade"],
    );
    for (of, groups) in [
        ("capability", &score.capabilities),
        ("integration", &score.integrations),
    ] {
        for (name, percent) in &groups.scores {
            let count = groups.counts.get(name).copied().unwrap_or(0);
            table.push([of, name, &count.to_string(), &shown(*percent)]);
        }
    }
    let total = format!("{} ± {}", shown(score.total), shown(score.std));
    table.push(["all", "", &score.items.to_string(), &total]);
    table.note = format!("Runs of the judge: {}. ", score.runs.len());
    table
}
