//! Little-endian floats of a file to f32, through a small buffer: beside the result no second copy of a tensor exists.

use std::io;

use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Values that one thread reads at a time: few enough to stay in its cache until they are converted.
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

/// Reads `count` values that start at byte `offset` as f32; `fetch(bytes, offset)` fills `bytes` from there.
pub(super) fn read(
    kind: Float,
    count: usize,
    offset: u64,
    fetch: impl Fn(&mut [u8], u64) -> io::Result<()> + Sync,
) -> io::Result<Vec<f32>> {
    let mut values = vec![0f32; count];
    // All cores: touching fresh memory for the first time costs more than reading and converting.
    let chunks = values.par_chunks_mut(CHUNK).enumerate();
    chunks.try_for_each_init(Vec::new, |buffer, (i, chunk)| {
        let first = (i * CHUNK) as u64;
        if kind == Float::F32 {
            fetch(bytemuck::cast_slice_mut(chunk), offset + 4 * first)?;
            if cfg!(target_endian = "big") {
                for value in chunk {
                    *value = f32::from_bits(value.to_bits().swap_bytes());
                }
            }
            return Ok(());
        }
        buffer.resize(chunk.len(), 0u16);
        fetch_halves(buffer, offset + 2 * first, &fetch)?;
        match kind {
            Float::F16 => bytemuck::cast_slice::<u16, f16>(buffer).convert_to_f32_slice(chunk),
            _ => bytemuck::cast_slice::<u16, bf16>(buffer).convert_to_f32_slice(chunk),
        }
        Ok::<(), io::Error>(())
    })?;
    Ok(values)
}

/// Reads `count` values of a bfloat16 tensor as they are; see [`read`].
pub(super) fn read_bf16(
    count: usize,
    offset: u64,
    fetch: impl Fn(&mut [u8], u64) -> io::Result<()> + Sync,
) -> io::Result<Vec<bf16>> {
    // As bits: of these the allocator gives zeroed memory without touching it.
    let mut values = vec![0u16; count];
    let chunks = values.par_chunks_mut(CHUNK).enumerate();
    chunks
        .try_for_each(|(i, chunk)| fetch_halves(chunk, offset + 2 * (i * CHUNK) as u64, &fetch))?;
    Ok(values.reinterpret_into())
}

fn fetch_halves(
    halves: &mut [u16],
    at: u64,
    fetch: &impl Fn(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    fetch(bytemuck::cast_slice_mut(halves), at)?;
    for half in halves {
        *half = u16::from_le(*half);
    }
    Ok(())
}
