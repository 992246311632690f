//! The recipe: everything that decides what a run computes, in one TOML file without layers.
//!
//! Paths and addresses are not part of it: they belong to one machine and are given on its command line.

mod fields;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use qtl_data::{DataError, PictureRules, Strictness, Turns};
use qtl_model::edge::TextRows;
use qtl_model::pretrained::Blueprint;
use qtl_model::quant::gradient::{GradientCodec, GradientError};
use qtl_model::quant::{QuantError, QuantizerSpec};
use qtl_model::vision::Strategy;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::tune::{TuneError, TuneSpec};

use fields::{explain, flatten, insert};

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
    /// How samples become token sequences.
    pub data: DataSpec,
    /// Steps, batch, learning rate.
    pub train: TrainSpec,
    /// What is trained.
    #[serde(default)]
    pub tune: TuneSpec,
    /// What is measured beside it.
    #[serde(default, skip_serializing_if = "MetricsSpec::is_default")]
    pub metrics: MetricsSpec,
}

/// One quantizer per modality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quantizers {
    /// For image tokens.
    pub image: QuantizerSpec,
    /// For text tokens.
    pub text: QuantizerSpec,
    /// `distinct`: text rows of one token cross once where that is smaller; `all`: every row crosses.
    pub text_rows: TextRows,
    /// Batches of the calibration pass before the first step of a fresh run; 0 leaves the fresh projections
    /// as they are.
    pub calibration_batches: usize,
}

impl Default for Quantizers {
    fn default() -> Self {
        Self {
            image: QuantizerSpec::NONE,
            text: QuantizerSpec::NONE,
            text_rows: TextRows::Distinct,
            calibration_batches: 16,
        }
    }
}

/// What the vision tower hands on, where `config.json` is not to decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VisionSpec {
    /// TinyLLaVA's `vision_feature_select_strategy`: `patch` drops the first token of every tower, also that of SigLIP, which
    /// is a patch (728 of 729 remain, as in the published models); `cls_patch` keeps all. Left out: as `config.json` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_select_strategy: Option<Strategy>,
}

impl VisionSpec {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The returned gradient.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GradientSpec {
    /// Its precision.
    pub codec: GradientCodec,
}

/// How samples become token sequences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Name of the conversation template.
    pub template: String,
    /// How the turns of a sample are laid out.
    #[serde(default)]
    pub turns: TurnsSpec,
    /// With `independent` turns: how many of a sample's turns each step sees; 0 for all.
    #[serde(default)]
    pub per_sample: usize,
    /// With `independent` turns: draw only turns whose question starts with one of these, where there are any.
    #[serde(default)]
    pub only: Vec<String>,
    /// Sequences are cut at this many tokens, picture included.
    pub max_length: usize,
    /// Group samples of one modality and similar length, as LLaVA's fine-tuning does.
    #[serde(default)]
    pub group_by_length: bool,
    /// `square` stretches or crops as the tower's preprocessor says, `pad` pads to a square first.
    #[serde(default = "square")]
    pub aspect: String,
    /// Stop at the first bad sample instead of skipping and counting it.
    #[serde(default)]
    pub strict: bool,
    /// Share of the entries that may teach nothing, because no token of their answers is left at `max_length` or for another
    /// reason; with more the run does not start.
    #[serde(default = "hundredth")]
    pub unlearnable: f64,
    /// How picture files are read: how large they may be, EXIF, bits of samples, DICOM.
    #[serde(default, skip_serializing_if = "PictureRules::is_default")]
    pub pictures: PictureRules,
}

fn hundredth() -> f64 {
    0.01
}

fn square() -> String {
    "square".to_owned()
}

impl DataSpec {
    /// What to do with bad samples.
    pub fn strictness(&self) -> Strictness {
        if self.strict {
            Strictness::Stop
        } else {
            Strictness::Skip
        }
    }

    /// How turns become spans.
    pub fn turns(&self) -> Turns {
        match self.turns {
            TurnsSpec::Conversation => Turns::Conversation,
            TurnsSpec::Independent => Turns::Independent {
                per_sample: self.per_sample,
                only: self.only.clone(),
            },
        }
    }
}

/// The relation of a sample's turns to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnsSpec {
    /// One sequence: each turn sees those before it.
    #[default]
    Conversation,
    /// Every turn sees the picture and itself only; the picture is sent once.
    Independent,
}

