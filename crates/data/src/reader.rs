//! From an entry of a dataset to an [`Example`].

use std::path::Path;
use std::sync::Arc;

use crate::error::{DataError, EntryError, Fault, Skipped, Strictness};
use crate::example::{DrawKey, Example, Pixels, TokenSpan, Turns, spans, supervised};
use crate::image::{self, Header, ImageFault, PictureRules};
use crate::llava::{Dataset, Entry, Turn};
use crate::loader::Source;
use crate::names;
use crate::preprocess::{Aspect, Processor};
use crate::template::{IMAGE_TAG, Template};
use crate::tokenizer::Tokenizer;

/// How entries are read.
#[derive(Debug, Clone, PartialEq)]
pub struct ReaderOptions {
    /// What to do with pictures that are not square.
    pub aspect: Aspect,
    /// How pictures are read.
    pub pictures: PictureRules,
    /// How turns become spans.
    pub turns: Turns,
    /// Longest sequence, pictures included; the rest is cut off.
    pub max_length: usize,
    /// Rows that a picture becomes in that sequence.
    pub picture_rows: usize,
    /// Decides which turns are drawn.
    pub seed: u64,
    /// What to do with bad entries.
    pub strictness: Strictness,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        let (aspect, turns, strictness) =
            (Aspect::default(), Turns::default(), Strictness::default());
        Self {
            aspect,
            pictures: PictureRules::default(),
            turns,
            max_length: 2048,
            picture_rows: 1,
            seed: 0,
            strictness,
        }
    }
}

/// Reads the entries of a dataset with one template, tokenizer and processor.
#[derive(Debug)]
pub struct Reader {
    dataset: Dataset,
    template: Arc<dyn Template>,
    tokenizer: Tokenizer,
    processor: Processor,
    options: ReaderOptions,
    /// Places of the usable entries in `dataset`.
    usable: Vec<usize>,
    refused: Vec<EntryError>,
    notes: Vec<String>,
}

impl Reader {
    /// Checks the template against the tokenizer and every entry's placeholders against its picture. Pictures themselves are looked at when they are read.
    ///
    /// # Errors
    /// The template does not suit the tokenizer; no entry can be used; with [`Strictness::Stop`] the first entry whose placeholders and picture do not match.
    pub fn new(
        dataset: Dataset,
        template: Arc<dyn Template>,
        tokenizer: Tokenizer,
        processor: Processor,
        options: ReaderOptions,
    ) -> Result<Self, DataError> {
        let mut notes: Vec<String> = template.check(&tokenizer)?.into_iter().collect();
        let mut refused = dataset.refused().to_vec();
        let mut usable = Vec::with_capacity(dataset.entries().len());
        for (i, entry) in dataset.entries().iter().enumerate() {
            match tag_fault(&*template, entry, &options.turns) {
                None => usable.push(i),
                Some((fault, problem)) => {
                    let error = dataset.complain(entry, "conversations", fault, problem);
                    if options.strictness == Strictness::Stop {
                        return Err(error.into());
                    }
                    refused.push(*error);
                }
            }
        }
        if usable.is_empty() {
            let (path, why) = (dataset.file().to_path_buf(), Skipped::of(&refused).why());
            return Err(DataError::NothingUsable {
                path,
                entries: dataset.entries().len(),
                why,
            });
        }
        let entries = usable.iter().map(|&i: &usize| &dataset.entries()[i]);
        let unread = entries.filter(|entry| entry.talk.system.is_some()).count();
        if unread > 0 && !template.has_system() {
            notes.push(format!(
                "{unread} entries have a system message, for which the template `{}` has no place (`chat` has one)",
                template.name()
            ));
        }
        Ok(Self {
            notes,
            dataset,
            template,
            tokenizer,
            processor,
            options,
            usable,
            refused,
        })
    }

    /// The entries that were ruled out before any picture was read. Others turn up in [`Source::read`].
    #[must_use]
    pub fn refused(&self) -> &[EntryError] {
        &self.refused
    }

    /// The tally of [`Self::refused`].
    #[must_use]
    pub fn skipped(&self) -> Skipped {
        Skipped::of(&self.refused)
    }

    /// What to be warned of besides entries that are left out.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The file that the entries are of.
    #[must_use]
    pub fn file(&self) -> &Path {
        self.dataset.file()
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The template.
    #[must_use]
    pub fn template(&self) -> &dyn Template {
        &*self.template
    }

    /// The picture processor.
    #[must_use]
    pub fn processor(&self) -> &Processor {
        &self.processor
    }

    /// The usable entries, in the order of [`Source::read`]'s index.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.usable.iter().map(|&i| &self.dataset.entries()[i])
    }
}

impl Source for Reader {
    fn lengths(&self) -> Vec<i64> {
        self.entries().map(Entry::modality_length).collect()
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Example, DataError> {
        let entry = self.entry(index);
        let spans = self.spans(index, epoch)?;
        let pixels = entry
            .image
            .as_deref()
            .map(|path| self.pixels(entry, path))
            .transpose()?;
        Ok(Example {
            id: entry.id.clone(),
            pixels,
            spans,
        })
    }
}

impl Reader {
    /// A usable entry, by the index of [`Source::read`].
    #[must_use]
    pub fn entry(&self, index: usize) -> &Entry {
        &self.dataset.entries()[self.usable[index]]
    }

    /// How entries are read.
    #[must_use]
    pub fn options(&self) -> &ReaderOptions {
        &self.options
    }

