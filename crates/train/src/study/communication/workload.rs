//! Features and gradients of steps to be sent: of given shapes with synthetic numbers, or those of a model on its data.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use qtl_codec::{Grid, samples};
use qtl_data::TokenSpan;
use qtl_data::loader::{Loader, LoaderOptions, Source};
use qtl_model::Device;
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::splice::{IGNORE, IMAGE_TOKEN, Sample, SpliceError, Spliced, splice};
use qtl_model::weights::Stream;

use super::SEED;
use super::peer::Network;
use crate::client::batch;
use crate::error::TrainError;
use crate::recipe::{Recipe, labels_at_server, text_in_rows};

/// The vocabulary of the synthetic words: Llama's.
const VOCAB: usize = 32_000;

/// Steps to be sent.
pub struct Workload {
    /// What it is called.
    pub name: String,
    pub(super) steps: Vec<Tensors>,
    pub(super) network: Network,
    /// Size of the vocabulary.
    pub(super) vocab: usize,
}

/// One step's features before any quantizer.
pub(super) struct Tensors {
    /// [rows, channels].
    pub(super) image: Tensor<2>,
    /// Every row: [rows, channels].
    pub(super) text: Tensor<2>,
    /// Tokens, labels, layout.
    pub(super) spliced: Spliced,
    /// How the image rows lie in pictures, if they do.
    pub(super) grid: Option<Grid>,
}

/// A batch's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Samples, each with one picture.
    pub samples: usize,
    /// Rows of a picture.
    pub image: usize,
    /// Rows of text of a sample.
    pub text: usize,
    /// Channels.
    pub channels: usize,
}

impl Shape {
    /// A square, or a square without its first token.
    fn grid(self) -> Option<Grid> {
        let square = |tokens: usize| tokens.isqrt().pow(2) == tokens;
        let first = (0..2).find(|first| square(self.image + first))?;
        let grid = Grid {
            tokens: self.image,
            width: (self.image + first).isqrt(),
            first,
        };
        (grid.width > 1).then_some(grid)
    }
}

impl Workload {
    /// Steps.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Rows of the image stream and the text stream and channels, mean over the steps.
    pub fn rows(&self) -> [f64; 3] {
        let mean = |of: fn(&Tensors) -> usize| {
            let sum: usize = self.steps.iter().map(of).sum();
            sum as f64 / self.steps.len().max(1) as f64
        };
        [
            mean(|s| s.image.dims()[0]),
            mean(|s| s.text.dims()[0]),
            mean(|s| s.image.dims()[1]),
        ]
    }

    /// Numbers that hold nothing to be found: image features independent Gaussian; words drawn by Zipf's law, a word's
    /// row Gaussian and always the same; gradients Gaussian in rows whose sizes spread (log-normal, deviation 1). The
    /// second half of each text is an answer to be learned.
    pub fn synthetic(shape: Shape, device: &Device) -> Self {
        let Shape {
            samples,
            image,
            text,
            channels,
        } = shape;
        let tensor = |values: Vec<f32>| {
            let rows = values.len() / channels.max(1);
            Tensor::<2>::from_data(TensorData::new(values, [rows, channels]), device)
        };
        let spliced = words(shape);
        let mut rows = Vec::with_capacity(samples * text * channels);
        for id in &spliced.text_ids {
            let mut stream = Stream::new(id.unsigned_abs(), "word");
            rows.extend((0..channels).map(|_| stream.normal() as f32));
        }
        let mut sizes = Stream::new(SEED, "sizes of gradients");
        let mut gradient = |rows: usize, seed| {
            let mut values = samples::gaussian(rows, channels, seed);
            for row in values.chunks_exact_mut(channels.max(1)) {
                let size = (1e-5 * sizes.normal().exp()) as f32;
                row.iter_mut().for_each(|value| *value *= size);
            }
            tensor(values)
        };
        let gradients = [gradient(samples * image, 2), gradient(samples * text, 3)];
        Self {
            name: format!("{samples} x ({image} + {text}) x {channels}"),
            steps: vec![Tensors {
                image: tensor(samples::gaussian(samples * image, channels, SEED)),
                text: tensor(rows),
                spliced,
                grid: shape.grid(),
            }],
            network: Network::Given(vec![gradients]),
            vocab: VOCAB,
        }
    }

    /// What the two halves of a model, without a quantizer, make of the first `batches` batches of a data set, in the
    /// order in which training would take them. Batches without pictures are left out.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming what cannot be read.
    pub fn of_data(
        name: &str,
        client: &ClientPartition,
        server: ServerPartition,
        recipe: &Recipe,
        source: Arc<dyn Source>,
        batches: usize,
    ) -> Result<Self, TrainError> {
        labels_at_server(
            &recipe.split,
            "for the messages of one trip that are measured here; measure with --set 'split.labels=\"server\"'",
        )?;
        text_in_rows(
            &recipe.split,
            "for the rows that are measured here; measure with --set 'split.text=\"rows\"'",
        )?;
        let options = LoaderOptions {
            batch_size: recipe.train.batch,
            seed: recipe.seed,
            strictness: recipe.data.strictness(),
            ..LoaderOptions::default()
        };
        let mut loader = Loader::new(source, options)?;
        let mut steps = Vec::with_capacity(batches);
        while steps.len() < batches {
            let Some(next) = loader.next_batch()? else {
                break;
            };
            let device = client.device();
            let batch = batch(client, &next.examples, recipe.data.max_length, &device)?;
            let features = client.project(&batch);
            if let Some(image) = features.image {
                steps.push(Tensors {
                    image,
                    text: features.text,
                    grid: client.grid(&batch.spliced.image_rows),
                    spliced: batch.spliced,
                });
            }
        }
        Ok(Self {
            name: name.to_owned(),
            steps,
            vocab: server.vocab_size(),
            network: Network::Model(Box::new(server)),
        })
    }
}

/// Texts with one picture each.
fn words(shape: Shape) -> Spliced {
    let mut stream = Stream::new(SEED, "words");
    // Rank r with weight 1 / r, by inverting the logarithm that stands for the sum.
    let mut word = || {
        let rank = ((VOCAB as f64).ln() * stream.uniform()).exp();
        (rank as i64).clamp(1, VOCAB as i64 - 1)
    };
    let spans: Vec<[TokenSpan; 1]> = (0..shape.samples)
        .map(|_| {
            let mut ids = vec![1, IMAGE_TOKEN];
            ids.extend((1..shape.text).map(|_| word()));
            let label = |(at, id): (usize, &i64)| if at > shape.text / 2 { *id } else { IGNORE };
            [TokenSpan {
                branch: 0,
                labels: ids.iter().enumerate().map(label).collect(),
                ids,
            }]
        })
        .collect();
    let samples: Vec<Sample<'_>> = spans
        .iter()
        .enumerate()
        .map(|(at, spans)| Sample {
            spans,
            pictures: at..at + 1,
        })
        .collect();
    let spliced: Result<Spliced, SpliceError> = splice(&samples, shape.image, usize::MAX);
    spliced.expect("every sample has the one picture that its text shows")
}
