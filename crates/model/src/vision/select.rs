//! What a tower hands to the connector.

use serde::{Deserialize, Serialize};

/// Which tokens of the selected hidden state go on to the connector (`vision_feature_select_strategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// All but the first. TinyLLaVA drops it for every tower, also where it is a patch and not a class token.
    Patch,
    /// All.
    ClsPatch,
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Patch => "patch",
            Self::ClsPatch => "cls_patch",
        })
    }
}

/// What a tower hands to the connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureSelect {
    /// Index into the hidden states (0 = embeddings, i = after block i), counted from the end if negative: -1 is the
    /// output of the last block before any final norm, -2 (TinyLLaVA's choice) that of the one before. A tower holds the
    /// blocks up to there and no others.
    pub layer: i64,
    /// Which of its tokens.
    pub strategy: Strategy,
}

impl Default for FeatureSelect {
    fn default() -> Self {
        Self {
            layer: -2,
            strategy: Strategy::Patch,
        }
    }
}

impl FeatureSelect {
    /// How many of `layers` blocks have to run, or `None` if the index is out of range.
    pub fn depth(&self, layers: usize) -> Option<usize> {
        let states = layers as i64 + 1;
        let index = if self.layer < 0 {
            states + self.layer
        } else {
            self.layer
        };
        (0..states).contains(&index).then_some(index as usize)
    }

    /// How many of `layers` blocks run and are therefore held: [`Self::depth`], where 0 stands for an index out of range.
    pub(crate) fn blocks(&self, layers: usize) -> usize {
        self.depth(layers).unwrap_or_default()
    }

    /// Tokens that remain of `tokens`.
    pub fn tokens(&self, tokens: usize) -> usize {
        match self.strategy {
            Strategy::Patch => tokens - 1,
            Strategy::ClsPatch => tokens,
        }
    }
}
