//! The client's half: the bottom of the model, and the sending side of its edge.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use qtl_codec::{Code, Grid};

use super::Top;
use crate::edge::{Cut, Gradients, Sender, SenderTape, Shown, TextRows, are_whole_pictures, used};
use crate::llm::Cache;
use crate::nn::Named as Renamed;
use crate::params::Named;
use crate::parts::Parts;
use crate::prompts::Prompts;
use crate::quant::{Accumulator, Encoder, QuantizerSpec};
use crate::stage::{Batch, Bottom, BottomTape, Pictures, Rows};

/// Everything of the model that stays with the data.
#[derive(Module, Debug)]
pub struct ClientPartition {
    /// Tower, connector and token embedding.
    pub bottom: Renamed<Bottom>,
    /// The quantizers' halves that send.
    pub uplink: Renamed<Sender>,
    /// Where the labels are the client's.
    pub top: Option<Renamed<Top>>,
}

/// The client's half of a step that waits for its gradient.
pub struct Pending {
    bottom: BottomTape,
    uplink: SenderTape,
}

impl Parts for ClientPartition {}

impl ClientPartition {
    /// The half of its parts. Text rows of one token cross once, if they are nothing but the token's.
    pub fn new(bottom: Bottom, image: Encoder, text: Encoder) -> Self {
        Self {
            bottom: Renamed::flat(bottom),
            uplink: Renamed::flat(Sender::new(image, text, TextRows::All)),
            top: None,
        }
        .sending(TextRows::default())
    }

    /// With the labels, and what is needed to learn from them.
    #[must_use]
    pub fn with_top(self, top: Top) -> Self {
        Self {
            top: Some(Renamed::flat(top)),
            ..self
        }
    }

    /// Has text rows of one token cross once, or all of them. Behind a block rows are no longer functions of their token, so
    /// all cross whatever is asked for.
    #[must_use]
    pub fn sending(mut self, text_rows: TextRows) -> Self {
        self.uplink.text_rows = match self.bottom.blocks.is_empty() {
            true => text_rows,
            false => TextRows::All,
        };
        self
    }

    /// Has text cross as token ids.
    #[must_use]
    pub fn telling_ids(mut self) -> Self {
        self.uplink.ids = Some(self.bottom.embed_tokens.vocab_size());
        self
    }

    /// Rows per picture that reach the language model.
    pub fn tokens_per_picture(&self) -> usize {
        self.bottom.tokens_per_picture()
    }

    /// How the image rows of a batch lie in their pictures, if these are whole.
    pub fn grid(&self, image_rows: &[usize]) -> Option<Grid> {
        let grid = self.bottom.picture_grid()?;
        are_whole_pictures(image_rows, grid.tokens).then_some(grid)
    }

    fn shown(&self, batch: &Batch) -> Shown {
        Shown {
            rows: self.bottom.shown(&batch.spliced),
            grid: self.grid(&batch.spliced.image_rows),
            pictures: None,
        }
    }

    /// Codes of a batch for inference: recorded statistics, no graph.
    pub fn encode(&self, batch: &Batch) -> Cut {
        let rows = self.bottom.forward(batch);
        self.uplink.encode(rows, &batch.spliced, &self.shown(batch))
    }

    /// Codes of the prompts of a batch, and what this side remembers of them if it has blocks.
    pub fn prefill(&self, batch: &Batch, prompts: &Prompts) -> (Cut, Option<Cache>) {
        let (rows, cache) = self.bottom.prefill(batch, prompts);
        let shown = self.shown(batch);
        (self.uplink.encode(rows, &batch.spliced, &shown), cache)
    }

    /// Code of one more token for each of the sequences `keep`, numbered among those of the call before; see
    /// [`Sender::encode_tokens`].
    pub fn encode_tokens(&self, ids: &[i64], cache: Option<&mut Cache>, keep: &[usize]) -> Code {
        let rows = self.bottom.step(ids, cache, keep);
        self.uplink.encode_tokens(rows, ids)
    }

    /// Projected features of a batch before they are bounded, without a graph: what a quantizer is calibrated on.
    pub fn project(&self, batch: &Batch) -> Rows {
        let rows = self.bottom.forward(batch);
        let shown = self.bottom.shown(&batch.spliced);
        let image = rows.image.map(|rows| self.uplink.image.input(rows));
        let (text, _) = batch.spliced.parted(rows.text);
        Rows {
            image: image.map(|u| used(u, &shown)),
            text: self.uplink.text.input(text),
        }
    }

