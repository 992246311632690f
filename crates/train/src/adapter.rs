//! An adapter directory: of the language model alone, as PEFT writes it, or a folder per part, as
//! [`write_adapter`](crate::export::write_adapter) does. Its tensors go onto a half of a model, or all are named that do not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use qtl_model::pretrained::{Blueprint, Half, PretrainedError};
use qtl_model::tuning::{LoraSpec, Matrix, Storage, Treatment};
use qtl_model::weights::{Checkpoint, NamedTensor, Parameter};
use serde_json::Value;

use crate::adapt::Fingerprint;
use crate::error::TrainError;
use crate::merge::{OWN, read_json};
use crate::peft::{self, AdapterError};
use crate::tune::{Method, Part, TuneError, TuneSpec, is_branch};

/// The parts of the client's half; of the quantizers either half has something.
pub(crate) const CLIENT: &[Part] = &[Part::VisionTower, Part::Connector, Part::EmbedTokens];
/// The parts of the server's half.
pub(crate) const SERVER: &[Part] = &[Part::Llm];
/// The parts of a language model.
pub(crate) const TEXT: &[Part] = &[Part::Llm, Part::EmbedTokens];

/// What an adapter directory holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    dir: PathBuf,
    /// Rank, scale and dropout of the parts that have branches.
    branches: BTreeMap<Part, LoraSpec>,
    /// Factors, and whole tensors that stand in place of the model's, under the names of a whole model.
    tensors: Vec<NamedTensor>,
    /// The configuration beside the parts, if it is one of ours.
    config: Option<Value>,
}

impl Adapter {
    /// Reads `dir`: a folder with `adapter_config.json` (of the language model), or one with folders per part.
    ///
    /// # Errors
    ///
    /// [`TrainError`] naming the file and the field or tensor.
    pub fn open(dir: &Path) -> Result<Self, TrainError> {
        let mut adapter = Self {
            dir: dir.to_owned(),
            branches: BTreeMap::new(),
            tensors: Vec::new(),
            config: None,
        };
        if peft::is_in(dir) {
            adapter.add(dir, Part::Llm)?;
            return Ok(adapter);
        }
        for part in Part::ALL {
            let folder = dir.join(part.folder());
            if part != Part::EmbedTokens && folder.is_dir() {
                adapter.add(&folder, part)?;
            }
        }
        if adapter.tensors.is_empty() {
            return Err(AdapterError::Config {
                path: dir.to_owned(),
                message: format!(
                    "no adapter: neither adapter_config.json, as PEFT writes it, nor one of the folders {}, as `merge --adapter` \
                     writes them",
                    Blueprint::FOLDERS.join(", ")
                ),
            }
            .into());
        }
        let config = dir.join("config.json");
        if config.is_file() {
            adapter.config = Some(read_json(&config)?).filter(|config| config.get(OWN).is_some());
        }
        Ok(adapter)
    }

    fn add(&mut self, dir: &Path, part: Part) -> Result<(), TrainError> {
        if peft::is_in(dir) {
            let (lora, tensors) = peft::read(dir, part)?;
            self.branches.insert(part, lora);
            self.tensors.extend(tensors);
            return Ok(());
        }
        let file = Checkpoint::open(dir).map_err(PretrainedError::from)?;
        for name in file.names() {
            let read = || {
                let (shape, data) = (file.entry(name)?.shape.clone(), file.read(name)?);
                let name = name.to_owned();
                Ok(NamedTensor { name, shape, data })
            };
            self.tensors
                .push(read().map_err(PretrainedError::Checkpoint)?);
        }
        Ok(())
    }

    /// The configuration of the model that the adapter was trained to, if it is one of ours.
    pub fn config(&self) -> Option<&Value> {
        self.config.as_ref()
    }

    /// A checksum that two machines compare.
    pub fn checksum(&self) -> String {
        let mut sum = Fingerprint::default();
        self.tensors.iter().for_each(|tensor| sum.add(tensor));
        sum.text()
    }

    /// Checks that the language model on the server's side is the one that the adapter was trained on, where it says so.
    pub(crate) fn stands_on(&self, found: &dyn Fn() -> String) -> Result<(), AdapterError> {
        let want = self
            .config
            .as_ref()
            .and_then(|c| c.pointer(&format!("/{OWN}/base")));
        let Some(want) = want.and_then(Value::as_str) else {
            return Ok(());
        };
        let got = found();
        if got == want {
            return Ok(());
        }
        Err(self.unfit(format!(
            "it was trained on another base, whose language model has checksum {want}; that of the one given has {got}"
        )))
    }

    /// Puts the adapter's whole tensors of some parts in their places.
    pub(crate) fn put_whole<H: Half>(&self, half: H, parts: &[Part]) -> Result<H, AdapterError> {
        self.put(half, parts, false)
    }

    /// Puts the adapter's factors of some parts in their places; the half has its branches.
    pub(crate) fn put_branches<H: Half>(&self, half: H, parts: &[Part]) -> Result<H, AdapterError> {
        self.put(half, parts, true)
    }

