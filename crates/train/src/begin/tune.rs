//! Which parameters are trained, and how: the recipe's `[tune]` section.
//!
//! ```toml
//! [tune]
//! vision_tower = "frozen"
//! connector = { kind = "full", lr = 1e-3 }
//! llm = { kind = "lora", rank = 16, alpha = 32, dropout = 0.05, targets = ["q_proj", "v_proj"], base = "nf4" }
//! ```

mod part;

pub use qtl_model::parts::{Part, block};
use serde::{Deserialize, Serialize};

pub use part::{Branches, Method, PartSpec, TuneError};

/// The recipe's `[tune]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TuneSpec {
    /// The vision tower, frozen by default.
    pub vision_tower: PartSpec,
    /// The connector.
    pub connector: PartSpec,
    /// The quantizers' projections.
    pub quantizer: PartSpec,
    /// The language model.
    pub llm: PartSpec,
    /// The token embedding.
    pub embed_tokens: PartSpec,
}

impl Default for TuneSpec {
    fn default() -> Self {
        Self {
            vision_tower: Method::Frozen.into(),
            connector: Method::Full.into(),
            quantizer: Method::Full.into(),
            llm: Method::Full.into(),
            embed_tokens: Method::Full.into(),
        }
    }
}

impl TuneSpec {
    /// How a part is tuned.
    pub fn part(&self, part: Part) -> &PartSpec {
        match part {
            Part::VisionTower => &self.vision_tower,
            Part::Connector => &self.connector,
            Part::Quantizer => &self.quantizer,
            Part::Llm => &self.llm,
            Part::EmbedTokens => &self.embed_tokens,
        }
    }

    /// Whether the parameter of this name is trained. Recorded statistics never are.
    pub fn trains(&self, name: &str) -> bool {
        !name.contains("running_") && self.part(Part::of(name)).method.trains(name)
    }

    /// Whether a run's checkpoints hold the parameter of this name: what it trains, and the quantizers, which a
    /// calibration may have set. Everything else is still what the base holds.
    pub fn stores(&self, name: &str) -> bool {
        self.trains(name) || Part::of(name) == Part::Quantizer
    }

    /// The learning rate of a parameter relative to that of the run.
    pub fn lr_scale(&self, name: &str, lr: f64) -> f64 {
        self.part(Part::of(name)).lr.map_or(1.0, |own| own / lr)
    }

    /// Checks every part against its ranges.
    ///
    /// # Errors
    ///
    /// A [`TuneError`] naming the part, the field and the cure.
    pub fn check(&self) -> Result<(), TuneError> {
        Part::ALL
            .into_iter()
            .try_for_each(|part| self.part(part).check(part))
    }
}

/// Whether weight decay applies: to everything but biases and norms, as in the reference's parameter groups, and the
/// scalars of quantizers.
pub fn decays(name: &str) -> bool {
    // The norm before the resampler's feed-forward part has a place in a sequence and no name.
    let nameless =
        name.starts_with("connector._connector.layers.") && name.ends_with(".1.0.weight");
    let norm = nameless
        || ["norm", "Norm", "layrnorm"]
            .iter()
            .any(|norm| name.contains(norm));
    let scalar = name.ends_with("learned_width") || name.ends_with("alpha_e");
    !norm && !scalar && !name.ends_with("bias")
}

/// Whether a parameter belongs to a low-rank branch.
pub fn is_branch(name: &str) -> bool {
    name.contains(".lora_A.") || name.contains(".lora_B.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: &str = "language_model.model.layers.7.mlp.up_proj.weight";
    const FC: &str = "vision_tower._vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight";

    #[test]
    fn names_find_their_part_and_decay_group() {
        let tune = TuneSpec {
            llm: Method::Frozen.into(),
            ..TuneSpec::default()
        };
        assert!(!tune.trains(UP));
        assert!(tune.trains("language_model.model.embed_tokens.weight"));
        assert!(tune.trains("VQ.quantizer_text.quantizer.in_proj.weight"));
        assert!(!tune.trains("VQ.quantizer_text.quantizer.running_mean"));
        assert!(tune.stores("VQ.quantizer_text.quantizer.running_mean"));
        assert!(!tune.trains(FC) && !tune.stores(FC));
        assert!(decays(UP));
        assert!(decays("connector._connector.layers.2.1.1.weight"));
        for name in [
            "language_model.model.norm.weight",
            "a.layer_norm1.weight",
            "a.input_layernorm.weight",
            "a.pre_layrnorm.weight",
            "c.0.bias",
            "connector._connector.layers.2.1.0.weight",
            "connector._connector.bert.encoder.layer.0.attention.output.LayerNorm.weight",
        ] {
            assert!(!decays(name), "{name}");
        }
    }

    #[test]
    fn a_part_can_be_trained_from_a_block_on() {
        let tune = TuneSpec {
            llm: Method::FromLayer(7).into(),
            vision_tower: Method::FromLayer(1).into(),
            ..TuneSpec::default()
        };
        assert!(tune.trains(UP));
        assert!(!tune.trains(&UP.replace(".7.", ".6.")));
        assert!(tune.trains("language_model.lm_head.weight"));
        assert!(tune.trains("language_model.model.norm.weight"));
        assert!(!tune.trains(FC) && tune.trains(&FC.replace(".0.", ".1.")));
        assert!(!tune.trains(
            "vision_tower._vision_tower.vision_model.embeddings.position_embedding.weight"
        ));
    }

    #[test]
    fn only_branches_are_trained_where_there_are_branches() {
        let branches = Branches {
            rank: 4,
            alpha: 8.0,
            dropout: 0.0,
            targets: vec!["up_proj".to_owned()],
            rslora: false,
        };
        assert!(branches.wants(UP));
        assert!(!branches.wants("language_model.model.layers.7.mlp.gate_up_proj.weight"));
        let tune = TuneSpec {
            llm: Method::Lora(branches).into(),
            ..TuneSpec::default()
        };
        assert!(!tune.trains(UP));
        assert!(tune.trains("language_model.model.layers.7.mlp.up_proj.lora_A.weight"));
    }
}
