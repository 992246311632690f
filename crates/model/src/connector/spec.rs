//! What a connector is, as a configuration says it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::FAMILIES;
use crate::config::{ConfigError, Fields};
use crate::nn::Activation;

/// What a connector is. A kind uses the fields that mean something to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectorSpec {
    /// `connector_type`: one of [`FAMILIES`].
    pub kind: String,
    /// Width of the vision features, those of all towers together.
    pub input: usize,
    /// How many towers these features come from.
    pub towers: usize,
    /// Width of the language model.
    pub output: usize,
    /// Divide every output token by its root mean square. Not in TinyLLaVA; it has no parameters.
    pub norm: bool,
    /// Tokens that a token-reducing connector gives (`num_queries`).
    pub queries: usize,
    /// Layers of the resampler (`num_resampler_layers`).
    pub layers: usize,
    /// Sizes of the Q-Former.
    pub qformer: QformerSpec,
}

/// Sizes of the Q-Former's encoder. TinyLLaVA takes those of bert-base-uncased, which are the defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QformerSpec {
    /// Width of a query.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Every so many layers, from the first on, attend to the features.
    pub cross_every: usize,
    /// Under the square root of the norms.
    pub eps: f64,
    /// Non-linearity of the feed-forward part.
    pub activation: Activation,
}

impl Default for QformerSpec {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            layers: 12,
            heads: 12,
            cross_every: 2,
            eps: 1e-12,
            activation: Activation::Gelu,
        }
    }
}

/// Why a connector cannot be built.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConnectorError {
    /// No such connector.
    #[error(
        "connector_type = {0:?} is not supported; the supported ones are {supported} (N from 1 to 9)",
        supported = supported()
    )]
    Kind(String),
    /// The identity cannot change the width.
    #[error(
        "connector_type = \"identity\" needs features as wide as the language model, but they are {input} and {output}; use \
         \"linear\" or \"mlp2x_gelu\""
    )]
    Width {
        /// Width of the vision features.
        input: usize,
        /// Width of the language model.
        output: usize,
    },
    /// It joins another number of towers than the model has.
    #[error(
        "connector_type = {kind:?} joins the features of {joins} tower(s), but vision_config has {towers}; \"mof_mlp\" goes \
         with model_type \"mof\", the others with the rest"
    )]
    Towers {
        /// The connector.
        kind: String,
        /// How many it joins.
        joins: usize,
        /// How many there are.
        towers: usize,
    },
}

fn supported() -> String {
    let names: Vec<String> = FAMILIES.iter().map(|f| format!("{:?}", f.name)).collect();
    names.join(", ")
}

impl ConnectorSpec {
    /// A connector between these widths; what a configuration leaves out has TinyLLaVA's defaults.
    pub fn new(kind: &str, input: usize, output: usize) -> Self {
        Self {
            kind: kind.to_owned(),
            input,
            towers: 1,
            output,
            norm: false,
            queries: 128,
            layers: 3,
            qformer: QformerSpec::default(),
        }
    }

    /// Reads a TinyLLaVA configuration. `connector_norm` and the block `qformer` are ours.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] naming the field. Whether the kind exists and joins the widths, [`super::Connector::new`] tells.
    pub fn from_config(
        fields: &Fields,
        input: usize,
        towers: usize,
        output: usize,
    ) -> Result<Self, ConfigError> {
        let kind = fields.text("connector_type", "for example \"mlp2x_gelu\"")?;
        let usual = Self::new(kind, input, output);
        let qformer = match fields.get("qformer") {
            None => QformerSpec::default(),
            Some(_) => QformerSpec::from_config(&fields.child("qformer")?)?,
        };
        Ok(Self {
            towers,
            norm: fields.flag("connector_norm", false)?,
            queries: fields.size("num_queries", usual.queries)?,
            layers: fields.size("num_resampler_layers", usual.layers)?,
            qformer,
            ..usual
        })
    }

    pub(super) fn joins(&self, joins: usize) -> Result<(), ConnectorError> {
        if joins == self.towers {
            return Ok(());
        }
        Err(ConnectorError::Towers {
            kind: self.kind.clone(),
            joins,
            towers: self.towers,
        })
    }
}

impl QformerSpec {
    fn from_config(fields: &Fields) -> Result<Self, ConfigError> {
        let usual = Self::default();
        let spec = Self {
            hidden_size: fields.size("hidden_size", usual.hidden_size)?,
            intermediate_size: fields.size("intermediate_size", usual.intermediate_size)?,
            layers: fields.size("num_hidden_layers", usual.layers)?,
            heads: fields.size("num_attention_heads", usual.heads)?,
            cross_every: fields.size("cross_attention_freq", usual.cross_every)?,
            eps: fields.number("layer_norm_eps", usual.eps)?,
            activation: fields.activation_or("hidden_act", usual.activation)?,
        };
        let (heads, width) = (spec.heads, spec.hidden_size);
        fields.divides("num_attention_heads", heads, "hidden_size", width)?;
        Ok(spec)
    }
}
