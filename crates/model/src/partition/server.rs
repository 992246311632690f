//! The server's partition: codes into a loss, and the gradient that goes back.

use burn::module::Module as _;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use qtl_codec::{Code, Plane};

use super::repeats::{self, IndexError};
use super::{Cut, names};
use crate::finite;
use crate::llm::{Cache, Context, Decoder as LanguageModel, Supervision};
use crate::nn::Mask;
use crate::params::{self, Named};
use crate::quant::{Decoder, QuantError};
use crate::recompute::{Tape, leaf, pull, take};
use crate::splice::{Grid, Kind, Layout};
use crate::targets::{self, TargetError};
use crate::tuning::{self, Matrix, Treatment};
use crate::weights::{NamedTensor, Parameter, Tensors, parameters, visit_tensors};

/// Everything of the model that stays with the server.
#[derive(Debug, Clone)]
pub struct ServerPartition {
    /// The language model without its token embedding.
    pub language_model: LanguageModel,
    /// Quantizer of image rows, the server's half.
    pub quantizer_image: Decoder,
    /// Quantizer of text rows, the server's half.
    pub quantizer_text: Decoder,
}

/// What one training step gives.
#[derive(Debug)]
pub struct Step {
    /// Mean cross-entropy over the supervised tokens.
    pub loss: f64,
    /// How many there were.
    pub tokens: usize,
    /// Gradient of the dequantized image rows: [rows, code_dim], or of the entries that the code keeps (see
    /// [`ServerHalf::kept`](crate::quant::ServerHalf::kept)).
    pub image: Option<Tensor<2>>,
    /// The same of the text rows: one row per row of the code, equal rows' gradients added up.
    pub text: Tensor<2>,
    /// Gradients of the trained parameters by name.
    pub parameters: Named,
}

/// A message whose parts do not fit together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StepError {
    /// A code of the wrong kind or shape.
    #[error("{stream} features: {source}")]
    Code {
        /// `image` or `text`.
        stream: &'static str,
        /// What is wrong.
        source: QuantError,
    },
    /// The layout counts other rows than the codes hold.
    #[error("the layout counts {layout} {stream} rows, the code holds {code}")]
    Rows {
        /// `image` or `text`.
        stream: &'static str,
        /// Rows in the layout.
        layout: usize,
        /// Rows in the code.
        code: usize,
    },
    /// Row numbers of the text that do not fit.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A message without a sequence, or without a text row.
    #[error("there is no {what} in the message")]
    Empty {
        /// What is missing.
        what: &'static str,
    },
    /// A feature that is no finite number.
    #[error(
        "the {stream} features hold {value} at row {row}, channel {channel}: a picture, a weight or the scale of a row is no finite number at the client"
    )]
    Feature {
        /// `image` or `text`.
        stream: &'static str,
        /// Row of the code.
        row: usize,
        /// Channel of the code.
        channel: usize,
        /// What stands there.
        value: String,
    },
    /// The message is in order, but what it gives is no finite number.
    #[error("the {what} is {value}{}", of(*.sequence))]
    NotFinite {
        /// The loss, or the gradient of which rows.
        what: &'static str,
        /// In which sequence of the batch, from 0, as far as it is one's.
        sequence: Option<usize>,
        /// Its value.
        value: String,
    },
    /// A sequence without a token, or longer than the model takes.
    #[error(
        "sequence {sequence} of the batch has {length} tokens; the language model takes 1 to {longest}"
    )]
    Length {
        /// Which.
        sequence: usize,
        /// Its length.
        length: usize,
        /// The longest allowed.
        longest: usize,
    },
    /// A token was asked for before any prompt.
    #[error("no generation is open; send a prompt first")]
    NoPrompt,
    /// Targets that do not fit.
    #[error(transparent)]
    Targets(#[from] TargetError),
}

/// Names a sequence of the batch.
fn of(sequence: Option<usize>) -> String {
    sequence.map_or_else(String::new, |n| format!(" in sequence {n} of the batch"))
}

/// Dequantized rows: the leaves of the server's graph.
struct Leaves {
    image: Option<Tensor<2>>,
    text: Tensor<2>,
    /// Per text row its row of `text`; `None` if they are the same.
    index: Option<Vec<usize>>,
}

