//! A recipe's tuning onto the two halves of a model, and the proof that a run stands on the base it began with.

use std::cell::RefCell;
use std::collections::BTreeSet;

use qtl_model::Device;
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::pretrained::{Blueprint, Loaded, PretrainedError};
use qtl_model::tuning::{Matrix, Storage, Treatment};
use qtl_model::weights::{NamedTensor, Parameter};

use crate::recipe::Recipe;
use crate::tune::{Method, Part, TuneError, TuneSpec, block};

/// What of each half can be tuned.
const CLIENT: &[Part] = &[Part::VisionTower, Part::Connector, Part::EmbedTokens];
const SERVER: &[Part] = &[Part::Llm];

/// The client's half as the recipe tunes it.
///
/// # Errors
///
/// [`TuneError`] if a part has nothing that the recipe wants to train.
pub fn client(partition: ClientPartition, recipe: &Recipe) -> Result<ClientPartition, TuneError> {
    let seen = Seen::default();
    let partition = partition.adapt(recipe.seed, &|name, kind| {
        seen.note(name, kind);
        treatment(&recipe.tune, name, kind)
    });
    seen.check(&recipe.tune, CLIENT)?;
    Ok(partition)
}

/// The server's half as the recipe tunes it, computing in the recipe's type.
///
/// # Errors
///
/// [`TuneError`] if a part has nothing that the recipe wants to train.
pub fn server(
    mut partition: ServerPartition,
    recipe: &Recipe,
) -> Result<ServerPartition, TuneError> {
    let seen = Seen::default();
    partition.language_model = partition
        .language_model
        .with_activation(recipe.train.activation.dtype());
    let partition = partition.adapt(recipe.seed, &|name, kind| {
        seen.note(name, kind);
        treatment(&recipe.tune, name, kind)
    });
    seen.check(&recipe.tune, SERVER)?;
    Ok(partition)
}

/// What the recipe would train and these halves do not have. They need no values.
pub(crate) fn unfit(
    client: &ClientPartition,
    server: &ServerPartition,
    tune: &TuneSpec,
) -> Vec<TuneError> {
    let halves = [(client.parameters(), CLIENT), (server.parameters(), SERVER)];
    let fits = |(parameters, parts): (Vec<Parameter>, &[Part])| {
        let seen = Seen::default();
        for parameter in parameters {
            if let Some(kind) = parameter.matrix {
                seen.note(&parameter.name, kind);
            }
        }
        seen.check(tune, parts)
    };
    halves
        .into_iter()
        .filter_map(|half| fits(half).err())
        .collect()
}

/// The client's half as the model directory has it, in as few bits as the recipe lets its matrices have.
///
/// # Errors
///
/// [`PretrainedError`] naming the file and the tensors.
pub fn read_client(
    blueprint: &Blueprint,
    recipe: &Recipe,
    device: &Device,
) -> Result<Loaded<ClientPartition>, PretrainedError> {
    blueprint.client_keeping(device, &|name, kind| storage(&recipe.tune, name, kind))
}

/// The server's half as the model directory has it, in as few bits as the recipe lets its matrices have.
///
/// # Errors
///
/// [`PretrainedError`] naming the file and the tensors.
pub fn read_server(
    blueprint: &Blueprint,
    recipe: &Recipe,
    device: &Device,
) -> Result<Loaded<ServerPartition>, PretrainedError> {
    blueprint.server_keeping(device, &|name, kind| storage(&recipe.tune, name, kind))
}

/// How a matrix will be kept.
fn storage(tune: &TuneSpec, name: &str, kind: Matrix) -> Storage {
    treatment(tune, name, kind).storage
}