    fn put<H: Half>(&self, half: H, parts: &[Part], branches: bool) -> Result<H, AdapterError> {
        let parameters = half.parameters();
        let shapes: HashMap<&str, &Parameter> =
            parameters.iter().map(|p| (p.name.as_str(), p)).collect();
        let mine = |tensor: &&NamedTensor| {
            let name = tensor.name.as_str();
            let held = match Part::of(name) {
                // Either half has a part of each.
                Part::Quantizer => shapes.contains_key(name),
                part => parts.contains(&part),
            };
            held && is_branch(name) == branches
        };
        let own: HashMap<&str, &NamedTensor> = self
            .tensors
            .iter()
            .filter(mine)
            .map(|tensor| (tensor.name.as_str(), tensor))
            .collect();
        let (mut surplus, mut misshaped) = (Vec::new(), Vec::new());
        for (name, tensor) in &own {
            match shapes.get(name) {
                None => surplus.push((*name).to_owned()),
                Some(parameter) if parameter.shape != tensor.shape => misshaped.push(format!(
                    "{name}: {:?} in the adapter, {:?} in the model",
                    tensor.shape, parameter.shape
                )),
                Some(_) => {}
            }
        }
        let needed = |name: &str| {
            let part = Part::of(name);
            let adapted = part == Part::Quantizer && self.has_part(part);
            let branched = is_branch(name) && self.branches.contains_key(&part);
            is_branch(name) == branches && (adapted || branched)
        };
        let missing = parameters.iter().map(|p| &p.name);
        let missing = missing.filter(|name| needed(name) && !own.contains_key(name.as_str()));
        self.listed([
            ("missing in the adapter", missing.cloned().collect()),
            ("in the adapter, but not in the model", surplus),
            ("other shape", misshaped),
        ])?;
        let device = half.device();
        Ok(half.replace(&mut |name, _| {
            let values = own.get(name)?.data.as_slice();
            Some(Tensor::from_data(TensorData::from(values), &device))
        }))
    }

    /// Whether the adapter has tensors of this part.
    pub(crate) fn has_part(&self, part: Part) -> bool {
        self.tensors.iter().any(|t| Part::of(&t.name) == part)
    }

    /// Names of its whole tensors.
    pub(crate) fn is_whole(&self, name: &str) -> bool {
        !is_branch(name) && self.tensors.iter().any(|tensor| tensor.name == name)
    }

    /// How many branches it has.
    pub(crate) fn count(&self) -> usize {
        self.tensors
            .iter()
            .filter(|t| t.name.ends_with(".lora_A.weight"))
            .count()
    }

    /// The branches of the adapter, on weights that keep their 32 bits.
    pub(crate) fn treatment(&self, weight: &str, kind: Matrix) -> Treatment {
        let factor = weight.replace(".weight", ".lora_A.weight");
        let has = kind == Matrix::Linear && self.tensors.iter().any(|t| t.name == factor);
        let lora = self.branches.get(&Part::of(weight)).filter(|_| has);
        Treatment {
            storage: Storage::F32,
            lora: lora.cloned(),
        }
    }

    /// Checks that the recipe trains the branches of these parts on as they are; `parameters` are those of the half as it tunes
    /// it.
    pub(crate) fn agrees(
        &self,
        tune: &TuneSpec,
        parts: &[Part],
        parameters: &[Parameter],
    ) -> Result<(), TrainError> {
        for (part, lora) in &self.branches {
            if !parts.contains(part) {
                continue;
            }
            let wrong = |message: String| {
                let part = part.field();
                Err(TrainError::Tune(TuneError { part, message }))
            };
            let dir = self.dir.display();
            let LoraSpec {
                rank,
                alpha,
                rslora,
                ..
            } = *lora;
            let Method::Lora(branches) = &tune.part(*part).method else {
                return wrong(format!(
                    "{dir} has low-rank branches here and the recipe trains none; set kind = \"lora\", rank = {rank}, alpha = \
                     {alpha}, or fold them into the base with `qtinyllava merge --from-adapter`"
                ));
            };
            for (field, ours, theirs) in [
                ("rank", branches.rank.to_string(), rank.to_string()),
                ("alpha", branches.alpha.to_string(), alpha.to_string()),
                ("rslora", branches.rslora.to_string(), rslora.to_string()),
            ] {
                if ours != theirs {
                    return wrong(format!(
                        "{field} = {ours}, but the branches in {dir} have {theirs}; set {field} = {theirs} to train them on"
                    ));
                }
            }
            let modules = |names: &mut dyn Iterator<Item = &str>| -> BTreeSet<String> {
                let module = |name: &str| name.split_once(".lora_").map(|(m, _)| m.to_owned());
                names
                    .filter(|n| Part::of(n) == *part)
                    .filter_map(module)
                    .collect()
            };
            let ours = modules(&mut parameters.iter().map(|p| p.name.as_str()));
            let theirs = modules(&mut self.tensors.iter().map(|t| t.name.as_str()));
            if ours != theirs {
                let last = |names: &BTreeSet<String>| -> String {
                    let last = names.iter().filter_map(|n| n.rsplit('.').next());
                    let last: BTreeSet<String> = last.map(|n| format!("\"{n}\"")).collect();
                    last.into_iter().collect::<Vec<_>>().join(", ")
                };
                let list = |names: BTreeSet<&String>| names.into_iter().cloned().collect();
                self.listed([
                    (
                        "in the recipe, but not in the adapter",
                        list(ours.difference(&theirs).collect()),
                    ),
                    (
                        "in the adapter, but not in the recipe",
                        list(theirs.difference(&ours).collect()),
                    ),
                    (
                        "to train them on",
                        vec![format!(
                            "set tune.{}.targets = [{}]",
                            part.field(),
                            last(&theirs)
                        )],
                    ),
                ])?;
            }
        }
        Ok(())
    }

    /// An error with everything in it, if there is anything.
    fn listed(&self, groups: [(&str, Vec<String>); 3]) -> Result<(), AdapterError> {
        let mut listing = String::new();
        for (title, mut lines) in groups {
            lines.sort();
            if !lines.is_empty() {
                listing.push_str(&format!("\n  {title}:\n    {}", lines.join("\n    ")));
            }
        }
        if listing.is_empty() {
            return Ok(());
        }
        Err(self.unfit(listing))
    }

    fn unfit(&self, message: String) -> AdapterError {
        AdapterError::Fit {
            path: self.dir.clone(),
            message,
        }
    }
}