impl Step {
    /// A batch without a supervised token teaches nothing.
    fn nothing(leaves: Leaves) -> Self {
        let zero = |leaf: Tensor<2>| leaf.inner().zeros_like();
        Self {
            loss: 0.0,
            tokens: 0,
            image: leaves.image.map(zero),
            text: zero(leaves.text),
            parameters: Named::new(),
        }
    }

    /// Checks that the gradients of the rows are finite. `index`: per text row its row of `text`.
    fn check(&self, layout: &Layout, index: Option<&[usize]>) -> Result<(), StepError> {
        let image = self.image.as_ref().and_then(finite::first);
        let image = image.map(|place| (Kind::Image, place, place.row));
        let text = finite::first(&self.text);
        let text = text.map(|place| {
            let shown = index.and_then(|rows| rows.iter().position(|row| *row == place.row));
            (Kind::Text, place, shown.unwrap_or(place.row))
        });
        let Some((kind, place, row)) = image.or(text) else {
            return Ok(());
        };
        Err(StepError::NotFinite {
            what: match kind {
                Kind::Image => "gradient of the image rows",
                Kind::Text => "gradient of the text rows",
            },
            sequence: layout.sequence_of(kind, row),
            value: place.value.to_string(),
        })
    }

    /// Leaves out the entries of the gradients that the client's backward does not read.
    fn thin(self, server: &ServerPartition, cut: &Cut) -> Self {
        let thin = |quantizer: &Decoder, code: &Code, g: Tensor<2>| match quantizer.kept(code) {
            Some(kept) => kept.take(g),
            None => g,
        };
        Self {
            image: self
                .image
                .zip(cut.image.as_ref())
                .map(|(g, code)| thin(&server.quantizer_image, code, g)),
            text: thin(&server.quantizer_text, &cut.text, self.text),
            ..self
        }
    }
}

impl ServerPartition {
    /// Width of the language model.
    pub fn hidden_size(&self) -> usize {
        self.language_model.spec().hidden_size
    }

    /// The device the parameters live on.
    pub fn device(&self) -> Device {
        self.language_model.device()
    }

