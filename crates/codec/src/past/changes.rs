//! How rows differ from the last ones of their slots: a bit per row whether it does, and in one that does, per byte, whether it is
//! the same, one more, one less, or which other. Coded by arithmetic, with odds that both sides have learned from all
//! messages before.

use super::PastError;
use super::table::Table;
use crate::arithmetic::{Checked, Choose, Encoder, MOST_WEIGHT};

/// What a case adds to its weight.
const STEP: u32 = 32;

/// How likely rows and bytes are to be something: a list of weights for whether the one before was the same, and one for whether
/// it was not.
#[derive(Clone, Debug)]
pub(super) struct Odds {
    /// The same or not.
    row: [[u32; 2]; 2],
    /// The same, one more, one less, another.
    byte: [[u32; 4]; 2],
    /// A change was read that is spelled otherwise by whoever writes it.
    misspelled: bool,
}

impl Default for Odds {
    fn default() -> Self {
        Self {
            row: [[2, 1]; 2],
            byte: [[16, 2, 2, 1]; 2],
            misspelled: false,
        }
    }
}

/// Codes one of the cases, or reads it, and remembers it.
fn choose<const N: usize>(
    coder: &mut impl Choose,
    weights: &mut [u32; N],
    wanted: Option<usize>,
) -> usize {
    let chosen = coder.choose(weights, wanted);
    weights[chosen] += STEP;
    if weights.iter().sum::<u32>() > MOST_WEIGHT / 2 {
        *weights = weights.map(|weight| weight.div_ceil(2));
    }
    chosen
}

impl Odds {
    /// A row whose last one was `old`, of bytes below these alphabets; written into `new`, which holds it when it is coded.
    fn row(
        &mut self,
        coder: &mut impl Choose,
        alphabets: &[u16],
        old: &[u8],
        new: &mut [u8],
        (known, before): (bool, bool),
    ) -> bool {
        let wanted = known.then(|| usize::from(old != new));
        if choose(coder, &mut self.row[usize::from(before)], wanted) == 0 {
            new.copy_from_slice(old);
            return false;
        }
        let mut before = 0;
        let mut changed = false;
        for ((alphabet, old), new) in alphabets.iter().zip(old).zip(new) {
            let (alphabet, old) = (u32::from(*alphabet), u32::from(*old));
            let cases = [old, (old + 1) % alphabet, (old + alphabet - 1) % alphabet];
            let wanted = known.then(|| {
                let case = cases.iter().position(|case| *case == u32::from(*new));
                case.unwrap_or(cases.len())
            });
            let case = choose(coder, &mut self.byte[before], wanted);
            let byte = match cases.get(case) {
                Some(byte) => *byte,
                None => {
                    let all = [1; 256];
                    let own = known.then_some(usize::from(*new));
                    coder.choose(&all[..alphabet as usize], own) as u32
                }
            };
            *new = byte as u8;
            before = usize::from(case != 0);
            changed |= byte != old;
            let first = cases.iter().position(|case| *case == byte);
            self.misspelled |= first.unwrap_or(cases.len()) != case;
        }
        self.misspelled |= !changed;
        true
    }

    /// All rows of slots that the table has; the others are left as they are.
    fn rows(
        &mut self,
        coder: &mut impl Choose,
        table: &Table,
        slots: &[u32],
        rows: &mut [u8],
        known: bool,
    ) {
        let alphabets = table.shape().alphabets();
        let mut before = false;
        for (slot, new) in slots
            .iter()
            .zip(rows.chunks_exact_mut(alphabets.len().max(1)))
        {
            if let Some(old) = table.row(*slot) {
                before = self.row(coder, alphabets, old, new, (known, before));
            }
        }
    }
}

pub(super) fn encode(table: &Table, slots: &[u32], rows: &[u8], odds: &mut Odds) -> Vec<u8> {
    let mut coder = Encoder::default();
    odds.rows(&mut coder, table, slots, &mut rows.to_vec(), true);
    coder.finish()
}

/// The rows, those of slots that are new as zeros.
pub(super) fn decode(
    table: &Table,
    slots: &[u32],
    code: &[u8],
    odds: &mut Odds,
) -> Result<Vec<u8>, PastError> {
    let mut coder = Checked::new(code);
    let mut rows = vec![0; slots.len() * table.shape().width()];
    odds.rows(&mut coder, table, slots, &mut rows, false);
    match coder.spells() && !odds.misspelled {
        true => Ok(rows),
        false => Err(PastError::Spelling { what: "changes" }),
    }
}
