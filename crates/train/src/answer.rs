//! Generation over a link: the model's [`Remote`] spoken through the wire's [`Exchange`].

use qtl_codec::{Code, Options};
use qtl_model::edge::{Cut, StepError};
use qtl_model::generate::Remote;
use qtl_wire::{Exchange, Prompt, Rows, WireError};

use crate::message::{encode_cut, to_wire};

/// A server at the other end of a link.
pub struct Linked<'a> {
    /// The link.
    pub link: &'a mut dyn Exchange,
    /// Rows of the token embedding: what the server chooses must be one of them.
    pub vocab: usize,
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

impl Remote for Linked<'_> {
    type Error = WireError;

    fn open(&mut self, prompts: Cut) -> Result<Vec<u32>, WireError> {
        let containers = encode_cut(&prompts);
        let ids = self.link.open(Prompt {
            image: containers.image.0,
            text: containers.text.0,
            text_index: containers.text_index.0,
            layout: to_wire(&prompts.layout),
        })?;
        chosen(ids.ids, prompts.layout.sequences.len(), self.vocab)
    }

    fn next(&mut self, keep: &[usize], rows: Code) -> Result<Vec<u32>, WireError> {
        let text = qtl_codec::encode(&rows, &Options::default());
        let slots = keep.iter().map(|slot| *slot as u32).collect();
        let ids = self.link.next(Rows { text, keep: slots })?;
        chosen(ids.ids, keep.len(), self.vocab)
    }

    fn open_hidden(&mut self, _prompts: Cut) -> Result<Code, WireError> {
        Err(Self::wrong(StepError::Labels { here: "client" }))
    }

    fn next_hidden(&mut self, _keep: &[usize], _rows: Code) -> Result<Code, WireError> {
        Err(Self::wrong(StepError::Labels { here: "client" }))
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
