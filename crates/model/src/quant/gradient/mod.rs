//! How the gradient of the cut layer travels back: rows of d loss / d q through the same codec.
//!
//! One file per way. Adding one is a file, a variant, and an arm in each `match` below.

mod float16;
mod float32;
mod int8;
mod rotation;
mod rows;
mod tiled;

pub use rows::Rows;
pub use tiled::Tiled;

use std::fmt;

use burn::tensor::{Device, Tensor, TensorData};
use qtl_codec::{Code, Plane, ScalarData, Scalars};
use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::label::label;
use super::{QuantError, floats, unexpected};
use crate::weights::Stream;

/// The way of the returned gradient, as the recipe's `gradient.codec` has it: a name, or a table with its `kind`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    remote = "Self",
    tag = "kind",
    rename_all = "snake_case",
    deny_unknown_fields
)]
pub enum GradientCodec {
    /// 32-bit floats, the reference's way.
    F32,
    /// 16-bit floats of the gradient divided by its largest magnitude (small gradients would vanish otherwise).
    F16,
    /// 8-bit integers with one scale per token.
    #[default]
    Int8,
    /// Few bits per entry, rotated, with a scale per tile, rounded without bias; see [`Tiled`].
    Tiled(Tiled),
    /// The same of rows drawn by their lengths; see [`Rows`].
    Rows(Rows),
}

/// Which random numbers a tensor's codec draws: both sides make the same ones from it, and a repeated step draws what it
/// drew before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw<'a> {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the step.
    pub step: u64,
    /// Which of the step's tensors: `image` or `text`.
    pub tensor: &'a str,
}

/// A gradient that has no code, or a codec that cannot be.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum GradientError {
    /// A number that is none: scaling by infinity would erase all others, and nobody can learn from it.
    #[error(
        "the gradient of the {tensor} rows is {value} at row {row}, channel {channel}; lower train.lr or clip more"
    )]
    NotFinite {
        /// `image` or `text`.
        tensor: String,
        /// Where.
        row: usize,
        /// Where.
        channel: usize,
        /// What stands there.
        value: f32,
    },
    /// A code that the codec does not write for this gradient.
    #[error("the gradient of the {tensor} rows: {source}")]
    Shape {
        /// `image` or `text`.
        tensor: String,
        /// What is wrong.
        source: QuantError,
    },
    /// A recipe value outside its range.
    #[error("gradient.codec.{field} = {value} is out of range: {range}")]
    Range {
        /// The recipe's field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
}

impl Draw<'_> {
    /// The numbers for one purpose.
    fn stream(&self, purpose: &str) -> Stream {
        let name = format!("gradient.{}.{}.{purpose}", self.tensor, self.step);
        Stream::new(self.seed, &name)
    }
}

/// The kind, and the fields that differ from their defaults.
impl fmt::Display for GradientCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&label(self))
    }
}

impl GradientCodec {
    /// What tables that compare gradient codecs show, from many bits to few.
    pub fn settings() -> Vec<Self> {
        let mut all = vec![Self::F32, Self::F16, Self::Int8];
        all.extend(Tiled::settings().into_iter().map(Self::Tiled));
        all.extend(Rows::settings().into_iter().map(Self::Rows));
        all
    }

