//! From an entry of a dataset to an [`Example`].

use crate::error::{DataError, Fault, Skipped, Strictness};
use crate::example::{DrawKey, Example, IGNORED, Turns, spans};
use crate::image::{self, ImageFault};
use crate::llava::{Dataset, Entry};
use crate::loader::Source;
use crate::preprocess::{Aspect, Processor};
use crate::template::Template;
use crate::tokenizer::Tokenizer;

/// How entries are read.
#[derive(Debug, Clone, PartialEq)]
pub struct ReaderOptions {
    /// What to do with pictures that are not square.
    pub aspect: Aspect,
    /// How turns become spans.
    pub turns: Turns,
    /// Longest sequence of ids, the placeholder counted as one; the rest is cut off.
    pub max_length: usize,
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
            turns,
            max_length: 2048,
            seed: 0,
            strictness,
        }
    }
}

/// Reads the entries of a dataset with one template, tokenizer and processor.
#[derive(Debug)]
pub struct Reader {
    dataset: Dataset,
    template: &'static dyn Template,
    tokenizer: Tokenizer,
    processor: Processor,
    options: ReaderOptions,
    /// Places of the usable entries in `dataset`.
    usable: Vec<usize>,
    skipped: Skipped,
}

impl Reader {
    /// Checks every entry's placeholders against its picture. Pictures themselves are looked at when they are read.
    ///
    /// # Errors
    /// No entry can be used; with [`Strictness::Stop`] the first entry whose placeholders and picture do not match.
    pub fn new(
        dataset: Dataset,
        template: &'static dyn Template,
        tokenizer: Tokenizer,
        processor: Processor,
        options: ReaderOptions,
    ) -> Result<Self, DataError> {
        let mut skipped = dataset.skipped().clone();
        let mut usable = Vec::with_capacity(dataset.entries().len());
        for (i, entry) in dataset.entries().iter().enumerate() {
            match tag_fault(template, entry, &options.turns) {
                None => usable.push(i),
                Some((fault, problem)) => {
                    let error = dataset.complain(entry, "conversations", fault, problem);
                    if options.strictness == Strictness::Stop {
                        return Err(error.into());
                    }
                    skipped.add(&error);
                }
            }
        }
        if usable.is_empty() {
            let (path, why) = (dataset.file().to_path_buf(), format!(" ({skipped})"));
            return Err(DataError::NothingUsable {
                path,
                entries: dataset.entries().len(),
                why,
            });
        }
        Ok(Self {
            dataset,
            template,
            tokenizer,
            processor,
            options,
            usable,
            skipped,
        })
    }

    /// What was left out before any picture was read.
    #[must_use]
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The template.
    #[must_use]
    pub fn template(&self) -> &'static dyn Template {
        self.template
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
        let entry = &self.dataset.entries()[self.usable[index]];
        let key = DrawKey {
            seed: self.options.seed,
            epoch,
            index: entry.index as u64,
        };
        let (pictured, max_length) = (entry.image.is_some(), self.options.max_length);
        let turns = &self.options.turns;
        let spans = spans(
            self.template,
            &self.tokenizer,
            &entry.turns,
            pictured,
            turns,
            max_length,
            key,
        )?;
        if spans
            .iter()
            .flat_map(|span| &span.labels)
            .all(|&label| label == IGNORED)
        {
            let problem = "after tokenizing no answer is left to learn from".to_owned();
            return Err(self
                .dataset
                .complain(entry, "conversations", Fault::NoLabels, problem)
                .into());
        }
        let Some(path) = &entry.image else {
            return Ok(Example {
                id: entry.id.clone(),
                pixels: None,
                spans,
            });
        };
        let path = self.dataset.image_folder().join(path);
        let picture = image::open(&path).map_err(|fault| match fault {
            ImageFault::Missing(problem) => {
                DataError::from(
                    self.dataset
                        .complain(entry, "image", Fault::MissingImage, problem),
                )
            }
            ImageFault::Corrupt(problem) => {
                DataError::from(
                    self.dataset
                        .complain(entry, "image", Fault::CorruptImage, problem),
                )
            }
            // A disk or network that fails now may not later: skipping would make two runs differ.
            ImageFault::System(source) => DataError::Read { path, source },
        })?;
        let pixels = Some(self.processor.pixels(&picture, self.options.aspect));
        Ok(Example {
            id: entry.id.clone(),
            pixels,
            spans,
        })
    }
}

fn tag_fault(template: &dyn Template, entry: &Entry, turns: &Turns) -> Option<(Fault, String)> {
    let pictures = usize::from(entry.image.is_some());
    let tags = template.placeholders(&entry.turns);
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
