//! 4-bit NormalFloat with double-quantized scales (Dettmers et al. 2023, QLoRA).
//!
//! A matrix is cut into blocks of 64 values, row-major. A block is divided by its largest magnitude and every value
//! becomes the nearest of 16 levels, which are equally likely under a normal distribution. The magnitudes, less their
//! mean, are cut into blocks of 256 and kept in 8 bits each. Memory per value: `4 + 8/64 + 32/(64 256)` bits = 4.127.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// Values that share a scale.
const BLOCK: usize = 64;
/// Scales that share a scale of scales.
const SCALES: usize = 256;

/// The 16 levels, as the paper's appendix E lists them: the means of neighbouring quantiles of a normal distribution,
/// with an exact zero, divided by the largest.
pub const LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A packed matrix, on its device.
#[derive(Clone, Debug)]
pub struct Nf4 {
    shape: [usize; 2],
    /// Two levels per byte, the first in the high half: `[blocks 64 / 2]`.
    codes: Tensor<1, Int>,
    /// 8-bit scales, offset by 128: `[groups 256]`.
    scales: Tensor<1, Int>,
    /// One unit of a scale, per group: `[groups, 1]`.
    units: Tensor<2>,
    /// The mean of all scales.
    mean: f32,
    /// What a byte stands for: `[256, 2]`.
    pairs: Tensor<2>,
}

impl Nf4 {
    /// Packs row-major values.
    pub fn pack(values: &[f32], shape: [usize; 2], device: &Device) -> Self {
        let blocks: Vec<&[f32]> = values.chunks(BLOCK).collect();
        let largest = |block: &[f32]| block.iter().fold(0f32, |m, v| m.max(v.abs()));
        let exact: Vec<f32> = blocks.iter().map(|block| largest(block)).collect();
        let count = exact.len().max(1);
        let mean = exact.iter().map(|v| f64::from(*v)).sum::<f64>() / count as f64;
        let mean = mean as f32;
        let mut scales = Vec::with_capacity(count.next_multiple_of(SCALES));
        let mut units = Vec::new();
        for group in exact.chunks(SCALES) {
            let unit = largest(&group.iter().map(|v| v - mean).collect::<Vec<_>>()) / 127.0;
            units.push(unit);
            scales.extend(group.iter().map(|v| byte((v - mean) / unit)));
        }
        scales.resize(scales.len().next_multiple_of(SCALES), 128);
        let mut codes = Vec::with_capacity(blocks.len() * BLOCK / 2);
        for (i, block) in blocks.iter().enumerate() {
            // Against the scale that unpacking will use.
            let scale = f32::from(scales[i]) - 128.0;
            let scale = scale * units[i / SCALES] + mean;
            let code = |j: usize| nearest(block.get(j).map_or(0.0, |v| v / scale));
            codes.extend((0..BLOCK / 2).map(|j| code(2 * j) << 4 | code(2 * j + 1)));
        }
        let bytes = |data: Vec<u8>| {
            let count = data.len();
            Tensor::<1, Int>::from_data(TensorData::new(data, [count]), (device, DType::U8))
        };
        let groups = units.len();
        let pairs: Vec<f32> = (0..=255u8)
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|code| LEVELS[usize::from(code)])
            .collect();
        Self {
            shape,
            codes: bytes(codes),
            scales: bytes(scales),
            units: Tensor::from_data(TensorData::new(units, [groups, 1]), device),
            mean,
            pairs: Tensor::from_data(TensorData::new(pairs, [256, 2]), device),
        }
    }

    /// The values: `[rows, columns]` of `f32`.
    pub fn unpack(&self) -> Tensor<2> {
        let [rows, columns] = self.shape;
        let blocks = (rows * columns).div_ceil(BLOCK);
        let groups = blocks.div_ceil(SCALES);
        let scales = self.scales.clone().float().cast(DType::F32) - 128.0;
        let scales = scales.reshape([groups, SCALES]) * self.units.clone() + self.mean;
        let scales = scales.reshape([groups * SCALES, 1]).narrow(0, 0, blocks);
        let levels = self.pairs.clone().select(0, self.codes.clone());
        let values = levels.reshape([blocks, BLOCK]) * scales;
        let values = values.reshape([blocks * BLOCK]);
        values.narrow(0, 0, rows * columns).reshape([rows, columns])
    }

    /// Bytes that the packed values take, the shared table included.
    pub fn bytes(&self) -> usize {
        let floats = self.units.shape().num_elements() + self.pairs.shape().num_elements() + 1;
        self.codes.dims()[0] + self.scales.dims()[0] + 4 * floats
    }
}

/// A scale in units, rounded, offset by 128; a group of equal scales has a unit of zero.
fn byte(units: f32) -> u8 {
    if units.is_finite() {
        (units.round() + 128.0).clamp(1.0, 255.0) as u8
    } else {
        128
    }
}

/// The code of the level nearest to `value`; not-a-number, from a block of zeros, is zero.
fn nearest(value: f32) -> u8 {
    if value.is_nan() {
        return 7;
    }
    let above = LEVELS.partition_point(|level| *level < value);
    let code = match above {
        0 => 0,
        16 => 15,
        i if value - LEVELS[i - 1] < LEVELS[i] - value => i - 1,
        i => i,
    };
    code as u8
}
