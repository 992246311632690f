//! Decoding across the cut: the client codes prompts and, token by token, what was generated; the server keeps the cache of its
//! blocks. Who has the labels chooses: the server by taking the most likely token, or the client from the hidden states that it
//! gets. So neither side ever holds the other's part of the model, also while answering.

use burn::tensor::{Device, Tensor};
use qtl_codec::Code;

use crate::edge::{Cut, StepError};
use crate::llm::Cache;
use crate::partition::{ClientPartition, ServerPartition, Top};
use crate::parts::Parts;
use crate::prompts::Prompts;
use crate::sampling::Sampling;
use crate::stage::Batch;
use crate::text::Answering;

/// The server as a generating client sees it. One whose labels are the client's answers with hidden states, any other with
/// tokens.
pub trait Remote {
    /// Why a call failed.
    type Error;

    /// Starts a batch of prompts (see [`Prompts`]): the next token of each.
    ///
    /// # Errors
    ///
    /// Where the server cannot be reached or does not take the message.
    fn open(&mut self, prompts: Cut) -> Result<Vec<u32>, Self::Error>;

    /// Goes one token on with the sequences `keep`, numbered among those of the previous call; the others are done.
    /// `rows` codes one token for each.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    fn next(&mut self, keep: &[usize], rows: Code) -> Result<Vec<u32>, Self::Error>;

    /// As [`open`](Self::open): the hidden states that the client's top goes on from.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    fn open_hidden(&mut self, prompts: Cut) -> Result<Code, Self::Error>;

    /// As [`next`](Self::next), likewise.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    fn next_hidden(&mut self, keep: &[usize], rows: Code) -> Result<Code, Self::Error>;

    /// The error of an answer that is not in order.
    fn wrong(error: StepError) -> Self::Error;
}

/// A server's partition in the same process.
#[derive(Debug)]
pub struct InProcess<'a> {
    server: &'a ServerPartition,
    device: Device,
    cache: Option<Cache>,
}

impl<'a> InProcess<'a> {
    /// Generates with `server`.
    pub fn new(server: &'a ServerPartition) -> Self {
        Self {
            server,
            device: server.device(),
            cache: None,
        }
    }
}

impl Remote for InProcess<'_> {
    type Error = StepError;

    fn open(&mut self, prompts: Cut) -> Result<Vec<u32>, StepError> {
        let (ids, cache) = self.server.prefill(&prompts, &self.device)?;
        self.cache = Some(cache);
        Ok(ids)
    }

    fn next(&mut self, keep: &[usize], rows: Code) -> Result<Vec<u32>, StepError> {
        let cache = self.cache.as_mut().ok_or(StepError::NoPrompt)?;
        self.server.next(cache, keep, &rows, &self.device)
    }

    fn open_hidden(&mut self, prompts: Cut) -> Result<Code, StepError> {
        let (code, cache) = self.server.prefill_hidden(&prompts, &self.device)?;
        self.cache = Some(cache);
        Ok(code)
    }

    fn next_hidden(&mut self, keep: &[usize], rows: Code) -> Result<Code, StepError> {
        let cache = self.cache.as_mut().ok_or(StepError::NoPrompt)?;
        self.server.next_hidden(cache, keep, &rows, &self.device)
    }

    fn wrong(error: StepError) -> StepError {
        error
    }
}

/// A batch of prompts under way.
struct Course<'a, R> {
    client: &'a ClientPartition,
    remote: &'a mut R,
    /// What the client's first and last blocks remember.
    bottom: Option<Cache>,
    top: Option<Cache>,
    sampling: Sampling,
    device: Device,
}

impl<R: Remote> Course<'_, R> {
    fn top(&self) -> Option<&Top> {
        self.client.top.as_deref()
    }

    /// The first token of each of the prompts; `positions` are where they will stand.
    fn open(
        &mut self,
        batch: &Batch,
        prompts: &Prompts,
        positions: &[usize],
    ) -> Result<Vec<u32>, R::Error> {
        let (cut, cache) = self.client.prefill(batch, prompts);
        self.bottom = cache;
        let Some(top) = self.client.top.as_deref() else {
            if self.sampling.temperature > 0.0 {
                return Err(R::wrong(StepError::Drawn));
            }
            return self.remote.open(cut);
        };
        let layout = cut.layout.clone();
        let hidden = self.remote.open_hidden(cut)?;
        let (logits, cache) = top
            .prefill(&hidden, &layout, prompts, &self.device)
            .map_err(R::wrong)?;
        self.top = cache;
        Ok(self.choose(logits, positions))
    }

    /// The tokens after these, of the sequences `keep`.
    fn next(
        &mut self,
        ids: &[i64],
        keep: &[usize],
        positions: &[usize],
    ) -> Result<Vec<u32>, R::Error> {
        let rows = self.client.encode_tokens(ids, self.bottom.as_mut(), keep);
        if self.top().is_none() {
            return self.remote.next(keep, rows);
        }
        let hidden = self.remote.next_hidden(keep, rows)?;
        let cache = self.top.as_mut();
        let logits = match self.client.top.as_deref() {
            Some(top) => top.step(&hidden, cache, keep, &self.device),
            None => Err(StepError::Labels { here: "server" }),
        };
        let logits = logits.map_err(R::wrong)?;
        Ok(self.choose(logits, positions))
    }

    fn choose(&self, logits: Tensor<2>, positions: &[usize]) -> Vec<u32> {
        let [_, vocab] = logits.dims();
        let values: Vec<f32> = logits.into_data().iter::<f32>().collect();
        let rows = values.chunks_exact(vocab).zip(positions);
        rows.map(|(row, position)| self.sampling.choose(row, *position))
            .collect()
    }
}

/// The answers to the prompts of a batch, up to and without a token that ends them: one for each sequence, or for each branch of
/// one that has several. `seen` is told of every token as it comes, (prompt, token), and says whether that prompt is to go on.
///
/// # Errors
///
/// What the remote reports; tokens are drawn only by a client that has the labels.
pub fn answers<R: Remote>(
    client: &ClientPartition,
    batch: &Batch,
    remote: &mut R,
    how: &Answering,
    seen: &mut dyn FnMut(usize, u32) -> bool,
) -> Result<Vec<Vec<u32>>, R::Error> {
    let prompts = Prompts::of(&batch.spliced.layout);
    let prompts = prompts.map_err(|error| R::wrong(error.into()))?;
    let lengths = prompts.lengths();
    let mut answers = vec![Vec::new(); lengths.len()];
    let mut running: Vec<usize> = (0..lengths.len()).collect();
    let mut course = Course {
        client,
        remote,
        bottom: None,
        top: None,
        sampling: how.sampling,
        device: client.device(),
    };
    let mut tokens = course.open(batch, &prompts, &lengths)?;
    loop {
        let mut keep = Vec::with_capacity(running.len());
        for (slot, (sequence, token)) in running.iter().zip(&tokens).enumerate() {
            if how.end.contains(token) || answers[*sequence].len() == how.longest {
                continue;
            }
            answers[*sequence].push(*token);
            let wanted = seen(*sequence, *token);
            if wanted && answers[*sequence].len() < how.longest {
                keep.push(slot);
            }
        }
        running = keep.iter().map(|slot| running[*slot]).collect();
        if running.is_empty() {
            return Ok(answers);
        }
        let last: Vec<i64> = keep.iter().map(|slot| i64::from(tokens[*slot])).collect();
        let stands = |sequence: &usize| lengths[*sequence] + answers[*sequence].len();
        let positions: Vec<usize> = running.iter().map(stands).collect();
        tokens = course.next(&last, &keep, &positions)?;
    }
}
