//! What files call the parts of a decoder.

use std::ops::Range;

use crate::weights::KeyMap;

use super::DecoderSpec;

/// Names of the parts in files, and so in the paths of parameters; what is not listed is called the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Everything but the head.
    pub body: &'static str,
    /// The token embedding, in the body.
    pub embedding: &'static str,
    /// The last norm, in the body.
    pub norm: &'static str,
    /// The norm before attention, in a block.
    pub attention_norm: &'static str,
    /// Attention, in a block.
    pub attention: &'static str,
    /// Attention's output map, in attention.
    pub output: &'static str,
    /// The norm before the feed-forward part, in a block.
    pub mlp_norm: &'static str,
    /// The feed-forward part, in a block.
    pub mlp: &'static str,
}

impl Names {
    /// Llama's, which most families follow.
    pub const LLAMA: Self = Self {
        body: "model",
        embedding: "embed_tokens",
        norm: "norm",
        attention_norm: "input_layernorm",
        attention: "self_attn",
        output: "o_proj",
        mlp_norm: "post_attention_layernorm",
        mlp: "mlp",
    };

    /// Whether a parameter or module of this name is a token embedding, in any family.
    pub fn is_embedding(name: &str) -> bool {
        let known = [Self::LLAMA.embedding, super::openelm::NAMES.embedding];
        name.split('.').any(|part| known.contains(&part))
    }
}

impl DecoderSpec {
    /// Path of the token embedding's parameter.
    pub fn embedding_name(&self) -> String {
        format!("{}.{}.weight", self.names.body, self.names.embedding)
    }

    /// Where a file keeps the token embedding: bare or inside a TinyLLaVA file.
    pub fn embedding_keys(&self) -> KeyMap {
        KeyMap::same()
            .or("", "language_model.")
            .ignore(&format!("{}.", self.names.body))
    }

    /// Where a file keeps the blocks of these numbers.
    pub fn blocks_keys(&self, range: Range<usize>) -> KeyMap {
        let norm = format!("{}.{}.", self.names.body, self.names.norm);
        let (before, behind) = (0..range.start, range.end..self.layers.len());
        self.keys_without(before.chain(behind)).ignore(&norm)
    }

    /// Where a file keeps all that follows the first `count` blocks; a tied head is read from the token embedding.
    pub fn rest_keys(&self, count: usize) -> KeyMap {
        let keys = self.keys_without(0..count);
        if self.tied_head {
            keys.stand_in("lm_head.weight", &self.embedding_name())
        } else {
            keys
        }
    }

    /// All but the token embedding and these blocks.
    fn keys_without(&self, blocks: impl Iterator<Item = usize>) -> KeyMap {
        let (body, embedding) = (self.names.body, self.names.embedding);
        let keys = KeyMap::same()
            .or("", "language_model.")
            .ignore(&format!("{body}.{embedding}."));
        blocks.fold(keys, |keys, i| keys.ignore(&format!("{body}.layers.{i}.")))
    }

    /// Where a file keeps everything but the token embedding.
    pub fn decoder_keys(&self) -> KeyMap {
        self.rest_keys(0)
    }
}
