//! Answers that were written down: to go on after a break, to score again, to compare.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use crate::EvalError;
use crate::benchmark::{Suite, files};
use crate::score::answers::number_or_text;

/// A line of an answers file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Line {
    /// The question's id in the suite, or the benchmark's own.
    #[serde(deserialize_with = "number_or_text")]
    pub question_id: String,
    /// The question as it was asked; empty where the file leaves it out.
    #[serde(default)]
    pub prompt: String,
    /// The answer; none for a miss.
    #[serde(default)]
    pub text: Option<String>,
    /// Who answered.
    #[serde(default)]
    pub model_id: Option<String>,
}

/// Reads an answers file: an object per line, or a list of them. With `broken_off` the last line may be cut, as a program
/// that was interrupted leaves it, and is left out.
///
/// # Errors
/// What cannot be read, with its line.
pub fn read(path: &Path, broken_off: bool) -> Result<Vec<(usize, Line)>, EvalError> {
    files::records(path, broken_off)
}

/// The answers of a file in the order of a suite's questions.
///
/// # Errors
/// An answer to no question of the suite, or to one that is answered already.
pub fn answers(suite: &Suite, path: &Path) -> Result<Vec<Option<String>>, EvalError> {
    let places = Places::of(suite);
    let mut answers: Vec<Option<String>> = vec![None; suite.questions().len()];
    let mut seen: HashMap<usize, usize> = HashMap::new();
    for (number, line) in read(path, false)? {
        let wrong = |problem: String| {
            EvalError::line(
                path,
                number,
                format!("question_id `{}`: {problem}", line.question_id),
            )
        };
        let at = places.find(suite, &line).map_err(wrong)?;
        if let Some(earlier) = seen.insert(at, number) {
            return Err(wrong(format!(
                "was answered in line {earlier}; keep one answer per question"
            )));
        }
        answers[at].clone_from(&line.text);
    }
    Ok(answers)
}

/// Where a suite's questions stand, by their ids and by the benchmarks' own.
pub struct Places {
    whole: HashMap<String, usize>,
    /// Several questions may have the same id of a benchmark's own.
    own: HashMap<String, Vec<usize>>,
}

impl Places {
    /// The places of a suite's questions.
    pub fn of(suite: &Suite) -> Self {
        let mut places = Self {
            whole: HashMap::new(),
            own: HashMap::new(),
        };
        for (at, question) in suite.questions().iter().enumerate() {
            places.whole.insert(question.id.clone(), at);
            let own = question.id.split_once('/').map_or("", |(_, own)| own);
            places.own.entry(own.to_owned()).or_default().push(at);
        }
        places
    }

    /// The question that a line answers.
    ///
    /// # Errors
    /// What is wrong with its id, and the cure.
    pub fn find(&self, suite: &Suite, line: &Line) -> Result<usize, String> {
        if let Some(at) = self.whole.get(&line.question_id) {
            return Ok(*at);
        }
        let mut found = self.own.get(&line.question_id).cloned().unwrap_or_default();
        if found.len() > 1 {
            found.retain(|at| suite.questions()[*at].text == line.prompt);
        }
        match found[..] {
            [at] => Ok(at),
            [] => Err("is no question of this directory; were these answers given to another one, or to another split?".to_owned()),
            _ => Err("several questions have this id; use ids as `eval` writes them, such as pope/random/1".to_owned()),
        }
    }
}
