//! The quantizers of the cut layer: features into a [`Code`](qtl_codec::Code) on the client, a `Code` into features on
//! the server, with one learned half on either side.
//!
//! Each verb belongs to one party:
//!
//! | verb | who | differentiable |
//! |---|---|---|
//! | [`input`](ClientHalf::input), [`bound`](ClientHalf::bound) | client | yes: input projection and bounding |
//! | [`quantize`](ClientHalf::quantize) | client | no |
//! | [`dequantize`](ServerHalf::dequantize) | server | it makes the leaf |
//! | [`expand`](ServerHalf::expand) | server | yes: output projection |
//! | [`surrogate`](ClientHalf::surrogate) | client | what backward pretends quantize was |
//! | [`penalty`](ClientHalf::penalty) | client | distortion and rate in the loss |
//!
//! The gradient of the leaf is what travels back, or the entries of it that both halves' `kept` name; it is applied to the
//! surrogate. Adding a quantizer is one file with a
//! [`Spec`] and one line in the list below.

mod adsq;
mod bottleneck;
mod codebook;
mod components;
mod ecsq;
mod exact;
mod fedbat;
mod fsq;
mod fsq_tanh;
mod gaussian;
pub mod gradient;
mod kept;
mod kmeans;
mod label;
mod list;
mod none;
mod normal_float;
mod party;
mod pca;
pub(crate) mod planes;
mod pooled;
mod pq;
mod projection;
mod rand_topk;
mod rate;
mod rvq;
mod scaling;
mod splitfc;
mod splitfc_levels;
mod stats;
mod topk;
mod vq;

pub use adsq::AdsqSpec;
pub use codebook::{CodebookDecoder, CodebookEncoder};
pub use components::Components;
pub use ecsq::{Design, EcsqSpec};
pub use exact::{ExactDecoder, ExactEncoder, ExactSpec};
pub use fedbat::{FedbatDecoder, FedbatEncoder, FedbatSpec, binarize, straight_through};
pub use fsq::{FsqDecoder, FsqEncoder, FsqSpec, cosine_penalty};
pub use fsq_tanh::{FsqTanhEncoder, FsqTanhSpec};
pub use kept::Kept;
pub use none::{NoneDecoder, NoneEncoder, NoneSpec, from_f16, to_f16};
pub use normal_float::{
    NormalFloatDecoder, NormalFloatEncoder, NormalFloatSpec, table as normal_float_table,
};
pub use party::{ClientHalf, Phase, ServerHalf, Spec, Unclipped};
pub use pca::{PcaDecoder, PcaEncoder, PcaSpec};
pub(crate) use planes::{floats, scalars, symbols, unexpected};
pub use pooled::{Heard, Pool, sketch};
pub use pq::PqSpec;
pub use qtl_codec::levels::{level_indices, level_values};
pub use rand_topk::RandTopkSpec;
pub use rate::soft_entropy;
pub use rvq::RvqSpec;
pub use scaling::{Recorded, Scaling, Statistics};
pub use splitfc::{SplitfcDecoder, SplitfcEncoder, SplitfcSpec, encode as splitfc_encode};
pub use splitfc_levels::{Choice, Columns, allocate, closed_root};
pub use stats::{Accumulator, Moments, MomentsError, WIDEST};
pub use topk::{SparseDecoder, SparseEncoder, TopkSpec, kept_channels, largest, sparse};
pub use vq::VqSpec;

use std::fmt::{self, Display};
use std::ops::{Deref, DerefMut};

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

list::quantizers! {
    /// 16-bit floats: no quantization, the reference to compare with.
    None(NoneSpec, NoneEncoder, NoneDecoder),
    /// 32-bit floats: nothing at all is lost.
    Exact(ExactSpec, ExactEncoder, ExactDecoder),
    /// The paper's: equally spaced values, clipped at a number of deviations.
    Fsq(FsqSpec, FsqEncoder, FsqDecoder),
    /// The same, bounded by tanh.
    FsqTanh(FsqTanhSpec, FsqTanhEncoder, FsqDecoder),
    /// The same, with a learned clipping width.
    Adsq(AdsqSpec, FsqEncoder, FsqDecoder),
    /// Designed for a rate after entropy coding.
    Ecsq(EcsqSpec, FsqEncoder, FsqDecoder),
    /// Blocks of 64 rounded to quantiles of the normal distribution.
    NormalFloat(NormalFloatSpec, NormalFloatEncoder, NormalFloatDecoder),
    /// The largest channels of a row.
    Topk(TopkSpec, SparseEncoder, SparseDecoder),
    /// The same, and some others by chance.
    RandTopk(RandTopkSpec, SparseEncoder, SparseDecoder),
    /// Levels per channel, chosen for the batch.
    Splitfc(SplitfcSpec, SplitfcEncoder, SplitfcDecoder),
    /// One bit, with a learned amplitude.
    Fedbat(FedbatSpec, FedbatEncoder, FedbatDecoder),
    /// Principal components, as many levels each as its variance deserves.
    Pca(PcaSpec, PcaEncoder, PcaDecoder),
    /// The nearest of one codebook.
    Vq(VqSpec, CodebookEncoder, CodebookDecoder),
    /// Codebooks one behind the other.
    Rvq(RvqSpec, CodebookEncoder, CodebookDecoder),
    /// Codebooks beside each other.
    Pq(PqSpec, CodebookEncoder, CodebookDecoder),
}

impl QuantizerSpec {
    /// No quantization.
    pub const NONE: Self = Self::None(NoneSpec {});

    /// The recipe's fields as JSON, and with them what a design follows from: levels, width and values of `ecsq`.
    pub fn explicit(&self) -> serde_json::Value {
        let mut fields = serde_json::json!(self);
        if let Self::Ecsq(spec) = self {
            let (plain, values) = spec.fsq();
            fields["levels"] = plain.levels.into();
            fields["width"] = plain.width.into();
            fields["values"] = values.into();
        }
        fields
    }
}

/// The kind, and the fields that differ from their defaults.
impl Display for QuantizerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&label::label(self))
    }
}

/// A code that does not fit the quantizer that should read it, or a recipe that asks for none that exists.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
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
    /// A calibration that holds no ranges.
    #[error("it is not two rows of numbers, means and deviations")]
    Ranges,
    /// One whose ranges are none, and what is wrong with them.
    #[error("{0}")]
    Moments(String),
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

/// The error for a recipe value that is not `inside` what `range` describes.
fn range(
    field: &'static str,
    value: impl Display,
    range: &'static str,
    inside: bool,
) -> Result<(), QuantError> {
    if inside {
        return Ok(());
    }
    Err(QuantError::Range {
        field,
        value: value.to_string(),
        range,
    })
}
