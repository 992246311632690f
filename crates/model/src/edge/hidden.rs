//! The edge between trunk and top, where these run in different places: hidden states one way, their gradient the other.
//! All rows are of one kind, so there is one quantizer.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use qtl_codec::Code;

use super::StepError;
use super::receiver::{known, tokens};
use super::sender::{Stream, bound, encode_tokens};
use crate::finite;
use crate::nn::Named as Renamed;
use crate::params::Named;
use crate::parts::{Parts, QUANTIZER_HIDDEN};
use crate::quant::{Decoder, Encoder, Kept, Phase};
use crate::recompute::{leaf, pull, take};

/// What the rows are called in errors.
const STREAM: &str = "hidden";

/// The sender's half.
#[derive(Module, Debug)]
pub struct HiddenSender {
    /// Of hidden states.
    pub hidden: Renamed<Encoder>,
}

/// Rows that were sent, and wait for their gradient.
pub struct HiddenSenderTape {
    tracked: HiddenSender,
    rows: Tensor<2>,
    stream: Stream,
    penalty: Option<Tensor<1>>,
}

/// The receiver's half.
#[derive(Module, Debug)]
pub struct HiddenReceiver {
    /// Of hidden states.
    pub hidden: Renamed<Decoder>,
}

/// Rows that were received, and wait for the gradient of what they were expanded to.
pub struct HiddenReceiverTape {
    tracked: HiddenReceiver,
    leaf: Tensor<2>,
    kept: Option<Kept>,
    rows: Tensor<2>,
}

impl Parts for HiddenSender {}
impl Parts for HiddenReceiver {}

impl HiddenSender {
    /// The half of its quantizer.
    pub fn new(hidden: Encoder) -> Self {
        Self {
            hidden: QUANTIZER_HIDDEN.holds(hidden),
        }
    }

    /// Code of plain rows for inference: recorded statistics, no graph.
    pub fn encode(&self, rows: Tensor<2>) -> Code {
        let z = self.hidden.bound(self.hidden.input(rows));
        self.hidden.quantize(z, Phase::Evaluate)
    }

    /// The same of single tokens' rows, of which there may be too few for the statistics of a batch.
    pub fn encode_tokens(&self, rows: Tensor<2>) -> Code {
        encode_tokens(&self.hidden, rows)
    }

    /// Code of plain rows in the micro-batch number `step`. Recorded statistics move; the rows and the parameters for which
    /// `trained` holds get a gradient in [`HiddenSenderTape::backward`].
    pub fn train_forward(
        &mut self,
        rows: Tensor<2>,
        step: u64,
        trained: &dyn Fn(&str) -> bool,
    ) -> (Code, HiddenSenderTape) {
        let mut tracked = self.track(trained);
        let rows = leaf(rows);
        let mut penalty = None;
        let u = tracked.hidden.input(rows.clone());
        let z = bound((&mut *self.hidden, &mut *tracked.hidden), u, &mut penalty);
        let code = self.hidden.quantize(z.clone().inner(), Phase::Train(step));
        let stream = Stream::new(&tracked.hidden, z, &code);
        let tape = HiddenSenderTape {
            tracked,
            rows,
            stream,
            penalty,
        };
        (code, tape)
    }
}

impl HiddenSenderTape {
    /// Shape of the gradient that is to come back.
    pub fn gradient_shape(&self) -> [usize; 2] {
        self.stream.shape()
    }

    /// From the gradient that came back, and that of the penalty, to that of the rows. Gradients of parameters are added to
    /// `into`.
    pub fn backward(self, gradient: Tensor<2>, into: &mut Named) -> Tensor<2> {
        let mut total = self.stream.carry(gradient);
        if let Some(penalty) = self.penalty {
            total = total + penalty;
        }
        let mut grads = total.backward();
        self.tracked.collect(&mut grads, into);
        take(&self.rows, &mut grads)
    }
}

impl HiddenReceiver {
    /// The half of its quantizer.
    pub fn new(hidden: Decoder) -> Self {
        Self {
            hidden: QUANTIZER_HIDDEN.holds(hidden),
        }
    }

    fn dequantize(
        &self,
        code: &Code,
        rows: usize,
        device: &Device,
    ) -> Result<Tensor<2>, StepError> {
        let leaf = self.hidden.dequantize(code, device);
        let leaf = leaf.map_err(|source| StepError::Code {
            stream: STREAM,
            source,
        })?;
        match leaf.dims()[0] {
            got if got == rows => known(STREAM, code, leaf),
            got => Err(StepError::Rows {
                stream: STREAM,
                layout: rows,
                code: got,
            }),
        }
    }

    /// The so many rows that a code stands for, for inference.
    ///
    /// # Errors
    ///
    /// [`StepError`] if the code holds other rows, or what is no finite number.
    pub fn decode(
        &self,
        code: &Code,
        rows: usize,
        device: &Device,
    ) -> Result<Tensor<2>, StepError> {
        Ok(self.hidden.expand(self.dequantize(code, rows, device)?))
    }

    /// Rows of single tokens: what [`HiddenSender::encode_tokens`] wrote for so many sequences. `width` is that of the
    /// language model.
    ///
    /// # Errors
    ///
    /// As for [`decode`](Self::decode).
    pub fn tokens(
        &self,
        code: &Code,
        sequences: usize,
        width: usize,
        device: &Device,
    ) -> Result<Tensor<2>, StepError> {
        tokens(STREAM, &self.hidden, code, sequences, width, device)
    }

    /// The so many rows that a code stands for, plain. Parameters for which `trained` holds get a gradient in
    /// [`HiddenReceiverTape::backward`].
    ///
    /// # Errors
    ///
    /// As for [`decode`](Self::decode).
    pub fn train_forward(
        &self,
        code: &Code,
        rows: usize,
        device: &Device,
        trained: &dyn Fn(&str) -> bool,
    ) -> Result<(Tensor<2>, HiddenReceiverTape), StepError> {
        let tracked = self.track(trained);
        let leaf = leaf(self.dequantize(code, rows, device)?);
        let rows = tracked.hidden.expand(leaf.clone());
        let tape = HiddenReceiverTape {
            kept: self.hidden.kept(code),
            tracked,
            leaf,
            rows: rows.clone(),
        };
        Ok((rows.inner(), tape))
    }
}

impl HiddenReceiverTape {
    /// From the gradient of the rows to what goes back: the gradient of what was received, or of the entries of it that the
    /// code keeps. Gradients of parameters are added to `into`.
    ///
    /// # Errors
    ///
    /// [`StepError::NotFinite`].
    pub fn backward(self, gradient: Tensor<2>, into: &mut Named) -> Result<Tensor<2>, StepError> {
        let mut grads = pull(self.rows, gradient);
        self.tracked.collect(&mut grads, into);
        let gradient = take(&self.leaf, &mut grads);
        if let Some(place) = finite::first(&gradient) {
            return Err(StepError::NotFinite {
                what: "gradient of the hidden states",
                sequence: None,
                value: place.value.to_string(),
            });
        }
        Ok(match self.kept {
            Some(kept) => kept.take(gradient),
            None => gradient,
        })
    }
}
