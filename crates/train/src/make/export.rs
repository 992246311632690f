//! Adapters out of a run and into a model: what `merge --adapter` writes and `merge --from-adapter` folds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qtl_model::Device;
use qtl_model::config::Fields;
use qtl_model::parts::{BLOCKS, Parts};
use qtl_model::pretrained::{Blueprint, PretrainedError};
use qtl_model::quant::QuantizerSpec;
use qtl_model::weights::{Checkpoint, NamedTensor, SaveType, save};
use serde_json::json;

use crate::adapter::Adapter;
use crate::error::TrainError;
use crate::merge::{
    Format, Head, Joined, OWN, companions, config, read_json, recipe_in, recipe_of, write,
};
use crate::peft;
use crate::plain::write_language_model;
use crate::recipe::in_one_piece;
use crate::start::{Base, Start, folded_text};
use crate::tune::{Method, Part};
use crate::whole::whole;

/// Where an adapter's base lies beside it, if the run's base is no directory that peft could load.
const BASE: &str = "base_language_model";

/// The language model of a model directory with a folder per part, where that folder is a model of its own.
fn language_model(base: &Path) -> Option<PathBuf> {
    let own = base.join(Part::Llm.folder());
    let whole = own.join("config.json").is_file() && Checkpoint::is_in(&own);
    whole.then(|| own.canonicalize().ok()).flatten()
}

/// Writes what the newest step of a run has trained, and nothing of its base: a folder per part, in TinyLLaVA's layout,
/// that holds a PEFT adapter where the part has branches and whole tensors where it was trained in full. The adapter of the
/// language model names a directory with its base alone, which is written beside it unless the run's base has one. Returns
/// the step.
///
/// # Errors
///
/// [`TrainError`] naming the file, or the part whose training no adapter can hold.
pub fn write_adapter<'a>(
    client: &Path,
    server: &Path,
    base: impl Into<Base<'a>>,
    out: &Path,
) -> Result<u64, TrainError> {
    let base = base.into();
    let run = Joined::open(client, server, base)?;
    let cure =
        "for an adapter, which belongs to a language model in one piece; merge without --adapter";
    in_one_piece(&run.recipe.split, cure)?;
    let tune = &run.recipe.tune;
    if !matches!(tune.llm.method, Method::Lora(_)) {
        return Err(TrainError::Halves(
            "an adapter holds the branches of the language model, and this run has none (tune.llm.kind is not \"lora\"); \
             merge without --adapter"
                .to_owned(),
        ));
    }
    let mut tensors = Vec::new();
    // What the run took from an adapter and left alone is still not the base's.
    let before = run.adapter.as_ref();
    let stored =
        |name: &str| tune.stores(name) || before.is_some_and(|a| a.is_whole(name, run.tied));
    run.client.visit_tensors(&stored, &mut |t| tensors.push(t));
    run.server.visit_tensors(&stored, &mut |t| tensors.push(t));
    let head = Head::of(run.tied, &run.client, &run.server);
    let base = base.model;
    let mut config = config(base, &run.state, head)?;
    config[OWN]["base"] = json!(run.language_model);
    let named = language_model(base);
    let base_name = match &named {
        Some(dir) => dir.clone(),
        None => std::path::absolute(out)
            .map_err(|e| TrainError::io(out, e))?
            .join(BASE),
    };
    whole(out, &|beside| {
        if named.is_none() {
            let start = Start {
                blueprint: run.recipe.blueprint(base)?,
                adapter: None,
            };
            let format = Format {
                kind: None,
                shard: Format::SHARD,
            };
            write_language_model(&start, &beside.join(BASE), format)?;
        }
        for part in [
            Part::VisionTower,
            Part::Connector,
            Part::Quantizer,
            Part::Llm,
        ] {
            let own: Vec<NamedTensor> = tensors
                .iter()
                .filter(|t| Part::of(&t.name).folder() == part.folder())
                .cloned()
                .collect();
            if own.is_empty() {
                continue;
            }
            let dir = beside.join(part.folder());
            match &tune.part(part).method {
                Method::Lora(branches) => {
                    peft::write(
                        &dir,
                        part,
                        &branches.spec(),
                        &own,
                        &match part {
                            Part::Llm => base_name.display().to_string(),
                            _ => base.display().to_string(),
                        },
                    )?;
                }
                _ => {
                    std::fs::create_dir_all(&dir).map_err(|e| TrainError::io(&dir, e))?;
                    save(&dir.join("model.safetensors"), &own, SaveType::F32)
                        .map_err(PretrainedError::from)?;
                }
            }
        }
        companions(base, beside, &config)
    })?;
    Ok(run.state.step)
}

/// Folds an adapter, as PEFT or [`write_adapter`] writes it, into the model directory `base`, and writes the whole model to
/// `out`. Returns how many branches were folded. `adapter` is a folder with `adapter_config.json` (of the language model), or
/// one with folders per part.
///
/// # Errors
///
/// [`TrainError`] naming the file and the tensors that do not fit.
pub fn fold_adapter(
    base: &Path,
    adapter: &Path,
    out: &Path,
    format: impl Into<Format>,
) -> Result<usize, TrainError> {
    let format = format.into();
    let fields = Fields::read(base)?;
    let base = Base {
        model: base,
        adapter: Some(adapter),
    };
    if fields.get("text_config").is_none() {
        return fold_text(base, out, format);
    }
    let adapter = Arc::new(Adapter::open(adapter)?);
    let file = base.model.join("config.json");
    let recipe = match adapter.config() {
        Some(config) => Some(recipe_in(config, &file)?),
        None => recipe_of(base.model).ok(),
    };
    let start = Start {
        blueprint: {
            let none = QuantizerSpec::NONE;
            let model = base.resolved()?.model;
            match recipe {
                Some(recipe) => recipe.blueprint(model)?,
                None => Blueprint::read(model, none.clone(), none, 0)?,
            }
        },
        adapter: Some(Arc::clone(&adapter)),
    };
    let device = Device::flex();
    let (client, server) = (start.client(&device)?, start.server(&device)?);
    let head = Head::of(start.blueprint.config.text.tied_head, &client, &server);
    let wanted = |name: &str| head.is_written(name);
    let unheld = start.blueprint.unheld(&device)?;
    let tensors = client
        .chosen(&wanted)
        .chain(unheld.as_slice().into())
        .chain(server.chosen(&wanted));
    let mut config = match adapter.config() {
        Some(config) => config.clone(),
        None => read_json(&file)?,
    };
    head.note(&mut config);
    let kinds = format.kinds(start.blueprint.stored(&device)?);
    write(base.model, out, &tensors, config, &kinds, format.shard)?;
    Ok(adapter.count())
}

/// Folds an adapter into a language model that stands alone, and writes it under its own names.
fn fold_text(base: Base<'_>, out: &Path, format: Format) -> Result<usize, TrainError> {
    let (model, count) = folded_text(base, &Device::flex())?;
    let mut config = read_json(&base.model.join("config.json"))?;
    let head = Head::of(model.spec().tied_head, &model, &model);
    head.note(&mut config);
    let wanted = |name: &str| head.is_written(&format!("{}{name}", BLOCKS.prefix));
    let stored = model.stored(base.model).map_err(TrainError::from)?;
    let own = |name: &str| name.strip_prefix(BLOCKS.prefix).map(str::to_owned);
    let stored = stored
        .into_iter()
        .filter_map(|(name, dtype)| Some((own(&name)?, dtype)));
    let kinds = format.kinds(stored.collect());
    let tensors = model.own(&wanted);
    write(base.model, out, &tensors, config, &kinds, format.shard)?;
    Ok(count)
}