    /// Size of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.language_model.spec().vocab_size
    }

    /// Forward and backward of one batch. `targets` is what [`targets::encode`] wrote. Attention scores of one block
    /// at a time are alive: the blocks are run without a graph and recomputed in backward; only the last one, whose
    /// backward follows at once, is tracked straight away.
    pub fn step(
        &self,
        cut: &Cut,
        targets: &Code,
        trained: &dyn Fn(&str) -> bool,
        device: &Device,
    ) -> Result<Step, StepError> {
        let grid = self.grid(&cut.layout)?;
        let leaves = self.dequantize(cut, device)?;
        let leaves = Leaves {
            image: leaves.image.map(leaf),
            text: leaf(leaves.text),
            index: leaves.index,
        };
        let supervision = supervision(&grid, targets, self.vocab_size())?;
        let tracked = self.track(trained);
        let context = self.context(&grid, device);

        let input = tracked.assemble(&leaves, &grid);
        let before_last = self.language_model.blocks().saturating_sub(1);
        let (x, tape) = Tape::run(before_last, input.clone().inner(), |i, x| {
            self.language_model.block(i, x, &context)
        });
        let last = leaf(x);
        let mut hidden = last.clone();
        if before_last < self.language_model.blocks() {
            hidden = tracked.language_model.block(before_last, hidden, &context);
        }
        if supervision.targets.is_empty() {
            return Ok(Step::nothing(leaves).thin(self, cut));
        }
        let plain = hidden.clone().inner();
        let loss = tracked.language_model.loss(hidden, &supervision);
        let value = f64::from(loss.clone().inner().into_scalar::<f32>());
        if !value.is_finite() {
            return Err(StepError::NotFinite {
                what: "loss",
                sequence: self.without_a_loss(&plain, &supervision),
                value: value.to_string(),
            });
        }
        drop(plain);

        let mut parameters = Named::new();
        let mut absorb = |grads: &mut Gradients| {
            params::collect(
                &tracked.language_model,
                names::LANGUAGE_MODEL,
                grads,
                &mut parameters,
            );
        };
        let mut grads = loss.backward();
        let gradient = take(&last, &mut grads);
        absorb(&mut grads);
        let gradient = tape.backward(
            gradient,
            |i, x| tracked.language_model.block(i, x, &context),
            &mut absorb,
        );
        let mut grads = pull(input, gradient);
        params::collect(
            &tracked.quantizer_image,
            names::QUANTIZER_IMAGE,
            &mut grads,
            &mut parameters,
        );
        params::collect(
            &tracked.quantizer_text,
            names::QUANTIZER_TEXT,
            &mut grads,
            &mut parameters,
        );
        let step = Step {
            loss: value,
            tokens: supervision.targets.len(),
            image: leaves.image.map(|leaf| take(&leaf, &mut grads)),
            text: take(&leaves.text, &mut grads),
            parameters,
        };
        step.check(&cut.layout, leaves.index.as_deref())?;
        Ok(step.thin(self, cut))
    }

    /// The first sequence whose own loss is no finite number. `hidden`: the output of the last block, plain.
    fn without_a_loss(&self, hidden: &Tensor<3>, supervision: &Supervision) -> Option<usize> {
        let [height, width, _] = hidden.dims();
        (0..height).find(|sequence| {
            let pairs = supervision.rows.iter().zip(&supervision.targets);
            let (rows, targets) = pairs
                .filter(|(row, _)| *row / width == *sequence)
                .map(|(row, target)| (*row, *target))
                .unzip();
            let own = Supervision { rows, targets };
            let loss = self.language_model.loss(hidden.clone(), &own);
            !own.rows.is_empty() && !loss.into_scalar::<f32>().is_finite()
        })
    }

    /// The logits of every cell of the padded batch: [sequences, longest, vocab], and the grid that says which cell
    /// holds what.
    pub fn logits(&self, cut: &Cut, device: &Device) -> Result<(Tensor<3>, Grid), StepError> {
        let (input, grid) = self.input(cut, device)?;
        let context = self.context(&grid, device);
        let hidden = self.language_model.forward(input, &context);
        Ok((self.language_model.head(hidden), grid))
    }

    /// What the language model reads for a batch: [sequences, longest, hidden].
    pub fn input(&self, cut: &Cut, device: &Device) -> Result<(Tensor<3>, Grid), StepError> {
        let grid = self.grid(&cut.layout)?;
        let leaves = self.dequantize(cut, device)?;
        Ok((self.assemble(&leaves, &grid), grid))
    }

    /// Runs a batch of prompts: the greedy next token of each, and the cache to go on with.
    pub fn prefill(&self, cut: &Cut, device: &Device) -> Result<(Vec<u32>, Cache), StepError> {
        let (input, _) = self.input(cut, device)?;
        let (logits, cache) = self.language_model.prefill(input, &cut.layout.lengths());
        Ok((greedy(logits), cache))
    }

    /// One more token for each of the sequences `keep` of the cache (the others are finished): their next tokens.
    pub fn next(
        &self,
        cache: &mut Cache,
        keep: &[usize],
        code: &Code,
        device: &Device,
    ) -> Result<Vec<u32>, StepError> {
        if keep.is_empty() {
            return Err(StepError::Empty {
                what: "sequence that goes on",
            });
        }
        // A quantizer whose statistics are those of a batch cannot code a single token; see `encode_tokens`.
        let (leaf, plain) = match self.quantizer_text.dequantize(code, device) {
            Ok(leaf) => (leaf, false),
            Err(source) => match crate::quant::from_f16(code, self.hidden_size(), device) {
                Ok(rows) => (rows, true),
                Err(_) => {
                    return Err(StepError::Code {
                        stream: "text",
                        source,
                    });
                }
            },
        };
        if leaf.dims()[0] != keep.len() || keep.iter().any(|k| *k >= cache.rows()) {
            return Err(StepError::Rows {
                stream: "text",
                layout: cache.rows(),
                code: leaf.dims()[0],
            });
        }
        let leaf = known("text", code, leaf)?;
        let rows = if plain {
            leaf
        } else {
            self.quantizer_text.expand(leaf)
        };
        let longest = self.language_model.spec().max_positions;
        if let Some((sequence, position)) = cache
            .positions()
            .iter()
            .enumerate()
            .find(|(_, p)| **p + 1 >= longest)
        {
            return Err(StepError::Length {
                sequence,
                length: position + 2,
                longest,
            });
        }
        cache.retain(keep);
        Ok(greedy(self.language_model.step(rows, cache)))
    }

    fn dequantize(&self, cut: &Cut, device: &Device) -> Result<Leaves, StepError> {
        let read = |stream, decoder: &Decoder, code: &Code| {
            let leaf = decoder.dequantize(code, device);
            known(
                stream,
                code,
                leaf.map_err(|source| StepError::Code { stream, source })?,
            )
        };
        let count = |stream, layout, leaf: Tensor<2>| match leaf.dims()[0] {
            code if code == layout => Ok(leaf),
            code => Err(StepError::Rows {
                stream,
                layout,
                code,
            }),
        };
        let image = match &cut.image {
            Some(code) => {
                let leaf = read("image", &self.quantizer_image, code)?;
                Some(count("image", cut.layout.rows(Kind::Image), leaf)?)
            }
            None => match cut.layout.rows(Kind::Image) {
                0 => None,
                layout => {
                    return Err(StepError::Rows {
                        stream: "image",
                        layout,
                        code: 0,
                    });
                }
            },
        };
        let rows = cut.layout.rows(Kind::Text);
        if rows == 0 {
            return Err(StepError::Empty { what: "text row" });
        }
        let text = read("text", &self.quantizer_text, &cut.text)?;
        Ok(match &cut.index {
            None => Leaves {
                image,
                text: count("text", rows, text)?,
                index: None,
            },
            Some(index) => Leaves {
                image,
                index: Some(repeats::decode(index, text.dims()[0], rows)?),
                text,
            },
        })
    }

    fn grid(&self, layout: &Layout) -> Result<Grid, StepError> {
        if layout.sequences.is_empty() {
            return Err(StepError::Empty { what: "sequence" });
        }
        let longest = self.language_model.spec().max_positions;
        for (sequence, length) in layout.lengths().into_iter().enumerate() {
            if length == 0 || length > longest {
                return Err(StepError::Length {
                    sequence,
                    length,
                    longest,
                });
            }
        }
        Ok(Grid::new(layout))
    }

    /// Expands the leaves and puts each row in its cell; padding cells get a row of zeros.
    fn assemble(&self, leaves: &Leaves, grid: &Grid) -> Tensor<3> {
        let text = self.quantizer_text.expand(leaves.text.clone());
        let [distinct, width] = text.dims();
        let device = text.device();
        let mut parts = Vec::with_capacity(3);
        parts.extend(
            leaves
                .image
                .clone()
                .map(|leaf| self.quantizer_image.expand(leaf)),
        );
        parts.push(text);
        parts.push(Tensor::zeros([1, width], &device));
        // The grid counts all text rows; where fewer have crossed, its numbers are looked up.
        let images = leaves.image.as_ref().map_or(0, |leaf| leaf.dims()[0]);
        let row = |row: usize| match &leaves.index {
            Some(index) if row >= images => images + index.get(row - images).unwrap_or(&distinct),
            _ => row,
        };
        let source: Vec<i64> = grid.source.iter().map(|cell| row(*cell) as i64).collect();
        let source = Tensor::<1, Int>::from_data(TensorData::from(source.as_slice()), &device);
        Tensor::cat(parts, 0)
            .select(0, source)
            .reshape([grid.height, grid.width, width])
            .cast(self.language_model.activation())
    }

    fn context(&self, grid: &Grid, device: &Device) -> Context {
        let positions: Vec<Vec<usize>> = grid
            .positions
            .chunks(grid.width)
            .map(<[usize]>::to_vec)
            .collect();
        let mask = Mask::new(
            [grid.height, grid.width, grid.width],
            device,
            |row, to, from| grid.sees(row, to, from),
        );
        self.language_model.context(&positions, mask, device)
    }

    fn track(&self, trained: &dyn Fn(&str) -> bool) -> Self {
        Self {
            language_model: params::track(&self.language_model, names::LANGUAGE_MODEL, trained),
            quantizer_image: params::track(&self.quantizer_image, names::QUANTIZER_IMAGE, trained),
            quantizer_text: params::track(&self.quantizer_text, names::QUANTIZER_TEXT, trained),
        }
    }

    /// Replaces each parameter by `change(name, flattened value)` where that returns a value.
    pub fn replace(self, change: &mut dyn FnMut(&str, Tensor<1>) -> Option<Tensor<1>>) -> Self {
        Self {
            language_model: params::replace(self.language_model, names::LANGUAGE_MODEL, change),
            quantizer_image: params::replace(self.quantizer_image, names::QUANTIZER_IMAGE, change),
            quantizer_text: params::replace(self.quantizer_text, names::QUANTIZER_TEXT, change),
        }
    }

    /// All parameters with their values, under the names of a merged checkpoint.
    pub fn tensors(&self) -> Vec<NamedTensor> {
        let mut all = Vec::new();
        self.visit_tensors(&|_| true, &mut |tensor| all.push(tensor));
        all
    }

    /// All parameters without their values, under the names of a merged checkpoint.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut all = parameters(&self.language_model, names::LANGUAGE_MODEL);
        all.extend(parameters(&self.quantizer_image, names::QUANTIZER_IMAGE));
        all.extend(parameters(&self.quantizer_text, names::QUANTIZER_TEXT));
        all
    }

    /// The parameters whose names are `wanted`, for writing them one at a time.
    pub fn chosen<'a>(&'a self, wanted: &'a dyn Fn(&str) -> bool) -> Tensors<'a> {
        Tensors::chosen(self.parameters(), wanted, |take| {
            self.visit_tensors(wanted, take)
        })
    }

    /// Hands the parameters whose names are `wanted` to `take`, one at a time.
    pub fn visit_tensors(&self, wanted: &dyn Fn(&str) -> bool, take: &mut dyn FnMut(NamedTensor)) {
        visit_tensors(&self.language_model, names::LANGUAGE_MODEL, wanted, take);
        visit_tensors(&self.quantizer_image, names::QUANTIZER_IMAGE, wanted, take);
        visit_tensors(&self.quantizer_text, names::QUANTIZER_TEXT, wanted, take);
    }

    /// Keeps and tunes the matrices as `choose` says, given the name of the weight; see [`tuning::adapt`]. The quantizers
    /// stay as they are.
    #[must_use]
    pub fn adapt(self, seed: u64, choose: &dyn Fn(&str, Matrix) -> Treatment) -> Self {
        Self {
            language_model: tuning::adapt(self.language_model, names::LANGUAGE_MODEL, seed, choose),
            ..self
        }
    }

    /// The same half with every branch folded into its matrix and every matrix in 32 bits.
    #[must_use]
    pub fn folded(self) -> Self {
        Self {
            language_model: self.language_model.materialize(),
            ..self
        }
    }
}

