//! Which parameters are trained: per part of the model `frozen` or `full`, with its own learning rate if wanted.

use serde::{Deserialize, Serialize};

/// A part of the model that is tuned as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The vision tower (client).
    VisionTower,
    /// The connector (client).
    Connector,
    /// Both halves of both quantizers.
    Quantizer,
    /// The language model without its token embedding (server).
    Llm,
    /// The token embedding (client).
    EmbedTokens,
}

/// How a part is tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tune {
    /// Not at all.
    Frozen,
    /// All its parameters.
    Full,
}

/// The recipe's `[tune]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TuneSpec {
    /// The vision tower, frozen by default.
    pub vision_tower: Tune,
    /// The connector.
    pub connector: Tune,
    /// The quantizers' projections.
    pub quantizer: Tune,
    /// The language model.
    pub llm: Tune,
    /// The token embedding.
    pub embed_tokens: Tune,
    /// Learning rate of the vision tower where it differs from `train.lr`.
    pub vision_tower_lr: Option<f64>,
    /// Learning rate of the connector where it differs from `train.lr`.
    pub connector_lr: Option<f64>,
}

impl Default for TuneSpec {
    fn default() -> Self {
        Self {
            vision_tower: Tune::Frozen,
            connector: Tune::Full,
            quantizer: Tune::Full,
            llm: Tune::Full,
            embed_tokens: Tune::Full,
            vision_tower_lr: None,
            connector_lr: None,
        }
    }
}

impl Part {
    /// The part that a parameter, by its checkpoint name, belongs to.
    pub fn of(name: &str) -> Self {
        if name.starts_with("vision_tower.") {
            Self::VisionTower
        } else if name.starts_with("connector.") {
            Self::Connector
        } else if name.starts_with("VQ.") {
            Self::Quantizer
        } else if name.contains("embed_tokens") {
            Self::EmbedTokens
        } else {
            Self::Llm
        }
    }
}

impl TuneSpec {
    /// Whether the parameter of this name is trained. Recorded statistics never are.
    pub fn trains(&self, name: &str) -> bool {
        let tune = match Part::of(name) {
            Part::VisionTower => self.vision_tower,
            Part::Connector => self.connector,
            Part::Quantizer => self.quantizer,
            Part::Llm => self.llm,
            Part::EmbedTokens => self.embed_tokens,
        };
        tune == Tune::Full && !name.contains("running_")
    }

    /// The learning rate of a parameter relative to that of the run.
    pub fn lr_scale(&self, name: &str, lr: f64) -> f64 {
        let own = match Part::of(name) {
            Part::VisionTower => self.vision_tower_lr,
            Part::Connector => self.connector_lr,
            _ => None,
        };
        own.map_or(1.0, |own| own / lr)
    }
}

/// Whether weight decay applies: to everything but biases and norms, as in the reference's parameter groups.
pub fn decays(name: &str) -> bool {
    !name.ends_with("bias") && !name.contains("norm") && !name.contains("layrnorm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_part_and_decay_group() {
        let tune = TuneSpec {
            llm: Tune::Frozen,
            ..TuneSpec::default()
        };
        assert!(!tune.trains("language_model.model.layers.0.mlp.up_proj.weight"));
        assert!(tune.trains("language_model.model.embed_tokens.weight"));
        assert!(tune.trains("VQ.quantizer_text.quantizer.in_proj.weight"));
        assert!(!tune.trains("VQ.quantizer_text.quantizer.running_mean"));
        assert!(
            !tune.trains("vision_tower._vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight")
        );
        assert!(decays("language_model.model.layers.0.mlp.up_proj.weight"));
        for name in [
            "language_model.model.norm.weight",
            "a.layer_norm1.weight",
            "a.input_layernorm.weight",
            "c.0.bias",
        ] {
            assert!(!decays(name), "{name}");
        }
    }
}