    /// Projected features of pictures alone, where the cut lies before all blocks: [pictures, 3, side, side] -> [pictures x tokens, code_dim].
    pub fn project_pictures(&self, pixels: Tensor<4>) -> Tensor<2> {
        self.uplink.image.input(self.bottom.look(pixels))
    }

    /// Whether what crosses for a row depends on that row alone, both ways, so that an answer does not depend on what is asked beside
    /// it. `hidden` is the quantizer of what comes back, where anything does.
    pub fn codes_rows_alone(&self, hidden: &QuantizerSpec) -> bool {
        let uplink = self.uplink.image.is_rowwise() && self.uplink.text.is_rowwise();
        // Without blocks behind them the hidden states of prompts cross as those of single tokens do.
        let top = self
            .top
            .as_deref()
            .filter(|top| !top.stage.blocks.is_empty());
        let alone = |top: &Top| {
            let width = top.stage.spec().hidden_size;
            Encoder::init(hidden, width, 0, &self.device()).is_rowwise()
        };
        uplink && top.is_none_or(alone)
    }

    /// Channels of rows as they are before they are coded: of image rows, and of text rows.
    pub fn widths(&self) -> [usize; 2] {
        let image = self.bottom.connector.spec().output;
        [image, self.bottom.embed_tokens.hidden_size()]
    }

    /// Adds the features of a batch, as the quantizers are to see them, to what a calibration gathers (image, text).
    pub fn calibrate(&self, batch: &Batch, image: &mut Accumulator, text: &mut Accumulator) {
        let rows = self.bottom.forward(batch);
        let shown = self.bottom.shown(&batch.spliced);
        if let Some(rows) = rows.image {
            image.add(used(self.uplink.image.seen(rows), &shown));
        }
        // There is nothing to start where token ids cross, and so nothing to tell.
        if self.uplink.ids.is_none() {
            let (own, _) = batch.spliced.parted(rows.text);
            text.add(self.uplink.text.seen(own));
        }
    }

    /// Forward of the micro-batch number `step`: parameters for which `trained` holds get a gradient in
    /// [`Pending::backward`], and the recorded statistics move.
    pub fn forward(
        &mut self,
        batch: &Batch,
        step: u64,
        trained: &dyn Fn(&str) -> bool,
    ) -> (Cut, Pending) {
        let (rows, bottom) = self.bottom.train_forward(batch, trained);
        let (mut shown, wanted) = (self.shown(batch), bottom.wants());
        if let (Some(Pictures::Pixels(pixels)), true) = (
            &batch.pictures,
            self.bottom.blocks.is_empty() && self.uplink.looks_at_pictures(),
        ) {
            shown.pictures = Some(pixels.clone().cast(DType::F32));
        }
        let (cut, uplink) =
            self.uplink
                .train_forward(rows, &batch.spliced, &shown, step, trained, wanted);
        (cut, Pending { bottom, uplink })
    }

    /// The device the parameters live on.
    pub fn device(&self) -> Device {
        self.bottom.embed_tokens.device()
    }
}

impl Pending {
    /// What would cross the cut without a quantizer's rounding, for comparing sizes: plain tensors.
    pub fn features(&self) -> &Rows {
        self.uplink.features()
    }

    /// Shapes of the gradients that are to come back; see [`SenderTape::gradient_shapes`].
    pub fn gradient_shapes(&self) -> [Option<[usize; 2]>; 2] {
        self.uplink.gradient_shapes()
    }

    /// Text rows that crossed: as many as there are different tokens, where each crosses once.
    pub fn text_rows(&self) -> usize {
        self.uplink.text_rows()
    }

    /// What the quantizers add to the loss of this step, weights included.
    pub fn penalty(&self) -> f64 {
        self.uplink.penalty()
    }

    /// Pushes the returned gradient (of these [shapes](Self::gradient_shapes)) and that of the penalty back through the
    /// client's half and returns the gradients of the trained parameters by name.
    pub fn backward(self, gradients: Gradients) -> Named {
        let mut named = Named::new();
        let [image, text] = self.uplink.backward(gradients, &mut named);
        self.bottom.backward(image, text, &mut named);
        named
    }
}
