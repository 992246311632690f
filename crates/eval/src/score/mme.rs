//! MME (Fu et al. 2023): two yes/no questions per picture, in tasks of perception and of cognition.

use serde::{Deserialize, Serialize};

use super::{Answers, Confusion, percent};

/// The tasks of perception, in the official order.
pub const PERCEPTION: [&str; 10] = [
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
];

/// The tasks of cognition, in the official order.
pub const COGNITION: [&str; 4] = [
    "commonsense_reasoning",
    "numerical_calculation",
    "text_translation",
    "code_reasoning",
];

/// The truth of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Question id, unique over all tasks.
    pub id: String,
    /// The task's name.
    pub task: String,
    /// The picture; two labels in a row share it.
    pub picture: String,
    /// Whether yes is right.
    pub yes: bool,
}

/// How an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// Yes.
    Yes,
    /// No.
    No,
    /// Neither: wrong whatever the truth.
    Other,
}

/// Reads an answer: "yes" within the first four characters of the lower-cased text, else "no" within them
/// ("not" and "know" are a no), else neither. Leading blanks count as characters.
pub fn read(answer: &str) -> Reading {
    let start: String = answer.to_lowercase().chars().take(4).collect();
    if start.contains("yes") {
        Reading::Yes
    } else if start.contains("no") {
        Reading::No
    } else {
        Reading::Other
    }
}

/// Reads an answer as lmms-eval does: outer blanks and all full stops go, and a single letter y or n is read, too.
pub fn read_loosely(answer: &str) -> Reading {
    let answer = answer.to_lowercase();
    let answer = super::python::strip(&answer).replace('.', "");
    match answer.as_str() {
        "y" => Reading::Yes,
        "n" => Reading::No,
        _ => read(&answer),
    }
}

/// The total a task counts into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Group {
    /// One of [`PERCEPTION`].
    Perception,
    /// One of [`COGNITION`].
    Cognition,
    /// A task that is not in the original benchmark: in no total.
    Other,
}

impl Group {
    /// The group of a task.
    pub fn of(task: &str) -> Self {
        if PERCEPTION.contains(&task) {
            Self::Perception
        } else if COGNITION.contains(&task) {
            Self::Cognition
        } else {
            Self::Other
        }
    }
}

/// One task's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The task's name.
    pub task: String,
    /// The total it counts into.
    pub group: Group,
    /// Questions answered rightly, in per cent.
    pub acc: f64,
    /// Pictures with both questions answered rightly, in per cent.
    pub acc_plus: f64,
    /// `acc + acc_plus`: 0 to 200.
    pub score: f64,
    /// Questions asked.
    pub questions: usize,
    /// Questions answered rightly.
    pub right: usize,
    /// Answers that are neither yes nor no; they are wrong.
    pub other: usize,
    /// Questions without an answer; they are wrong and counted in `other`.
    pub missing: usize,
    /// The other answers by truth.
    #[serde(flatten)]
    pub counts: Confusion,
}

/// The result over all tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MmeScore {
    /// By task, in the order in which the labels name them.
    pub tasks: Vec<Task>,
    /// Questions answered rightly over all tasks, in per cent.
    pub accuracy: f64,
    /// Sum of the scores of the perception tasks: up to 200 each, 2000 for all ten; `None` without any.
    pub perception: Option<f64>,
    /// Sum of the scores of the cognition tasks: up to 200 each, 800 for all four; `None` without any.
    pub cognition: Option<f64>,
}

impl MmeScore {
    /// Perception and cognition together, and the most that they can be: 2,800 for all tasks.
    pub fn total(&self) -> (f64, f64) {
        let counted = self.tasks.iter().filter(|task| task.group != Group::Other);
        let total = self.perception.unwrap_or(0.0) + self.cognition.unwrap_or(0.0);
        (total, 200.0 * counted.count() as f64)
    }
}

/// Scores the answers to some labels. Within a task, labels 1 and 2 are a picture's pair, 3 and 4 the next.
pub fn score(labels: &[Label], answers: &Answers, read: fn(&str) -> Reading) -> MmeScore {
    let mut names: Vec<&str> = Vec::new();
    for label in labels {
        if !names.contains(&label.task.as_str()) {
            names.push(&label.task);
        }
    }
    let tasks: Vec<Task> = names
        .into_iter()
        .map(|name| {
            task(
                name,
                &labels
                    .iter()
                    .filter(|label| label.task == name)
                    .collect::<Vec<_>>(),
                answers,
                read,
            )
        })
        .collect();
    let total = |group| {
        let scores = tasks
            .iter()
            .filter(|task| task.group == group)
            .map(|task| task.score);
        scores.reduce(|sum, score| sum + score)
    };
    let right: usize = tasks.iter().map(|task| task.right).sum();
    MmeScore {
        accuracy: percent(right as f64, labels.len() as f64),
        perception: total(Group::Perception),
        cognition: total(Group::Cognition),
        tasks,
    }
}

fn task(name: &str, labels: &[&Label], answers: &Answers, read: fn(&str) -> Reading) -> Task {
    let mut counts = Confusion::default();
    let (mut other, mut missing, mut pairs_right) = (0usize, 0usize, 0usize);
    for pair in labels.chunks(2) {
        let before = counts.right();
        for label in pair {
            let answer = answers.get(&label.id);
            missing += usize::from(answer.is_none());
            match answer.map_or(Reading::Other, read) {
                Reading::Yes => counts.add(label.yes, true),
                Reading::No => counts.add(label.yes, false),
                Reading::Other => other += 1,
            }
        }
        pairs_right += usize::from(counts.right() - before == pair.len());
    }
    let acc = percent(counts.right() as f64, labels.len() as f64);
    let acc_plus = percent(pairs_right as f64, labels.chunks(2).count() as f64);
    Task {
        task: name.to_owned(),
        group: Group::of(name),
        acc,
        acc_plus,
        score: acc + acc_plus,
        questions: labels.len(),
        right: counts.right(),
        other,
        missing,
        counts,
    }
}