    /// The texts of a sample as an epoch sees them, without its picture.
    ///
    /// # Errors
    /// [`DataError::Entry`] where nothing would be learned from it.
    pub fn spans(&self, index: usize, epoch: u64) -> Result<Vec<TokenSpan>, DataError> {
        let entry = self.entry(index);
        let max_length = self.options.max_length;
        let spans = self.spans_within(entry, epoch, max_length)?;
        let learned =
            |spans: &[TokenSpan], room| supervised(spans, self.options.picture_rows, room);
        if learned(&spans, max_length) > 0 {
            return Ok(spans);
        }
        // Nothing is left of its answers, or there was nothing to begin with.
        let whole = self.spans_within(entry, epoch, usize::MAX)?;
        let (fault, problem) = match learned(&whole, usize::MAX) {
            0 => (
                Fault::NoLabels,
                "after tokenizing no answer is left to learn from".to_owned(),
            ),
            lost => (
                Fault::CutAway,
                format!(
                    "all {lost} tokens of its answers are cut away at max_length = {max_length}{}",
                    match entry.image {
                        Some(_) =>
                            format!(", of which the picture takes {}", self.options.picture_rows),
                        None => String::new(),
                    }
                ),
            ),
        };
        Err(self
            .dataset
            .complain(entry, "conversations", fault, problem)
            .into())
    }

    /// The texts of a sample before anything is cut off.
    ///
    /// # Errors
    /// As [`Self::spans`].
    pub fn uncut(&self, index: usize, epoch: u64) -> Result<Vec<TokenSpan>, DataError> {
        self.spans_within(self.entry(index), epoch, usize::MAX)
    }

    /// The picture of a sample as the tower gets it; `None` for text only.
    ///
    /// # Errors
    /// [`DataError::Entry`] where it is missing or cannot be decoded.
    pub fn picture(&self, index: usize) -> Result<Option<Pixels>, DataError> {
        let entry = self.entry(index);
        let path = entry.image.as_deref();
        path.map(|path| self.pixels(entry, path)).transpose()
    }

    /// Form, width and height of a sample's picture, from the first bytes of its file; `None` for text only.
    ///
    /// # Errors
    /// As [`Self::picture`].
    pub fn picture_header(&self, index: usize) -> Result<Option<Header>, DataError> {
        let entry = self.entry(index);
        let path = entry.image.as_deref();
        path.map(|path| {
            self.at_picture(entry, path, |path| {
                image::header(path, &self.options.pictures)
            })
        })
        .transpose()
    }

    fn spans_within(
        &self,
        entry: &Entry,
        epoch: u64,
        max_length: usize,
    ) -> Result<Vec<TokenSpan>, DataError> {
        let ReaderOptions { turns, seed, .. } = &self.options;
        let key = DrawKey {
            seed: *seed,
            epoch,
            index: entry.index as u64,
        };
        let (pictured, wrong) = (entry.image.is_some(), |fault, problem| {
            DataError::from(
                self.dataset
                    .complain(entry, "conversations", fault, problem),
            )
        });
        let spans = spans(
            &*self.template,
            &self.tokenizer,
            &entry.talk,
            pictured,
            turns,
            max_length,
            key,
        );
        spans.map_err(|error| match error {
            DataError::Tokenizer { .. } => wrong(Fault::UnknownWord, error.to_string()),
            DataError::Layout { problem } => wrong(Fault::Layout, problem),
            other => other,
        })
    }

    fn pixels(&self, entry: &Entry, path: &Path) -> Result<Pixels, DataError> {
        let ReaderOptions {
            aspect, pictures, ..
        } = &self.options;
        self.at_picture(entry, path, |path| {
            self.processor.read(path, *aspect, pictures)
        })
    }

    fn at_picture<T>(
        &self,
        entry: &Entry,
        path: &Path,
        read: impl Fn(&Path) -> Result<T, ImageFault>,
    ) -> Result<T, DataError> {
        let wrong =
            |fault, problem| DataError::from(self.dataset.complain(entry, "image", fault, problem));
        let path = names::find(self.dataset.image_folder(), path)
            .map_err(|problem| wrong(Fault::MissingImage, problem))?;
        read(&path).map_err(|fault| match fault {
            ImageFault::Sample(fault, problem) => wrong(fault, problem),
            // A disk or network that fails now may not later: skipping would make two runs differ.
            ImageFault::System(source) => DataError::Read { path, source },
        })
    }
}

fn tag_fault(template: &dyn Template, entry: &Entry, turns: &Turns) -> Option<(Fault, String)> {
    let pictures = usize::from(entry.image.is_some());
    let tags = template.placeholders(&entry.talk.turns);
    let answered = |turn: &Turn| turn.answer.as_ref().is_some_and(|a| a.contains(IMAGE_TAG));
    if pictures > 0 && entry.talk.turns.iter().any(answered) {
        let mut asked = entry.talk.turns.clone();
        asked.iter_mut().for_each(|turn| turn.answer = None);
        // Some templates take the tag for an ordinary word there.
        if template.placeholders(&asked) < tags {
            let problem = "`<image>` in an answer, which can show no picture".to_owned();
            return Some((Fault::TooManyTags, problem));
        }
    }
    match (pictures, tags) {
        (0, 1..) => Some((
            Fault::TagWithoutImage,
            format!("{tags} `<image>` but no picture"),
        )),
        (1, 2..) => Some((
            Fault::TooManyTags,
            format!("{tags} turns with `<image>` for one picture"),
        )),
        // Independent turns share a prefix that shows the picture, whatever the text says.
        (1, 0) if *turns == Turns::Conversation => Some((
            Fault::ImageWithoutTag,
            "a picture but no `<image>`".to_owned(),
        )),
        _ => None,
    }
}
