//! Adapters out of a run and into a model: what `merge --adapter` writes and `merge --from-adapter` folds.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use qtl_model::Device;
use qtl_model::pretrained::{Blueprint, PretrainedError};
use qtl_model::tuning::{Matrix, Storage, Treatment};
use qtl_model::weights::{NamedTensor, SaveType, save};

use crate::error::TrainError;
use crate::merge::{Format, Head, Joined, companions, config, read_json, whole, write};
use crate::peft::{self, Adapter, AdapterError};
use crate::tune::{Method, Part, is_branch};

/// Writes what the newest step of a run has trained, and nothing of its base: a folder per part, in TinyLLaVA's layout,
/// that holds a PEFT adapter where the part has branches and whole tensors where it was trained in full. Returns the step.
///
/// # Errors
///
/// [`TrainError`] naming the file, or the part whose training no adapter can hold.
pub fn write_adapter(
    client: &Path,
    server: &Path,
    base: &Path,
    out: &Path,
) -> Result<u64, TrainError> {
    let run = Joined::open(client, server, base)?;
    let tune = &run.recipe.tune;
    if !matches!(tune.llm.method, Method::Lora(_)) {
        return Err(TrainError::Halves(
            "an adapter holds the branches of the language model, and this run has none (tune.llm.kind is not \"lora\"); \
             merge without --adapter"
                .to_owned(),
        ));
    }
    let mut tensors = Vec::new();
    let stored = |name: &str| tune.stores(name);
    run.client.visit_tensors(&stored, &mut |t| tensors.push(t));
    run.server.visit_tensors(&stored, &mut |t| tensors.push(t));
    let head = Head::of(run.tied, &run.client, &run.server);
    let config = config(base, &run.state, head)?;
    whole(out, &|beside| {
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
                        &base.display().to_string(),
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

/// Folds an adapter of the language model, as PEFT or [`write_adapter`] writes it, into the model directory `base`, and
/// writes the whole model to `out`. Returns how many branches were folded. `adapter` is the folder with
/// `adapter_config.json`, or one with `language_model/` in it.
///
/// # Errors
///
/// [`TrainError`] naming the file and the tensor that does not fit.
pub fn fold_adapter(
    base: &Path,
    adapter: &Path,
    out: &Path,
    format: impl Into<Format>,
) -> Result<usize, TrainError> {
    let inner = adapter.join(Part::Llm.folder());
    let dir = if inner.is_dir() {
        inner
    } else {
        adapter.to_owned()
    };
    let loaded = peft::read(&dir, Part::Llm)?;
    let recipe = crate::merge::recipe_of(base).ok();
    let quantizer = recipe.map(|r| r.quantizer).unwrap_or_default();
    let blueprint = Blueprint::read(base, quantizer.image, quantizer.text, 0)?;
    let device = Device::default();
    let mut client = blueprint.client(&device)?.partition;
    let server = blueprint.server(&device)?.partition;
    let mut server = server.adapt(0, &|name, kind| Treatment {
        storage: Storage::F32,
        lora: (kind == Matrix::Linear && loaded.has(name)).then(|| loaded.lora.clone()),
    });
    let mut fill = Fill::new(&loaded, &device);
    client = client.replace(&mut |name, old| fill.value(name, &old));
    server = server.replace(&mut |name, old| fill.value(name, &old));
    let folded = fill.end(&dir)?;
    let server = server.folded();
    let head = Head::of(blueprint.config.text.tied_head, &client, &server);
    let wanted = |name: &str| head.is_written(name);
    let unheld = blueprint.unheld(&device)?;
    let tensors = client
        .chosen(&wanted)
        .chain(unheld.as_slice().into())
        .chain(server.chosen(&wanted));
    let mut config = read_json(&base.join("config.json"))?;
    head.note(&mut config);
    write(base, out, &tensors, config, format.into())?;
    Ok(folded)
}

/// Puts an adapter's tensors in their places and keeps account of those that found none.
struct Fill<'a> {
    adapter: &'a Adapter,
    device: &'a Device,
    placed: Vec<&'a str>,
    wrong: Option<String>,
}

impl<'a> Fill<'a> {
    fn new(adapter: &'a Adapter, device: &'a Device) -> Self {
        Self {
            adapter,
            device,
            placed: Vec::new(),
            wrong: None,
        }
    }

    fn value(&mut self, name: &str, old: &Tensor<1>) -> Option<Tensor<1>> {
        let tensor = self.adapter.tensors.iter().find(|t| t.name == name)?;
        let (got, want) = (tensor.data.len(), old.dims()[0]);
        if got != want {
            let wrong = format!("{name} has {got} values, the model wants {want}");
            self.wrong.get_or_insert(wrong);
            return None;
        }
        self.placed.push(&tensor.name);
        Some(Tensor::from_data(
            TensorData::from(tensor.data.as_slice()),
            self.device,
        ))
    }

    fn end(self, dir: &Path) -> Result<usize, TrainError> {
        let mut names = self.adapter.tensors.iter().map(|t| t.name.as_str());
        let stray = names.find(|name| !self.placed.contains(name));
        let message = match (self.wrong, stray) {
            (Some(wrong), _) => wrong,
            (None, Some(name)) => format!("{name} belongs to no part of it"),
            (None, None) => {
                return Ok(self.placed.iter().filter(|name| is_branch(name)).count() / 2);
            }
        };
        Err(AdapterError::Fit {
            path: dir.to_owned(),
            message,
        }
        .into())
    }
}
