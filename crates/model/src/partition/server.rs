//! The server's half: the receiving side of the edge, and the stages above it.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use qtl_codec::Code;

use crate::edge::{
    Cut, Gradients, HiddenSender, HiddenSenderTape, Received, Receiver, ReceiverTape, StepError,
};
use crate::finite;
use crate::llm::{
    Blocks, Decoder as LanguageModel, DecoderSpec, Head, Supervision, TokenEmbedding, gather,
};
use crate::nn::Named as Renamed;
use crate::params::Named;
use crate::parts::{BLOCKS, HEAD, Parts};
use crate::quant::{Decoder, Encoder};
use crate::splice::{Grid, Layout};
use crate::stage::{BlocksTape, context, put};
use crate::targets;

/// Everything of the model that stays with the server.
#[derive(Module, Debug)]
pub struct ServerPartition {
    /// The blocks of the language model that are not the client's.
    pub trunk: Renamed<Blocks>,
    /// What follows them here.
    pub above: Renamed<Above>,
    /// The quantizers' halves that receive.
    pub uplink: Renamed<Receiver>,
}

/// What follows the trunk at the server.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a model holds one of these")]
pub enum Above {
    /// The top: the labels come here.
    Top(Renamed<Head>),
    /// The edge to the client's, which has the labels.
    Edge(Renamed<HiddenSender>),
}

/// What one training step gives.
#[derive(Debug)]
pub struct Step {
    /// Mean cross-entropy over the supervised tokens.
    pub loss: f64,
    /// How many there were.
    pub tokens: usize,
    /// What a backward gives.
    pub returned: Returned,
}

/// The gradients that a backward through the trunk gives.
#[derive(Debug)]
pub struct Returned {
    /// Gradients of the dequantized image rows, and of the text rows: [rows, code_dim], or of the entries that the code keeps
    /// (see [`ServerHalf::kept`](crate::quant::ServerHalf::kept)); one row per row of the code, equal rows' gradients added up.
    pub rows: Gradients,
    /// Gradients of the trained parameters by name.
    pub parameters: Named,
}

/// A step whose hidden states are at the client, and whose gradient has not come yet.
pub struct Waiting {
    through: Through,
    /// The edge, and the cells whose hidden states were sent; none where no row is supervised.
    sent: Option<(HiddenSenderTape, Vec<usize>)>,
    grid: Grid,
}

/// A batch that went through the trunk.
struct Through {
    uplink: ReceiverTape,
    trunk: BlocksTape,
    layout: Layout,
}

impl Through {
    /// From the gradient of what the trunk gave.
    fn backward(self, gradient: Tensor<3>, mut parameters: Named) -> Result<Returned, StepError> {
        let gradient = self.trunk.backward(gradient, &mut parameters);
        let uplink = self.uplink;
        let rows = uplink.backward(gradient, &self.layout, &mut parameters)?;
        Ok(Returned { rows, parameters })
    }
}

impl Returned {
    fn with(self, loss: f64, tokens: usize) -> Step {
        Step {
            loss,
            tokens,
            returned: self,
        }
    }
}

/// What a batch without a supervised token gives: it teaches nothing.
fn nothing(uplink: ReceiverTape) -> Returned {
    Returned {
        rows: uplink.nothing(),
        parameters: Named::new(),
    }
}

impl Parts for ServerPartition {}

impl ServerPartition {
    /// The half with the end of the language model, to which the labels come.
    pub fn new(language_model: LanguageModel, image: Decoder, text: Decoder) -> Self {
        let LanguageModel { blocks, head } = language_model;
        Self {
            trunk: BLOCKS.holds(blocks.into_inner()),
            above: Renamed::flat(Above::Top(HEAD.holds(head.into_inner()))),
            uplink: Renamed::flat(Receiver::new(image, text)),
        }
    }

    /// The half without it, and the quantizer of the hidden states that it sends.
    pub fn without_top(trunk: Blocks, [image, text]: [Decoder; 2], hidden: Encoder) -> Self {
        Self {
            trunk: BLOCKS.holds(trunk),
            above: Renamed::flat(Above::Edge(Renamed::flat(HiddenSender::new(hidden)))),
            uplink: Renamed::flat(Receiver::new(image, text)),
        }
    }

    /// Has text come as token ids, whose rows are read in `table`.
    #[must_use]
    pub fn told_ids(mut self, table: TokenEmbedding) -> Self {
        self.uplink.table = Some(table);
        self
    }

    pub(super) fn spec(&self) -> &DecoderSpec {
        self.trunk.spec()
    }

    /// Width of the language model.
    pub fn hidden_size(&self) -> usize {
        self.spec().hidden_size
    }

    /// Channels of rows as they are before they are coded: of image rows, and of text rows.
    pub fn widths(&self) -> [usize; 2] {
        self.uplink.widths(self.hidden_size())
    }

