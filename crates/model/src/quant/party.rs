//! What a quantizer is: a recipe section that builds a client's half and a server's half.

use std::fmt::Debug;
use std::ops::Range;

use burn::tensor::{Device, Tensor};
use qtl_codec::Code;

use super::{Accumulator, Kept, Moments, QuantError, Recorded};

/// A recipe section of one quantizer.
pub trait Spec {
    /// The client's half.
    type Client: ClientHalf;
    /// The server's half.
    type Server: ServerHalf;

    /// Checks the values that a recipe may get wrong.
    ///
    /// # Errors
    /// [`QuantError::Range`] naming the field.
    fn check(&self) -> Result<(), QuantError>;

    /// What tables that compare all quantizers show of this one, from few bits to many.
    fn settings() -> Vec<Self>
    where
        Self: Sized;

    /// Whether both halves start from means and deviations alone.
    fn starts_from_ranges(&self) -> bool {
        true
    }

    /// A fresh client's half for features of `dim` channels: the identity projection (where there is one) if the code
    /// is as wide as the features, otherwise a random one drawn from `seed`.
    fn client(&self, dim: usize, seed: u64, device: &Device) -> Self::Client;

    /// A fresh server's half, likewise.
    fn server(&self, dim: usize, seed: u64, device: &Device) -> Self::Server;
}

/// Whether a code is made to train on, and if so, in which micro-batch: randomised quantizers draw then, and only
/// then, always the same numbers for the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The micro-batch of this number.
    Train(u64),
    /// Inference: nothing is drawn.
    Evaluate,
}

/// What a quantizer's bounding does to features that it does not clip, channel by channel.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "made once and taken apart at once"
)]
pub enum Unclipped {
    /// Nothing.
    Same,
    /// `(u - shift) / scale`.
    Scaled {
        /// `[code_dim]`.
        shift: Tensor<1>,
        /// `[code_dim]`.
        scale: Tensor<1>,
    },
    /// Something else.
    Other,
}

/// The client's verbs. What most quantizers do not need has a default.
pub trait ClientHalf: Debug {
    /// The input projection. `x`: [rows, dim] -> [rows, code_dim]. Differentiable.
    fn input(&self, x: Tensor<2>) -> Tensor<2> {
        x
    }

    /// Bounds the projected features to what the rounding expects. Differentiable.
    fn bound(&self, u: Tensor<2>) -> Tensor<2> {
        u
    }

    /// What [`bound`](Self::bound) does to features that it does not clip.
    fn unclipped(&self) -> Unclipped {
        Unclipped::Same
    }

    /// The recorded statistics after a training batch with these projected features (plain tensor); `None` where none
    /// are kept.
    fn observe(&self, _u: Tensor<2>) -> Option<Recorded> {
        None
    }

    /// Replaces the recorded statistics.
    fn record(&mut self, _recorded: &Recorded) {}

    /// Starts from the moments of a calibration pass over projected features.
    fn calibrate(&mut self, _moments: &Moments) {}

    /// What a calibration pass gathers in.
    fn accumulator(&self) -> Accumulator {
        Accumulator::default()
    }

    /// What a calibration pass is to see of features: projected, unless the projection starts from what is seen.
    fn seen(&self, x: Tensor<2>) -> Tensor<2> {
        self.input(x)
    }

    /// Starts from a calibration pass, and says what the server's half is to start from; `None` where too little was seen.
    fn start(&mut self, seen: &Accumulator) -> Option<Code> {
        let moments = seen.moments()?;
        self.calibrate(&moments);
        Some(moments.code())
    }

    /// Starts from what another client's half [says](Self::start), so that both are the same; `told` is what a server's half
    /// starts from, too.
    ///
    /// # Errors
    /// [`QuantError`] saying what is wrong; this half stays as it is then.
    fn take(&mut self, told: &Code) -> Result<(), QuantError> {
        self.calibrate(&Moments::read(told).ok_or(QuantError::Ranges)?);
        Ok(())
    }

    /// Rounds bounded features (plain tensor). `z`: [rows, code_dim].
    fn quantize(&self, z: Tensor<2>, phase: Phase) -> Code;

    /// What backward pretends `quantize` was when it made `code` of `z`; straight-through by default. Its value need
    /// not be that of the code, since the gradient of the server's leaf is applied to it from outside.
    fn surrogate(&self, z: Tensor<2>, _code: &Code) -> Tensor<2> {
        z
    }

    /// The entries of the leaf's gradient that the surrogate reads, where `code` says so: the others are not sent back.
    /// `None` for all of them. The same as [`ServerHalf::kept`] of the same code.
    fn kept(&self, _code: &Code) -> Option<Kept> {
        None
    }

    /// What bounded features add to the loss, weights included: distortion, rate. `None` where that is nothing.
    fn penalty(&self, _z: Tensor<2>) -> Option<Tensor<1>> {
        None
    }

    /// Which planes of a code hold the elements' own numbers; the others, and all tables and headers, are side
    /// information.
    fn payload(&self) -> Range<usize> {
        0..1
    }

    /// True when a row's code depends on that row alone, so that single generated tokens can be coded.
    fn is_rowwise(&self) -> bool {
        true
    }

    /// True when the code of a *bounded* row depends on that row alone and equal rows have equal codes, so that one may
    /// stand for all of them. Not so for a quantizer that looks at whole columns or draws at random.
    fn codes_rows_alone(&self) -> bool {
        true
    }
}

/// The server's verbs.
pub trait ServerHalf: Debug {
    /// Channels of the code.
    fn code_dim(&self) -> usize;

    /// The values a code stands for: [rows, code_dim], the leaf whose gradient travels back.
    ///
    /// # Errors
    /// [`QuantError::Shape`] for a code that this quantizer does not write.
    fn dequantize(&self, code: &Code, device: &Device) -> Result<Tensor<2>, QuantError>;

    /// See [`ClientHalf::kept`]; `code` is one that [`dequantize`](Self::dequantize) reads.
    fn kept(&self, _code: &Code) -> Option<Kept> {
        None
    }

    /// The output projection: [rows, code_dim] -> [rows, dim], what the language model reads. Differentiable.
    fn expand(&self, leaf: Tensor<2>) -> Tensor<2> {
        leaf
    }

    /// Sets the output projection so that the quantizer starts as a plain one of the calibrated features. Does nothing
    /// where there is no output projection or the code is narrower than the features.
    fn calibrate(&mut self, _moments: &Moments) {}

    /// Rows and columns that hold all the numbers of what [`start`](Self::start) reads.
    fn start_shape(&self) -> [usize; 2] {
        [2, self.code_dim()]
    }

    /// Planes of what [`start`](Self::start) reads.
    fn start_planes(&self) -> usize {
        1
    }

    /// Numbers that a code has of each row, at most.
    fn numbers(&self) -> usize {
        self.code_dim()
    }

    /// Starts from what the [client's half](ClientHalf::start) says; stays as it is where that is no start of this quantizer.
    ///
    /// # Errors
    /// [`QuantError`] saying what is wrong.
    fn start(&mut self, told: &Code) -> Result<(), QuantError> {
        let moments = Moments::read(told).ok_or(QuantError::Ranges)?;
        let checked = moments.check(self.code_dim());
        checked.map_err(|error| QuantError::Moments(error.to_string()))?;
        self.calibrate(&moments);
        Ok(())
    }
}
