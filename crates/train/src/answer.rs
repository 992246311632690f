//! Generation over a link: the model's [`Remote`] spoken through the wire's [`Exchange`].

use qtl_codec::{Code, Options};
use qtl_model::edge::Cut;
use qtl_model::generate::Remote;
use qtl_wire::{Exchange, Prompt, Rows, WireError};

use crate::message::{encode_cut, to_wire};

/// A server at the other end of a link.
pub struct Linked<'a>(pub &'a mut dyn Exchange);

impl Remote for Linked<'_> {
    type Error = WireError;

    fn open(&mut self, prompts: Cut) -> Result<Vec<u32>, WireError> {
        let containers = encode_cut(&prompts);
        Ok(self
            .0
            .open(Prompt {
                image: containers.image.0,
                text: containers.text.0,
                text_index: containers.text_index.0,
                layout: to_wire(&prompts.layout),
            })?
            .ids)
    }

    fn next(&mut self, keep: &[usize], rows: Code) -> Result<Vec<u32>, WireError> {
        let text = qtl_codec::encode(&rows, &Options::default());
        let keep = keep.iter().map(|slot| *slot as u32).collect();
        Ok(self.0.next(Rows { text, keep })?.ids)
    }
}
