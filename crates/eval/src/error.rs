//! What can go wrong between a directory of questions and a page of scores.

use std::path::{Path, PathBuf};

/// An error of this crate. Each names the file, the place in it, and what would cure it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A file or directory cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// One line of a file is wrong.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// A file as a whole, or an entry that has no line of its own, is wrong.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong (with the entry's id where there is one), and what is expected.
        problem: String,
    },
    /// A directory holds no benchmark.
    #[error("{}: no benchmark here; looked for {looked_for}{}", dir.display(), there(elsewhere.as_deref()))]
    NoBenchmark {
        /// The directory.
        dir: PathBuf,
        /// The files that would have been read.
        looked_for: String,
        /// A directory near by that has them.
        elsewhere: Option<PathBuf>,
    },
    /// A name that no benchmark has.
    #[error("there is no benchmark `{name}`; expected one of {known}")]
    UnknownBenchmark {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The list of answers is not as long as the list of questions.
    #[error(
        "{answers} answers for {questions} questions; give one answer (it may be empty) per question, in the order of the questions"
    )]
    AnswerCount {
        /// Questions of the suite.
        questions: usize,
        /// Answers given.
        answers: usize,
    },
}

/// What to say about the directory that is meant.
fn there(elsewhere: Option<&Path>) -> String {
    match elsewhere {
        Some(dir) => format!(". {} has it: give that directory", dir.display()),
        None => String::new(),
    }
}

impl EvalError {
    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Write {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn line(path: &Path, line: usize, problem: impl Into<String>) -> Self {
        Self::Line {
            path: path.to_owned(),
            line,
            problem: problem.into(),
        }
    }

    pub(crate) fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
