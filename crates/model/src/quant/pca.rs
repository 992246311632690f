//! `pca`: principal components, each rounded with the same step.
//!
//! One step for all components is reverse water-filling: at a squared error per component that is the same for all,
//! a component of variance s^2 costs about `log2(s / step)` bits, and one below the water costs nothing and is left out
//! (Cover and Thomas, "Rate distortion for parallel Gaussian sources"). The recipe states the bits per row; the step
//! follows from the deviations that a calibration pass measures, and with it how many levels each component has. Symbols of
//! components of as many levels form a plane.
//!
//! The code counts steps: a symbol stands for a whole number, which the output projection brings back to features. It
//! starts with the least-squares factor of each component, so that few levels do not start too loud.

use std::ops::Range;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use qtl_codec::{Code, Plane, ScalarData};
use serde::{Deserialize, Serialize};

use super::bottleneck::{self, ROWS_SEEN, check_dims, inward, outward, recorded};
use super::gaussian::bisect;
use super::planes::{
    floats, read_f32, read_symbols, read_u8, scalars, symbols, tensor, unexpected,
};
use super::projection::projection;
use super::{
    Accumulator, ClientHalf, Components, Design, Phase, QuantError, ServerHalf, Spec, range,
};
use crate::nn::Linear;

/// Levels on either side of zero that a component may have: alphabets are few, so that planes are.
const SIDES: [u8; 11] = [0, 1, 2, 3, 5, 7, 11, 15, 31, 63, 127];
/// Deviations within which a component is not clipped.
const REACH: f64 = 3.5;
/// Bits below which a component is left out.
const LEAST_BITS: f64 = 0.02;

/// `kind = "pca"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcaSpec {
    /// Principal components that the code has, 1 to 1024, and at most as many as the features have channels.
    pub dims: usize,
    /// Bits per row that normally distributed features shall cost after entropy coding.
    pub bits: f64,
}

impl Spec for PcaSpec {
    type Client = PcaEncoder;
    type Server = PcaDecoder;

    fn check(&self) -> Result<(), QuantError> {
        check_dims(self.dims)?;
        let most = 6.0 * self.dims as f64;
        range(
            "bits",
            self.bits,
            "above 0, at most 6 per component",
            self.bits > 0.0 && self.bits <= most,
        )
    }

    fn settings() -> Vec<Self> {
        [(16, 24.0), (32, 48.0), (32, 96.0), (64, 128.0)]
            .map(|(dims, bits)| Self { dims, bits })
            .into()
    }

    fn starts_from_ranges(&self) -> bool {
        false
    }

    fn client(&self, dim: usize, seed: u64, device: &Device) -> PcaEncoder {
        let code = self.dims.min(dim);
        PcaEncoder {
            in_proj: projection(dim, code, 1.0, seed, device),
            running_sides: recorded(vec![1.0; code], device),
            bits: self.bits,
        }
    }

    fn server(&self, dim: usize, seed: u64, device: &Device) -> PcaDecoder {
        let code = self.dims.min(dim);
        PcaDecoder {
            out_proj: projection(code, dim, 1.0, seed, device),
            running_levels: recorded(vec![1.0; code], device),
        }
    }
}

/// The client's half: the projection, in steps, and how far each component reaches.
#[derive(Module, Debug)]
pub struct PcaEncoder {
    /// Onto the components, in steps.
    pub in_proj: Linear,
    /// Levels on either side of zero, whole numbers; not trained.
    pub running_sides: Param<Tensor<1>>,
    bits: f64,
}

/// The server's half: the projection back.
#[derive(Module, Debug)]
pub struct PcaDecoder {
    /// From the components.
    pub out_proj: Linear,
    /// As the client's; not trained.
    pub running_levels: Param<Tensor<1>>,
}

/// The columns of each plane: those of as many levels, by rising number.
fn planes(sides: &[f32]) -> Vec<(u8, Vec<usize>)> {
    let of = |side: &u8| {
        let columns = sides.iter().enumerate();
        let own = columns.filter(|(_, s)| **s == f32::from(*side));
        (*side, own.map(|(column, _)| column).collect::<Vec<_>>())
    };
    let all = SIDES.iter().filter(|side| **side > 0).map(of);
    all.filter(|(_, columns)| !columns.is_empty()).collect()
}

