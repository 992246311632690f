//! The decoding loop with one table.

use super::LOW;
use super::slot::Slots;
use super::stream::Source;
use crate::error::PlaneError;
use crate::symbol::Symbol;

/// Fills `data` from the source; symbol `i` comes from lane `i % N`. All of `data` but its last group must be full.
pub(super) fn decode<const N: usize, S: Symbol>(
    source: &mut Source<'_, N>,
    slots: &Slots<S>,
    data: &mut [S],
) -> Result<(), PlaneError> {
    let mut states = source.states;
    let mut groups = data.chunks_mut(N);
    while source.has_group() {
        let Some(group) = groups.next() else { break };
        // Checked once for the group: a lane takes one word at most.
        let window = &source.words[source.at..source.at + 2 * N];
        let mut taken = 0;
        for (state, symbol) in states.iter_mut().zip(group) {
            let x = pop(state, slots, symbol);
            let word = u32::from(u16::from_le_bytes([window[taken], window[taken + 1]]));
            let low = x < LOW;
            *state = if low { x << 16 | word } else { x };
            taken += 2 * usize::from(low);
        }
        source.at += taken;
    }
    for group in groups {
        for (state, symbol) in states.iter_mut().zip(group) {
            let x = pop(state, slots, symbol);
            *state = if x < LOW { x << 16 | source.word()? } else { x };
        }
    }
    source.states = states;
    Ok(())
}

/// The state without its next symbol, before it takes a word.
#[inline(always)]
fn pop<S: Symbol>(state: &u32, slots: &Slots<S>, symbol: &mut S) -> u32 {
    let slot = state & slots.mask();
    let (s, frequency, start) = slots.find(slot);
    *symbol = s;
    frequency * (state >> slots.bits) + slot - start
}
