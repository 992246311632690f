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
//! | `<split>_questions.json`, perhaps `llava_gqa_<split>.jsonl` | [`gqa`] |
//! | `problems.json` with `pid_splits.json` | [`scienceqa`] |
//! | `TextVQA_<version>_<split>.json`, perhaps `llava_textvqa_*.jsonl` | [`textvqa`] |
//! | `mm-vet.json`, perhaps `llava-mm-vet.jsonl` | [`mmvet`] |
//! | `anns_for_eval.json` with `answer_dict_val.json`, or `<subject>/validation-<part>.parquet` | [`mmmu`] |
//! | `SEED-Bench.json` | [`seedbench`] |
//! | VizWiz's `val.json` or `test.json` | [`vizwiz`] |
//! | `mmbench*.tsv` | [`mmbench`] |
//! | `captions.json` | [`caption`] |

pub mod caption;
pub mod combined;
pub(crate) mod files;
pub mod gqa;
pub mod mmbench;
pub mod mme;
pub mod mmmu;
pub mod mmvet;
mod people;
pub mod pope;
pub mod prompts;
pub mod scienceqa;
mod scores;
pub mod seedbench;
mod suite;
pub mod textvqa;
pub mod vizwiz;
pub mod vqav2;
mod workbook;

use std::path::{Path, PathBuf};

use crate::EvalError;
use crate::score::Answers;
use crate::score::mmvet::Grades;

pub use scores::{Conventions, FormScore, Scores, Submission};
pub use suite::{Choice, Suite};

/// Every form of question, in the order in which scores are shown.
pub const BENCHMARKS: &[&dyn Benchmark] = &[
    &pope::Pope,
    &vqav2::Vqav2,
    &mme::Mme,
    &gqa::Gqa,
    &scienceqa::ScienceQa,
    &textvqa::TextVqa,
    &mmvet::MmVet,
    &mmmu::Mmmu,
    &seedbench::SeedBench,
    &vizwiz::VizWiz,
    &mmbench::MmBench,
    &caption::Caption,
];

/// The benchmark of a name: that of its form, or how else it is often written.
///
/// # Errors
/// No benchmark has this name.
pub fn named(name: &str) -> Result<&'static dyn Benchmark, EvalError> {
    let plain = name.to_lowercase().replace(['-', '_'], "");
    let form = match plain.as_str() {
        "vqav2" => "vqa",
        "sqa" => "scienceqa",
        other => other,
    };
    let found = BENCHMARKS.iter().find(|benchmark| benchmark.form() == form);
    found.copied().ok_or_else(|| EvalError::UnknownBenchmark {
        name: name.to_owned(),
        known: BENCHMARKS
            .iter()
            .map(|benchmark| benchmark.form())
            .collect::<Vec<_>>()
            .join(", "),
    })
}

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
    /// What it is about: mostly one picture, none where words are enough, or several.
    pub pictures: Vec<Picture>,
    /// What to ask.
    pub text: String,
    /// The form's name: `pope`, `vqa`, `mme`, ...
    pub form: &'static str,
    /// The right answer, to be shown beside the model's.
    pub truth: String,
    /// Tokens of an answer at most, as the benchmark's own scripts have it.
    pub longest: usize,
}

/// An answer for a judge to grade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The official id.
    pub id: String,
    /// What was asked.
    pub question: String,
    /// The true answer.
    pub truth: String,
    /// The model's.
    pub answer: String,
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

    /// Keeps the first `count` questions only, or one more where questions come in pairs.
    fn keep(&mut self, count: usize);

    /// What an answer to question `index` is worth, from 0 (wrong) to 1 (right).
    fn credit(&self, index: usize, answer: &str) -> f64;

    /// The form's score; answers are found by [`Question::id`].
    fn score(&self, answers: &Answers) -> FormScore;

    /// The answers as the benchmark's own server or program takes them.
    fn submissions(&self, _answers: &Answers) -> Vec<Submission> {
        Vec::new()
    }

    /// What a judge is asked, for a form whose answers are graded.
    fn judged(&self, _answers: &Answers) -> Vec<Judged> {
        Vec::new()
    }

    /// The form's score with a judge's grades.
    ///
    /// # Errors
    /// What the grades lack.
    fn graded(&self, answers: &Answers, _grades: &Grades) -> Result<FormScore, String> {
        Ok(self.score(answers))
    }
}

/// What most people said, the first of several; nothing where nobody was asked.
fn most_said(answers: &[String]) -> String {
    let count = |answer: &String| answers.iter().filter(|other| *other == answer).count();
    let most = answers.iter().rev().max_by_key(|answer| count(answer));
    most.cloned().unwrap_or_default()
}

/// A per cent as tables show it.
fn shown(percent: f64) -> String {
    format!("{percent:.1}")
}
