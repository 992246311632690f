//! VQAv2 files: `vqav2_questions.json` with `vqav2_annotations.json`, in the official layout; or under their official names,
//! `v2_OpenEnded_mscoco_<split>_questions.json` with `v2_mscoco_<split>_annotations.json`, which the test splits do not
//! have; or LLaVA's `llava_vqav2_mscoco_<split>.jsonl`, which are answered for the server alone.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::prompts::{SCENES, SHORT, WORDS, with};
use super::{Benchmark, Conventions, FormScore, Loaded, Question, Submission, files, shown};
use crate::score::Answers;
use crate::score::answers::number;
use crate::score::vqav2::{self, Annotation};
use crate::{EvalError, Table};

/// The form `vqa`.
pub struct Vqav2;

#[derive(Deserialize)]
struct QuestionsFile {
    questions: Vec<QuestionEntry>,
}

#[derive(Deserialize)]
struct QuestionEntry {
    #[serde(deserialize_with = "number")]
    image_id: u64,
    question: String,
    #[serde(deserialize_with = "number")]
    question_id: u64,
}

#[derive(Deserialize)]
struct AnnotationsFile {
    annotations: Vec<AnnotationEntry>,
}

#[derive(Deserialize)]
struct AnnotationEntry {
    #[serde(deserialize_with = "number")]
    question_id: u64,
    #[serde(deserialize_with = "number")]
    image_id: u64,
    question_type: String,
    answer_type: String,
    multiple_choice_answer: String,
    answers: Vec<PersonEntry>,
}

#[derive(Deserialize)]
struct PersonEntry {
    answer: String,
}

struct Questions {
    questions: Vec<Question>,
    annotations: Vec<Annotation>,
    /// What an upload to the server names, in its order: perhaps more than was asked.
    upload: Vec<String>,
    /// Whether the answers are public.
    answered: bool,
}

/// The files of one split.
struct Split {
    asked: PathBuf,
    answered: Option<PathBuf>,
    /// Where pictures lie.
    folders: Vec<String>,
    released: bool,
}

impl Benchmark for Vqav2 {
    fn form(&self) -> &'static str {
        "vqa"
    }

    fn files(&self) -> &'static str {
        "vqav2_questions.json with vqav2_annotations.json, v2_OpenEnded_mscoco_<split>_questions.json or \
         llava_vqav2_mscoco_<split>.jsonl"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let split = match own(dir)? {
            Some(own) => Some(own),
            None => released(dir)?,
        };
        let all = match split {
            Some(split) => read(dir, &split)?,
            None => match listed(dir)? {
                Some(all) => all,
                None => return Ok(None),
            },
        };
        Ok(Some(Box::new(all)))
    }
}

/// The files of a test set.
fn own(dir: &Path) -> Result<Option<Split>, EvalError> {
    let [asked, answered] =
        ["questions", "annotations"].map(|what| dir.join(format!("vqav2_{what}.json")));
    let lacks =
        |path: &Path, other: &str| Err(EvalError::file(path, format!("{other} is not beside it")));
    match (asked.is_file(), answered.is_file()) {
        (false, false) => Ok(None),
        (true, false) => lacks(&asked, "vqav2_annotations.json"),
        (false, true) => lacks(&answered, "vqav2_questions.json"),
        (true, true) => Ok(Some(Split {
            asked,
            answered: Some(answered),
            folders: vec![files::IMAGES.to_owned()],
            released: false,
        })),
    }
}

