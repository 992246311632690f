//! Little-endian bytes of a safetensors file to f32.

use half::{bf16, f16};
use safetensors::Dtype;

/// `None` if the type is not a float type of at most 32 bits.
pub(super) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let halves = || bytes.as_chunks::<2>().0.iter().copied();
    match dtype {
        Dtype::F32 => {
            let words = bytes.as_chunks::<4>().0.iter().copied();
            Some(words.map(f32::from_le_bytes).collect())
        }
        Dtype::F16 => Some(halves().map(|b| f16::from_le_bytes(b).to_f32()).collect()),
        Dtype::BF16 => Some(halves().map(|b| bf16::from_le_bytes(b).to_f32()).collect()),
        _ => None,
    }
}
