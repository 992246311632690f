//! How the gradient of the cut layer travels back: rows of d loss / d q through the same codec.

use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use qtl_codec::{Code, Plane, ScalarData, Scalars, SymbolData, Symbols};
use serde::{Deserialize, Serialize};

use super::{QuantError, floats, from_f16, scalars, unexpected};

/// The precision of the returned gradient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GradientCodec {
    /// 32-bit floats, the reference's way.
    F32,
    /// 16-bit floats of the gradient divided by its largest magnitude (small gradients would vanish otherwise).
    F16,
    /// 8-bit integers with one scale per token.
    #[default]
    Int8,
}

/// Symbols of the 8-bit form: -127..=127 shifted by 127.
const STEPS: f32 = 127.0;

impl GradientCodec {
    /// The gradient `g`: [rows, channels] as planes.
    pub fn encode(self, g: Tensor<2>) -> Code {
        let [rows, cols] = g.dims();
        match self {
            Self::F32 => Code::new(vec![scalars(rows, cols, ScalarData::F32(floats(g)))]),
            Self::F16 => {
                let values = floats(g);
                let largest = largest(&values);
                let unit = if largest > 0.0 { largest } else { 1.0 };
                let scaled = values.iter().map(|v| f16::from_f32(v / unit)).collect();
                let scale = scalars(1, 1, ScalarData::F32(vec![unit]));
                Code::new(vec![scale, scalars(rows, cols, ScalarData::F16(scaled))])
            }
            Self::Int8 => int8(&floats(g), rows, cols),
        }
    }

    /// Back to a tensor: [rows, cols].
    pub fn decode(
        self,
        code: &Code,
        cols: usize,
        device: &Device,
    ) -> Result<Tensor<2>, QuantError> {
        let tensor = |values: Vec<f32>, rows| {
            Tensor::from_data(TensorData::new(values, [rows, cols]), device)
        };
        match (self, code.planes.as_slice()) {
            (
                Self::F32,
                [
                    Plane::Scalars(Scalars {
                        rows,
                        cols: got,
                        data: ScalarData::F32(values),
                        ..
                    }),
                ],
            ) if *got == cols => Ok(tensor(values.clone(), *rows)),
            (Self::F16, [scale, plane]) => {
                let unit =
                    single(scale).ok_or_else(|| unexpected(self.describe(cols), &code.planes))?;
                let one = Code::new(vec![plane.clone()]);
                Ok(from_f16(&one, cols, device)?.mul_scalar(unit))
            }
            (
                Self::Int8,
                [
                    unit,
                    Plane::Scalars(Scalars {
                        data: ScalarData::F16(scales),
                        ..
                    }),
                    Plane::Symbols(Symbols {
                        alphabet: 255,
                        rows,
                        cols: got,
                        data: SymbolData::U8(symbols),
                        ..
                    }),
                ],
            ) if *got == cols && scales.len() == *rows => {
                let unit =
                    single(unit).ok_or_else(|| unexpected(self.describe(cols), &code.planes))?;
                let mut values = Vec::with_capacity(symbols.len());
                for (row, scale) in symbols.chunks_exact(cols.max(1)).zip(scales) {
                    let step = scale.to_f32() * unit / STEPS;
                    values.extend(row.iter().map(|s| (f32::from(*s) - STEPS) * step));
                }
                Ok(tensor(values, *rows))
            }
            (_, other) => Err(unexpected(self.describe(cols), other)),
        }
    }

    fn describe(self, cols: usize) -> String {
        format!("a {self:?} gradient with {cols} columns")
    }
}

fn single(plane: &Plane) -> Option<f32> {
    match plane {
        Plane::Scalars(Scalars {
            data: ScalarData::F32(v),
            ..
        }) => match v.as_slice() {
            [unit] => Some(*unit),
            _ => None,
        },
        _ => None,
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |m: f32, v| m.max(v.abs()))
}

/// The row scales are 16-bit floats relative to one 32-bit unit: a gradient of 1e-7 would vanish in a bare
/// 16-bit float, and 32 bits a row would be an eighth of a 128-channel row.
fn int8(values: &[f32], rows: usize, cols: usize) -> Code {
    let unit = match largest(values) {
        m if m > 0.0 => m,
        _ => 1.0,
    };
    let mut scales = Vec::with_capacity(rows);
    let mut symbols = Vec::with_capacity(values.len());
    for row in values.chunks_exact(cols.max(1)) {
        let mut scale = f16::from_f32(largest(row) / unit);
        // Rounded up, so that the largest entry still fits in 127 steps.
        if scale.to_f32() * unit < largest(row) {
            scale = f16::from_bits(scale.to_bits() + 1);
        }
        let step = scale.to_f32() * unit / STEPS;
        scales.push(scale);
        let symbol = |v: &f32| {
            let level = if step > 0.0 {
                (v / step).round_ties_even().clamp(-STEPS, STEPS)
            } else {
                0.0
            };
            (level + STEPS) as u8
        };
        symbols.extend(row.iter().map(symbol));
    }
    Code::new(vec![
        scalars(1, 1, ScalarData::F32(vec![unit])),
        scalars(rows, 1, ScalarData::F16(scales)),
        super::symbols(255, rows, cols, symbols),
    ])
}
