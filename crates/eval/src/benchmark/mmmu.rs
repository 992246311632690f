//! MMMU files as TinyLLaVA Factory takes them: `anns_for_eval.json`, which says what is asked, with the pictures in
//! `all_images/`, and `answer_dict_val.json` of the official program, there or in `eval/`, which has the answers.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::prompts::SENTENCES;
use super::{Benchmark, Conventions, FormScore, Loaded, Question, Submission, files, shown};
use crate::score::Answers;
use crate::score::mmmu::{self, Asked, Convention, MmmuScore, Part};
use crate::score::mmmu_parse;
use crate::{EvalError, Table};

/// The form `mmmu`.
pub struct Mmmu;

/// Where pictures lie.
pub(super) const FOLDERS: [&str; 2] = ["all_images", "images"];

#[derive(Deserialize)]
struct Entry {
    id: String,
    prompt: String,
    question_type: String,
    #[serde(default)]
    all_choices: Vec<String>,
    #[serde(default)]
    index2ans: HashMap<String, String>,
    #[serde(default)]
    image: OneOrMore,
}

/// One text, or a list of them.
#[derive(Default, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
    #[default]
    None,
}

impl OneOrMore {
    pub(super) fn list(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::More(all) => all,
            Self::None => Vec::new(),
        }
    }
}

#[derive(Deserialize)]
struct Truth {
    question_type: String,
    ground_truth: OneOrMore,
}

/// The questions of this form, whatever files they come from.
pub(super) struct Questions {
    pub questions: Vec<Question>,
    pub asked: Vec<Asked>,
    /// The official ids.
    pub names: Vec<String>,
    pub answered: bool,
}

impl Benchmark for Mmmu {
    fn form(&self) -> &'static str {
        "mmmu"
    }

    fn files(&self) -> &'static str {
        "anns_for_eval.json"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let path = dir.join("anns_for_eval.json");
        if !path.is_file() {
            return Ok(None);
        }
        let answers =
            ["answer_dict_val.json", "eval/answer_dict_val.json"].map(|name| dir.join(name));
        let answers = answers.into_iter().find(|path| path.is_file());
        let mut truths: HashMap<String, Truth> = match &answers {
            Some(path) => files::entries(path)?.into_iter().collect(),
            None => HashMap::new(),
        };
        let mut all = Questions {
            questions: Vec::new(),
            asked: Vec::new(),
            names: Vec::new(),
            answered: answers.is_some(),
        };
        let mut seen = std::collections::HashSet::new();
        for (line, entry) in files::objects::<Entry>(&path)? {
            let wrong = |problem: String| {
                EvalError::line(&path, line, format!("question {}: {problem}", entry.id))
            };
            if !seen.insert(entry.id.clone()) {
                return Err(wrong("stands twice; ids must differ".into()));
            }
            let truth = match (truths.remove(&entry.id), &answers) {
                (Some(truth), _) if truth.question_type != entry.question_type => {
                    let (here, there) = (&entry.question_type, &truth.question_type);
                    return Err(wrong(format!(
                        "is `{here}` here and `{there}` in answer_dict_val.json"
                    )));
                }
                (Some(truth), _) => truth.ground_truth.list(),
                (None, None) => Vec::new(),
                (None, Some(answers)) => {
                    return Err(wrong(format!(
                        "has no answer in {}; the two files must be of one release",
                        answers.display()
                    )));
                }
            };
            let letters =
                (0..entry.all_choices.len()).map(|index| mmmu_parse::letter(index).to_string());
            if !letters.eq(entry.all_choices.iter().cloned()) {
                return Err(wrong("`all_choices` are not the letters from A on".into()));
            }
            let choices = entry
                .all_choices
                .iter()
                .map(|letter| entry.index2ans.get(letter).cloned());
            let choices = choices.collect::<Option<Vec<String>>>();
            let choices =
                choices.ok_or_else(|| wrong("`index2ans` lacks one of `all_choices`".into()))?;
            let pictures = entry.image.list();
            let pictures = pictures
                .iter()
                .map(|name| files::picture_in(dir, &FOLDERS, name));
            let pictures = pictures.collect::<Result<Vec<_>, _>>();
            let pictures = pictures.map_err(|why| {
                EvalError::line(&path, line, format!("question {}: {why}", entry.id))
            })?;
            let subject = subject(&entry.id).ok_or_else(|| {
                let problem = format!("question {}: expected an id like validation_Math_1, whose middle is the subject", entry.id);
                EvalError::line(&path, line, problem)
            })?;
            all.push(
                entry.id.clone(),
                subject,
                choices,
                truth,
                entry.prompt,
                pictures,
            );
        }
        Ok(Some(Box::new(all)))
    }
}