/// Parts of what a half of so many components starts from: those of the projection, levels on either side, and the step.
fn parts(told: &Code, code: usize) -> Option<(&[Plane], &[u8], f32)> {
    let (projections, rest) = told.planes.split_at_checked(2)?;
    let [sides, step] = rest else {
        return None;
    };
    let sides = read_u8(sides, 1, code)?;
    let known = sides.iter().all(|side| SIDES.contains(side)) && sides.iter().any(|s| *s > 0);
    let step = *read_f32(step, 1, 1)?.first()?;
    (known && step > 0.0).then_some((projections, sides, step))
}

fn no_start(code: usize, told: &Code) -> QuantError {
    let want = format!(
        "{code} rows of 16-bit floats, their mean, levels of each component, and a step above 0"
    );
    unexpected(want, &told.planes)
}

/// The step at which normal components of these deviations cost `bits` per row, and their levels on either side.
fn water(deviations: &[f64], bits: f64) -> (f64, Vec<u8>) {
    // Where nothing varies there is a step all the same, and one that a 32-bit float can be divided by.
    let most = deviations.iter().fold(1e-20, |a: f64, b| a.max(*b));
    // Beyond these a component costs nothing, or as many levels as there are at most.
    let of = move |step: f64| {
        let cost = move |s: &f64| Design::of_step((step / s.max(1e-30)).clamp(0.02, 20.0)).entropy;
        deviations.iter().map(cost)
    };
    let step = most * bisect(1e-3, 20.0, |x| of(x * most).sum::<f64>() > bits);
    let sides = deviations.iter().zip(of(step)).map(|(s, cost)| {
        let need = (REACH * s / step - 0.5).ceil().max(1.0);
        let fits = SIDES.iter().find(|side| f64::from(**side) >= need);
        match cost < LEAST_BITS {
            true => 0,
            false => fits.copied().unwrap_or(127),
        }
    });
    let mut sides: Vec<u8> = sides.collect();
    if let Some(first) = sides.first_mut() {
        // A code of no components would have no rows.
        *first = (*first).max(1);
    }
    (step, sides)
}

impl PcaEncoder {
    fn sides(&self) -> Vec<f32> {
        floats(self.running_sides.val())
    }
}

impl ClientHalf for PcaEncoder {
    fn accumulator(&self) -> Accumulator {
        Accumulator::keeping(ROWS_SEEN)
    }

    /// The features themselves.
    fn seen(&self, x: Tensor<2>) -> Tensor<2> {
        x
    }

    fn start(&mut self, seen: &Accumulator) -> Option<Code> {
        let device = self.in_proj.weight.val().device();
        let rows = seen.kept(&device)?;
        let found = Components::of(rows.clone(), self.in_proj.weight.dims()[0]);
        let u = found.project(rows);
        let squares = (u.clone() * u.clone()).mean_dim(0);
        let deviations: Vec<f64> = floats(squares)
            .into_iter()
            .map(|s| f64::from(s).sqrt())
            .collect();
        let (step, sides) = water(&deviations, self.bits);
        self.in_proj = inward(&found, (1.0 / step) as f32, &device);
        self.running_sides = recorded(sides.iter().map(|s| f32::from(*s)).collect(), &device);
        // Least squares, component by component: what a step of the rounded one stands for.
        let k = self.bound(u.clone().div_scalar(step as f32)).round();
        let both = floats((k.clone() * u).sum_dim(0));
        let own = floats((k.clone() * k).sum_dim(0));
        let gains = both
            .iter()
            .zip(own)
            .map(|(both, own)| if own > 0.0 { both / own } else { 0.0 });
        let [rows, mean] = bottleneck::told(&found, &gains.collect::<Vec<_>>());
        let sides = scalars(1, sides.len(), ScalarData::U8(sides));
        let step = scalars(1, 1, ScalarData::F32(vec![step as f32]));
        Some(Code::new(vec![rows, mean, sides, step]))
    }

    fn take(&mut self, told: &Code) -> Result<(), QuantError> {
        let [code, dim] = self.in_proj.weight.dims();
        let read = || {
            let (projections, sides, step) = parts(told, code)?;
            let [rows, mean] = projections else {
                return None;
            };
            Some((bottleneck::heard(rows, mean, [code, dim])?, sides, step))
        };
        let (found, sides, step) = read().ok_or_else(|| no_start(code, told))?;
        let device = self.in_proj.weight.val().device();
        self.in_proj = inward(&found, 1.0 / step, &device);
        self.running_sides = recorded(sides.iter().map(|s| f32::from(*s)).collect(), &device);
        Ok(())
    }

    fn input(&self, x: Tensor<2>) -> Tensor<2> {
        self.in_proj.forward(x)
    }

