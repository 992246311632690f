//! Dataset files: a JSON list, or JSON Lines, of `{id, image?, conversations: [{from, value}, ..]}`, for pretraining (one
//! caption per picture) and for instructions (many turns, with or without a picture). OpenAI's names for the same things
//! (`messages`, `role`, `content`, `images`) are read too.

mod file;
mod message;
mod parse;
mod picture;

pub use message::{Message, message, turns};
pub use parse::Wrong;

use std::path::{Path, PathBuf};

use crate::error::{DataError, EntryError, Fault, Skipped, Strictness};

/// A question and its answer. `answer: None` is an answer still to be generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What is asked; may contain `<image>`.
    pub question: String,
    /// What is answered.
    pub answer: Option<String>,
}

/// What is said in an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The system message. Only the template `chat` has a place for it; the others have a system sentence of their own or none.
    pub system: Option<String>,
    /// Questions and answers.
    pub turns: Vec<Turn>,
}

impl Conversation {
    /// One turn and no system message.
    #[must_use]
    pub fn of(turn: Turn) -> Self {
        Self::from(vec![turn])
    }
}

impl From<Vec<Turn>> for Conversation {
    fn from(turns: Vec<Turn>) -> Self {
        Self {
            system: None,
            turns,
        }
    }
}

/// One usable entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Zero-based place in the file's list.
    pub index: usize,
    /// Its id as text, `#index` where it has none.
    pub id: String,
    /// The picture's path, relative to the image folder and inside it.
    pub image: Option<PathBuf>,
    /// The conversation.
    pub talk: Conversation,
    /// Words (separated by white space) of all messages.
    pub words: u32,
}

impl Entry {
    /// Words, plus 128 for a picture: the length by which LLaVA groups samples.
    #[must_use]
    pub fn length(&self) -> u64 {
        u64::from(self.words) + if self.image.is_some() { 128 } else { 0 }
    }

    /// Words, negative for text-only samples: what [`crate::sampler`] needs to keep the two kinds apart.
    #[must_use]
    pub fn modality_length(&self) -> i64 {
        if self.image.is_some() {
            i64::from(self.words)
        } else {
            -i64::from(self.words)
        }
    }
}

/// The entries of a dataset file. Pictures are not touched here.
#[derive(Debug)]
pub struct Dataset {
    file: PathBuf,
    image_folder: PathBuf,
    entries: Vec<Entry>,
    refused: Vec<EntryError>,
}

impl Dataset {
    /// Reads `file`; pictures are looked for below `image_folder`.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8, not JSON, not entries, or has no usable entry; with [`Strictness::Stop`]
    /// also the first bad entry.
    pub fn open(
        file: &Path,
        image_folder: &Path,
        strictness: Strictness,
    ) -> Result<Self, DataError> {
        let path = || file.to_path_buf();
        let bytes = std::fs::read(file).map_err(|source| DataError::Read {
            path: path(),
            source,
        })?;
        let raw = file::entries(file, &bytes)?;
        let count = raw.len();
        let mut entries = Vec::with_capacity(count);
        let mut refused = Vec::new();
        for (index, raw) in raw.into_iter().enumerate() {
            match parse::entry(file, index, raw) {
                Ok(entry) => entries.push(entry),
                Err(error) if strictness == Strictness::Skip => refused.push(*error),
                Err(error) => return Err(error.into()),
            }
        }
        if entries.is_empty() {
            let why = Skipped::of(&refused).why();
            return Err(DataError::NothingUsable {
                path: path(),
                entries: count,
                why,
            });
        }
        Ok(Self {
            file: path(),
            image_folder: image_folder.to_path_buf(),
            entries,
            refused,
        })
    }

    /// The dataset file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Where pictures are looked for.
    #[must_use]
    pub fn image_folder(&self) -> &Path {
        &self.image_folder
    }

    /// The usable entries, in the file's order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries that cannot be used, and why.
    #[must_use]
    pub fn refused(&self) -> &[EntryError] {
        &self.refused
    }

    /// An error about one of this dataset's entries.
    #[must_use]
    pub fn complain(
        &self,
        entry: &Entry,
        field: &str,
        fault: Fault,
        problem: String,
    ) -> Box<EntryError> {
        let (file, id, field) = (self.file.clone(), entry.id.clone(), field.to_owned());
        Box::new(EntryError {
            file,
            index: entry.index,
            id,
            field,
            fault,
            problem,
        })
    }
}
