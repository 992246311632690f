//! The quantizers of the cut layer: features into a [`Code`] on the client, a `Code` into features on the
//! server, with one learned half on either side.
//!
//! Each verb belongs to one party:
//!
//! | verb | who | differentiable |
//! |---|---|---|
//! | [`Encoder::input`], [`Encoder::bound`] | client | yes: input projection and bounding |
//! | [`Encoder::quantize`] | client | no |
//! | [`dequantize`](Decoder::dequantize) | server (and the client, for its penalty) | it makes the leaf |
//! | [`Decoder::expand`] | server | yes: output projection |
//! | [`Encoder::penalty`] | client | the distortion regularizer |
//!
//! Backward treats rounding as the identity (straight-through): the gradient of the leaf is applied to `z`.
//! Adding a quantizer is one file and one arm in each `match` below.

mod fsq;
pub mod gradient;
mod none;
mod stats;

pub use fsq::{FsqDecoder, FsqEncoder, cosine_penalty};
pub use none::{NoneDecoder, NoneEncoder, from_f16, to_f16};
pub use qtl_codec::levels::{level_indices, level_values};
pub use stats::{Accumulator, Moments};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use qtl_codec::{Code, Plane, ScalarData, Scalars, SymbolData, Symbols};
use serde::{Deserialize, Serialize};

/// Which quantizer a modality uses, as the recipe writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum QuantizerSpec {
    /// 16-bit floats: no quantization, the reference to compare with.
    None,
    /// Finite scalar quantization to `levels` equally spaced values per channel.
    Fsq {
        /// Number of levels L, 2 to 256.
        levels: u32,
        /// Features are clipped at this many standard deviations around the mean.
        #[serde(default = "three")]
        width: f32,
        /// Which mean and deviation scale the features.
        #[serde(default)]
        statistics: Statistics,
        /// Channels of the code; 0 means as many as the features have.
        #[serde(default)]
        code_dim: usize,
        /// Weight of the cosine penalty in the loss (0.25 in the paper).
        #[serde(default = "quarter")]
        penalty: f32,
    },
}

/// The statistics that scale the features before rounding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistics {
    /// Recorded per channel during training and used, unchanged, at inference: a row's code depends on
    /// that row alone.
    #[default]
    Channel,
    /// Mean and deviation over the whole tensor of the batch, as the paper does.
    Batch,
}

fn three() -> f32 {
    3.0
}

fn quarter() -> f32 {
    0.25
}

/// A code that does not fit the quantizer that should read it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QuantError {
    /// Another number of planes, another kind of plane, or another shape than the quantizer writes.
    #[error(
        "the code has {got}, but this quantizer reads {want}; do both sides use the same recipe?"
    )]
    Shape {
        /// What the quantizer expects.
        want: String,
        /// What arrived.
        got: String,
    },
    /// A recipe value outside its range.
    #[error("quantizer.{field} = {value} is out of range: {range}")]
    Range {
        /// The recipe's field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
}

impl QuantizerSpec {
    /// Checks the values that a recipe may get wrong.
    pub fn check(&self) -> Result<(), QuantError> {
        let Self::Fsq {
            levels,
            width,
            penalty,
            ..
        } = self
        else {
            return Ok(());
        };
        let range = |field, value: String, range| {
            Err(QuantError::Range {
                field,
                value,
                range,
            })
        };
        if !(2..=256).contains(levels) {
            return range("levels", levels.to_string(), "2 to 256");
        }
        if !(width.is_finite() && *width > 0.0) {
            return range(
                "width",
                width.to_string(),
                "a positive number of standard deviations",
            );
        }
        if !(penalty.is_finite() && *penalty >= 0.0) {
            return range("penalty", penalty.to_string(), "zero or more");
        }
        Ok(())
    }

    /// Nominal bits per element: log2 of the levels, 16 for `none`.
    pub fn nominal_bits(&self) -> f64 {
        match self {
            Self::None => 16.0,
            Self::Fsq { levels, .. } => f64::from(*levels).log2(),
        }
    }
}

/// The client's half of a quantizer.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a model holds two of these")]
pub enum Encoder {
    /// See [`NoneEncoder`].
    None(NoneEncoder),
    /// See [`FsqEncoder`].
    Fsq(FsqEncoder),
}

/// The server's half of a quantizer.
#[derive(Module, Debug)]
pub enum Decoder {
    /// See [`NoneDecoder`].
    None(NoneDecoder),
    /// See [`FsqDecoder`].
    Fsq(FsqDecoder),
}

impl Encoder {
    /// A fresh encoder for features of `dim` channels: the identity projection where the code is as wide
    /// as the features, otherwise a random one drawn from `seed`.
    pub fn init(spec: &QuantizerSpec, dim: usize, seed: u64, device: &Device) -> Self {
        match spec {
            QuantizerSpec::None => Self::None(NoneEncoder::new()),
            QuantizerSpec::Fsq { .. } => Self::Fsq(FsqEncoder::init(spec, dim, seed, device)),
        }
    }

