//! The decoding loop.

use super::LOW;
use crate::error::PlaneError;
use crate::rans::slot::Slot;
use crate::symbol::Symbol;

/// Fills `data` from the lanes' start states and the words, which `N` zero words follow.
///
/// Any words and any table that fills its `2^b` slots decode to something without a panic or an overflow; what no
/// encoder wrote is told apart afterwards, by the words left over and by the final states.
pub(super) fn decode<S: Symbol, const N: usize>(
    mut states: [u32; N],
    words: &[u16],
    table: &[S::Slot],
    data: &mut [S],
) -> Result<(), PlaneError> {
    if let Some(lane) = states.iter().position(|&state| state < LOW) {
        return Err(PlaneError::StartState {
            lane,
            state: states[lane],
        });
    }
    let real = words.len() - N;
    let truncated = PlaneError::StreamTruncated { words: real };
    let table = &table[..1 << S::PROBABILITY_BITS];
    let mut at = 0;
    let mut groups = data.chunks_exact_mut(N);
    for group in &mut groups {
        // A group takes a word per lane at most; going past the real ones by less than that shows at the end.
        let Some(window) = words.get(at..at + N) else {
            return Err(truncated);
        };
        at += pop_group::<S, N>(&mut states, window, table, group);
    }
    let Some(window) = words.get(at..at + N) else {
        return Err(truncated);
    };
    at += pop_group::<S, N>(&mut states, window, table, groups.into_remainder());
    match at {
        at if at > real => Err(truncated),
        at if at < real => Err(PlaneError::StreamTrailing { words: real - at }),
        _ => match states.iter().position(|&state| state != LOW) {
            Some(lane) => Err(PlaneError::FinalState {
                lane,
                state: states[lane],
                expected: LOW,
            }),
            None => Ok(()),
        },
    }
}

/// Decodes at most one symbol per lane; returns how many words that took.
#[inline(always)]
fn pop_group<S: Symbol, const N: usize>(
    states: &mut [u32; N],
    window: &[u16],
    table: &[S::Slot],
    group: &mut [S],
) -> usize {
    let mut taken = 0;
    for (state, symbol) in states.iter_mut().zip(group) {
        let x = *state;
        let slot = table[(x & ((1 << S::PROBABILITY_BITS) - 1)) as usize];
        *symbol = S::narrow(slot.symbol());
        let x = slot.frequency() * (x >> S::PROBABILITY_BITS) + slot.offset();
        let low = x < LOW;
        *state = if low {
            x << 16 | u32::from(window[taken])
        } else {
            x
        };
        taken += usize::from(low);
    }
    taken
}
