//! Little-endian floats of a file to f32, through a small buffer: beside the result no second copy of a tensor exists.

use std::io;

use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Values converted at a time: small enough to stay in the processor's cache.
const CHUNK: usize = 64 * 1024;
/// Values that one thread reads at a time.
const PIECE: usize = 1024 * 1024;

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
    let pieces = values.par_chunks_mut(PIECE).enumerate();
    pieces.try_for_each(|(i, piece)| -> io::Result<()> {
        if kind == Float::F32 {
            fetch(
                bytemuck::cast_slice_mut(piece),
                offset + 4 * (i * PIECE) as u64,
            )?;
            if cfg!(target_endian = "big") {
                for value in piece {
                    *value = f32::from_bits(value.to_bits().swap_bytes());
                }
            }
            return Ok(());
        }
        let mut buffer = vec![0u16; CHUNK.min(piece.len())];
        let mut at = offset + 2 * (i * PIECE) as u64;
        for part in piece.chunks_mut(CHUNK) {
            let halves = &mut buffer[..part.len()];
            fetch_halves(halves, at, &fetch)?;
            at += 2 * part.len() as u64;
            match kind {
                Float::F16 => bytemuck::cast_slice::<u16, f16>(halves).convert_to_f32_slice(part),
                _ => bytemuck::cast_slice::<u16, bf16>(halves).convert_to_f32_slice(part),
            }
        }
        Ok(())
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
    let pieces = values.par_chunks_mut(PIECE).enumerate();
    pieces
        .try_for_each(|(i, piece)| fetch_halves(piece, offset + 2 * (i * PIECE) as u64, &fetch))?;
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
