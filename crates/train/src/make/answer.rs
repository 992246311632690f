//! Generation over a link: the model's [`Remote`] spoken through the wire's [`Exchange`].

use qtl_codec::{Code, Options};
use qtl_model::edge::{Cut, StepError};
use qtl_model::generate::Remote;
use qtl_model::partition::ClientPartition;
use qtl_model::prompts::Prompts;
use qtl_model::splice::Layout;
use qtl_wire::verb::{HiddenStates, NextHidden, OpenHidden, Verb};
use qtl_wire::work::call;
use qtl_wire::{Exchange, Next, Reply, WireError};

use crate::message::{decode, encode_cut};

/// A server at the other end of a link.
pub struct Linked<'a> {
    /// The link.
    pub link: &'a mut dyn Exchange,
    /// Rows of the token embedding: what the server chooses must be one of them.
    pub vocab: usize,
    /// Channels that a hidden state has at most, and whether those of all rows of the prompts come: blocks follow here.
    pub hidden: (usize, bool),
}

impl<'a> Linked<'a> {
    /// The way of `client` to its server.
    pub fn new(link: &'a mut dyn Exchange, client: &ClientPartition) -> Self {
        let hidden = client.top.as_deref().map_or((0, false), |top| {
            let width = top.stage.spec().hidden_size;
            let channels = top.downlink.hidden.code_dim().max(width);
            (channels, !top.stage.blocks.is_empty())
        });
        let vocab = client.bottom.embed_tokens.vocab_size();
        Self {
            link,
            vocab,
            hidden,
        }
    }

    /// The code of so many hidden states that answers a request.
    fn states<V>(&mut self, request: V, rows: usize) -> Result<Code, WireError>
    where
        V: Verb<Answer = HiddenStates>,
    {
        match call(self.link, request)? {
            Reply::Done(states) => decode("hidden", &states.hidden, rows, self.hidden.0)
                .map_err(|error| WireError::Protocol(error.to_string())),
            Reply::Rewind { .. } | Reply::Moved { .. } => Err(WireError::GenerationLost),
        }
    }
}

/// How many prompts there are.
fn count(layout: &Layout) -> Result<usize, WireError> {
    let prompts = Prompts::of(layout).map_err(|error| Linked::wrong(error.into()))?;
    Ok(prompts.len())
}

/// A token for each of the sequences, all of them known here. With fewer, answers would end early and look whole.
fn chosen(ids: Vec<u32>, sequences: usize, vocab: usize) -> Result<Vec<u32>, WireError> {
    if ids.len() != sequences {
        return Err(WireError::Protocol(format!(
            "it chose {} tokens for {sequences} sequences",
            ids.len()
        )));
    }
    match ids.iter().find(|id| **id as usize >= vocab) {
        None => Ok(ids),
        Some(id) => Err(WireError::Protocol(format!(
            "it chose token {id}, and the model has {vocab}"
        ))),
    }
}

/// The message of one row for each of these sequences.
fn next(keep: &[usize], rows: &Code) -> Next {
    Next {
        text: qtl_codec::encode(rows, &Options::default()),
        keep: keep.iter().map(|slot| *slot as u32).collect(),
    }
}

impl Remote for Linked<'_> {
    type Error = WireError;

    fn open(&mut self, prompts: Cut) -> Result<Vec<u32>, WireError> {
        let (cut, _) = encode_cut(&prompts);
        let ids = self.link.open(cut)?;
        chosen(ids.ids, count(&prompts.layout)?, self.vocab)
    }

    fn next(&mut self, keep: &[usize], rows: Code) -> Result<Vec<u32>, WireError> {
        let ids = self.link.next(next(keep, &rows))?;
        chosen(ids.ids, keep.len(), self.vocab)
    }

    fn open_hidden(&mut self, prompts: Cut) -> Result<Code, WireError> {
        let rows = match self.hidden.1 {
            true => prompts.layout.lengths().into_iter().sum(),
            false => count(&prompts.layout)?,
        };
        self.states(OpenHidden(encode_cut(&prompts).0), rows)
    }

    fn next_hidden(&mut self, keep: &[usize], rows: Code) -> Result<Code, WireError> {
        self.states(NextHidden(next(keep, &rows)), keep.len())
    }

    fn wrong(error: StepError) -> WireError {
        WireError::Protocol(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_chooses_a_known_token_for_each_sequence() {
        assert_eq!(chosen(vec![0, 9], 2, 10).unwrap(), [0, 9]);
        for (ids, says) in [
            (vec![], "0 tokens for 2 sequences"),
            (vec![1], "1 tokens for 2 sequences"),
            (vec![1, 2, 3], "3 tokens for 2 sequences"),
            (vec![1, 10], "token 10, and the model has 10"),
            (vec![u32::MAX, 1], "token 4294967295"),
        ] {
            let error = chosen(ids, 2, 10).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
