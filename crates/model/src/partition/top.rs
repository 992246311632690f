//! The top of the model at the client: hidden states in, a loss or logits out, and the targets stay.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use qtl_codec::Code;

use crate::edge::{HiddenReceiver, StepError};
use crate::llm::{Cache, Context, Decoder as LanguageModel, Supervision, gather};
use crate::nn::{Mask, Named as Renamed};
use crate::params::Named;
use crate::parts::{BLOCKS, Parts};
use crate::prompts::Prompts;
use crate::quant::Decoder;
use crate::splice::{Grid, Layout, Spliced};
use crate::stage::{context, put};
use crate::targets;

/// The last stage, and its side of the edge before it.
#[derive(Module, Debug)]
pub struct Top {
    /// The last blocks, final norm and head.
    pub stage: Renamed<LanguageModel>,
    /// The quantizer's half that receives.
    pub downlink: Renamed<HiddenReceiver>,
}

/// What the top learns from the hidden states of a batch.
#[derive(Debug)]
pub struct Learned {
    /// Mean cross-entropy over the supervised tokens.
    pub loss: f64,
    /// How many there were.
    pub tokens: usize,
    /// What goes back: the gradient of the hidden states that came. None where no token was supervised.
    pub gradient: Option<Tensor<2>>,
    /// Gradients of the trained parameters by name.
    pub parameters: Named,
}

impl Parts for Top {}

impl Top {
    /// The stage and its edge.
    pub fn new(stage: LanguageModel, hidden: Decoder) -> Self {
        Self {
            stage: BLOCKS.holds(stage),
            downlink: Renamed::flat(HiddenReceiver::new(hidden)),
        }
    }

    fn vocab_size(&self) -> usize {
        self.stage.spec().vocab_size
    }

    /// Which text rows of a batch are trained on, for the server: it answers with the hidden states that predict these. None
    /// where blocks follow, which read all rows.
    pub fn wanted(&self, spliced: &Spliced) -> Option<Code> {
        if !self.stage.blocks.is_empty() {
            return None;
        }
        let grid = Grid::new(&spliced.layout);
        let known = targets::supervised(&spliced.labels, self.vocab_size());
        let rows = known.zip(&grid.predictors);
        let rows = rows.map(|(target, cell)| target.is_some() && cell.is_some());
        Some(targets::encode_mask(rows))
    }

    /// How many hidden states come for a batch.
    pub fn rows(&self, spliced: &Spliced) -> usize {
        let grid = Grid::new(&spliced.layout);
        let known = targets::supervised(&spliced.labels, self.vocab_size());
        self.cells(&grid, &Supervision::of(&grid, known)).len()
    }

