//! How much a client may ask out of a run that nobody owns yet.

use std::collections::HashMap;

use crate::Key;

/// So often one key is told which field differs. Enough to bring two recipes together, too little to guess one.
const TOLD: u32 = 16;

/// So many keys are remembered; further ones are told nothing.
const KEYS: usize = 256;

/// Who was told how often that a field differs. A name is an answer to "is this your value?", so who may ask without end
/// learns the recipe. An owner may.
#[derive(Debug, Default)]
pub(super) struct Hints(HashMap<Key, u32>);

impl Hints {
    /// Whether `key` may be told once more, which counts.
    pub(super) fn take(&mut self, key: Key) -> bool {
        if self.0.len() >= KEYS && !self.0.contains_key(&key) {
            return false;
        }
        let told = self.0.entry(key).or_default();
        *told += 1;
        *told <= TOLD
    }
}
