//! An adapter directory: of the language model alone, as PEFT writes it, or a folder per part, as
//! [`write_adapter`](crate::export::write_adapter) does. Its tensors go onto a half of a model, or all are named that do not.

mod fold;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use qtl_model::parts::{self, Parts};
use qtl_model::pretrained::PretrainedError;
use qtl_model::tuning::LoraSpec;
use qtl_model::weights::{Checkpoint, NamedTensor, Parameter};
use serde_json::Value;

use self::fold::Role;
use crate::adapt::Fingerprint;
use crate::error::TrainError;
use crate::merge::{OWN, read_json};
use crate::peft::{self, AdapterError, Peft};
use crate::tune::{Method, Part, TuneError, TuneSpec, is_branch};

/// What an adapter directory holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    dir: PathBuf,
    /// Rank, scale and dropout of the modules that have branches.
    branches: BTreeMap<String, LoraSpec>,
    /// Rows of a table that are replaced, by module.
    rows: BTreeMap<String, Vec<usize>>,
    /// Whether branches tune directions and lengths apart.
    dora: bool,
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
            rows: BTreeMap::new(),
            dora: false,
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
                    parts::folders().join(", ")
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
            let Peft {
                branches,
                rows,
                tensors,
                dora,
            } = peft::read(dir, part)?;
            self.branches.extend(branches);
            self.rows.extend(rows);
            self.tensors.extend(tensors);
            self.dora |= dora;
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

    /// Puts the adapter's tensors of some parts in their places, but for the branches that training keeps apart. `tied` says
    /// whether the model's head is its token embedding.
    pub(crate) fn put_whole<H: Parts>(
        &self,
        half: H,
        parts: &[Part],
        tied: bool,
    ) -> Result<H, AdapterError> {
        self.apply(half, parts, false, tied)
    }

    /// Makes the adapter a part of the weights; see [`put_whole`](Self::put_whole).
    pub(crate) fn fold<H: Parts>(
        &self,
        half: H,
        parts: &[Part],
        tied: bool,
    ) -> Result<H, AdapterError> {
        self.apply(half, parts, true, tied)
    }

    /// Puts the adapter's factors of some parts in their places; the half has its branches.
    pub(crate) fn put_branches<H: Parts>(
        &self,
        half: H,
        parts: &[Part],
    ) -> Result<H, AdapterError> {
        let parameters = half.parameters();
        let shapes: HashMap<&str, &Parameter> =
            parameters.iter().map(|p| (p.name.as_str(), p)).collect();
        let mine = self
            .tensors
            .iter()
            .filter(|tensor| is_branch(&tensor.name) && parts.contains(&Part::of(&tensor.name)));
        let own: HashMap<&str, &NamedTensor> =
            mine.map(|tensor| (tensor.name.as_str(), tensor)).collect();
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
        let branched = |name: &str| is_branch(name) && self.parts().contains(&Part::of(name));
        let missing = parameters.iter().map(|p| &p.name);
        let missing = missing.filter(|name| branched(name) && !own.contains_key(name.as_str()));
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

    /// The parts that have branches.
    fn parts(&self) -> BTreeSet<Part> {
        self.branches
            .keys()
            .map(|module| Part::of(module))
            .collect()
    }

    /// Whether the adapter has tensors of this part.
    pub(crate) fn has_part(&self, part: Part) -> bool {
        self.tensors.iter().any(|t| Part::of(&t.name) == part)
    }

    /// Whether it changes the parameter of this name other than by a branch that training keeps apart. `tied` says whether
    /// the model's head is its token embedding.
    pub(crate) fn is_whole(&self, name: &str, tied: bool) -> bool {
        let mut touched = self.tensors.iter().map(|tensor| Role::of(&tensor.name));
        touched.any(|(module, role)| match role {
            Role::Whole => module == name,
            Role::A | Role::B | Role::Lengths => false,
            Role::TableA | Role::TableB | Role::Rows => {
                name.strip_suffix(".weight") == Some(module)
                    || (tied && role == Role::Rows && name == fold::HEAD)
            }
        })
    }

    /// How many branches it has.
    pub(crate) fn count(&self) -> usize {
        self.branches.len()
    }

    /// Checks that the recipe trains the branches of these parts on as they are; `parameters` are those of the half as it tunes
    /// it.
    pub(crate) fn agrees(
        &self,
        tune: &TuneSpec,
        parts: &[Part],
        parameters: &[Parameter],
    ) -> Result<(), TrainError> {
        for part in self.parts().iter().filter(|part| parts.contains(part)) {
            let mut specs = self.branches.iter().filter(|(module, _)| {
                Part::of(module) == *part && self.has(&format!("{module}.lora_A.weight"))
            });
            // What is left are tables, whose branches are a part of them by now.
            let Some((_, lora)) = specs.next() else {
                continue;
            };
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
            let other = specs.find(|(_, other)| *other != lora);
            if self.dora || other.is_some() {
                let what = match other {
                    Some((module, other)) => format!(
                        "branches of rank {rank} and alpha {alpha} and, at {module}, of rank {} and alpha {}",
                        other.rank, other.alpha
                    ),
                    None => "branches that tune directions and lengths apart (DoRA)".to_owned(),
                };
                return wrong(format!(
                    "{dir} has {what}, which are not trained on; fold them into the base with `qtinyllava merge --from-adapter` \
                     and begin from that"
                ));
            }
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
            let factors = self.tensors.iter().map(|t| t.name.as_str());
            let theirs = modules(&mut factors.filter(|name| is_branch(name)));
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

    fn has(&self, name: &str) -> bool {
        self.tensors.iter().any(|tensor| tensor.name == name)
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