/// Steps, batch, optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Optimizer steps. Not epochs: the server's schedule needs the number, and it does not see the data.
    pub steps: u64,
    /// Samples per micro-batch.
    pub batch: usize,
    /// Micro-batches per optimizer step.
    #[serde(default = "one")]
    pub accumulate: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Share of the steps over which the learning rate rises from zero.
    #[serde(default)]
    pub warmup: f64,
    /// Decoupled weight decay of everything but biases and norms.
    #[serde(default)]
    pub weight_decay: f32,
    /// Type of the activations in both halves; weights are cast to it where they are used.
    #[serde(default)]
    pub activation: Activation,
    /// AdamW's betas.
    #[serde(default = "betas")]
    pub betas: [f32; 2],
    /// AdamW's epsilon.
    #[serde(default = "epsilon")]
    pub epsilon: f32,
    /// Largest norm of the gradient of each half; 0 for no clipping.
    #[serde(default = "unit")]
    pub clip: f64,
    /// Optimizer steps between checkpoints.
    #[serde(default = "hundred")]
    pub save_every: u64,
    /// Checkpoints kept on each side (at least two, so that both sides always share one).
    #[serde(default = "two")]
    pub keep: usize,
}

/// The recipe's `[metrics]` section: what is measured beside the training. The client's own affair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSpec {
    /// In every how many micro-batches the same tensors are also encoded as 16-bit features, 32-bit gradients and without
    /// entropy coding, to compare sizes; 0 for never.
    pub compare_every: u64,
}

impl MetricsSpec {
    /// Whether that is done in this micro-batch.
    pub fn compares(&self, step: u64) -> bool {
        self.compare_every > 0 && step.is_multiple_of(self.compare_every)
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TrainSpec {
    /// Micro-batches of the whole run.
    pub fn micro_batches(&self) -> u64 {
        self.steps * self.accumulate
    }

    /// The step that a micro-batch belongs to, or, of a number of micro-batches, how many steps they are.
    pub fn step_of(&self, micro_batch: u64) -> u64 {
        micro_batch / self.accumulate
    }
}

/// Type of the activations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16. Norms, losses, master weights, the quantizers and what crosses the cut stay in 32 bits.
    Bf16,
}

impl Activation {
    /// burn's name of the type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

fn one() -> u64 {
    1
}
fn two() -> usize {
    2
}
fn hundred() -> u64 {
    100
}
fn unit() -> f64 {
    1.0
}
fn betas() -> [f32; 2] {
    [0.9, 0.999]
}
fn epsilon() -> f32 {
    1e-8
}

/// What can be wrong with a recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read the recipe {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not UTF-8.
    #[error(transparent)]
    Encoding(#[from] DataError),
    /// Not a recipe: syntax, type, missing or unknown field.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What, where, and the nearest known field.
        message: String,
    },
    /// A `--set` that is not `field=value`.
    #[error("--set {0}: expected field=value, for example --set train.lr=1e-4")]
    Set(String),
    /// A value out of its range.
    #[error("{field} = {value} is out of range: {range}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// A quantizer value out of its range.
    #[error("the {modality} quantizer: {source}")]
    Quantizer {
        /// `image` or `text`.
        modality: &'static str,
        /// Which value.
        source: QuantError,
    },
    /// A part of `[tune]` that makes no sense.
    #[error(transparent)]
    Tune(#[from] TuneError),
    /// A value of the gradient's codec out of its range.
    #[error(transparent)]
    Gradient(#[from] GradientError),
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
    /// affair.
    pub fn terms(&self) -> BTreeMap<String, String> {
        let mut fields = self.fields();
        fields.retain(|key, _| {
            let own = ["data.", "metrics."].iter().any(|own| key.starts_with(own));
            (!own || key == "data.max_length") && key != "name"
        });
        fields
    }

    /// What it takes to build a half of the model in `dir` under this recipe.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the field of `config.json` or of the recipe.
    pub fn blueprint(&self, dir: &Path) -> Result<Blueprint, TrainError> {
        let Quantizers { image, text, .. } = &self.quantizer;
        let mut blueprint = Blueprint::read(dir, image.clone(), text.clone(), self.seed)?;
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
        ];
        for (modality, spec) in quantizers {
            spec.check()
                .map_err(|source| RecipeError::Quantizer { modality, source })?;
        }
        self.tune.check()?;
        self.gradient.codec.check()?;
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
