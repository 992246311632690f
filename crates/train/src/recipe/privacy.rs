//! `[privacy]`: what the client adds to the rows that it sends. Its own affair: the server need not know, and is not told.

use qtl_model::edge::nopeek::FEWEST;
use qtl_model::edge::{Added, TextRows};
use qtl_model::padding::Padding;
use qtl_model::quant::{QuantizerSpec, Statistics};
use serde::{Deserialize, Serialize};

use super::{Quantizers, Recipe, RecipeError};

/// The recipe's `[privacy]` section.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrivacySpec {
    /// Rows longer than this are made as long before noise is added; 0 for none.
    pub clip: f32,
    /// Deviation of normal noise on every number of a row, in units of `clip`; 0 for none.
    pub noise: f32,
    /// Adds to every bounded number a uniform draw as wide as a step between two levels before it is rounded.
    pub dither: bool,
    /// Where the labels are the client's: deviation of normal noise on the gradient of the hidden states, in units of the root of
    /// its own mean square; 0 for none.
    pub gradient_noise: f32,
    /// Weight in the client's loss of the distance correlation of image rows with their pictures; 0 for none.
    pub nopeek: f32,
    /// Weight in the client's loss of the share of the pictures that an inverse network reads off image rows, which is trained
    /// along; 0 for none.
    pub adversary: f32,
    /// How far texts are padded, so that the layout does not tell their lengths; left out for not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub padding: Option<Padding>,
}

impl PrivacySpec {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether anything is added to rows.
    pub fn adds(&self) -> bool {
        self.noise > 0.0 || self.clip > 0.0 || self.dither
    }

    /// Whether anything is drawn, for which there is a secret.
    pub fn draws(&self) -> bool {
        self.adds() || self.gradient_noise > 0.0 || self.adversary > 0.0
    }

    /// The same as a sender takes it.
    pub fn added(&self, quantizers: &Quantizers) -> Added {
        let step = |spec: &QuantizerSpec| match (self.dither, levels(spec)) {
            (true, Some(levels)) => 2.0 / (levels.max(2) - 1) as f32,
            _ => 0.0,
        };
        Added {
            clip: self.clip,
            noise: self.noise * self.clip,
            dither: [step(&quantizers.image), step(&quantizers.text)],
            gradient: self.gradient_noise,
        }
    }

    /// Deviation of the noise over the most that replacing one sample can change: all of its so many rows, each from one end of
    /// what clipping leaves to the other. None without noise.
    pub fn multiplier(&self, rows: usize) -> Option<f64> {
        let most = 2.0 * (rows as f64).sqrt();
        (self.noise > 0.0).then(|| f64::from(self.noise) / most)
    }

    /// Checks the values that a file may get wrong.
    pub(super) fn check(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let quantizers = &recipe.quantizer;
        let range = |field, value: String, range| {
            Err(RecipeError::Range {
                field,
                value,
                range,
            })
        };
        for (field, value) in [
            ("privacy.clip", self.clip),
            ("privacy.noise", self.noise),
            ("privacy.gradient_noise", self.gradient_noise),
            ("privacy.nopeek", self.nopeek),
            ("privacy.adversary", self.adversary),
        ] {
            if !(0.0..=1e6).contains(&value) {
                return range(field, value.to_string(), "0 to 1e6");
            }
        }
        if self.noise > 0.0 && self.clip == 0.0 {
            let cure = "above 0 where there is privacy.noise: without it a row of any length would shine through";
            return range("privacy.clip", self.clip.to_string(), cure);
        }
        if self.gradient_noise > 0.0 && !recipe.split.top_at_client() {
            let cure = "0 unless split.labels = \"client\": no gradient goes to the server where it has the labels";
            return range(
                "privacy.gradient_noise",
                self.gradient_noise.to_string(),
                cure,
            );
        }
        for (field, weight, fewest) in [
            ("privacy.nopeek", self.nopeek, FEWEST),
            ("privacy.adversary", self.adversary, 1),
        ] {
            let cure = if weight == 0.0 {
                None
            } else if recipe.train.batch < fewest {
                Some("0 for a train.batch of fewer than 4 pictures, whose correlation says nothing")
            } else if recipe.split.bottom_blocks > 0 {
                Some("0 with split.bottom_blocks: the penalty is on rows in front of blocks")
            } else if recipe.data.cache_features.is_some() {
                Some(
                    "0 with data.cache_features: the penalty needs the pictures themselves in every step",
                )
            } else {
                None
            };
            if let Some(cure) = cure {
                return range(field, weight.to_string(), cure);
            }
        }
        if let Some(padding) = self.padding {
            padded(padding, recipe)?;
        }
        if self.adds() && quantizers.text_rows != TextRows::All {
            let cure = "\"all\" with [privacy]: text rows of one token are not equal any more";
            return range("quantizer.text_rows", "\"distinct\"".to_owned(), cure);
        }
        let spaced = [&quantizers.image, &quantizers.text].map(levels);
        if self.dither && spaced.contains(&None) {
            let cure = "false unless both quantizers are fsq, fsq_tanh or adsq, whose levels are equally far apart";
            return range("privacy.dither", "true".to_owned(), cure);
        }
        Ok(())
    }
}

/// Checks that padding changes nothing but lengths.
fn padded(padding: Padding, recipe: &Recipe) -> Result<(), RecipeError> {
    let quantizers = &recipe.quantizer;
    if let Padding::Multiple(rows) = padding
        && !(2..=recipe.data.max_length).contains(&rows)
    {
        return Err(RecipeError::Range {
            field: "privacy.padding",
            value: rows.to_string(),
            range: "2 to data.max_length, or \"longest\"",
        });
    }
    let text = &quantizers.text;
    let looks_around = match text {
        QuantizerSpec::Splitfc(_) | QuantizerSpec::Fedbat(_) | QuantizerSpec::RandTopk(_) => true,
        QuantizerSpec::Fsq(fsq) => fsq.statistics == Statistics::Batch,
        QuantizerSpec::Ecsq(ecsq) => ecsq.statistics == Statistics::Batch,
        QuantizerSpec::Adsq(adsq) => adsq.0.statistics == Statistics::Batch,
        _ => false,
    };
    let hidden = &quantizers.hidden;
    let plain = matches!(hidden, QuantizerSpec::None(_) | QuantizerSpec::Exact(_));
    let (field, value, only, what) = if looks_around {
        (
            "quantizer.text",
            text.to_string(),
            "one that codes each row alone",
            "with privacy.padding: the code of a text must not depend on what pads it",
        )
    } else if recipe.split.top_blocks > 0 && !plain {
        (
            "quantizer.hidden",
            hidden.to_string(),
            "none or exact",
            "with privacy.padding and split.top_blocks: hidden states of padding come back too, and must change no range",
        )
    } else {
        return Ok(());
    };
    Err(RecipeError::Placement {
        field,
        value,
        only,
        what,
    })
}

/// How many equally spaced levels a quantizer has.
fn levels(spec: &QuantizerSpec) -> Option<u32> {
    match spec {
        QuantizerSpec::Fsq(fsq) => Some(fsq.levels),
        QuantizerSpec::FsqTanh(fsq) => Some(fsq.levels),
        QuantizerSpec::Adsq(adsq) => Some(adsq.0.levels),
        _ => None,
    }
}