/// The files as they are released.
fn released(dir: &Path) -> Result<Option<Split>, EvalError> {
    let split = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        let split = name
            .strip_prefix("v2_OpenEnded_mscoco_")?
            .strip_suffix("_questions.json")?;
        Some(split.to_owned())
    };
    let mut found = files::list(dir, |name| split(Path::new(name)).is_some())?;
    let annotations =
        |path: &Path| Some(dir.join(format!("v2_mscoco_{}_annotations.json", split(path)?)));
    let answered = |path: &Path| annotations(path).filter(|path| path.is_file());
    if found.len() > 1 {
        found.retain(|path| answered(path).is_some());
    }
    if found.len() > 1 {
        return Err(files::several(dir, &found));
    }
    // LLaVA's file is meant where there are no answers anyway.
    let Some(asked) = found
        .pop()
        .filter(|path| answered(path).is_some() || lists(dir).is_ok_and(|all| all.is_empty()))
    else {
        return Ok(None);
    };
    let split = split(&asked).unwrap_or_default();
    // The pictures of test-dev are among those of the whole test.
    let folder = split.replace("test-dev", "test");
    Ok(Some(Split {
        answered: answered(&asked),
        asked,
        folders: vec![folder, files::IMAGES.to_owned()],
        released: true,
    }))
}

fn lists(dir: &Path) -> Result<Vec<PathBuf>, EvalError> {
    files::list(dir, |name| {
        name.starts_with("llava_vqav2_mscoco_") && name.ends_with(".jsonl")
    })
}

/// LLaVA's file of a test split; if the whole test's is there, too, that is what the server wants named.
fn listed(dir: &Path) -> Result<Option<Questions>, EvalError> {
    let mut found = lists(dir)?;
    let at = found
        .iter()
        .position(|path| path.to_string_lossy().contains("test-dev"));
    let asked = match (at, found.len()) {
        (_, 0) => return Ok(None),
        (Some(at), _) => found.swap_remove(at),
        (None, _) => found.swap_remove(0),
    };
    let mut all = Questions {
        questions: Vec::new(),
        annotations: Vec::new(),
        upload: Vec::new(),
        answered: false,
    };
    for ask in files::listed(&asked)? {
        let image = files::picture_in(dir, &["test2015", files::IMAGES], &ask.image);
        let image = image.map_err(|why| ask.wrong(&asked, &why))?;
        all.upload.push(ask.question_id.clone());
        all.questions.push(Question {
            id: format!("vqa/{}", ask.question_id),
            pictures: vec![image],
            text: ask.text,
            form: "vqa",
            truth: String::new(),
            longest: WORDS,
        });
    }
    if let Some(whole) = found.pop() {
        let ids: Vec<String> = files::listed(&whole)?
            .into_iter()
            .map(|ask| ask.question_id)
            .collect();
        let named: HashSet<&String> = ids.iter().collect();
        if let Some(id) = all.upload.iter().find(|id| !named.contains(id)) {
            let problem = format!(
                "question {id}: is not in {}, the whole test",
                whole.display()
            );
            return Err(EvalError::file(&asked, problem));
        }
        all.upload = ids;
    }
    Ok(Some(all))
}

fn read(dir: &Path, split: &Split) -> Result<Questions, EvalError> {
    let asked = &split.asked;
    let entries = files::json::<QuestionsFile>(asked)?.questions;
    if entries.is_empty() {
        return Err(EvalError::file(asked, "holds no question"));
    }
    let mut annotated = match &split.answered {
        Some(path) => annotations(path)?,
        None => HashMap::new(),
    };
    let folders: Vec<PathBuf> = split.folders.iter().map(|name| dir.join(name)).collect();
    let pictures = files::pictures_by_number(&folders)?;
    let mut seen = HashSet::new();
    let mut all = Questions {
        questions: Vec::new(),
        annotations: Vec::new(),
        upload: Vec::new(),
        answered: split.answered.is_some(),
    };
    for QuestionEntry {
        image_id,
        question,
        question_id,
    } in entries
    {
        let wrong =
            |problem: String| EvalError::file(asked, format!("question {question_id}: {problem}"));
        if !seen.insert(question_id) {
            return Err(wrong("stands twice; ids must differ".into()));
        }
        let image = pictures.get(image_id).map_err(wrong)?;
        let id = format!("vqa/{question_id}");
        let mut truth = String::new();
        if let Some(path) = &split.answered {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let entry = annotated
                .remove(&question_id)
                .ok_or_else(|| wrong(format!("has no annotation in {name}")))?;
            if entry.image_id != image_id {
                return Err(wrong(format!(
                    "is about image {image_id}, its annotation about {}",
                    entry.image_id
                )));
            }
            truth = entry.multiple_choice_answer;
            all.annotations.push(Annotation {
                id: id.clone(),
                question_type: entry.question_type,
                answer_type: entry.answer_type,
                answers: entry
                    .answers
                    .into_iter()
                    .map(|person| person.answer)
                    .collect(),
            });
        }
        all.upload.push(question_id.to_string());
        all.questions.push(Question {
            id,
            pictures: vec![image],
            text: if split.released {
                with(&question, SHORT)
            } else {
                question
            },
            form: "vqa",
            truth,
            longest: if split.released { WORDS } else { SCENES },
        });
    }
    Ok(all)
}