    /// Clipped at the outermost levels.
    fn bound(&self, u: Tensor<2>) -> Tensor<2> {
        let dims = u.dims();
        let sides = self.running_sides.val().unsqueeze::<2>().expand(dims);
        u.min_pair(sides.clone()).max_pair(sides.neg())
    }

    /// A plane per number of levels.
    fn quantize(&self, z: Tensor<2>, _phase: Phase) -> Code {
        let [rows, cols] = z.dims();
        let values = floats(z);
        let plane = |(side, columns): (u8, Vec<usize>)| {
            let of = |row: &[f32]| {
                let symbol = |column: &usize| {
                    let level = row[*column].round_ties_even() + f32::from(side);
                    level.clamp(0.0, 2.0 * f32::from(side)) as u8
                };
                columns.iter().map(symbol).collect::<Vec<_>>()
            };
            let data = values.chunks_exact(cols.max(1)).flat_map(of).collect();
            symbols(2 * u32::from(side) + 1, rows, columns.len(), data)
        };
        Code::new(planes(&self.sides()).into_iter().map(plane).collect())
    }

    fn payload(&self) -> Range<usize> {
        0..planes(&self.sides()).len()
    }
}

impl ServerHalf for PcaDecoder {
    fn code_dim(&self) -> usize {
        self.out_proj.weight.dims()[1]
    }

    fn dequantize(&self, code: &Code, device: &Device) -> Result<Tensor<2>, QuantError> {
        let cols = self.code_dim();
        let want = planes(&floats(self.running_levels.val()));
        let read = || {
            if code.planes.len() != want.len() {
                return None;
            }
            let mut values: Option<(usize, Vec<f32>)> = None;
            for (plane, (side, columns)) in code.planes.iter().zip(&want) {
                let alphabet = 2 * u32::from(*side) + 1;
                let (rows, symbols) = read_symbols(plane, alphabet, columns.len())?;
                let (all, values) = values.get_or_insert_with(|| (rows, vec![0.0; rows * cols]));
                if *all != rows {
                    return None;
                }
                let rows = values
                    .chunks_exact_mut(cols)
                    .zip(symbols.chunks_exact(columns.len()));
                for (row, symbols) in rows {
                    for (column, symbol) in columns.iter().zip(symbols) {
                        row[*column] = f32::from(*symbol) - f32::from(*side);
                    }
                }
            }
            let (rows, values) = values?;
            Some(tensor(values, [rows, cols], device))
        };
        read().ok_or_else(|| {
            let planes = want.iter().map(|(side, columns)| {
                format!("{} of {} levels", columns.len(), 2 * u32::from(*side) + 1)
            });
            let want = planes.collect::<Vec<_>>().join(", ");
            unexpected(format!("planes of columns: {want}"), &code.planes)
        })
    }

    fn expand(&self, leaf: Tensor<2>) -> Tensor<2> {
        self.out_proj.forward(leaf)
    }

    fn start_shape(&self) -> [usize; 2] {
        let [dim, code] = self.out_proj.weight.dims();
        [code + 3, dim]
    }

    fn start_planes(&self) -> usize {
        4
    }

    fn start(&mut self, told: &Code) -> Result<(), QuantError> {
        let code = self.code_dim();
        let read = || {
            let (projections, sides, _) = parts(told, code)?;
            Some((outward(projections, &self.out_proj)?, sides))
        };
        let (projection, sides) = read().ok_or_else(|| no_start(code, told))?;
        let device = self.running_levels.val().device();
        self.out_proj = projection;
        self.running_levels = recorded(sides.iter().map(|s| f32::from(*s)).collect(), &device);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn water_covers_what_is_too_quiet() {
        let deviations = [8.0, 4.0, 2.0, 1.0, 0.01];
        let (step, sides) = water(&deviations, 8.0);
        assert!(sides.windows(2).all(|pair| pair[0] >= pair[1]), "{sides:?}");
        assert_eq!(sides[4], 0);
        let cost = |s: &f64| Design::of_step((step / s).clamp(0.02, 20.0)).entropy;
        let bits: f64 = deviations.iter().map(cost).sum();
        assert!((bits - 8.0).abs() < 0.05, "{bits}");
        // One more bit for twice the deviation.
        assert!((cost(&8.0) - cost(&4.0) - 1.0).abs() < 0.1);
        // Nothing varies: there is a step all the same.
        let (step, sides) = water(&[0.0, 0.0], 4.0);
        assert!(step as f32 > 0.0 && (1.0 / step as f32).is_finite());
        assert_eq!(sides.len(), 2);
    }
}
