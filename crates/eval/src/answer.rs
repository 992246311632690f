//! A model's answers to questions about pictures, wherever its two halves are.

use std::path::PathBuf;

use burn::tensor::{Tensor, TensorData};
use qtl_data::example::ask;
use qtl_data::image::ImageFault;
use qtl_data::{Aspect, DataError, Processor, Template, TokenSpan, Tokenizer, Turns};
use qtl_model::generate::{Remote, greedy};
use qtl_model::partition::{Batch, ClientPartition};
use qtl_model::splice::{Sample, SpliceError, splice};

use crate::benchmark::{Question, Suite};

/// Everything of a client that answers questions.
#[derive(Debug)]
pub struct Answerer<'a> {
    /// The client's half of the model.
    pub client: &'a ClientPartition,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Its conversation template.
    pub template: &'static dyn Template,
    /// How its tower wants pictures.
    pub processor: &'a Processor,
    /// What to do with pictures that are not square.
    pub aspect: Aspect,
    /// How turns were laid out in training.
    pub turns: Turns,
    /// Prompts are cut at this many tokens, pictures included.
    pub max_length: usize,
    /// The longest answer in tokens.
    pub longest: usize,
    /// Questions decoded together.
    pub batch: usize,
}

/// Why a question has no answer. `E` is the error of the way to the server.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError<E> {
    /// A picture cannot be read.
    #[error("{}: {problem}", path.display())]
    Picture {
        /// The picture.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// A question cannot be tokenized.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A prompt shows more pictures than it has.
    #[error(transparent)]
    Splice(#[from] SpliceError),
    /// The server or the way to it.
    #[error("{0}")]
    Remote(E),
}

impl Answerer<'_> {
    /// One answer per question of the suite, in its order. `done(answered, questions)` is called as it goes.
    ///
    /// # Errors
    ///
    /// [`AnswerError`] naming the picture, or what the server reports.
    pub fn suite<R: Remote>(
        &self,
        suite: &Suite,
        remote: &mut R,
        done: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<String>, AnswerError<R::Error>> {
        let mut answers = Vec::with_capacity(suite.questions().len());
        // Questions stand picture by picture, so a chunk repeats few pictures.
        for chunk in suite.questions().chunks(self.batch.max(1)) {
            answers.extend(self.chunk(chunk, remote)?);
            done(answers.len(), suite.questions().len());
        }
        Ok(answers)
    }

    fn chunk<R: Remote>(
        &self,
        questions: &[Question],
        remote: &mut R,
    ) -> Result<Vec<String>, AnswerError<R::Error>> {
        let mut pixels = Vec::new();
        let mut pictures = 0;
        let mut shown: Option<&PathBuf> = None;
        let mut prompts: Vec<(Vec<TokenSpan>, usize)> = Vec::with_capacity(questions.len());
        for question in questions {
            if shown != Some(&question.image) {
                let picture = qtl_data::image::open(&question.image).map_err(|fault| {
                    AnswerError::Picture {
                        path: question.image.clone(),
                        problem: describe(&fault),
                    }
                })?;
                pixels.extend(self.processor.pixels(&picture, self.aspect).data);
                pictures += 1;
                shown = Some(&question.image);
            }
            let spans = ask(
                self.template,
                self.tokenizer,
                &question.text,
                true,
                &self.turns,
            )?;
            prompts.push((spans, pictures - 1));
        }
        let samples: Vec<Sample<'_>> = prompts
            .iter()
            .map(|(spans, picture)| Sample {
                spans,
                pictures: *picture..picture + 1,
            })
            .collect();
        let spliced = splice(&samples, self.client.tokens_per_picture(), self.max_length)?;
        let side = self.processor.side();
        let pixels = Tensor::from_data(
            TensorData::new(pixels, [pictures, 3, side, side]),
            &self.client.device(),
        );
        let batch = Batch {
            pixels: Some(pixels),
            spliced,
        };
        let end: Vec<u32> = self
            .tokenizer
            .eos()
            .into_iter()
            .map(|id| id as u32)
            .collect();
        let ids = greedy(
            self.client,
            &batch,
            remote,
            &end,
            self.longest,
            &mut |_, _| {},
        )
        .map_err(AnswerError::Remote)?;
        Ok(ids
            .iter()
            .map(|ids| self.tokenizer.answer(ids))
            .collect::<Result<_, _>>()?)
    }
}

fn describe(fault: &ImageFault) -> String {
    match fault {
        ImageFault::Missing(problem) | ImageFault::Corrupt(problem) => problem.clone(),
        ImageFault::System(source) => source.to_string(),
    }
}
