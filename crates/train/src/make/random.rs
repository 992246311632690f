//! A whole model with random weights.

use std::path::Path;

use qtl_model::Device;
use qtl_model::parts::Parts;
use qtl_model::pretrained::Blueprint;
use qtl_model::quant::QuantizerSpec;
use qtl_model::weights::SaveType;

use crate::error::TrainError;
use crate::merge;

/// Writes the model that the `config.json` in `dir` describes, with the weights that training from nothing starts with, and
/// the tokenizer and picture processor that lie beside it. Returns its number of parameters.
///
/// # Errors
///
/// [`TrainError`] naming the file or the configuration's field.
pub fn random_model(dir: &Path, out: &Path, seed: u64, kind: SaveType) -> Result<u64, TrainError> {
    let none = QuantizerSpec::NONE;
    let blueprint = Blueprint {
        fresh: true,
        ..Blueprint::read(dir, none.clone(), none, seed)?
    };
    let device = Device::flex();
    let client = blueprint.client(&device)?.partition;
    let server = blueprint.server(&device)?.partition;
    // A tied head is in the file once, as the token embedding.
    let tied = blueprint.config.text.tied_head;
    let wanted = |name: &str| !(tied && name.contains("lm_head"));
    let unheld = blueprint.unheld(&device)?;
    let tensors = client
        .chosen(&wanted)
        .chain(unheld.as_slice().into())
        .chain(server.chosen(&wanted));
    merge::write_model(dir, out, &tensors, kind)?;
    Ok(tensors.parameters())
}
