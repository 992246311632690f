//! The server's half: the receiving side of the edge, and the stages above it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use qtl_codec::Code;

use crate::edge::{Cut, Receiver, StepError};
use crate::llm::{Cache, Context, Decoder as LanguageModel, Supervision};
use crate::nn::{Mask, Named as Renamed};
use crate::params::Named;
use crate::parts::{BLOCKS, Parts};
use crate::quant::Decoder;
use crate::splice::{Grid, Layout};
use crate::targets;

/// Everything of the model that stays with the server.
#[derive(Module, Debug)]
pub struct ServerPartition {
    /// The language model without its token embedding: trunk and top.
    pub language_model: Renamed<LanguageModel>,
    /// The quantizers' halves that receive.
    pub uplink: Renamed<Receiver>,
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

impl Parts for ServerPartition {}

impl ServerPartition {
    /// The half of its parts.
    pub fn new(language_model: LanguageModel, image: Decoder, text: Decoder) -> Self {
        Self {
            language_model: BLOCKS.holds(language_model),
            uplink: Renamed::flat(Receiver::new(image, text)),
        }
    }

    /// Width of the language model.
    pub fn hidden_size(&self) -> usize {
        self.language_model.spec().hidden_size
    }

    /// Size of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.language_model.spec().vocab_size
    }

    /// Forward and backward of one batch. `targets` is what [`targets::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`StepError`]: the message is not in order, or what it leads to is no finite number.
    pub fn step(
        &self,
        cut: &Cut,
        targets: &Code,
        trained: &dyn Fn(&str) -> bool,
        device: &Device,
    ) -> Result<Step, StepError> {
        let grid = self.grid(&cut.layout)?;
        let received = self.uplink.dequantize(cut, device)?;
        let supervision = supervision(&grid, targets, self.vocab_size())?;
        let (blocks, head) = (&self.language_model.blocks, &self.language_model.head);
        let context = self.context(&grid, device);

        let activation = blocks.activation();
        let (x, uplink) = self
            .uplink
            .train_forward(received, &grid, activation, trained);
        if supervision.targets.is_empty() {
            // A batch without a supervised token teaches nothing.
            let rows = uplink.nothing();
            return Ok(Step {
                loss: 0.0,
                tokens: 0,
                image: rows.image,
                text: rows.text,
                parameters: Named::new(),
            });
        }
        let (hidden, trunk) = blocks.train_forward(x, &context, trained);
        let (loss, top) = head.train_forward(hidden.clone(), &supervision, trained);
        if !loss.is_finite() {
            return Err(StepError::NotFinite {
                what: "loss",
                sequence: self.without_a_loss(&hidden, &supervision),
                value: loss.to_string(),
            });
        }
        drop(hidden);

        let mut parameters = Named::new();
        let gradient = top.backward(&mut parameters);
        let gradient = trunk.backward(gradient, &mut parameters);
        let rows = uplink.backward(gradient, &cut.layout, &mut parameters)?;
        Ok(Step {
            loss,
            tokens: supervision.targets.len(),
            image: rows.image,
            text: rows.text,
            parameters,
        })
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
            let loss = self.language_model.head.loss(hidden.clone(), &own);
            !own.rows.is_empty() && !loss.into_scalar::<f32>().is_finite()
        })
    }

    /// The logits of every cell of the padded batch: [sequences, longest, vocab], and the grid that says which cell
    /// holds what.
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step).
    pub fn logits(&self, cut: &Cut, device: &Device) -> Result<(Tensor<3>, Grid), StepError> {
        let (input, grid) = self.input(cut, device)?;
        let context = self.context(&grid, device);
        let hidden = self.language_model.blocks.forward(input, &context);
        Ok((self.language_model.head.forward(hidden), grid))
    }

    /// What the language model reads for a batch: [sequences, longest, hidden].
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step).
    pub fn input(&self, cut: &Cut, device: &Device) -> Result<(Tensor<3>, Grid), StepError> {
        let grid = self.grid(&cut.layout)?;
        let received = self.uplink.dequantize(cut, device)?;
        let activation = self.language_model.blocks.activation();
        Ok((self.uplink.assemble(&received, &grid, activation), grid))
    }

    /// Runs a batch of prompts: the greedy next token of each, and the cache to go on with.
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step).
    pub fn prefill(&self, cut: &Cut, device: &Device) -> Result<(Vec<u32>, Cache), StepError> {
        let (input, _) = self.input(cut, device)?;
        let (logits, cache) = self.language_model.prefill(input, &cut.layout.lengths());
        Ok((greedy(logits), cache))
    }

    /// One more token for each of the sequences `keep` of the cache (the others are finished): their next tokens.
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step).
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
        let width = self.hidden_size();
        let rows = self.uplink.tokens(code, keep.len(), width, device)?;
        if keep.iter().any(|k| *k >= cache.rows()) {
            return Err(StepError::Rows {
                stream: "text",
                layout: cache.rows(),
                code: keep.len(),
            });
        }
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
        self.language_model.blocks.context(&positions, mask, device)
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
