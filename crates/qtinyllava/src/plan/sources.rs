//! Where calibration features come from.

use std::path::Path;

use anyhow::{Result, bail};
use qtl_codec::Grid;
use qtl_model::Device;
use qtl_model::weights::Checkpoint;
use qtl_train::Recipe;
use qtl_train::features::{FeatureRows, of_data};

use super::Modality;
use crate::commands;
use crate::progress::Progress;

/// Features of both modalities that a model makes of a data set.
pub fn from_data(
    model: &Path,
    recipe: &Recipe,
    (data, images): (&Path, Option<&Path>),
    batches: usize,
    device: &Device,
) -> Result<Vec<(Modality, FeatureRows)>> {
    let blueprint = commands::blueprint(model, recipe)?;
    let images = images.map_or_else(|| commands::train::beside(data), Path::to_owned);
    let source = commands::reader(recipe, &blueprint, data, &images)?;
    commands::check::before(recipe, &source)?;
    let client = blueprint.client(device)?.partition;
    let mut bar = Progress::new("features", batches as u64);
    let (image, text) = of_data(&client, recipe, source, batches, device, &mut |done| {
        bar.at(done as u64, "batches");
    })?;
    let mut found = Vec::new();
    found.extend(image.map(|features| (Modality::Image, features)));
    if text.rows > 0 {
        found.push((Modality::Text, text));
    }
    Ok(found)
}

/// Features from a tensor of a safetensors file.
pub fn from_file(file: &Path, tensor: Option<&str>, grid: Option<Grid>) -> Result<FeatureRows> {
    let checkpoint = Checkpoint::open(file)?;
    let names: Vec<&str> = checkpoint.names().collect();
    let name = match (tensor, &names[..]) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, _) => bail!(
            "{} holds {} tensors ({}); name one with --tensor",
            file.display(),
            names.len(),
            names.iter().take(8).copied().collect::<Vec<_>>().join(", ")
        ),
    };
    let values = checkpoint.read(name)?;
    let shape = &checkpoint.entry(name)?.shape[..];
    let (tokens, cols) = match *shape {
        [_, cols] => (0, cols),
        [_, tokens, cols] => (tokens, cols),
        _ => bail!(
            "{}: {name} has the shape {shape:?}; features are [tokens, channels] or [pictures, tokens, channels]",
            file.display()
        ),
    };
    if values.is_empty() {
        bail!("{}: {name} is empty", file.display());
    }
    Ok(FeatureRows {
        rows: values.len() / cols,
        cols,
        grid: grid.or_else(|| square(tokens)),
        values,
    })
}

/// `HxW`.
pub fn grid(text: &str) -> Result<Grid> {
    let numbers: Option<(usize, usize)> = text
        .split_once('x')
        .and_then(|(h, w)| Some((h.parse().ok()?, w.parse().ok()?)));
    match numbers {
        Some((height @ 1..=4096, width @ 1..=4096)) => Ok(Grid {
            tokens: height * width,
            width,
            first: 0,
        }),
        _ => bail!("--grid {text}: expected lines x columns, for example 27x27"),
    }
}

/// Towers without other tokens lay pictures out in squares.
fn square(tokens: usize) -> Option<Grid> {
    let width = tokens.isqrt();
    (tokens > 1 && width * width == tokens).then_some(Grid {
        tokens,
        width,
        first: 0,
    })
}