    /// The first of the planes that hold the entries' own numbers; those before it, and all tables and headers, are
    /// side information.
    pub fn payload(&self) -> usize {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Int8 | Self::Tiled(_) => 2,
            Self::Rows(_) => 3,
        }
    }

    /// Checks the values that a recipe may get wrong.
    ///
    /// # Errors
    ///
    /// [`GradientError::Range`] naming the field.
    pub fn check(&self) -> Result<(), GradientError> {
        match self {
            Self::Tiled(spec) => spec.check(),
            Self::Rows(spec) => spec.check(),
            Self::F32 | Self::F16 | Self::Int8 => Ok(()),
        }
    }

    /// The gradient `g`: [rows, channels] as planes.
    ///
    /// # Errors
    ///
    /// [`GradientError::NotFinite`].
    pub fn encode(&self, g: Tensor<2>, draw: Draw<'_>) -> Result<Code, GradientError> {
        let [rows, cols] = g.dims();
        let values = floats(g);
        finite(&values, cols, draw)?;
        Ok(match self {
            Self::F32 => float32::encode(values, rows, cols),
            Self::F16 => float16::encode(&values, rows, cols),
            Self::Int8 => int8::encode(&values, rows, cols),
            Self::Tiled(spec) => spec.encode(values, rows, cols, draw),
            Self::Rows(spec) => spec.encode(&values, rows, cols, draw),
        })
    }

    /// Back to a tensor of `shape`: [rows, channels].
    ///
    /// # Errors
    ///
    /// [`GradientError::Shape`] for planes that [`encode`](Self::encode) does not write for this shape,
    /// [`GradientError::NotFinite`] where they stand for something else than a finite number.
    pub fn decode(
        &self,
        code: &Code,
        shape: [usize; 2],
        draw: Draw<'_>,
        device: &Device,
    ) -> Result<Tensor<2>, GradientError> {
        let decoded = match self {
            Self::F32 => float32::decode(&code.planes, shape),
            Self::F16 => float16::decode(&code.planes, shape),
            Self::Int8 => int8::decode(&code.planes, shape),
            Self::Tiled(spec) => spec.decode(&code.planes, shape, draw),
            Self::Rows(spec) => spec.decode(&code.planes, shape, draw),
        };
        match decoded {
            Some(values) => {
                finite(&values, shape[1], draw)?;
                Ok(Tensor::from_data(TensorData::new(values, shape), device))
            }
            None => {
                let [rows, cols] = shape;
                let want = format!("a {self:?} gradient of {rows}x{cols}");
                Err(GradientError::Shape {
                    tensor: draw.tensor.to_owned(),
                    source: unexpected(want, &code.planes),
                })
            }
        }
    }

    /// The name of a way without parameters.
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::F32 => Some("f32"),
            Self::F16 => Some("f16"),
            Self::Int8 => Some("int8"),
            Self::Tiled(_) | Self::Rows(_) => None,
        }
    }
}

impl Serialize for GradientCodec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.name() {
            Some(name) => serializer.serialize_str(name),
            None => Self::serialize(self, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for GradientCodec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;
        impl<'de> serde::de::Visitor<'de> for NameOrTable {
            type Value = GradientCodec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a gradient codec, or a table with its kind")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<GradientCodec, E> {
                GradientCodec::deserialize(MapDeserializer::new([("kind", name)].into_iter()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<GradientCodec, A::Error> {
                GradientCodec::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(NameOrTable)
    }
}

/// Names the first of the values that is not finite.
fn finite(values: &[f32], cols: usize, draw: Draw<'_>) -> Result<(), GradientError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(GradientError::NotFinite {
            tensor: draw.tensor.to_owned(),
            row: at / cols,
            channel: at % cols,
            value: values[at],
        }),
    }
}

/// A tensor as one plane of 32-bit floats.
pub fn to_f32(g: Tensor<2>) -> Code {
    let [rows, cols] = g.dims();
    float32::encode(floats(g), rows, cols)
}

/// The largest magnitude.
fn largest(values: &[f32]) -> f32 {
    // Several maxima at a time, of comparisons that need not care for not-a-number.
    let (groups, rest) = values.as_chunks::<16>();
    let mut most = [0f32; 16];
    for group in groups {
        for (most, value) in most.iter_mut().zip(group) {
            *most = if value.abs() > *most {
                value.abs()
            } else {
                *most
            };
        }
    }
    let all = most.iter().chain(rest);
    all.fold(0.0, |most: f32, value| most.max(value.abs()))
}

/// The one 32-bit float of a plane, if that is what it holds and it can be a largest magnitude.
fn single(plane: &Plane) -> Option<f32> {
    match plane {
        Plane::Scalars(Scalars {
            data: ScalarData::F32(v),
            ..
        }) => match v.as_slice() {
            [unit] => Some(*unit).filter(|unit| unit.is_finite() && *unit >= 0.0),
            _ => None,
        },
        _ => None,
    }
}
