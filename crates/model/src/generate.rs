//! Greedy decoding across the cut: the client codes prompts and, token by token, what was generated; the server keeps
//! the cache and chooses. So neither side ever holds the other's part of the model, also while answering.

use burn::tensor::Device;
use qtl_codec::Code;

use crate::edge::{Cut, StepError};
use crate::llm::Cache;
use crate::partition::{ClientPartition, ServerPartition};
use crate::parts::Parts;
use crate::stage::Batch;

/// The server as a generating client sees it.
pub trait Remote {
    /// Why a call failed.
    type Error;

    /// Starts a batch of prompts: the next token of each.
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
}

/// The answers to a batch of prompts, up to and without an `end` token, at most `longest` tokens each. `seen` is told of
/// every token as it comes, (sequence, token), and says whether that sequence is to go on.
///
/// # Errors
///
/// What the remote reports.
pub fn greedy<R: Remote>(
    client: &ClientPartition,
    prompts: &Batch,
    remote: &mut R,
    end: &[u32],
    longest: usize,
    seen: &mut dyn FnMut(usize, u32) -> bool,
) -> Result<Vec<Vec<u32>>, R::Error> {
    let count = prompts.spliced.layout.sequences.len();
    let mut answers = vec![Vec::new(); count];
    let mut running: Vec<usize> = (0..count).collect();
    let mut tokens = remote.open(client.encode(prompts))?;
    loop {
        let mut keep = Vec::with_capacity(running.len());
        for (slot, (sequence, token)) in running.iter().zip(&tokens).enumerate() {
            if end.contains(token) || answers[*sequence].len() == longest {
                continue;
            }
            answers[*sequence].push(*token);
            let wanted = seen(*sequence, *token);
            if wanted && answers[*sequence].len() < longest {
                keep.push(slot);
            }
        }
        running = keep.iter().map(|slot| running[*slot]).collect();
        if running.is_empty() {
            return Ok(answers);
        }
        let last: Vec<i64> = keep.iter().map(|slot| i64::from(tokens[*slot])).collect();
        tokens = remote.next(&keep, client.encode_tokens(&last))?;
    }
}
