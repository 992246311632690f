//! The sections of a recipe but for `[split]`, which is the model's own, `[train]` and `[tune]`.

use std::path::PathBuf;

use qtl_data::{PictureRules, Strictness, Turns};
use qtl_model::edge::TextRows;
use qtl_model::partition::Text;
use qtl_model::quant::QuantizerSpec;
use qtl_model::quant::gradient::GradientCodec;
use qtl_model::vision::Strategy;
use serde::{Deserialize, Serialize};

use super::{Recipe, RecipeError};

/// One quantizer per modality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quantizers {
    /// For image tokens.
    pub image: QuantizerSpec,
    /// For text tokens.
    pub text: QuantizerSpec,
    /// For the hidden states that come back where `split.labels = "client"`.
    #[serde(skip_serializing_if = "is_none")]
    pub hidden: QuantizerSpec,
    /// `distinct`: text rows of one token cross once where that is smaller; `all`: every row crosses.
    pub text_rows: TextRows,
    /// Whether a text row is coded against the last one that was sent for its token. The server sees then which tokens are the same
    /// over the whole run, not in one message alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub text_deltas: bool,
    /// Batches of the calibration pass before the first step of a fresh run; 0 leaves the fresh projections
    /// as they are.
    pub calibration_batches: usize,
}

impl Default for Quantizers {
    fn default() -> Self {
        Self {
            image: QuantizerSpec::NONE,
            text: QuantizerSpec::NONE,
            hidden: QuantizerSpec::NONE,
            text_rows: TextRows::Distinct,
            text_deltas: false,
            calibration_batches: 16,
        }
    }
}

fn is_none(spec: &QuantizerSpec) -> bool {
    *spec == QuantizerSpec::NONE
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
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The recipe's `[messages]` section: how what a step sends is written. Nothing of what is computed depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MessagesSpec {
    /// How the layout of a step's rows crosses.
    pub layout: LayoutSpec,
}

/// How a layout crosses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayoutSpec {
    /// As a list of numbers, as all releases read it.
    #[default]
    List,
    /// In fewer bytes.
    Packed,
}

impl MessagesSpec {
    /// Whether layouts cross in fewer bytes.
    pub fn packs_layouts(&self) -> bool {
        self.layout == LayoutSpec::Packed
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The gradients that travel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GradientSpec {
    /// Its precision.
    pub codec: GradientCodec,
    /// The same of the gradient of the hidden states, where `split.labels = "client"`.
    #[serde(skip_serializing_if = "is_default")]
    pub hidden: GradientCodec,
}

fn is_default(codec: &GradientCodec) -> bool {
    *codec == GradientCodec::default()
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
    /// Folder in which the features are kept that a tower that does not learn makes of pictures, so that it looks at each once.
    /// They tell about the pictures nearly what these do; the files are not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_features: Option<PathBuf>,
    /// How much that folder may hold per tower, in millions of bytes.
    #[serde(default = "ten_thousand", skip_serializing_if = "is_ten_thousand")]
    pub cache_megabytes: u64,
}

fn ten_thousand() -> u64 {
    10_000
}

fn is_ten_thousand(megabytes: &u64) -> bool {
    *megabytes == ten_thousand()
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

/// The recipe's `[metrics]` section: what is measured beside the training. The client's own affair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSpec {
    /// In every how many of this side's micro-batches the same tensors are also encoded as 16-bit features, 32-bit gradients and without
    /// entropy coding, to compare sizes; 0 for never.
    pub compare_every: u64,
}

impl MetricsSpec {
    /// Whether that is done in this side's micro-batch number `own`, from 0.
    pub fn compares(&self, own: u64) -> bool {
        self.compare_every > 0 && own.is_multiple_of(self.compare_every)
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Checks what `quantizer.text_deltas` needs: text rows that are functions of their tokens, and cross once.
///
/// # Errors
///
/// [`RecipeError`] naming the field.
pub(super) fn deltas(recipe: &Recipe) -> Result<(), RecipeError> {
    if !recipe.quantizer.text_deltas {
        return Ok(());
    }
    const WHAT: &str =
        "where quantizer.text_deltas = true: a row is coded against the last one of its token";
    let (split, text) = (&recipe.split, &recipe.quantizer.text);
    let alone = !matches!(
        text,
        QuantizerSpec::Topk(_)
            | QuantizerSpec::RandTopk(_)
            | QuantizerSpec::Splitfc(_)
            | QuantizerSpec::Fedbat(_)
    );
    let rules = [
        (
            "split.bottom_blocks",
            split.bottom_blocks.to_string(),
            "0",
            split.bottom_blocks == 0,
        ),
        (
            "split.text",
            "\"ids\"".to_owned(),
            "\"rows\"",
            split.text == Text::Rows,
        ),
        (
            "quantizer.text_rows",
            "\"all\"".to_owned(),
            "\"distinct\"",
            recipe.quantizer.text_rows == TextRows::Distinct,
        ),
        (
            "quantizer.text",
            text.to_string(),
            "quantizers that code each row by itself",
            alone,
        ),
    ];
    match rules.into_iter().find(|rule| !rule.3) {
        Some((field, value, only, _)) => Err(RecipeError::Placement {
            field,
            value,
            only,
            what: WHAT,
        }),
        None => Ok(()),
    }
}

/// Checks that quantizers which start from more than ranges get to see features, and tell nobody what noise is to hide.
///
/// # Errors
///
/// [`RecipeError`] naming the field.
pub(super) fn started(recipe: &Recipe) -> Result<(), RecipeError> {
    let Quantizers {
        image,
        text,
        hidden,
        calibration_batches,
        ..
    } = &recipe.quantizer;
    let cut = [("quantizer.image", image), ("quantizer.text", text)];
    let all = [&cut[..], &[("quantizer.hidden", hidden)]].concat();
    let rules = [
        (
            *calibration_batches > 0,
            &all[..],
            "go with quantizer.calibration_batches = 0; let some batches be seen",
        ),
        (
            recipe.sites.is_none() || !recipe.privacy.adds(),
            &cut[..],
            "go with [sites] and [privacy]: the codes of rows that were seen are pooled, and they have no noise",
        ),
    ];
    let wrong = rules.into_iter().filter(|(right, ..)| !right);
    let mut wrong = wrong.flat_map(|(_, fields, what)| fields.iter().map(move |of| (of, what)));
    match wrong.find(|((_, spec), _)| !spec.starts_from_ranges()) {
        None => Ok(()),
        Some(((field, spec), what)) => Err(RecipeError::Placement {
            field,
            value: spec.to_string(),
            only: "quantizers that start from means and deviations",
            what,
        }),
    }
}