/// The leaf of `code`, if its values are finite. Only scalars can make them anything else.
fn known(stream: &'static str, code: &Code, leaf: Tensor<2>) -> Result<Tensor<2>, StepError> {
    let scalars = code
        .planes
        .iter()
        .any(|plane| matches!(plane, Plane::Scalars(_)));
    match scalars.then(|| finite::first(&leaf)).flatten() {
        None => Ok(leaf),
        Some(place) => Err(StepError::Feature {
            stream,
            row: place.row,
            channel: place.channel,
            value: place.value.to_string(),
        }),
    }
}

fn supervision(grid: &Grid, code: &Code, vocab: usize) -> Result<Supervision, StepError> {
    let targets = targets::decode(code, grid.text_cells.len(), vocab)?;
    let mut supervision = Supervision::default();
    for (target, predictor) in targets.into_iter().zip(&grid.predictors) {
        if let (Some(target), Some(cell)) = (target, predictor) {
            supervision.rows.push(*cell);
            supervision.targets.push(target as i64);
        }
    }
    Ok(supervision)
}

fn greedy(logits: Tensor<2>) -> Vec<u32> {
    let best = logits.argmax(1).into_data().convert::<i64>();
    let best = best.try_into_vec::<i64>().expect("converted to i64");
    best.into_iter().map(|id| id as u32).collect()
}
