//! What can be wrong with data, and what to do about it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything this crate can complain about. Every message names the place, the value and the cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file system refused.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A text file is not UTF-8.
    #[error("{path}: byte {at}, in line {line}, is not UTF-8: {encoding}; save the file as UTF-8", path = path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first bad byte.
        at: usize,
        /// Its line, from 1.
        line: usize,
        /// What it may be instead.
        encoding: &'static str,
    },
    /// A file is not JSON.
    #[error("{path}: not valid JSON: {reason}; {cure}", path = path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        reason: String,
        /// What to do.
        cure: &'static str,
    },
    /// A dataset file holds something else than entries.
    #[error(
        "{path}: the file holds {found}, not a list of entries; put the entries between [ and ] with commas between them, or \
         one entry on each line",
        path = path.display()
    )]
    NotAList {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// A dataset file without a single entry that could be used.
    #[error("{path}: none of its {entries} entries can be used{why}; check that this is the file you meant", path = path.display())]
    NothingUsable {
        /// The file.
        path: PathBuf,
        /// How many entries it has.
        entries: usize,
        /// A summary of why the entries were left out, empty for an empty list.
        why: String,
    },
    /// One entry of a dataset is bad: the only error that [`Strictness::Skip`] turns into a counted warning.
    #[error(transparent)]
    Entry(#[from] Box<EntryError>),
    /// A field of a configuration file.
    #[error("{path}: field `{field}` is {value}; {cure}", path = path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field's name.
        field: String,
        /// The value found.
        value: String,
        /// What to do.
        cure: String,
    },
    /// A tokenizer could not be built or could not encode.
    #[error("tokenizer {name}: {problem}; {cure}")]
    Tokenizer {
        /// The folder or file it came from.
        name: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        cure: &'static str,
    },
    /// A template cannot be used with this tokenizer, or by this name.
    #[error("template `{template}`: {problem}; {cure}")]
    Template {
        /// The template's name.
        template: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        cure: String,
    },
    /// A chat template cannot lay a conversation out.
    #[error("{problem}")]
    Layout {
        /// What is wrong.
        problem: String,
    },
    /// A setting of a sampler or loader.
    #[error("setting `{name}` is {value}; {cure}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What to do.
        cure: &'static str,
    },
    /// A whole epoch gave not one full batch.
    #[error(
        "epoch {epoch} gave no batch: {good} of {all} samples could be read and a batch needs {batch_size} ({skipped}); \
         lower the batch size or repair the samples"
    )]
    NoBatch {
        /// The epoch.
        epoch: u64,
        /// Samples that could be read.
        good: usize,
        /// Samples that were tried.
        all: usize,
        /// Samples that a batch needs.
        batch_size: usize,
        /// Why the others could not.
        skipped: Skipped,
    },
    /// A reading thread ended without an answer (it panicked: a fault in a decoder).
    #[error(
        "reading sample {index} of epoch {epoch} ended in a panic; leave this sample out of the dataset"
    )]
    ReaderDied {
        /// Place in the source.
        index: usize,
        /// The epoch.
        epoch: u64,
    },
}

/// One bad entry of a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: entry {index} (id `{id}`), field `{field}`: {problem}; {cure}", file = file.display(), cure = fault.cure())]
pub struct EntryError {
    /// The dataset file.
    pub file: PathBuf,
    /// Zero-based place in the file's list.
    pub index: usize,
    /// The entry's id, or `#index` where it has none.
    pub id: String,
    /// The field at fault.
    pub field: String,
    /// Which kind of fault, for counting.
    pub fault: Fault,
    /// What exactly is wrong.
    pub problem: String,
}

/// The kinds of faults a sample can have; warnings are counted per kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// A field has the wrong type, or a needed one is missing.
    Malformed,
    /// `conversations` is missing, null, empty, or has no word in it.
    NoConversations,
    /// Somebody speaks whose part is not read, such as a tool.
    UnknownRole,
    /// Questions and answers do not pair up.
    UnevenTurns,
    /// More than one picture.
    SeveralImages,
    /// The picture's file is not there.
    MissingImage,
    /// The picture's path is absolute or climbs out of the image folder.
    ImageOutside,
    /// The picture cannot be decoded.
    CorruptImage,
    /// More pixels than the recipe allows.
    LargeImage,
    /// A 16-bit picture that uses the lower bits only, and does not say which.
    UnclearDepth,
    /// A DICOM file that says there is text in its picture.
    BurnedIn,
    /// A DICOM file with several frames.
    ManyFrames,
    /// More `<image>` placeholders than pictures: the second one would show nothing, or another sample's picture.
    TooManyTags,
    /// An `<image>` placeholder, but no picture.
    TagWithoutImage,
    /// A picture, but no `<image>` placeholder: it would not be looked at.
    ImageWithoutTag,
    /// The tokenizer has no token for a word.
    UnknownWord,
    /// The chat template has no place for it.
    Layout,
    /// No token would be supervised.
    NoLabels,
    /// No token would be supervised after cutting at the longest length.
    CutAway,
}

impl Fault {
    /// Whether an entry is fine but for the tokens: it would be read, and teach nothing.
    #[must_use]
    pub fn teaches_nothing(self) -> bool {
        matches!(self, Self::NoLabels | Self::CutAway)
    }
}

