//! The rotary embedding in the spellings of transformers 4 and 5.

use super::{ConfigError, Fields};
use crate::nn::{RopeScaling, RopeSpec};

/// The stretchings that are supported, by `rope_type`.
const TYPES: &str = "\"default\", \"linear\", \"dynamic\" or \"llama3\"";

impl Fields {
    /// The rotary embedding of heads of `head_dim` features in a model trained on `trained` positions; `base` is
    /// the field that holds the base, `partial` the family's default for the part of a head that is rotated.
    ///
    /// transformers 5 gathers in `rope_parameters` what transformers 4 spreads over `rope_theta`, `rope_scaling` and
    /// `partial_rotary_factor`.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if a value makes no sense, or the stretching is not one of those we know.
    pub fn rope(
        &self,
        base: &str,
        head_dim: usize,
        trained: usize,
        partial: f64,
    ) -> Result<RopeSpec, ConfigError> {
        let (gathered, scaling) = if self.get("rope_parameters").is_some() {
            let gathered = self.child("rope_parameters")?;
            (gathered.clone(), Some(gathered))
        } else if self.get("rope_scaling").is_some() {
            (self.clone(), Some(self.child("rope_scaling")?))
        } else {
            (self.clone(), None)
        };
        // Every family's class default is the same.
        let theta = self.positive(base, 10000.0)?;
        let theta = gathered.positive("rope_theta", theta)?;
        let partial = self.number("partial_rotary_factor", partial)?;
        let partial = gathered.number("partial_rotary_factor", partial)?;
        // Truncated, as the reference does.
        let rotated = (partial * head_dim as f64) as usize;
        if rotated == 0 || rotated > head_dim || !rotated.is_multiple_of(2) {
            return Err(self.wrong(
                "partial_rotary_factor",
                partial,
                &format!(
                    "such that an even number of the {head_dim} dimensions of a head is rotated"
                ),
            ));
        }
        Ok(RopeSpec {
            theta,
            head_dim,
            rotated,
            scaling: scaling
                .map_or(Ok(RopeScaling::Default), |fields| stretch(&fields, trained))?,
        })
    }

    fn positive(&self, name: &str, default: f64) -> Result<f64, ConfigError> {
        let value = self.number(name, default)?;
        if value > 0.0 {
            Ok(value)
        } else {
            Err(self.wrong(name, value, "greater than 0"))
        }
    }
}

fn stretch(fields: &Fields, trained: usize) -> Result<RopeScaling, ConfigError> {
    // Before 4.45 the key was "type".
    let key = ["rope_type", "type"]
        .into_iter()
        .find(|key| fields.get(key).is_some());
    let Some(key) = key else {
        return Ok(RopeScaling::Default);
    };
    let kind = fields.text(key, "")?;
    if kind == "default" {
        return Ok(RopeScaling::Default);
    }
    let number = |name: &str| {
        fields.required(name, &format!("rope type {kind:?} needs it"))?;
        fields.positive(name, 1.0)
    };
    let factor = || {
        let factor = number("factor")?;
        if factor >= 1.0 {
            Ok(factor)
        } else {
            Err(fields.wrong("factor", factor, "at least 1"))
        }
    };
    let original = || fields.size("original_max_position_embeddings", trained);
    match kind {
        "linear" => Ok(RopeScaling::Linear { factor: factor()? }),
        "dynamic" => Ok(RopeScaling::Dynamic {
            factor: factor()?,
            original: original()?,
        }),
        "llama3" => {
            let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
            if low >= high {
                return Err(fields.wrong("low_freq_factor", low, "below high_freq_factor"));
            }
            Ok(RopeScaling::Llama3 {
                factor: factor()?,
                low,
                high,
                original: original()?,
            })
        }
        _ => Err(fields.wrong(key, kind, TYPES)),
    }
}
