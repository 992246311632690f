//! MMMU (Yue et al. 2024): questions of thirty subjects, mostly multiple choice, some with an open answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mmmu_parse::{self, Said};
use super::{Answers, percent};

/// The disciplines with their subjects, in the official order.
pub const DISCIPLINES: [(&str, &[&str]); 6] = [
    ("Art and Design", &["Art", "Art_Theory", "Design", "Music"]),
    (
        "Business",
        &["Accounting", "Economics", "Finance", "Manage", "Marketing"],
    ),
    (
        "Science",
        &["Biology", "Chemistry", "Geography", "Math", "Physics"],
    ),
    (
        "Health and Medicine",
        &[
            "Basic_Medical_Science",
            "Clinical_Medicine",
            "Diagnostics_and_Laboratory_Medicine",
            "Pharmacy",
            "Public_Health",
        ],
    ),
    (
        "Humanities and Social Science",
        &["History", "Literature", "Sociology", "Psychology"],
    ),
    (
        "Tech and Engineering",
        &[
            "Agriculture",
            "Architecture_and_Engineering",
            "Computer_Science",
            "Electronics",
            "Energy_and_Power",
            "Materials",
            "Mechanical_Engineering",
        ],
    ),
];

/// One question with its truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Question id.
    pub id: String,
    /// The subject, as in the official id: `validation_<subject>_<number>`.
    pub subject: String,
    /// The texts of the choices, A first; empty for an open question.
    pub choices: Vec<String>,
    /// The right answers; one is enough.
    pub truths: Vec<String>,
}

/// How a letter is found in an answer. Open answers are read alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Convention {
    /// The official program, which TinyLLaVA Factory runs.
    #[default]
    #[serde(rename = "official")]
    Official,
    /// lmms-eval: a letter may also stand before a blank, or before a full stop, behind anything.
    #[serde(rename = "lmms-eval")]
    LmmsEval,
}

impl Convention {
    /// All of them, the headline's first, with their names.
    pub const ALL: [(&'static str, Self); 2] =
        [("official", Self::Official), ("lmms-eval", Self::LmmsEval)];

    /// What an answer is worth, from 0 to 1. Where no choice is found the programs draw one at random; here the answer is
    /// worth what drawing is worth on average, so that a score is the same each time.
    pub fn credit(self, answer: &str, asked: &Asked) -> f64 {
        if asked.choices.is_empty() {
            return f64::from(u8::from(is_right(&mmmu_parse::open(answer), &asked.truths)));
        }
        let letters = (0..asked.choices.len()).map(mmmu_parse::letter);
        let truth = |letter: &char| {
            asked
                .truths
                .iter()
                .any(|truth| *truth == letter.to_string())
        };
        match mmmu_parse::choice(answer, &asked.choices, self) {
            Some(choice) => f64::from(u8::from(truth(&mmmu_parse::letter(choice)))),
            None => letters.filter(truth).count() as f64 / asked.choices.len() as f64,
        }
    }
}

/// Whether one of the readings of an open answer is one of the truths: equal as a number, or contained as a text.
fn is_right(readings: &[Said], truths: &[String]) -> bool {
    let truths: Vec<Said> = truths
        .iter()
        .flat_map(|truth| mmmu_parse::normalise(truth))
        .collect();
    readings.iter().any(|said| match said {
        Said::Text(said) => truths
            .iter()
            .any(|truth| matches!(truth, Said::Text(truth) if said.contains(truth))),
        Said::Number(_) => truths.contains(said),
    })
}

/// Accuracy of a part of the questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// In per cent.
    pub accuracy: f64,
    /// Questions.
    pub num: usize,
    #[serde(skip)]
    worth: f64,
}

impl Part {
    fn add(&mut self, worth: f64) {
        self.num += 1;
        self.worth += worth;
        self.accuracy = percent(self.worth, self.num as f64);
    }
}

/// The result over all questions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MmmuScore {
    /// All questions.
    pub overall: Part,
    /// By subject.
    pub per_subject: BTreeMap<String, Part>,
    /// By discipline, in the official order; subjects of none are left out.
    pub per_discipline: Vec<(String, Part)>,
    /// Multiple choice.
    pub multi_choice: Part,
    /// Open questions.
    pub open: Part,
    /// Answers to multiple choices in which no choice was found.
    pub drawn: usize,
    /// All questions, if such answers are wrong.
    pub without_draws: f64,
    /// Questions without an answer; they are wrong.
    pub missing: usize,
}

/// Scores the answers to some questions.
pub fn score(asked: &[Asked], answers: &Answers, convention: Convention) -> MmmuScore {
    let mut score = MmmuScore::default();
    let mut found = 0.0;
    for question in asked {
        let answer = answers.get(&question.id);
        let worth = answer.map_or(0.0, |answer| convention.credit(answer, question));
        score.missing += usize::from(answer.is_none());
        let drawn = answer.is_some_and(|answer| {
            !question.choices.is_empty()
                && mmmu_parse::choice(answer, &question.choices, convention).is_none()
        });
        score.drawn += usize::from(drawn);
        found += if drawn { 0.0 } else { worth };
        score.overall.add(worth);
        score
            .per_subject
            .entry(question.subject.clone())
            .or_default()
            .add(worth);
        match question.choices.is_empty() {
            true => score.open.add(worth),
            false => score.multi_choice.add(worth),
        }
    }
    score.without_draws = percent(found, asked.len() as f64);
    for (discipline, subjects) in DISCIPLINES {
        let mut all = Part::default();
        for part in subjects
            .iter()
            .filter_map(|name| score.per_subject.get(*name))
        {
            all.num += part.num;
            all.worth += part.worth;
        }
        all.accuracy = percent(all.worth, all.num as f64);
        if all.num > 0 {
            score.per_discipline.push((discipline.to_owned(), all));
        }
    }
    score
}
