//! The slots of the places, by what came after what before: prediction by partial matching (see [`crate::ppm`]) that goes on from
//! message to message. A slot that is new is the next, so that saying "new" names it; one that never came after what is before
//! it now, nor lately, is told by its digits.

use super::PastError;
use crate::arithmetic::{Checked, Encoder};
use crate::ppm::model::Model;

/// Pasts that are kept: with more, all are forgotten and learned anew, but for how many slots there are.
pub(super) const MOST_PASTS: usize = 1 << 15;

/// What came after what in all messages before.
#[derive(Clone, Debug)]
pub(super) struct Places(Model);

impl Default for Places {
    fn default() -> Self {
        Self(Model::growing(0))
    }
}

impl Places {
    /// Bytes of memory, nearly.
    pub(super) fn bytes(&self) -> usize {
        let (slots, pasts) = self.0.size();
        size_of::<usize>() * slots as usize + PAST * pasts
    }

    /// Has room for another message.
    fn ready(&mut self) -> &mut Model {
        let (slots, pasts) = self.0.size();
        if pasts > MOST_PASTS {
            self.0 = Model::growing(slots);
        }
        &mut self.0
    }

    pub(super) fn encode(&mut self, places: &[u32]) -> Vec<u8> {
        let mut coder = Encoder::default();
        let model = self.ready();
        for slot in places {
            model.next(&mut coder, Some(*slot));
        }
        coder.finish()
    }

    /// So many slots, all below `most`.
    pub(super) fn decode(
        &mut self,
        code: &[u8],
        places: usize,
        most: u32,
    ) -> Result<Vec<u32>, PastError> {
        let mut coder = Checked::new(code);
        let model = self.ready();
        let mut slots = Vec::with_capacity(places);
        for _ in 0..places {
            let slot = model.next(&mut coder, None);
            if slot >= most {
                return Err(PastError::Slots { slot, most });
            }
            slots.push(slot);
        }
        match coder.spells() && !model.is_misspelled() {
            true => Ok(slots),
            false => Err(PastError::Spelling { what: "slots" }),
        }
    }
}

/// Bytes of a past: its key, its list and an entry or two.
pub(super) const PAST: usize = 80;
