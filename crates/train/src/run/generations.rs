//! Answers that a server is generating: each with its cache and with the weights that it began with.

use std::collections::{BTreeMap, BTreeSet};

use qtl_model::llm::Cache;
use qtl_model::partition::ServerPartition;
use qtl_wire::Lane;

/// So many bytes generations may hold before another has to wait, where nothing else is said.
pub const ROOM: u64 = 1 << 30;

/// One generation.
struct Generation {
    cache: Cache,
    /// As it was when the generation began: what was cached belongs to these weights, and training may move on.
    stages: ServerPartition,
    /// Number of micro-batches that they have seen.
    at: Option<u64>,
}

/// All of them.
pub(crate) struct Generations {
    running: BTreeMap<Lane, Generation>,
    room: u64,
    /// Bytes of the weights that training replaces.
    trained: u64,
}

impl Generations {
    /// None yet. `trained`: bytes of the weights that training replaces, which a generation keeps.
    pub(crate) fn new(trained: u64) -> Self {
        Self {
            running: BTreeMap::new(),
            room: ROOM,
            trained,
        }
    }

    /// How many bytes they may hold before another has to wait. One alone may be larger.
    pub(crate) fn may_hold(&mut self, room: u64) {
        self.room = room;
    }

    /// What they hold, with the weights in use having seen `at` micro-batches, if another would have to wait for it.
    pub(crate) fn full(&self, at: Option<u64>) -> Option<u64> {
        let caches: u64 = self.running.values().map(|g| g.cache.bytes()).sum();
        let older: BTreeSet<_> = self.running.values().map(|g| g.at).collect();
        let older = older.iter().filter(|then| **then != at).count() as u64;
        let held = caches.saturating_add(older.saturating_mul(self.trained));
        (!self.running.is_empty() && held >= self.room).then_some(held)
    }

    /// Begins one with its cache and with the weights that have filled it, which have seen `at` micro-batches.
    pub(crate) fn begin(
        &mut self,
        lane: Lane,
        cache: Cache,
        stages: ServerPartition,
        at: Option<u64>,
    ) {
        let generation = Generation { cache, stages, at };
        self.running.insert(lane, generation);
    }

    /// Slots that a generation has for each running sequence, if there is one.
    pub(crate) fn slots(&self, lane: Lane) -> Option<usize> {
        let generation = self.running.get(&lane)?;
        Some(generation.cache.slots())
    }

    /// The weights and the cache of a generation, if there is one.
    pub(crate) fn get(&mut self, lane: Lane) -> Option<(&ServerPartition, &mut Cache)> {
        let Generation { cache, stages, .. } = self.running.get_mut(&lane)?;
        Some((stages, cache))
    }

    /// One is over.
    pub(crate) fn end(&mut self, lane: Lane) {
        self.running.remove(&lane);
    }
}
