//! The recipe: everything that decides what a run computes, in one TOML file without layers.
//!
//! Paths and addresses are not part of it: they belong to one machine and are given on its command line.

pub mod edit;
mod error;
mod fields;
mod placement;
mod privacy;
mod sections;
mod sites;
#[cfg(test)]
mod tests;
mod train;

use std::collections::BTreeMap;
use std::path::Path;

use qtl_model::partition::Placement;
use qtl_model::pretrained::Blueprint;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::tune::{Method, TuneSpec};

use fields::{explain, flatten, insert};
use placement::placed;

pub use error::RecipeError;
pub(crate) use placement::{cut_at_input, in_one_piece, labels_at_server, text_in_rows};
pub use privacy::PrivacySpec;
pub use sections::{
    DataSpec, GradientSpec, LayoutSpec, MessagesSpec, MetricsSpec, Quantizers, TurnsSpec,
    VisionSpec,
};
pub use sites::{AverageSpec, ModeSpec, SitesSpec, seed_of};
pub use train::{Activation, Recompute, TrainSpec};

/// What a side may choose by itself, beside `data.`, `metrics.` and `privacy.`.
const OWN: [&str; 4] = [
    "name",
    "train.recompute",
    "sites.quorum",
    "sites.patience_s",
];

/// One training stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What the run is called.
    pub name: String,
    /// Seeds shuffling, the choice of turns and fresh weights.
    #[serde(default)]
    pub seed: u64,
    /// What the cut layer's features become, per modality.
    #[serde(default)]
    pub quantizer: Quantizers,
    /// How the gradient travels back.
    #[serde(default)]
    pub gradient: GradientSpec,
    /// What the vision tower hands on.
    #[serde(default, skip_serializing_if = "VisionSpec::is_default")]
    pub vision: VisionSpec,
    /// How a step's message is written.
    #[serde(default, skip_serializing_if = "MessagesSpec::is_default")]
    pub messages: MessagesSpec,
    /// Where the model is cut.
    #[serde(default, skip_serializing_if = "Placement::is_default")]
    pub split: Placement,
    /// How samples become token sequences.
    pub data: DataSpec,
    /// Steps, batch, learning rate.
    pub train: TrainSpec,
    /// What is trained.
    #[serde(default)]
    pub tune: TuneSpec,
    /// Several sites that train one model; left out: one client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sites: Option<SitesSpec>,
    /// What the client adds to what it sends.
    #[serde(default, skip_serializing_if = "PrivacySpec::is_default")]
    pub privacy: PrivacySpec,
    /// What is measured beside it.
    #[serde(default, skip_serializing_if = "MetricsSpec::is_default")]
    pub metrics: MetricsSpec,
}

impl Recipe {
    /// Reads a recipe and applies `overrides` of the form `train.lr=1e-4`.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, RecipeError> {
        let bytes = std::fs::read(path).map_err(|source| RecipeError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(qtl_data::text::utf8(path, &bytes)?, overrides, path)
    }

    /// Like [`load`](Self::load) for a text; `path` is for the messages.
    pub fn parse(text: &str, overrides: &[String], path: &Path) -> Result<Self, RecipeError> {
        let fail = |message: String| RecipeError::Parse {
            path: path.to_owned(),
            message,
        };
        let recipe: Self = if overrides.is_empty() {
            // Straight from the text, so that messages carry the line.
            toml::from_str(text).map_err(|e| fail(explain(&e.to_string())))?
        } else {
            let mut table: toml::Table = text
                .parse()
                .map_err(|e: toml::de::Error| fail(e.to_string()))?;
            for set in overrides {
                let (key, value) = set
                    .split_once('=')
                    .ok_or_else(|| RecipeError::Set(set.clone()))?;
                insert(&mut table, key.trim(), value.trim())
                    .ok_or_else(|| RecipeError::Set(set.clone()))?;
            }
            toml::Value::Table(table)
                .try_into()
                .map_err(|e: toml::de::Error| fail(explain(&e.to_string())))?
        };
        recipe.check()?;
        Ok(recipe)
    }

    /// This recipe with `overrides` of the form `train.lr=1e-4`.
    ///
    /// # Errors
    ///
    /// [`RecipeError`] naming the field.
    pub fn with(self, overrides: &[String]) -> Result<Self, RecipeError> {
        if overrides.is_empty() {
            return Ok(self);
        }
        Self::parse(&self.to_toml(), overrides, Path::new(&self.name))
    }

