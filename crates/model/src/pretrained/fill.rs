//! Filling a half of the model by its own names: from a checkpoint of that half, and the quantizers' projections from
//! wherever a model keeps them.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};

use super::PretrainedError;
use crate::partition::{ClientPartition, ServerPartition};
use crate::parts::{Parts, QUANTIZER_HIDDEN, QUANTIZER_IMAGE, QUANTIZER_TEXT};
use crate::weights::{Checkpoint, CheckpointError, Mismatch, Parameter};

/// A half with quantizers.
pub(super) trait Quantized: Parts {
    /// Whether the quantizer of this name scales by what was recorded, and not by the batch.
    fn scales_by_record(&self, quantizer: &str) -> bool;
}

impl Quantized for ClientPartition {
    fn scales_by_record(&self, quantizer: &str) -> bool {
        match quantizer {
            _ if quantizer == QUANTIZER_IMAGE.prefix => self.uplink.image.is_rowwise(),
            _ => self.uplink.text.is_rowwise(),
        }
    }
}

impl Quantized for ServerPartition {
    /// It sends one kind of rows only, if any.
    fn scales_by_record(&self, quantizer: &str) -> bool {
        // What a receiving half has recorded is what its symbols stand for.
        quantizer != QUANTIZER_HIDDEN.prefix
            || self.downlink().is_some_and(|edge| edge.hidden.is_rowwise())
    }
}

/// Fills a half from a run's checkpoint: the parameters whose names are `stored`, all of them.
///
/// # Errors
///
/// [`PretrainedError::Load`] listing what is missing or has another shape.
pub fn restore<H: Parts>(
    half: H,
    place: &Path,
    stored: &dyn Fn(&str) -> bool,
) -> Result<H, PretrainedError> {
    let file = Checkpoint::open(place)?;
    let mut wrong = Mismatch::default();
    let mut sources = BTreeMap::new();
    for parameter in half.parameters() {
        if !stored(&parameter.name) {
            continue;
        }
        wrong.compare(&file, &parameter.name, &parameter.shape)?;
        sources.insert(parameter.name.clone(), parameter.name);
    }
    wrong.end(&file)?;
    read(half, &file, &sources)
}

/// Fills these quantizers of a half, given by their prefixes, from the file that has them. A quantizer of which the file has nothing stays as it
/// is. Returns whether all were found.
///
/// # Errors
///
/// [`PretrainedError::Load`] if the file has a quantizer but not all of it, or of another shape.
pub(super) fn quantizers<H: Quantized>(
    half: H,
    file: &Checkpoint,
    prefixes: &[&'static str],
) -> Result<(H, bool), PretrainedError> {
    let parameters = half.parameters();
    let mut wrong = Mismatch::default();
    let mut sources = BTreeMap::new();
    let mut all = true;
    for quantizer in prefixes.iter().copied() {
        let own: Vec<&Parameter> = parameters
            .iter()
            .filter(|p| p.name.starts_with(quantizer))
            .collect();
        // Recorded statistics are ours. A file of the reference has none, and with `batch` statistics loses nothing by it;
        // to scale by anything else than what was recorded would give other symbols without a word.
        let (recorded, learned): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|p| p.name.contains("running_"));
        if learned.is_empty() {
            continue;
        }
        if !learned.iter().any(|p| spelled(file, &p.name).is_some()) {
            all = false;
            continue;
        }
        for parameter in &learned {
            let source = spelled(file, &parameter.name).unwrap_or_else(|| parameter.name.clone());
            wrong.compare(file, &source, &parameter.shape)?;
            sources.insert(parameter.name.clone(), source);
        }
        for parameter in &recorded {
            if let Some(source) = spelled(file, &parameter.name) {
                wrong.compare(file, &source, &parameter.shape)?;
                sources.insert(parameter.name.clone(), source);
            } else if half.scales_by_record(quantizer) {
                return Err(PretrainedError::Unrecorded {
                    place: file.place().display().to_string(),
                    quantizer,
                    missing: parameter.name.clone(),
                });
            }
        }
    }
    wrong.end(file)?;
    Ok((read(half, file, &sources)?, all))
}

/// Whether the file has something of every quantizer of a half that has anything to learn.
pub(super) fn has_quantizers(parameters: &[Parameter], file: &Checkpoint) -> bool {
    let all = [QUANTIZER_IMAGE, QUANTIZER_TEXT, QUANTIZER_HIDDEN];
    all.iter().all(|quantizer| {
        let learned =
            |p: &&Parameter| p.name.starts_with(quantizer.prefix) && !p.name.contains("running_");
        let mut own = parameters.iter().filter(learned).peekable();
        own.peek().is_none() || own.any(|p| spelled(file, &p.name).is_some())
    })
}

/// How the file spells a quantizer's parameter: below `VQ.` or not, and with the input projection in a Sequential, as
/// the reference's single-process model keeps it, or not. Statistics were recorded beside the projection once.
fn spelled(file: &Checkpoint, name: &str) -> Option<String> {
    let bare = name.strip_prefix("VQ.").unwrap_or(name);
    [name, bare]
        .into_iter()
        .flat_map(|name| {
            [
                name.to_owned(),
                name.replace("in_proj.", "in_proj.0."),
                name.replace("scaling.running_", "running_"),
            ]
        })
        .find(|name| file.contains(name))
}

/// Reads `sources[name]` into each parameter that has one; names and shapes are already compared.
fn read<H: Parts>(
    half: H,
    file: &Checkpoint,
    sources: &BTreeMap<String, String>,
) -> Result<H, PretrainedError> {
    let device = half.device();
    let mut failed: Option<CheckpointError> = None;
    let half = half.replace(&mut |name, _| {
        let source = sources.get(name)?;
        if failed.is_some() {
            return None;
        }
        match file.read(source) {
            Ok(values) => {
                let count = values.len();
                Some(Tensor::from_data(TensorData::new(values, [count]), &device))
            }
            Err(error) => {
                failed = Some(error);
                None
            }
        }
    });
    match failed {
        None => Ok(half),
        Some(error) => Err(error.into()),
    }
}