/// An annotation without a question is no mistake: a subset of the questions may be asked.
fn annotations(path: &Path) -> Result<HashMap<u64, AnnotationEntry>, EvalError> {
    let mut annotated: HashMap<u64, AnnotationEntry> = HashMap::new();
    for entry in files::json::<AnnotationsFile>(path)?.annotations {
        let id = entry.question_id;
        if entry.answers.is_empty() {
            return Err(EvalError::file(
                path,
                format!("question {id}: `answers` is empty"),
            ));
        }
        if annotated.insert(id, entry).is_some() {
            return Err(EvalError::file(
                path,
                format!("question {id} is annotated twice"),
            ));
        }
    }
    Ok(annotated)
}

impl Loaded for Questions {
    fn questions(&self) -> &[Question] {
        &self.questions
    }

    fn keep(&mut self, count: usize) {
        self.questions.truncate(count);
        self.annotations.truncate(count);
    }

    fn credit(&self, index: usize, answer: &str) -> f64 {
        let annotation = self.annotations.get(index);
        annotation.map_or(0.0, |annotation| {
            vqav2::accuracy(answer, &annotation.answers) / 100.0
        })
    }

    fn score(&self, answers: &Answers) -> FormScore {
        let score = vqav2::score(&self.annotations, answers);
        let mut table = Table::new(
            "VQAv2 accuracy, %",
            &["questions of", "type", "questions", "accuracy"],
        );
        let count = |of: &dyn Fn(&Annotation) -> bool| {
            self.annotations
                .iter()
                .filter(|a| of(a))
                .count()
                .to_string()
        };
        for (name, accuracy) in &score.per_answer_type {
            let count = count(&|a| a.answer_type == *name);
            table.push(["answer type", name, &count, &shown(*accuracy)]);
        }
        for (name, accuracy) in &score.per_question_type {
            let count = count(&|a| a.question_type == *name);
            table.push(["question type", name, &count, &shown(*accuracy)]);
        }
        table.push(["all", "", &count(&|_| true), &shown(score.overall)]);
        let always = self.annotations.iter().map(|annotation| {
            let answer = answers.get(&annotation.id).unwrap_or_default();
            vqav2::always_normalised(answer, &annotation.answers)
        });
        FormScore {
            form: "vqa",
            measure: "leave-one-out accuracy",
            percent: self.answered.then_some(score.overall),
            questions: self.questions.len(),
            details: serde_json::to_value(&score).unwrap_or_default(),
            table: if self.answered {
                table
            } else {
                Table::default()
            },
            conventions: Conventions {
                of: "leave-one-out accuracy",
                by: vec![
                    ("official", score.overall),
                    ("lmms-eval", crate::score::mean(always)),
                ],
            },
            combined: None,
        }
    }

    fn submissions(&self, answers: &Answers) -> Vec<Submission> {
        let ids: Vec<String> = self.upload.iter().map(|id| format!("vqa/{id}")).collect();
        let rows = vqav2::upload(ids.iter().map(String::as_str), answers);
        let rows = rows.into_iter().zip(&self.upload).map(|((_, answer), id)| {
            let id = id
                .parse::<u64>()
                .map_or_else(|_| id.as_str().into(), serde_json::Value::from);
            serde_json::json!({"question_id": id, "answer": answer})
        });
        Submission::json("answers_upload.json", &rows.collect::<Vec<_>>())
    }
}