impl Fault {
    /// What the owner of the data can do about it.
    #[must_use]
    pub fn cure(self) -> &'static str {
        match self {
            Self::Malformed => {
                "an entry is {id, image?: path, conversations: [{from: text, value: text}, ..]}"
            }
            Self::NoConversations => {
                "give it at least one question and its answer, or remove the entry"
            }
            Self::UnknownRole => {
                "roles are `human` or `user`, `gpt` or `assistant`, and `system` for a first message; take others out"
            }
            Self::UnevenTurns => "messages must alternate, first from `human`, then from `gpt`",
            Self::SeveralImages => {
                "an entry has one picture: make one entry of each, or put them into one picture"
            }
            Self::MissingImage => "put the picture below the image folder, or correct the path",
            Self::ImageOutside => "give a path relative to the image folder, without `..`",
            Self::CorruptImage => {
                "replace the file; PNG, JPEG, WebP, BMP, GIF, TIFF and DICOM are read"
            }
            Self::LargeImage => {
                "scale it down, or allow more with `data.pictures.max_pixels` in the recipe"
            }
            Self::UnclearDepth => {
                "say how many with `data.pictures.sample_bits` in the recipe (16 takes the samples as they are), or scale them to \
                 all 16 bits"
            }
            Self::BurnedIn => {
                "black the text out and correct the tag, or take such files with `data.pictures.burned_in = \"accept\"` in the \
                 recipe"
            }
            Self::ManyFrames => {
                "save one frame alone, or choose one with `data.pictures.frame` in the recipe"
            }
            Self::TooManyTags => "an entry has one picture: keep `<image>` in one question only",
            Self::TagWithoutImage => "add the picture, or take `<image>` out of the text",
            Self::ImageWithoutTag => "put `<image>` into the first question, or remove the picture",
            Self::UnknownWord => {
                "keep to the tokenizer's vocabulary, or use one with an unknown token"
            }
            Self::Layout => {
                "change the entry (many chat templates have no system message), or use another template"
            }
            Self::NoLabels => {
                "keep the template's separator, end-of-turn and unknown-token texts out of the messages"
            }
            Self::CutAway => {
                "raise data.max_length in the recipe, shorten the texts, or take a tower with fewer tokens"
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed entry",
            Self::NoConversations => "no conversation",
            Self::UnknownRole => "unknown role",
            Self::SeveralImages => "several pictures",
            Self::UnevenTurns => "questions and answers do not pair up",
            Self::MissingImage => "missing image",
            Self::ImageOutside => "image path leaves the image folder",
            Self::CorruptImage => "corrupt image",
            Self::LargeImage => "image too large",
            Self::UnclearDepth => "16-bit image of fewer bits",
            Self::BurnedIn => "text burned into the image",
            Self::ManyFrames => "several frames",
            Self::Layout => "no place in the chat template",
            Self::TooManyTags => "more <image> tags than pictures",
            Self::TagWithoutImage => "<image> tag without a picture",
            Self::ImageWithoutTag => "picture without an <image> tag",
            Self::UnknownWord => "word outside the vocabulary",
            Self::NoLabels => "nothing to learn",
            Self::CutAway => "answers cut away",
        })
    }
}

/// What happens when an entry is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strictness {
    /// Leave it out and count it.
    #[default]
    Skip,
    /// Stop with the error.
    Stop,
}

/// How many samples were left out, per kind of fault, with the first message of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Count per kind.
    pub counts: BTreeMap<Fault, u64>,
    /// The first message per kind, so that a warning can name one culprit.
    pub first: BTreeMap<Fault, String>,
}

impl Skipped {
    /// Counts one bad entry.
    pub fn add(&mut self, error: &EntryError) {
        *self.counts.entry(error.fault).or_default() += 1;
        self.first
            .entry(error.fault)
            .or_insert_with(|| error.to_string());
    }

    /// The tally of a list of bad entries.
    #[must_use]
    pub fn of(errors: &[EntryError]) -> Self {
        let mut skipped = Self::default();
        errors.iter().for_each(|error| skipped.add(error));
        skipped
    }

    /// Adds the counts of another tally; first messages already held stay.
    pub fn merge(&mut self, other: &Self) {
        for (fault, count) in &other.counts {
            *self.counts.entry(*fault).or_default() += count;
        }
        for (fault, message) in &other.first {
            self.first.entry(*fault).or_insert_with(|| message.clone());
        }
    }

    /// Why nothing is left, for a message in brackets: the counts, and an entry that stands for them.
    #[must_use]
    pub fn why(&self) -> String {
        let most = self.counts.iter().max_by_key(|(_, count)| **count);
        match most.and_then(|(fault, _)| self.first.get(fault)) {
            Some(message) => format!(" ({self}; the first: {message})"),
            None => String::new(),
        }
    }

    /// All kinds together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// The counts; with `{:#}` also the first entry of each kind, on a line each.
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.counts.is_empty() {
            return f.write_str("nothing skipped");
        }
        for (i, (fault, count)) in self.counts.iter().enumerate() {
            let comma = if i == 0 { "skipped: " } else { ", " };
            write!(f, "{comma}{count} x {fault}")?;
        }
        if f.alternate() {
            for message in self.first.values() {
                write!(f, "\n  first {message}")?;
            }
        }
        Ok(())
    }
}
