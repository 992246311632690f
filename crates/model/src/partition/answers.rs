//! Answers, as far as the server has a part in them: prompts and single tokens through its blocks.

use burn::tensor::{DType, Device, Tensor};
use qtl_codec::Code;

use super::ServerPartition;
use crate::edge::{Cut, StepError};
use crate::llm::{Cache, gather};
use crate::prompts::Prompts;
use crate::splice::Grid;

/// Prompts that have been read.
struct Read {
    /// What the trunk made of their cells.
    hidden: Tensor<3>,
    cache: Cache,
    grid: Grid,
    prompts: Prompts,
}

impl ServerPartition {
    /// Runs a batch of prompts: the greedy next token of each, and the cache to go on with.
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step).
    pub fn prefill(&self, cut: &Cut, device: &Device) -> Result<(Vec<u32>, Cache), StepError> {
        let head = self.head()?;
        let read = self.read(cut, device)?;
        let ends = gather(read.hidden, &read.prompts.ends(read.grid.width));
        Ok((greedy(head.forward(ends)), read.cache))
    }

    /// One more token for each of the sequences `keep` of the cache (the others are finished): their next tokens.
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step).
    pub fn next(
        &self,
        cache: &mut Cache,
        keep: &[usize],
        code: &Code,
        device: &Device,
    ) -> Result<Vec<u32>, StepError> {
        let head = self.head()?;
        let hidden = self.read_on(cache, keep, code, device)?;
        Ok(greedy(head.forward(hidden)))
    }

    /// As [`prefill`](Self::prefill), where the client has the top: the code of the hidden states from which it chooses, the
    /// last of each prompt, or of all that its blocks read.
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step).
    pub fn prefill_hidden(&self, cut: &Cut, device: &Device) -> Result<(Code, Cache), StepError> {
        let edge = self.edge()?;
        let Read {
            hidden,
            cache,
            grid,
            prompts,
        } = self.read(cut, device)?;
        let code = match self.trunk.ends() {
            true => edge.encode_tokens(self.sent(hidden, &prompts.ends(grid.width), &grid)?),
            false => edge.encode(self.sent(hidden, &grid.real(), &grid)?),
        };
        Ok((code, cache))
    }

    /// As [`next`](Self::next), likewise: one hidden state for each.
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step).
    pub fn next_hidden(
        &self,
        cache: &mut Cache,
        keep: &[usize],
        code: &Code,
        device: &Device,
    ) -> Result<Code, StepError> {
        let edge = self.edge()?;
        let hidden = self.read_on(cache, keep, code, device)?;
        Ok(edge.encode_tokens(hidden.cast(DType::F32)))
    }

    /// Prompts through the trunk.
    fn read(&self, cut: &Cut, device: &Device) -> Result<Read, StepError> {
        let prompts = Prompts::of(&cut.layout)?;
        self.takes(prompts.lengths())?;
        let grid = Grid::new(&cut.layout);
        let input = self.assembled(cut, &grid, device)?;
        let (hidden, cache) = self.trunk.read(input, &prompts);
        Ok(Read {
            hidden,
            cache,
            grid,
            prompts,
        })
    }

    /// One more token of each of the sequences `keep` through the trunk: [sequences, hidden].
    fn read_on(
        &self,
        cache: &mut Cache,
        keep: &[usize],
        code: &Code,
        device: &Device,
    ) -> Result<Tensor<2>, StepError> {
        if keep.is_empty() {
            return Err(StepError::Empty {
                what: "sequence that goes on",
            });
        }
        let width = self.hidden_size();
        let rows = self.uplink.tokens(code, keep.len(), width, device)?;
        if keep.iter().any(|k| *k >= cache.rows()) {
            return Err(StepError::Rows {
                stream: "text",
                layout: cache.rows(),
                code: keep.len(),
            });
        }
        let longest = self.spec().max_positions;
        if let Some((sequence, position)) = cache
            .positions()
            .iter()
            .enumerate()
            .find(|(_, p)| **p + 1 >= longest)
        {
            return Err(StepError::Length {
                sequence,
                length: position + 2,
                longest,
            });
        }
        cache.retain(keep);
        let hidden = self.trunk.extend(rows.unsqueeze_dim(1), cache);
        Ok(hidden.squeeze_dim(1))
    }
}

fn greedy(logits: Tensor<2>) -> Vec<u32> {
    let best = logits.argmax(1).into_data().convert::<i64>();
    let best = best.try_into_vec::<i64>().expect("converted to i64");
    best.into_iter().map(|id| id as u32).collect()
}
