//! All forms of a directory together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{BENCHMARKS, Benchmark, Judged, Loaded, Picture, Question, Scores, Submission, files};
use crate::EvalError;
use crate::score::Answers;
use crate::score::mmvet::Grades;

/// The questions of a directory, in one order: picture by picture, so that a picture's features are
/// computed once and shared by all its questions.
pub struct Suite {
    parts: Vec<Box<dyn Loaded>>,
    questions: Vec<Question>,
    /// For each question its part and its number there.
    origin: Vec<(usize, usize)>,
    limit: Option<usize>,
}

/// What of a directory is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// One benchmark only, by name.
    pub benchmark: Option<String>,
    /// So many questions of each, from the first on.
    pub limit: Option<usize>,
}

/// Folders in which the files are looked for that were not found where they should be.
const LOOKED_INTO: usize = 200;

/// The folder above or, up to two levels, below that holds what was looked for.
fn elsewhere(dir: &Path, wanted: &[&dyn Benchmark]) -> Option<PathBuf> {
    let below = |dir: &PathBuf| files::folders(dir).unwrap_or_default();
    let children = below(&dir.to_owned());
    let above = dir
        .canonicalize()
        .ok()
        .and_then(|dir| Some(dir.parent()?.to_owned()));
    let grandchildren = children.iter().take(LOOKED_INTO).flat_map(below);
    let mut places = children
        .iter()
        .cloned()
        .chain(above)
        .chain(grandchildren)
        .take(LOOKED_INTO);
    // A folder whose files are broken is the one that is meant, too.
    places.find(|place| {
        wanted
            .iter()
            .any(|benchmark| !matches!(benchmark.load(place), Ok(None)))
    })
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
        Self::choose(dir, &Choice::default())
    }

    /// Reads those forms that are chosen.
    ///
    /// # Errors
    /// As [`load`](Self::load); a name that no benchmark has.
    pub fn choose(dir: &Path, choice: &Choice) -> Result<Self, EvalError> {
        let wanted: Vec<&dyn Benchmark> = match &choice.benchmark {
            Some(name) => vec![super::named(name)?],
            None => BENCHMARKS.to_vec(),
        };
        // An unreadable directory is not the same as an empty one.
        std::fs::read_dir(dir).map_err(|source| EvalError::read(dir, source))?;
        let mut parts = Vec::new();
        for benchmark in &wanted {
            parts.extend(benchmark.load(dir)?);
        }
        if let Some(count) = choice.limit {
            parts.iter_mut().for_each(|part| part.keep(count));
        }
        if parts.is_empty() {
            let looked_for = wanted
                .iter()
                .map(|b| b.files())
                .collect::<Vec<_>>()
                .join(", ");
            return Err(EvalError::NoBenchmark {
                dir: dir.to_owned(),
                looked_for,
                elsewhere: elsewhere(dir, &wanted),
            });
        }
        Ok(Self {
            limit: choice.limit,
            ..Self::ordered(parts)
        })
    }

    fn ordered(parts: Vec<Box<dyn Loaded>>) -> Self {
        let mut rank: HashMap<&[Picture], usize> = HashMap::new();
        let mut all: Vec<(usize, (usize, usize), Question)> = Vec::new();
        for (part, loaded) in parts.iter().enumerate() {
            for (index, question) in loaded.questions().iter().enumerate() {
                let next = rank.len();
                let rank = *rank.entry(question.pictures.as_slice()).or_insert(next);
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
            limit: None,
        }
    }

    /// So many questions of each benchmark were chosen, if not all.
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// The questions; those about one picture stand together.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// The questions in groups of the same picture (or pictures) each, in the same order.
    pub fn pictures(&self) -> impl Iterator<Item = &[Question]> {
        self.questions.chunk_by(|a, b| a.pictures == b.pictures)
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
        let by_id = self.by_id(answers)?;
        Ok(Scores {
            forms: self.parts.iter().map(|part| part.score(&by_id)).collect(),
        })
    }

    /// The answers as the benchmarks' own servers and programs take them.
    ///
    /// # Errors
    /// Another number of answers than questions.
    pub fn submissions(&self, answers: &[Option<String>]) -> Result<Vec<Submission>, EvalError> {
        let by_id = self.by_id(answers)?;
        let parts = self.parts.iter();
        Ok(parts.flat_map(|part| part.submissions(&by_id)).collect())
    }

    /// What a judge is asked; nothing where no form needs one.
    ///
    /// # Errors
    /// Another number of answers than questions.
    pub fn judged(&self, answers: &[Option<String>]) -> Result<Vec<Judged>, EvalError> {
        let by_id = self.by_id(answers)?;
        let parts = self.parts.iter();
        Ok(parts.flat_map(|part| part.judged(&by_id)).collect())
    }

    /// The scores with a judge's grades.
    ///
    /// # Errors
    /// Another number of answers than questions.
    pub fn graded(
        &self,
        answers: &[Option<String>],
        grades: &Grades,
    ) -> Result<Result<Scores, String>, EvalError> {
        let by_id = self.by_id(answers)?;
        let forms = self.parts.iter().map(|part| part.graded(&by_id, grades));
        Ok(forms
            .collect::<Result<_, _>>()
            .map(|forms| Scores { forms }))
    }

    fn by_id(&self, answers: &[Option<String>]) -> Result<Answers, EvalError> {
        self.check(answers)?;
        let both = self.questions.iter().zip(answers);
        let known =
            both.filter_map(|(question, answer)| Some((question.id.as_str(), answer.as_deref()?)));
        Ok(known.collect())
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