/// What becomes of one matrix.
pub(crate) fn treatment(tune: &TuneSpec, name: &str, kind: Matrix) -> Treatment {
    let part = tune.part(Part::of(name));
    let lora = match &part.method {
        Method::Lora(branches) if kind == Matrix::Linear && branches.wants(name) => {
            Some(branches.spec())
        }
        _ => None,
    };
    let storage = match part.base {
        _ if tune.trains(name) => Storage::F32,
        // The head decides between tokens; as in QLoRA, only the blocks are packed.
        Storage::Nf4 if kind != Matrix::Linear || block(name).is_none() => Storage::Bf16,
        base => base,
    };
    Treatment { storage, lora }
}

/// The linear maps that were met on the way.
#[derive(Default)]
struct Seen(RefCell<Vec<String>>);

impl Seen {
    fn note(&self, name: &str, kind: Matrix) {
        if kind == Matrix::Linear {
            self.0.borrow_mut().push(name.to_owned());
        }
    }

    fn check(&self, tune: &TuneSpec, parts: &[Part]) -> Result<(), TuneError> {
        let names = self.0.borrow();
        for part in parts {
            let own: Vec<&String> = names.iter().filter(|n| Part::of(n) == *part).collect();
            let wrong = |message: String| TuneError {
                part: part.field(),
                message,
            };
            match &tune.part(*part).method {
                Method::Frozen | Method::Full => {}
                Method::FromLayer(first) => {
                    let blocks = own
                        .iter()
                        .filter_map(|n| block(n))
                        .max()
                        .map_or(0, |b| b + 1);
                    if *first >= blocks {
                        return Err(wrong(format!(
                            "layer = {first}, but the model's blocks are 0 to {}; choose one of them",
                            blocks.saturating_sub(1)
                        )));
                    }
                }
                Method::Lora(branches) => {
                    let known: BTreeSet<&str> =
                        own.iter().filter_map(|n| n.rsplit('.').nth(1)).collect();
                    let known_list = known.iter().copied().collect::<Vec<_>>().join(", ");
                    let missing = branches
                        .targets
                        .iter()
                        .find(|t| !known.contains(t.as_str()));
                    if let Some(target) = missing {
                        return Err(wrong(format!(
                            "targets holds {target:?}, which the model does not have; its linear maps are {known_list}"
                        )));
                    }
                    if !own.iter().any(|n| branches.wants(n)) {
                        return Err(wrong(
                            "kind = \"lora\" finds no linear map in this part; use \"frozen\" or \"full\"".to_owned(),
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// A checksum over the names and values of what a run's checkpoints leave out, because it is the base's.
#[derive(Debug, Default)]
pub struct Fingerprint(u32);

impl Fingerprint {
    /// Of the client's half, before it is adapted.
    pub fn of_client(partition: &ClientPartition, tune: &TuneSpec) -> String {
        let mut sum = Self::default();
        partition.visit_tensors(&|name| !tune.stores(name), &mut |t| sum.add(&t));
        sum.text()
    }

    /// Of the server's half, before it is adapted.
    pub fn of_server(partition: &ServerPartition, tune: &TuneSpec) -> String {
        let mut sum = Self::default();
        partition.visit_tensors(&|name| !tune.stores(name), &mut |t| sum.add(&t));
        sum.text()
    }

    /// Of the language model's blocks and final norm, which no adapter holds: what an adapter says of the base that it is for.
    pub(crate) fn of_language_model(partition: &ServerPartition) -> String {
        let mut sum = Self::default();
        let body = |name: &str| Part::of(name) == Part::Llm && !name.contains("lm_head");
        partition.visit_tensors(&body, &mut |t| sum.add(&t));
        sum.text()
    }

    pub(crate) fn add(&mut self, tensor: &NamedTensor) {
        self.0 = crc32c::crc32c_append(self.0, tensor.name.as_bytes());
        let mut bytes = Vec::with_capacity(1 << 16);
        for values in tensor.data.chunks(1 << 14) {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            self.0 = crc32c::crc32c_append(self.0, &bytes);
        }
    }

    pub(crate) fn text(&self) -> String {
        format!("{:08x}", self.0)
    }
}
