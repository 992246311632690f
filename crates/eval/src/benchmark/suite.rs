//! All forms of a directory together.

use std::collections::HashMap;
use std::path::Path;

use super::{BENCHMARKS, Loaded, Picture, Question, Scores};
use crate::EvalError;
use crate::score::Answers;

/// The questions of a directory, in one order: picture by picture, so that a picture's features are
/// computed once and shared by all its questions.
pub struct Suite {
    parts: Vec<Box<dyn Loaded>>,
    questions: Vec<Question>,
    /// For each question its part and its number there.
    origin: Vec<(usize, usize)>,
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suite")
            .field("questions", &self.questions.len())
            .finish_non_exhaustive()
    }
}

impl Suite {
    /// Reads every form of question that a directory holds.
    ///
    /// # Errors
    /// A directory without any form, or a file that does not hold what it should, with its line.
    pub fn load(dir: &Path) -> Result<Self, EvalError> {
        // An unreadable directory is not the same as an empty one.
        std::fs::read_dir(dir).map_err(|source| EvalError::read(dir, source))?;
        let mut parts = Vec::new();
        for benchmark in BENCHMARKS {
            parts.extend(benchmark.load(dir)?);
        }
        if parts.is_empty() {
            let looked_for = BENCHMARKS
                .iter()
                .map(|b| b.files())
                .collect::<Vec<_>>()
                .join(", ");
            return Err(EvalError::NoBenchmark {
                dir: dir.to_owned(),
                looked_for,
            });
        }
        Ok(Self::ordered(parts))
    }

    fn ordered(parts: Vec<Box<dyn Loaded>>) -> Self {
        let mut rank: HashMap<&Picture, usize> = HashMap::new();
        let mut all: Vec<(usize, (usize, usize), Question)> = Vec::new();
        for (part, loaded) in parts.iter().enumerate() {
            for (index, question) in loaded.questions().iter().enumerate() {
                let next = rank.len();
                let rank = *rank.entry(&question.image).or_insert(next);
                all.push((rank, (part, index), question.clone()));
            }
        }
        // Stable: within a picture the order of forms and files stays.
        all.sort_by_key(|(rank, _, _)| *rank);
        let (origin, questions) = all
            .into_iter()
            .map(|(_, origin, question)| (origin, question))
            .unzip();
        Self {
            parts,
            questions,
            origin,
        }
    }

    /// The questions; those about one picture stand together.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// The questions in groups of one picture each, in the same order.
    pub fn pictures(&self) -> impl Iterator<Item = &[Question]> {
        self.questions.chunk_by(|a, b| a.image == b.image)
    }

    /// What each answer is worth, from 0 (wrong) to 1 (right); none is worth nothing.
    ///
    /// # Errors
    /// Another number of answers than questions.
    pub fn credits(&self, answers: &[Option<String>]) -> Result<Vec<f64>, EvalError> {
        self.check(answers)?;
        let credit = |(&(part, index), answer): (&(usize, usize), &Option<String>)| {
            let answer = answer.as_deref();
            answer.map_or(0.0, |answer| self.parts[part].credit(index, answer))
        };
        Ok(self.origin.iter().zip(answers).map(credit).collect())
    }

    /// Scores one answer per question, in the order of [`questions`](Self::questions); `None` where there is none. POPE leaves
    /// such questions out, the other forms count them as wrong.
    ///
    /// # Errors
    /// Another number of answers than questions.
    pub fn score(&self, answers: &[Option<String>]) -> Result<Scores, EvalError> {
        self.check(answers)?;
        let both = self.questions.iter().zip(answers);
        let by_id: Answers = both
            .filter_map(|(question, answer)| Some((question.id.as_str(), answer.as_deref()?)))
            .collect();
        Ok(Scores {
            forms: self.parts.iter().map(|part| part.score(&by_id)).collect(),
        })
    }

    fn check(&self, answers: &[Option<String>]) -> Result<(), EvalError> {
        if answers.len() == self.questions.len() {
            return Ok(());
        }
        Err(EvalError::AnswerCount {
            questions: self.questions.len(),
            answers: answers.len(),
        })
    }
}
