//! Numbers that are none, and whose they are: the server knows the sequence, this side the sample.

use burn::tensor::Tensor;
use qtl_codec::{Code, Plane};
use qtl_data::Example;
use qtl_model::edge::{Cut, StepError};
use qtl_model::finite;
use qtl_model::partition::Pending;
use qtl_model::quant::gradient::GradientError;
use qtl_model::quant::{Decoder, Moments};
use qtl_model::splice::{Kind, Layout};
use qtl_wire::{Reason, WireError};

use crate::error::{AnswerError, TrainError};
use crate::optimizer::NotFinite;
use crate::server::told;

/// A step whose numbers are to be watched.
pub(super) struct Watch<'a> {
    pub(super) step: u64,
    pub(super) examples: &'a [Example],
}

impl Watch<'_> {
    /// The error for `what`, which is no number, in one sequence of the batch or in none alone.
    fn diverged(&self, what: String, sequence: Option<usize>) -> TrainError {
        let one = sequence.and_then(|n| self.examples.get(n..=n));
        let ids = one.unwrap_or(self.examples).iter();
        TrainError::Diverged {
            step: self.step,
            what,
            samples: ids.map(|example| example.id.clone()).collect(),
        }
    }

    /// Checks what is about to be coded: quantizers would make ordinary symbols of it.
    pub(super) fn features(&self, pending: &Pending, layout: &Layout) -> Result<(), TrainError> {
        let features = pending.features();
        let image = features.image.as_ref().and_then(finite::first);
        let image = image.map(|place| ("image", Kind::Image, place));
        let text = || finite::first(&features.text).map(|place| ("text", Kind::Text, place));
        match image.or_else(text) {
            None => Ok(()),
            Some((stream, kind, place)) => Err(self.diverged(
                format!(
                    "the {stream} features are {} at row {}, channel {}",
                    place.value, place.row, place.channel
                ),
                layout.sequence_of(kind, place.row),
            )),
        }
    }

    /// The error of a step that the server did not answer.
    pub(super) fn refused(&self, error: WireError) -> TrainError {
        match error {
            WireError::Refused(refusal) if refusal.reason == Reason::NotFinite => {
                let sequence = refusal.sequence.map(|n| n as usize);
                self.diverged(refusal.sentence, sequence)
            }
            error => error.into(),
        }
    }

    /// Checks the loss of an answer.
    pub(super) fn loss(&self, loss: f64) -> Result<(), TrainError> {
        if loss.is_finite() {
            return Ok(());
        }
        Err(self.diverged(format!("the server says that the loss is {loss}"), None))
    }

    /// The error of what came of hidden states.
    pub(super) fn learned(&self, error: StepError) -> TrainError {
        match error {
            StepError::NotFinite { sequence, .. } => self.diverged(error.to_string(), sequence),
            error => self.unread(error.into()),
        }
    }

    /// The error of an answer that is not in order.
    pub(super) fn unread(&self, source: AnswerError) -> TrainError {
        match source {
            AnswerError::Gradient(GradientError::NotFinite { .. }) => {
                self.diverged(source.to_string(), None)
            }
            source => TrainError::Answer {
                step: self.step,
                source,
            },
        }
    }

    /// The error of gradients that came back.
    pub(super) fn answer(&self, error: AnswerError, cut: &Cut, pending: &Pending) -> TrainError {
        match &error {
            AnswerError::Gradient(GradientError::NotFinite { tensor, row, .. }) => {
                let sequence = sequence(cut, pending, tensor, *row);
                self.diverged(error.to_string(), sequence)
            }
            _ => TrainError::Answer {
                step: self.step,
                source: error,
            },
        }
    }

    /// The error of gradients of this side's parameters.
    pub(super) fn gradient(&self, error: &NotFinite) -> TrainError {
        self.diverged(error.to_string(), None)
    }
}

/// The sequence of a row of a gradient; `None` where rows of the gradient are no rows of the code: that of a sparse code
/// holds the kept entries only, cut into rows anew.
fn sequence(cut: &Cut, pending: &Pending, tensor: &str, row: usize) -> Option<usize> {
    let (features, [image, text]) = (pending.features(), pending.gradient_shapes());
    let whole = |features: &Tensor<2>, [_, cols]: [usize; 2]| features.dims()[1] == cols;
    if tensor == "image" {
        let whole = whole(features.image.as_ref()?, image?);
        return cut.layout.sequence_of(Kind::Image, row).filter(|_| whole);
    }
    let shown = match cut.index.as_ref().and_then(|index| index.planes.first()) {
        Some(Plane::Symbols(index)) => index.data.iter().position(|n| n as usize == row)?,
        _ => row,
    };
    let whole = whole(&features.text, text?);
    cut.layout.sequence_of(Kind::Text, shown).filter(|_| whole)
}

/// Checks what was measured before either side starts from it.
pub(super) fn measured(stream: &'static str, moments: Option<&Moments>) -> Result<(), TrainError> {
    let Some(moments) = moments else {
        return Ok(());
    };
    moments
        .check(moments.mean.len())
        .map_err(|source| TrainError::Calibration { stream, source })
}

/// Reads what a half of this quantizer is told to start from, and checks that it is one; `None` for an empty container.
pub(super) fn started(
    stream: &'static str,
    bytes: &[u8],
    quantizer: &Decoder,
) -> Result<Option<Code>, TrainError> {
    let told = told(bytes, quantizer.start_shape());
    let told = told.map_err(|error| WireError::Protocol(error.to_string()))?;
    let Some(told) = told else { return Ok(None) };
    measured(stream, Moments::read(&told).as_ref())?;
    let start = quantizer.clone().start(&told);
    start.map_err(|error| WireError::Protocol(format!("the {stream} calibration: {error}")))?;
    Ok(Some(told))
}
