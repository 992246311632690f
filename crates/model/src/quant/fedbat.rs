//! `fedbat`: stochastic binarization to ±alpha with one learned alpha for the tensor (FedBAT, arXiv 2408.03215, there
//! for weight updates).
//!
//! A feature x becomes +alpha with probability (alpha + x) / 2 alpha, otherwise -alpha: without bias for |x| <= alpha.
//! In evaluation nothing is drawn: the likelier of the two is taken. `alpha = alpha_0 exp(6 e)`, alpha_0 from the
//! calibration pass, e learned.
//!
//! Backward is the straight-through derivative for the sign s that was drawn: for x, 1 where |x| <= alpha and 0
//! elsewhere; for alpha, s where |x| > alpha, `s - x / alpha` elsewhere. The reference's is off by -2 in every
//! unclipped element and looks at another draw than its forward made.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use qtl_codec::{Code, Plane, ScalarData, SymbolData, Symbols};
use serde::{Deserialize, Serialize};

use super::planes::{floats, read_f32, read_symbols, scalars, symbols, tensor, unexpected};
use super::{ClientHalf, Moments, Phase, QuantError, ServerHalf, Spec};
use crate::weights::Stream;

/// Keeps the probability finite for alpha = 0; the reference's value.
const EPSILON: f32 = 1e-8;
/// How fast alpha follows its parameter.
const RHO: f32 = 6.0;

/// `kind = "fedbat"`. It has no fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FedbatSpec {}

impl Spec for FedbatSpec {
    type Client = FedbatEncoder;
    type Server = FedbatDecoder;

    fn check(&self) -> Result<(), QuantError> {
        Ok(())
    }

    fn settings() -> Vec<Self> {
        vec![Self {}]
    }

    fn client(&self, _dim: usize, seed: u64, device: &Device) -> FedbatEncoder {
        FedbatEncoder {
            running_alpha: Param::from_tensor(Tensor::ones([1], device)),
            alpha_e: Param::from_tensor(Tensor::zeros([1], device)),
            seed,
        }
    }

    fn server(&self, dim: usize, _seed: u64, _device: &Device) -> FedbatDecoder {
        FedbatDecoder { dim }
    }
}

/// The client's half: alpha.
#[derive(Module, Debug)]
pub struct FedbatEncoder {
    /// alpha_0, one number; not trained.
    pub running_alpha: Param<Tensor<1>>,
    /// e, one number.
    pub alpha_e: Param<Tensor<1>>,
    seed: u64,
}

/// The server's half: nothing to learn, alpha comes with the code.
#[derive(Module, Debug)]
pub struct FedbatDecoder {
    dim: usize,
}

impl FedbatEncoder {
    /// alpha, one number.
    pub fn alpha(&self) -> Tensor<1> {
        self.running_alpha.val() * self.alpha_e.val().mul_scalar(RHO).exp()
    }
}

impl ClientHalf for FedbatEncoder {
    /// alpha_0 becomes the root mean square of the features.
    fn calibrate(&mut self, moments: &Moments) {
        let squares = moments
            .mean
            .iter()
            .zip(&moments.std)
            .map(|(m, s)| m * m + s * s);
        let mean = squares.sum::<f32>() / moments.mean.len().max(1) as f32;
        let device = self.running_alpha.val().device();
        self.running_alpha = Param::from_tensor(Tensor::from_data([mean.sqrt()], &device));
    }

    /// Planes: signs; alpha.
    fn quantize(&self, z: Tensor<2>, phase: Phase) -> Code {
        let [rows, cols] = z.dims();
        let alpha = floats(self.alpha())[0];
        let mut draws = match phase {
            Phase::Train(step) => Some(Stream::new(self.seed, &format!("fedbat {step}"))),
            Phase::Evaluate => None,
        };
        let noise = || draws.as_mut().map_or(0.5, |draws| draws.uniform() as f32);
        let signs = binarize(&floats(z), alpha, noise);
        Code::new(vec![
            symbols(2, rows, cols, signs),
            scalars(1, 1, ScalarData::F32(vec![alpha])),
        ])
    }

    fn codes_rows_alone(&self) -> bool {
        false
    }

    fn surrogate(&self, z: Tensor<2>, code: &Code) -> Tensor<2> {
        let Some(Plane::Symbols(Symbols {
            data: SymbolData::U8(signs),
            ..
        })) = code.planes.first()
        else {
            unreachable!("a binarizer's code starts with its signs");
        };
        straight_through(z, self.alpha(), signs)
    }
}

/// 1 for +alpha, 0 for -alpha; `noise` gives a number in [0, 1) per value, in order.
pub fn binarize(values: &[f32], alpha: f32, mut noise: impl FnMut() -> f32) -> Vec<u8> {
    let sign = |x: &f32| u8::from(noise() < (alpha + x) / (2.0 * alpha + EPSILON));
    values.iter().map(sign).collect()
}

/// A function of `z`: [rows, cols] and `alpha`: one number whose derivatives are the straight-through ones for these signs.
pub fn straight_through(z: Tensor<2>, alpha: Tensor<1>, signs: &[u8]) -> Tensor<2> {
    let dims = z.dims();
    let plain = alpha.clone().inner();
    let limit = floats(plain.clone())[0];
    let values = floats(z.clone().inner());
    let slopes = values.iter().zip(signs).map(|(x, sign)| {
        if x.abs() <= limit {
            2.0 * f32::from(*sign) - 1.0 - x / limit
        } else {
            0.0
        }
    });
    let slopes = tensor(slopes.collect(), dims, &plain.device());
    let alpha = alpha.reshape([1, 1]).expand(dims);
    // Clipping has the slope 1 for x inside, and that of ±alpha for alpha outside.
    z.min_pair(alpha.clone()).max_pair(alpha.clone().neg()) + alpha * slopes
}

impl ServerHalf for FedbatDecoder {
    fn code_dim(&self) -> usize {
        self.dim
    }

    /// ±alpha: [rows, dim].
    fn dequantize(&self, code: &Code, device: &Device) -> Result<Tensor<2>, QuantError> {
        let read = || {
            let [signs, alpha] = code.planes.as_slice() else {
                return None;
            };
            let (rows, signs) = read_symbols(signs, 2, self.dim)?;
            let [alpha] = read_f32(alpha, 1, 1)? else {
                return None;
            };
            let value = |sign: &u8| if *sign == 1 { *alpha } else { -alpha };
            Some(tensor(
                signs.iter().map(value).collect(),
                [rows, self.dim],
                device,
            ))
        };
        read().ok_or_else(|| {
            let want = format!("signs with {} columns and one 32-bit float", self.dim);
            unexpected(want, &code.planes)
        })
    }
}
