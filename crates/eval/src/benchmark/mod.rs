//! Benchmarks: a directory of questions about pictures, asked in the forms of the published benchmarks.
//!
//! [`Suite::load`] reads every form it finds, [`Suite::questions`] lists the questions grouped by picture,
//! and [`Suite::score`] turns the answers back into [`Scores`]. A form is one file of this module and one
//! line in [`BENCHMARKS`].
//!
//! | in the directory | form |
//! |---|---|
//! | `images/` | the pictures |
//! | `pope_<category>.json` | [`pope`] |
//! | `vqav2_questions.json`, `vqav2_annotations.json` | [`vqav2`] |
//! | `mme/<task>.txt` or `mme/<task>/<picture>.txt` | [`mme`] |
//! | `testdev_balanced_questions.json`, `llava_gqa_testdev_balanced.jsonl` | [`gqa`] |
//! | `captions.json` | [`caption`] |

pub mod caption;
mod files;
pub mod gqa;
pub mod mme;
pub mod pope;
mod scores;
mod suite;
pub mod vqav2;

use std::path::{Path, PathBuf};

use crate::EvalError;
use crate::score::Answers;

pub use scores::{FormScore, Scores};
pub use suite::Suite;

/// Every form of question, in the order in which scores are shown.
pub const BENCHMARKS: &[&dyn Benchmark] = &[
    &pope::Pope,
    &vqav2::Vqav2,
    &mme::Mme,
    &gqa::Gqa,
    &caption::Caption,
];

/// A picture's file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Picture {
    /// Where it lies, or should lie.
    pub path: PathBuf,
    /// Why there is none: questions about it have no answer.
    pub absent: Option<String>,
}

/// A question about a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Unique in the suite: form, part of the form, and number, as in `pope/random/17`.
    pub id: String,
    /// What it is about.
    pub image: Picture,
    /// What to ask.
    pub text: String,
    /// The form's name: `pope`, `vqa`, `mme`, `caption`.
    pub form: &'static str,
    /// The right answer, to be shown beside the model's.
    pub truth: String,
}

/// A form of question: how its files are read.
pub trait Benchmark: Sync {
    /// The form's name, and its key in [`Scores`].
    fn form(&self) -> &'static str;

    /// The files that are read.
    fn files(&self) -> &'static str;

    /// Reads the form's questions, or `None` where its files are absent.
    ///
    /// # Errors
    /// A file that is there and cannot be read or does not hold what it should.
    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError>;
}

/// The questions of one form, with their truths.
pub trait Loaded: Send + Sync {
    /// The questions.
    fn questions(&self) -> &[Question];

    /// What an answer to question `index` is worth, from 0 (wrong) to 1 (right).
    fn credit(&self, index: usize, answer: &str) -> f64;

    /// The form's score; answers are found by [`Question::id`].
    fn score(&self, answers: &Answers) -> FormScore;
}

/// A per cent as tables show it.
fn shown(percent: f64) -> String {
    format!("{percent:.1}")
}
