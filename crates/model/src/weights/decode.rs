//! Little-endian floats of a file to f32, through a small buffer: beside the result no second copy of a tensor exists.

use std::io;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;

/// Values converted at a time: small enough to stay in the processor's cache.
const CHUNK: usize = 64 * 1024;

/// The types that weights may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Float {
    F32,
    F16,
    Bf16,
}

impl Float {
    /// `None` if the type is not a float type of at most 32 bits.
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }
}

/// Reads `count` values that start at byte `offset`; `fetch(bytes, offset)` fills `bytes` from there.
pub(super) fn read(
    kind: Float,
    count: usize,
    offset: u64,
    fetch: impl Fn(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<Vec<f32>> {
    let mut values = vec![0f32; count];
    if kind == Float::F32 {
        fetch(bytemuck::cast_slice_mut(&mut values), offset)?;
        if cfg!(target_endian = "big") {
            for value in &mut values {
                *value = f32::from_bits(value.to_bits().swap_bytes());
            }
        }
        return Ok(values);
    }
    let mut buffer = vec![0u16; CHUNK.min(count)];
    let mut at = offset;
    for part in values.chunks_mut(CHUNK) {
        let halves = &mut buffer[..part.len()];
        fetch(bytemuck::cast_slice_mut(halves), at)?;
        at += 2 * part.len() as u64;
        for half in halves.iter_mut() {
            *half = u16::from_le(*half);
        }
        match kind {
            Float::F16 => bytemuck::cast_slice::<u16, f16>(halves).convert_to_f32_slice(part),
            _ => bytemuck::cast_slice::<u16, bf16>(halves).convert_to_f32_slice(part),
        }
    }
    Ok(values)
}