    /// The input projection. `x`: [rows, dim] -> [rows, code_dim].
    pub fn input(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::None(_) => x,
            Self::Fsq(q) => q.input(x),
        }
    }

    /// Bounds the projected features to what the rounding expects; uses the statistics, no parameter.
    pub fn bound(&self, u: Tensor<2>) -> Tensor<2> {
        match self {
            Self::None(_) => u,
            Self::Fsq(q) => q.bound(u),
        }
    }

    /// Records the statistics of a training batch's projected features (plain tensor).
    pub fn observe(&mut self, u: Tensor<2>) {
        if let Self::Fsq(q) = self {
            q.observe(u);
        }
    }

    /// Starts the recorded statistics from a calibration pass.
    pub fn set_moments(&mut self, moments: &Moments) {
        if let Self::Fsq(q) = self {
            q.set_moments(moments);
        }
    }

    /// Rounds bounded features. `z`: [rows, code_dim].
    pub fn quantize(&self, z: Tensor<2>) -> Code {
        match self {
            Self::None(q) => q.quantize(z),
            Self::Fsq(q) => q.quantize(z),
        }
    }

    /// What backward pretends `quantize` was: straight-through by default.
    pub fn surrogate(&self, z: Tensor<2>) -> Tensor<2> {
        z
    }

    /// The weighted distortion penalty of bounded features, a scalar to be added to the loss; `None` where
    /// the quantizer has none. See [`cosine_penalty`].
    pub fn penalty(&self, z: Tensor<2>) -> Option<Tensor<1>> {
        match self {
            Self::None(_) => None,
            Self::Fsq(q) => q.penalty(z),
        }
    }

    /// True when the code of a *bounded* row depends on that row alone and equal rows have equal codes, so that one may
    /// stand for all of them. Not so for a quantizer that looks at whole columns or draws at random.
    pub fn codes_rows_alone(&self) -> bool {
        match self {
            Self::None(_) | Self::Fsq(_) => true,
        }
    }

    /// True when a row's code depends on that row alone, so that single generated tokens can be coded.
    pub fn is_rowwise(&self) -> bool {
        match self {
            Self::None(_) => true,
            Self::Fsq(q) => q.is_rowwise(),
        }
    }
}

impl Decoder {
    /// The server's half for features of `dim` channels.
    pub fn init(spec: &QuantizerSpec, dim: usize, seed: u64, device: &Device) -> Self {
        match spec {
            QuantizerSpec::None => Self::None(NoneDecoder::new(dim)),
            QuantizerSpec::Fsq { .. } => Self::Fsq(FsqDecoder::init(spec, dim, seed, device)),
        }
    }

    /// The values a code stands for: [rows, code_dim], the leaf whose gradient travels back.
    pub fn dequantize(&self, code: &Code, device: &Device) -> Result<Tensor<2>, QuantError> {
        match self {
            Self::None(q) => q.dequantize(code, device),
            Self::Fsq(q) => q.dequantize(code, device),
        }
    }

    /// The output projection: [rows, code_dim] -> [rows, dim], what the language model reads.
    pub fn expand(&self, leaf: Tensor<2>) -> Tensor<2> {
        match self {
            Self::None(_) => leaf,
            Self::Fsq(q) => q.expand(leaf),
        }
    }

    /// Sets the output projection so that the quantizer starts as a plain uniform one of the calibrated
    /// features. Does nothing where there is no output projection or the code is narrower than the features.
    pub fn calibrate(&mut self, moments: &Moments) {
        if let Self::Fsq(q) = self {
            q.calibrate(moments);
        }
    }
}

/// The values of a tensor in row-major order.
pub(crate) fn floats<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("a tensor that was just converted to f32 holds f32")
}

/// A plane of symbols up to 256 that a quantizer just made.
fn symbols(alphabet: u32, rows: usize, cols: usize, data: Vec<u8>) -> Plane {
    Symbols::new(alphabet, rows, cols, SymbolData::U8(data))
        .expect("a quantizer's symbols lie in its alphabet and fill its shape")
        .into()
}

/// A plane of side information that a quantizer just made.
fn scalars(rows: usize, cols: usize, data: ScalarData) -> Plane {
    Scalars::new(rows, cols, data)
        .expect("a quantizer's side information fills its shape")
        .into()
}

/// The error for planes that are not what `want` describes.
pub(crate) fn unexpected(want: String, planes: &[Plane]) -> QuantError {
    let describe = |plane: &Plane| match plane {
        Plane::Symbols(s) => format!("{}x{} symbols of {}", s.rows, s.cols, s.alphabet),
        Plane::Scalars(s) => {
            let bits = if matches!(s.data, ScalarData::F16(_)) {
                16
            } else {
                32
            };
            format!("{}x{} {bits}-bit floats", s.rows, s.cols)
        }
        _ => "a plane of another kind".to_owned(),
    };
    let got = planes.iter().map(describe).collect::<Vec<_>>().join(", ");
    QuantError::Shape {
        want,
        got: if got.is_empty() {
            "no plane".to_owned()
        } else {
            got
        },
    }
}