    /// The recipe as TOML, every default written out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe is plain data that TOML can hold")
    }

    /// Every field, flattened to `section.field`.
    pub fn fields(&self) -> BTreeMap<String, String> {
        let value = toml::Value::try_from(self).expect("a recipe is plain data that TOML can hold");
        let mut fields = BTreeMap::new();
        flatten("", &value, &mut fields);
        fields
    }

    /// The same of a recipe's text, which need not be one that this release takes.
    pub fn fields_of(text: &str) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        if let Ok(table) = text.parse::<toml::Table>() {
            flatten("", &toml::Value::Table(table), &mut fields);
        }
        fields
    }

    /// Every field that both sides must agree on, flattened to `section.field`. Of the data section that is
    /// the longest sequence, which bounds what the server takes; what the client does with its files and measures is its own
    /// affair, and which blocks a side runs again its own.
    pub fn terms(&self) -> BTreeMap<String, String> {
        let mut fields = self.fields();
        fields.retain(|key, _| {
            let own = ["data.", "metrics.", "privacy."]
                .iter()
                .any(|own| key.starts_with(own));
            (!own || key == "data.max_length") && !OWN.contains(&key.as_str())
        });
        fields
    }

    /// The number of a site's micro-batch, from which everything random in it follows. `step`: of the run; where there is one
    /// client, micro-batches applied.
    pub fn number(&self, step: u64, place: usize) -> u64 {
        let sites = self.sites.as_ref();
        sites.map_or(step, |sites| sites.number(step, place))
    }

    /// What it takes to build a half of the model in `dir` under this recipe.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the field of `config.json` or of the recipe.
    pub fn blueprint(&self, dir: &Path) -> Result<Blueprint, TrainError> {
        let Quantizers { image, text, .. } = &self.quantizer;
        let mut blueprint = Blueprint::read(dir, image.clone(), text.clone(), self.seed)?;
        blueprint.hidden.clone_from(&self.quantizer.hidden);
        blueprint.placement = self.split;
        placement::stands(self.split, &blueprint.config)?;
        if let Some(strategy) = self.vision.feature_select_strategy {
            let config = &mut blueprint.config;
            config.select.strategy = strategy;
            if config.select.tokens(config.vision.tokens()) == 0 {
                return Err(RecipeError::Range {
                    field: "vision.feature_select_strategy",
                    value: "patch".to_owned(),
                    range: "cls_patch for a tower with a single token",
                }
                .into());
            }
        }
        Ok(blueprint)
    }

    /// What the server is told, or can tell all the same, where a recipe moves that: to be said wherever a run is described.
    pub fn still_told(&self) -> Option<&'static str> {
        placement::still_told(&self.split)
    }

    /// Checks the values that a file may get wrong.
    pub(crate) fn check(&self) -> Result<(), RecipeError> {
        if let Some((field, value, range)) = self.data.pictures.wrong() {
            return Err(RecipeError::Range {
                field,
                value,
                range,
            });
        }
        let quantizers = [
            ("image", &self.quantizer.image),
            ("text", &self.quantizer.text),
            ("hidden", &self.quantizer.hidden),
        ];
        for (modality, spec) in quantizers {
            spec.check()
                .map_err(|source| RecipeError::Quantizer { modality, source })?;
        }
        sections::started(self)?;
        sections::deltas(self)?;
        self.tune.check()?;
        self.gradient.codec.check()?;
        self.gradient.hidden.check()?;
        placed(self)?;
        sites::check(self)?;
        self.privacy.check(self)?;
        let t = &self.train;
        let rules = [
            (
                "train.steps",
                t.steps.to_string(),
                "1 to 10^12",
                (1..=1_000_000_000_000).contains(&t.steps),
            ),
            (
                "train.batch",
                t.batch.to_string(),
                "1 to 65536",
                (1..=1 << 16).contains(&t.batch),
            ),
            (
                "train.accumulate",
                t.accumulate.to_string(),
                "1 to 65536",
                (1..=1 << 16).contains(&t.accumulate),
            ),
            (
                "train.save_every",
                t.save_every.to_string(),
                "1 to 10^12",
                (1..=1_000_000_000_000).contains(&t.save_every),
            ),
            (
                "data.cache_features",
                self.data
                    .cache_features
                    .as_ref()
                    .map_or("none".to_owned(), |dir| dir.display().to_string()),
                "left out where the tower learns, or tune.vision_tower = \"frozen\"",
                self.data.cache_features.is_none()
                    || self.tune.vision_tower.method == Method::Frozen,
            ),
            ("train.keep", t.keep.to_string(), "2 or more", t.keep >= 2),
            (
                "train.lr",
                t.lr.to_string(),
                "a number above 0 and at most 1000",
                t.lr > 0.0 && t.lr <= 1000.0,
            ),
            (
                "train.weight_decay",
                t.weight_decay.to_string(),
                "0 to 1000",
                (0.0..=1000.0).contains(&t.weight_decay),
            ),
            (
                "train.betas",
                format!("{:?}", t.betas),
                "two numbers from 0 on and below 1",
                t.betas.iter().all(|beta| (0.0..1.0).contains(beta)),
            ),
            (
                "train.epsilon",
                t.epsilon.to_string(),
                "a number above 0 and at most 1",
                t.epsilon > 0.0 && t.epsilon <= 1.0,
            ),
            (
                "train.warmup",
                t.warmup.to_string(),
                "0 to 1",
                (0.0..=1.0).contains(&t.warmup),
            ),
            (
                "train.clip",
                t.clip.to_string(),
                "0 or more",
                t.clip.is_finite() && t.clip >= 0.0,
            ),
            (
                "data.unlearnable",
                self.data.unlearnable.to_string(),
                "0 to 1",
                (0.0..=1.0).contains(&self.data.unlearnable),
            ),
            (
                "data.max_length",
                self.data.max_length.to_string(),
                "1 to 2^24",
                (1..=1 << 24).contains(&self.data.max_length),
            ),
            (
                "quantizer.calibration_batches",
                self.quantizer.calibration_batches.to_string(),
                "0 to 65536",
                self.quantizer.calibration_batches <= 1 << 16,
            ),
        ];
        match rules.into_iter().find(|rule| !rule.3) {
            Some((field, value, range, _)) => Err(RecipeError::Range {
                field,
                value,
                range,
            }),
            None => Ok(()),
        }
    }
}
