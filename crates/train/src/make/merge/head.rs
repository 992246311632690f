//! What has become of a head that was tied.

use qtl_model::parts::{BLOCKS, Parts};
use serde_json::{Value, json};

use crate::tune::Part;

/// What has become of head and token embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// They never were one.
    Own,
    /// One matrix in the base, and the halves' two copies are still equal: written once, as the token embedding.
    Tied,
    /// One matrix in the base, trained apart on two machines since.
    Parted,
}

impl Head {
    /// `client` has the token embedding, and either of the halves has the head.
    pub(crate) fn of(tied: bool, client: &impl Parts, server: &impl Parts) -> Self {
        if !tied {
            return Self::Own;
        }
        let (mut table, mut head) = (None, None);
        let embedding = |name: &str| Part::of(name) == Part::EmbedTokens;
        client.visit_tensors(&embedding, &mut |tensor| table = Some(tensor.data));
        client.visit_tensors(&is_head, &mut |tensor| head = Some(tensor.data));
        server.visit_tensors(&is_head, &mut |tensor| head = Some(tensor.data));
        if table == head {
            Self::Tied
        } else {
            Self::Parted
        }
    }

    /// Whether the parameter of this name is written.
    pub(crate) fn is_written(self, name: &str) -> bool {
        self != Self::Tied || !is_head(name)
    }

    /// Says in a configuration what has become of the head.
    pub(crate) fn note(self, config: &mut Value) {
        config["tie_word_embeddings"] = json!(self == Self::Tied);
        // In a language model that stands alone there is no part.
        for part in ["/text_config", ""] {
            if self == Self::Parted
                && let Some(Value::Object(text)) = config.pointer_mut(part)
            {
                // Spelled out: there are families where a head is tied unless told otherwise.
                text.insert("tie_word_embeddings".to_owned(), json!(false));
                // OpenELM's own word for it.
                if let Some(shared) = text.get_mut("share_input_output_layers") {
                    *shared = json!(false);
                }
            }
        }
    }
}

fn is_head(name: &str) -> bool {
    name.strip_prefix(BLOCKS.prefix) == Some("lm_head.weight")
}