    /// Forward and backward of a batch whose hidden states have come; none come where nothing is supervised.
    ///
    /// # Errors
    ///
    /// [`StepError`]: they are not in order, or what they lead to is no finite number.
    pub fn learn(
        &self,
        hidden: Option<&Code>,
        spliced: &Spliced,
        trained: &dyn Fn(&str) -> bool,
        device: &Device,
    ) -> Result<Learned, StepError> {
        let grid = Grid::new(&spliced.layout);
        let known = targets::supervised(&spliced.labels, self.vocab_size());
        let supervision = Supervision::of(&grid, known);
        if supervision.is_empty() {
            return Ok(Learned {
                loss: 0.0,
                tokens: 0,
                gradient: None,
                parameters: Named::new(),
            });
        }
        let hidden = hidden.ok_or(StepError::Empty {
            what: "hidden state",
        })?;
        let sequences: Vec<usize> = supervision.rows.iter().map(|c| c / grid.width).collect();
        let tokens = supervision.targets.len();
        let cells = self.cells(&grid, &supervision);
        let edge = &self.downlink;
        let (rows, edge) = edge.train_forward(hidden, cells.len(), device, trained)?;
        let rows = rows.cast(self.stage.blocks.activation());
        let (x, context, supervision) = match self.stage.blocks.is_empty() {
            false => {
                let context = context(&self.stage.blocks, &grid, device);
                (put(rows, &cells, &grid), context, supervision)
            }
            true => {
                let own = |cell: &usize| cells.binary_search(cell).unwrap_or_default();
                let rows_of = supervision.rows.iter().map(own).collect();
                let supervision = Supervision {
                    rows: rows_of,
                    ..supervision
                };
                (rows.unsqueeze_dim(0), self.no_context(device), supervision)
            }
        };
        let (hidden, loss, top) = self.stage.train_forward(x, &context, &supervision, trained);
        if !loss.is_finite() {
            let head = &self.stage.head;
            return Err(StepError::NotFinite {
                what: "loss",
                sequence: head.without_a_loss(&hidden, &supervision, &sequences),
                value: loss.to_string(),
            });
        }
        drop(hidden);
        let mut parameters = Named::new();
        let gradient = top.backward(&mut parameters);
        let gradient = match self.stage.blocks.is_empty() {
            false => gather(gradient, &cells),
            true => gradient.squeeze_dim(0),
        };
        let gradient = edge.backward(gradient.cast(DType::F32), &mut parameters)?;
        Ok(Learned {
            loss,
            tokens,
            gradient: Some(gradient),
            parameters,
        })
    }

    /// The cells whose hidden states come, in order.
    fn cells(&self, grid: &Grid, supervision: &Supervision) -> Vec<usize> {
        if !self.stage.blocks.is_empty() {
            return grid.real();
        }
        let mut cells = supervision.rows.clone();
        cells.sort_unstable();
        cells.dedup();
        cells
    }

    /// What no block reads.
    fn no_context(&self, device: &Device) -> Context {
        let mask = Mask::new([1, 1, 1], device, |_, _, _| true);
        self.stage.blocks.context(&[vec![0]], mask, device)
    }

    /// The logits after each of a batch's prompts, `[prompts, vocab]`, and what its blocks remember, if there are any.
    ///
    /// # Errors
    ///
    /// As for [`learn`](Self::learn).
    pub fn prefill(
        &self,
        hidden: &Code,
        layout: &Layout,
        prompts: &Prompts,
        device: &Device,
    ) -> Result<(Tensor<2>, Option<Cache>), StepError> {
        if self.stage.blocks.is_empty() {
            let rows = self.tokens(hidden, prompts.len(), device)?;
            return Ok((self.stage.head.forward(rows), None));
        }
        let grid = Grid::new(layout);
        let cells = grid.real();
        let rows = self.downlink.decode(hidden, cells.len(), device)?;
        let x = put(rows.cast(self.stage.blocks.activation()), &cells, &grid);
        let (x, cache) = self.stage.blocks.read(x, prompts);
        let ends = gather(x, &prompts.ends(grid.width));
        Ok((self.stage.head.forward(ends), Some(cache)))
    }

    /// The same after one more token of each of the sequences `keep` of the cache (the others are finished).
    ///
    /// # Errors
    ///
    /// As for [`learn`](Self::learn).
    pub fn step(
        &self,
        hidden: &Code,
        cache: Option<&mut Cache>,
        keep: &[usize],
        device: &Device,
    ) -> Result<Tensor<2>, StepError> {
        let rows = self.tokens(hidden, keep.len(), device)?;
        Ok(match cache {
            None => self.stage.head.forward(rows),
            Some(cache) => {
                cache.retain(keep);
                self.stage.step(rows, cache)
            }
        })
    }

    fn tokens(
        &self,
        hidden: &Code,
        sequences: usize,
        device: &Device,
    ) -> Result<Tensor<2>, StepError> {
        let width = self.stage.spec().hidden_size;
        let rows = self.downlink.tokens(hidden, sequences, width, device)?;
        Ok(rows.cast(self.stage.blocks.activation()))
    }
}
