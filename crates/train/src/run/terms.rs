//! What both sides must agree on: fields of the recipe, and what each reads from the model's configuration and the adapter.

use std::collections::BTreeMap;

use burn::tensor::DType;
use qtl_model::parts::{EMBED_TOKENS, Part};
use qtl_model::tuning::Storage;
use qtl_wire::Terms;

use crate::half::Stages;
use crate::recipe::Recipe;
use crate::start::Start;

/// What a side reads from the model's configuration and the adapter.
#[derive(Debug, Clone)]
pub struct Facts(BTreeMap<String, String>);

impl Facts {
    /// Those of a model and the adapter on it, and the checksum of the table of `half`, if both sides read rows in one: its values as
    /// the recipe has the base kept.
    pub fn of(start: &Start, half: &impl Stages, recipe: &Recipe) -> Self {
        let config = &start.blueprint.config;
        let (text, strategy) = (&config.text, config.select.strategy);
        let adapter = start.adapter.as_ref().map(|adapter| adapter.checksum());
        let facts = [
            ("hidden_size", text.hidden_size.to_string()),
            ("num_hidden_layers", text.layers.len().to_string()),
            ("vocab_size", text.vocab_size.to_string()),
            ("vision_feature_select_strategy", strategy.to_string()),
            ("adapter", adapter.unwrap_or_else(|| "none".to_owned())),
        ];
        let table = half.shared_table().map(|table| {
            let kept = match recipe.tune.part(Part::EmbedTokens).base {
                Storage::F32 => DType::F32,
                Storage::Bf16 | Storage::Nf4 => DType::BF16,
            };
            let values = table.table().cast(kept).cast(DType::F32).into_data();
            let sum = crc32c::crc32c(values.as_bytes());
            (EMBED_TOKENS.field, format!("{sum:08x}"))
        });
        let facts = facts.into_iter().chain(table);
        let facts = facts.map(|(key, value)| (format!("checkpoint.{key}"), value));
        Self(facts.collect())
    }

    /// They and the recipe's fields, as the greeting compares them.
    pub fn with(&self, recipe: &Recipe) -> Terms {
        let mut fields = recipe.terms();
        fields.extend(self.0.clone());
        Terms { fields }
    }
}
