//! Little-endian floats of a file to f32, through a small buffer: beside the result no second copy of a tensor exists.

use std::io;

use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

use super::finite::{Flaw, Flaws};

/// Values that one thread reads at a time: few enough to stay in its cache until they are converted and looked at.
const CHUNK: usize = 64 * 1024;

/// The types that weights may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Float {
    F64,
    F32,
    F16,
    Bf16,
}

impl Float {
    /// `None` if the type is not a float type of 16 to 64 bits.
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F64 => Some(Self::F64),
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }
}

/// Reads `count` values that start at byte `offset` as f32, and which of them are none; `fetch(bytes, offset)` fills
/// `bytes` from there.
pub(super) fn read(
    kind: Float,
    count: usize,
    offset: u64,
    fetch: impl Fn(&mut [u8], u64) -> io::Result<()> + Sync,
) -> io::Result<(Vec<f32>, Option<Flaw>)> {
    let flaws = Flaws::default();
    let mut values = vec![0f32; count];
    // All cores: touching fresh memory for the first time costs more than reading and converting.
    let chunks = values.par_chunks_mut(CHUNK).enumerate();
    chunks.try_for_each_init(Vec::new, |buffer, (i, chunk)| {
        let first = (i * CHUNK) as u64;
        match kind {
            Float::F32 => {
                fetch(bytemuck::cast_slice_mut(chunk), offset + 4 * first)?;
                if cfg!(target_endian = "big") {
                    for value in &mut *chunk {
                        *value = f32::from_bits(value.to_bits().swap_bytes());
                    }
                }
            }
            Float::F64 => {
                buffer.resize(4 * chunk.len(), 0u16);
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(buffer);
                fetch(bytes, offset + 8 * first)?;
                for (value, bytes) in chunk.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *value = f64::from_le_bytes(*bytes) as f32;
                }
            }
            Float::F16 | Float::Bf16 => {
                buffer.resize(chunk.len(), 0u16);
                fetch_halves(buffer, offset + 2 * first, &fetch)?;
                if kind == Float::F16 {
                    bytemuck::cast_slice::<u16, f16>(buffer).convert_to_f32_slice(chunk);
                } else {
                    bytemuck::cast_slice::<u16, bf16>(buffer).convert_to_f32_slice(chunk);
                }
            }
        }
        flaws.look(i * CHUNK, chunk);
        Ok::<(), io::Error>(())
    })?;
    Ok((values, flaws.found()))
}

/// Reads `count` values of a bfloat16 tensor as they are; see [`read`].
pub(super) fn read_bf16(
    count: usize,
    offset: u64,
    fetch: impl Fn(&mut [u8], u64) -> io::Result<()> + Sync,
) -> io::Result<(Vec<bf16>, Option<Flaw>)> {
    let flaws = Flaws::default();
    // As bits: of these the allocator gives zeroed memory without touching it.
    let mut values = vec![0u16; count];
    let chunks = values.par_chunks_mut(CHUNK).enumerate();
    chunks.try_for_each(|(i, chunk)| {
        fetch_halves(chunk, offset + 2 * (i * CHUNK) as u64, &fetch)?;
        flaws.look_bf16(i * CHUNK, chunk);
        Ok::<(), io::Error>(())
    })?;
    Ok((values.reinterpret_into(), flaws.found()))
}

/// Which of the bfloat16 values in `bytes`, of this machine's byte order, are none. On a view of a file this reads it.
pub(super) fn look_bf16(bytes: &[u8]) -> Option<Flaw> {
    let flaws = Flaws::default();
    let chunks = bytes.par_chunks(2 * CHUNK).enumerate();
    chunks.for_each(|(i, chunk)| match bytemuck::try_cast_slice(chunk) {
        Ok(bits) => flaws.look_bf16(i * CHUNK, bits),
        Err(_) => {
            // Not where 16-bit values may lie: a copy is.
            let bits = chunk.as_chunks().0.iter().copied().map(u16::from_ne_bytes);
            flaws.look_bf16(i * CHUNK, &bits.collect::<Vec<_>>());
        }
    });
    flaws.found()
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