/// The subject within an official id.
pub(super) fn subject(id: &str) -> Option<String> {
    let (_, rest) = id.split_once('_')?;
    let (subject, number) = rest.rsplit_once('_')?;
    let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (numbered && !subject.is_empty()).then(|| subject.to_owned())
}

impl Questions {
    /// Adds a question.
    pub(super) fn push(
        &mut self,
        name: String,
        subject: String,
        choices: Vec<String>,
        truths: Vec<String>,
        text: String,
        pictures: Vec<super::Picture>,
    ) {
        let id = format!("mmmu/{name}");
        self.questions.push(Question {
            id: id.clone(),
            pictures,
            text,
            form: "mmmu",
            truth: truths.join(" or "),
            longest: SENTENCES,
        });
        self.asked.push(Asked {
            id,
            subject,
            choices,
            truths,
        });
        self.names.push(name);
    }
}

impl Loaded for Questions {
    fn questions(&self) -> &[Question] {
        &self.questions
    }

    fn keep(&mut self, count: usize) {
        self.questions.truncate(count);
        self.asked.truncate(count);
        self.names.truncate(count);
    }

    fn credit(&self, index: usize, answer: &str) -> f64 {
        Convention::Official.credit(answer, &self.asked[index])
    }

    fn score(&self, answers: &Answers) -> FormScore {
        let [score, lmms] = Convention::ALL.map(|(_, how)| mmmu::score(&self.asked, answers, how));
        let mut details = serde_json::to_value(&score).unwrap_or_default();
        details["lmms_eval"] = serde_json::json!({
            "overall": lmms.overall, "drawn": lmms.drawn, "without_draws": lmms.without_draws,
        });
        let names = Convention::ALL.map(|(name, _)| name);
        let both = [score.overall.accuracy, lmms.overall.accuracy];
        let conventions = Conventions {
            of: "accuracy",
            by: names.into_iter().zip(both).collect(),
        };
        FormScore {
            form: "mmmu",
            measure: "accuracy",
            percent: self.answered.then_some(score.overall.accuracy),
            questions: self.questions.len(),
            table: if self.answered {
                table(&score)
            } else {
                Table::default()
            },
            details,
            conventions: if self.answered {
                conventions
            } else {
                Conventions::default()
            },
            combined: None,
        }
    }

    fn submissions(&self, answers: &Answers) -> Vec<Submission> {
        let rows = self.names.iter().zip(&self.asked).map(|(name, asked)| {
            let answer = answers.get(&asked.id).unwrap_or_default();
            let said = match mmmu_parse::choice(answer, &asked.choices, Convention::Official) {
                _ if asked.choices.is_empty() => answer.to_owned(),
                Some(choice) => mmmu_parse::letter(choice).to_string(),
                // The server wants a letter. The programs draw one; here the same question has the same one each time.
                None => mmmu_parse::letter(
                    name.bytes().map(usize::from).sum::<usize>() % asked.choices.len(),
                )
                .to_string(),
            };
            (name.clone(), said.into())
        });
        let rows: serde_json::Map<String, serde_json::Value> = rows.collect();
        Submission::json("mmmu_output.json", &rows)
    }
}

fn table(score: &MmmuScore) -> Table {
    let mut table = Table::new(
        "MMMU, %",
        &["questions of", "subject", "questions", "accuracy"],
    );
    let mut row = |of: &str, name: &str, part: &Part| {
        table.push([of, name, &part.num.to_string(), &shown(part.accuracy)]);
    };
    for (discipline, part) in &score.per_discipline {
        row(discipline, "", part);
        for (_, subjects) in mmmu::DISCIPLINES
            .iter()
            .filter(|(name, _)| name == discipline)
        {
            for (name, part) in subjects
                .iter()
                .filter_map(|name| Some((name, score.per_subject.get(*name)?)))
            {
                row("", name, part);
            }
        }
    }
    row("multiple choice", "", &score.multi_choice);
    row("open", "", &score.open);
    row("all", "", &score.overall);
    table.note = format!(
        "In {} answers no choice was found: each counts as much as a letter drawn at random is worth. If they are wrong: {}.",
        score.drawn,
        shown(score.without_draws)
    );
    table
}
