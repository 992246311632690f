//! Answers that the server has a part in: which rows go on, and with which weights.

use qtl_codec::Code;
use qtl_model::Device;
use qtl_model::edge::{Cut, StepError};
use qtl_model::llm::Cache;
use qtl_model::partition::ServerPartition;
use qtl_wire::{self as wire, Lane, Next, WorkError};

use super::{ServerWork, invalid};
use crate::message::decode;

impl ServerWork {
    /// Which sequences of a generation go on, and the code of a row for each, within the bounds.
    pub(super) fn going_on(
        &self,
        lane: Lane,
        rows: &Next,
    ) -> Result<(Vec<usize>, Code), WorkError> {
        let slots = self.generations.slots(lane).ok_or_else(no_generation)?;
        self.generation
            .fits(rows.keep.len(), slots as u64 + 1)
            .map_err(invalid)?;
        // A quantizer of whole batches has a single token cross as it is.
        let channels = self.channels.text.max(self.half.stages.hidden_size());
        let code = decode("text", &rows.text, rows.keep.len(), channels).map_err(invalid)?;
        Ok((rows.keep.iter().map(|k| *k as usize).collect(), code))
    }

    /// What `read` makes of prompts, if there is room for another generation.
    pub(super) fn prefilled<T>(
        &self,
        prompts: &wire::Cut,
        read: impl Fn(&ServerPartition, &Cut, &Device) -> Result<(T, Cache), StepError>,
    ) -> Result<(T, Cache), WorkError> {
        self.generation.prompts(&prompts.layout).map_err(invalid)?;
        if let Some(held) = self.generations.full(self.applied) {
            return Err(WorkError::Busy(format!(
                "the answers that are being generated take {} MiB; try again when one has ended",
                held >> 20
            )));
        }
        let cut = self.cut(prompts)?;
        read(&self.half.stages, &cut, &self.half.device).map_err(invalid)
    }

    /// A generation goes on from this cache with the weights as they are now.
    pub(super) fn begins(&mut self, lane: Lane, cache: Cache) {
        let weights = (*self.half.stages).clone();
        self.generations.begin(lane, cache, weights, self.applied);
    }
}

pub(super) fn no_generation() -> WorkError {
    WorkError::Invalid("no generation is open".into())
}
