//! Cross-entropy behind a head that does not learn: its matrix is gone through a part at a time, so that neither the logits
//! nor, where it is kept in fewer bits, the widened matrix ever exist as a whole.

use burn::tensor::module::linear;
use burn::tensor::{DType, Int, Tensor, TensorData};

/// Tokens of the vocabulary that are looked at together: wide enough for a fast product, and some megabytes.
pub const PART: usize = 4096;

/// What is known after some parts of the vocabulary; the softmax is taken relative to the largest logit so far.
struct Seen {
    /// The largest logit of each row, `[rows, 1]`.
    largest: Tensor<2>,
    /// Sum of `exp(logit - largest)`, `[rows, 1]`.
    sum: Tensor<2>,
    /// The same sum with each term times its token's row of the matrix, `[rows, width]`; kept if a gradient is wanted.
    slope: Option<Tensor<2>>,
    /// The logit of the target, `[rows, 1]`; zero until its part has been seen.
    target: Tensor<2>,
}

impl Seen {
    /// Both, relative to the larger of the two maxima (Milakov and Gimelshein 2018).
    fn and(self, other: Self) -> Self {
        let largest = self.largest.clone().max_pair(other.largest.clone());
        let [a, b] = [self.largest, other.largest].map(|l| (l - largest.clone()).exp());
        let slopes = self.slope.zip(other.slope);
        Self {
            sum: self.sum * a.clone() + other.sum * b.clone(),
            slope: slopes.map(|(x, y)| x * a + y * b),
            target: self.target + other.target,
            largest,
        }
    }
}

/// [`super::cross_entropy()`] of the logits `x Wᵀ + b`, without a gradient to `weight` and `bias`.
///
/// `x: [rows, width]`, `weight: [vocab, width]` as it is stored, `bias: [vocab]`. Products are formed in the type of `x`,
/// the rest in 32 bits. In one pass: `d/dx = (Σ exp(l) W / Σ exp(l) - W[target]) / rows` is a sum over the vocabulary like
/// the loss itself.
///
/// # Panics
///
/// If a target is not below `vocab`, or there is not one per row.
pub fn streamed_cross_entropy(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: &[i64],
) -> Tensor<1> {
    let ([rows, _], [vocab, _]) = (x.dims(), weight.dims());
    assert_eq!(rows, targets.len(), "one target per row");
    if rows == 0 {
        return x.sum();
    }
    let (plain, dtype, tracked) = (x.clone().inner(), x.dtype(), x.is_autodiff());
    let device = plain.device();
    let part = |start: usize| {
        let count = PART.min(vocab - start);
        let matrix = weight.clone().narrow(0, start, count).cast(dtype);
        let bias = bias.clone().map(|b| b.narrow(0, start, count).cast(dtype));
        let logits = linear(plain.clone(), matrix.clone().transpose(), bias).cast(DType::F32);
        let end = (start + count) as i64;
        let within = |target: &i64| (start as i64..end).contains(target);
        // A target of another part is looked up anywhere, and does not count.
        let place = |target: &i64| (target - start as i64) * i64::from(within(target));
        let places: Vec<i64> = targets.iter().map(place).collect();
        let places = Tensor::<2, Int>::from_data(TensorData::new(places, [rows, 1]), &device);
        let here: Vec<f32> = targets.iter().map(|t| f32::from(within(t))).collect();
        let here = Tensor::from_data(TensorData::new(here, [rows, 1]), &device);
        let target = logits.clone().gather(1, places) * here;
        let largest = logits.clone().max_dim(1);
        let shares = (logits - largest.clone()).exp();
        Seen {
            sum: shares.clone().sum_dim(1),
            slope: tracked.then(|| shares.cast(dtype).matmul(matrix).cast(DType::F32)),
            largest,
            target,
        }
    };
    let first = part(0);
    let seen = (PART..vocab)
        .step_by(PART)
        .fold(first, |seen, start| seen.and(part(start)));
    let value = (seen.largest + seen.sum.clone().log() - seen.target).mean();
    let Some(slope) = seen.slope else {
        return value;
    };
    let ids = Tensor::<1, Int>::from_data(TensorData::new(targets.to_vec(), [rows]), &device);
    let own = weight.select(0, ids).cast(DType::F32);
    let carrier = (x.cast(DType::F32) * ((slope / seen.sum - own) / rows as f64)).sum();
    // The carrier cancels exactly: a finite number minus itself.
    value + (carrier.clone() - carrier.detach())
}