    /// Size of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.spec().vocab_size
    }

    pub(super) fn head(&self) -> Result<&Head, StepError> {
        match &*self.above {
            Above::Top(head) => Ok(head),
            Above::Edge(_) => Err(StepError::Labels { here: "client" }),
        }
    }

    /// The edge to the client's top, if that is where the top is.
    pub fn downlink(&self) -> Option<&HiddenSender> {
        match &*self.above {
            Above::Top(_) => None,
            Above::Edge(edge) => Some(edge),
        }
    }

    /// The same, for calibrating it.
    pub fn downlink_mut(&mut self) -> Option<&mut HiddenSender> {
        match &mut *self.above {
            Above::Top(_) => None,
            Above::Edge(edge) => Some(edge),
        }
    }

    /// Trunk and top as one, where both are here.
    pub fn language_model(&self) -> Option<LanguageModel> {
        match &*self.above {
            Above::Top(head) => Some(LanguageModel {
                blocks: Renamed::flat((*self.trunk).clone()),
                head: Renamed::flat((**head).clone()),
            }),
            Above::Edge(_) => None,
        }
    }

    pub(super) fn edge(&self) -> Result<&HiddenSender, StepError> {
        self.downlink().ok_or(StepError::Labels { here: "server" })
    }

    /// Forward and backward of one batch whose labels have come. `targets` is what [`targets::encode`] wrote.
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
        let head = self.head()?;
        let grid = self.grid(&cut.layout)?;
        let received = self.uplink.dequantize(cut, device)?;
        let targets = targets::decode(targets, grid.text_cells.len(), self.vocab_size())?;
        let supervision = Supervision::of(&grid, targets.into_iter());
        if supervision.is_empty() {
            let (_, uplink) = self.receive(received, &grid, trained);
            return Ok(nothing(uplink).with(0.0, 0));
        }
        let (hidden, through) = self.through(received, cut, &grid, trained, device);
        let (loss, top) = head.train_forward(hidden.clone(), &supervision, trained);
        if !loss.is_finite() {
            let sequences: Vec<usize> = supervision.rows.iter().map(|c| c / grid.width).collect();
            return Err(StepError::NotFinite {
                what: "loss",
                sequence: head.without_a_loss(&hidden, &supervision, &sequences),
                value: loss.to_string(),
            });
        }
        drop(hidden);
        let mut parameters = Named::new();
        let gradient = top.backward(&mut parameters);
        let returned = through.backward(gradient, parameters)?;
        Ok(returned.with(loss, supervision.targets.len()))
    }

    /// Forward of one batch whose labels are the client's, in the micro-batch number `step`: the code of the hidden states
    /// that it asks for, none if it asks for none. `wanted` is what [`Top::wanted`](super::Top::wanted) gave. Recorded
    /// statistics move.
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step).
    pub fn forward_hidden(
        &mut self,
        cut: &Cut,
        wanted: Option<&Code>,
        step: u64,
        trained: &dyn Fn(&str) -> bool,
        device: &Device,
    ) -> Result<(Option<Code>, Waiting), StepError> {
        self.edge()?;
        let grid = self.grid(&cut.layout)?;
        let received = self.uplink.dequantize(cut, device)?;
        let cells = self.asked(wanted, &grid)?;
        let (hidden, through) = self.through(received, cut, &grid, trained, device);
        let mut waiting = Waiting {
            through,
            sent: None,
            grid,
        };
        if cells.is_empty() {
            return Ok((None, waiting));
        }
        let rows = self.sent(hidden, &cells, &waiting.grid)?;
        let Above::Edge(edge) = &mut *self.above else {
            return Err(StepError::Labels { here: "server" });
        };
        let (code, tape) = edge.train_forward(rows, step, trained);
        waiting.sent = Some((tape, cells));
        Ok((Some(code), waiting))
    }

    /// What the edge's quantizer is calibrated on: its projection of the hidden states that would be sent, before they are
    /// bounded. None where no row is supervised.
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step).
    pub fn measure_hidden(
        &self,
        cut: &Cut,
        wanted: Option<&Code>,
        device: &Device,
    ) -> Result<Option<Tensor<2>>, StepError> {
        let edge = self.edge()?;
        let (input, grid) = self.input(cut, device)?;
        let cells = self.asked(wanted, &grid)?;
        if cells.is_empty() {
            return Ok(None);
        }
        let context = context(&self.trunk, &grid, device);
        let rows = self.sent(self.trunk.forward(input, &context), &cells, &grid)?;
        Ok(Some(edge.hidden.seen(rows)))
    }

    /// The cells whose hidden states the client asks for: those that predict the text rows it names, or all where blocks
    /// follow.
    fn asked(&self, wanted: Option<&Code>, grid: &Grid) -> Result<Vec<usize>, StepError> {
        match (wanted, self.trunk.ends()) {
            (None, false) => Ok(grid.real()),
            (Some(mask), true) => {
                let mask = targets::decode_mask(mask, grid.text_cells.len())?;
                Ok(grid.predicting(mask.into_iter()))
            }
            (None, true) => Err(StepError::Empty {
                what: "mask of supervised rows",
            }),
            (Some(_), false) => Err(StepError::Surplus {
                what: "mask of supervised rows, though blocks follow and all hidden states are sent",
            }),
        }
    }

    /// Hidden states of these cells, in 32 bits as the quantizers want them. They would make ordinary symbols of what is no
    /// number.
    pub(super) fn sent(
        &self,
        hidden: Tensor<3>,
        cells: &[usize],
        grid: &Grid,
    ) -> Result<Tensor<2>, StepError> {
        let rows = gather(hidden, cells).cast(DType::F32);
        match finite::first(&rows) {
            None => Ok(rows),
            Some(place) => Err(StepError::NotFinite {
                what: "hidden state",
                sequence: cells.get(place.row).map(|cell| cell / grid.width),
                value: place.value.to_string(),
            }),
        }
    }

    fn receive(
        &self,
        received: Received,
        grid: &Grid,
        trained: &dyn Fn(&str) -> bool,
    ) -> (Tensor<3>, ReceiverTape) {
        let activation = self.trunk.activation();
        self.uplink
            .train_forward(received, grid, activation, trained)
    }

    fn through(
        &self,
        received: Received,
        cut: &Cut,
        grid: &Grid,
        trained: &dyn Fn(&str) -> bool,
        device: &Device,
    ) -> (Tensor<3>, Through) {
        let context = context(&self.trunk, grid, device);
        let (x, uplink) = self.receive(received, grid, trained);
        let (hidden, trunk) = self.trunk.train_forward(x, &context, trained);
        let layout = cut.layout.clone();
        let through = Through {
            uplink,
            trunk,
            layout,
        };
        (hidden, through)
    }

    /// The logits of every cell of the padded batch: [sequences, longest, vocab], and the grid that says which cell
    /// holds what.
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step).
    pub fn logits(&self, cut: &Cut, device: &Device) -> Result<(Tensor<3>, Grid), StepError> {
        let (input, grid) = self.input(cut, device)?;
        let context = context(&self.trunk, &grid, device);
        let hidden = self.trunk.forward(input, &context);
        Ok((self.head()?.forward(hidden), grid))
    }

    /// What the trunk reads for a batch: [sequences, longest, hidden].
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step).
    pub fn input(&self, cut: &Cut, device: &Device) -> Result<(Tensor<3>, Grid), StepError> {
        let grid = self.grid(&cut.layout)?;
        Ok((self.assembled(cut, &grid, device)?, grid))
    }

    pub(super) fn assembled(
        &self,
        cut: &Cut,
        grid: &Grid,
        device: &Device,
    ) -> Result<Tensor<3>, StepError> {
        let received = self.uplink.dequantize(cut, device)?;
        Ok(self
            .uplink
            .assemble(&received, grid, self.trunk.activation()))
    }

    fn grid(&self, layout: &Layout) -> Result<Grid, StepError> {
        self.takes(layout.lengths())?;
        Ok(Grid::new(layout))
    }

    /// Whether these are lengths of sequences that the language model takes.
    pub(super) fn takes(&self, lengths: Vec<usize>) -> Result<(), StepError> {
        if lengths.is_empty() {
            return Err(StepError::Empty { what: "sequence" });
        }
        let longest = self.spec().max_positions;
        for (sequence, length) in lengths.into_iter().enumerate() {
            if length == 0 || length > longest {
                return Err(StepError::Length {
                    sequence,
                    length,
                    longest,
                });
            }
        }
        Ok(())
    }
}

impl Waiting {
    /// Shape of the gradient that is to come; none where none is.
    pub fn gradient_shape(&self) -> Option<[usize; 2]> {
        self.sent.as_ref().map(|(tape, _)| tape.gradient_shape())
    }

    /// Backward, given the gradient of the hidden states that were sent, of this [shape](Self::gradient_shape). Without one the
    /// batch teaches nothing.
    ///
    /// # Errors
    ///
    /// As for [`ServerPartition::step`].
    pub fn backward(self, gradient: Option<Tensor<2>>) -> Result<Returned, StepError> {
        let (Some((edge, cells)), Some(gradient)) = (self.sent, gradient) else {
            return Ok(nothing(self.through.uplink));
        };
        let mut parameters = Named::new();
        let gradient = edge.backward(gradient, &mut parameters);
        let gradient = gradient.cast(self.through.trunk.dtype());
        let gradient = put(gradient, &cells, &self.grid);
        self.through.backward(gradient, parameters)
    }
}
