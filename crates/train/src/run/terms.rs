//! What both sides must agree on: fields of the recipe, and what each reads from the model's configuration and the adapter.

use std::collections::BTreeMap;

use burn::tensor::DType;
use qtl_model::llm::TokenEmbedding;
use qtl_model::parts::EMBED_TOKENS;
use qtl_wire::Terms;

use crate::recipe::Recipe;
use crate::start::Start;

/// What a side reads from the model's configuration and the adapter.
#[derive(Debug, Clone)]
pub struct Facts(BTreeMap<String, String>);

impl Facts {
    /// Those of a model and the adapter on it.
    pub fn of(start: &Start) -> Self {
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
        Self(
            facts
                .map(|(key, value)| (format!("checkpoint.{key}"), value))
                .into(),
        )
    }

    /// Adds the checksum of a table that both sides read rows in.
    pub fn share(&mut self, table: &TokenEmbedding) {
        let values = table.table().cast(DType::F32).into_data();
        let sum = crc32c::crc32c(values.as_bytes());
        let field = format!("checkpoint.{}", EMBED_TOKENS.field);
        self.0.insert(field, format!("{sum:08x}"));
    }

    /// They and the recipe's fields, as the greeting compares them.
    pub fn with(&self, recipe: &Recipe) -> Terms {
        let mut fields = recipe.terms();
        fields.extend(self.0.clone());
        Terms { fields }
    }
}
