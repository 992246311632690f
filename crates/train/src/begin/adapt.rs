//! A recipe's tuning onto the two halves of a model, and the proof that a run stands on the base it began with.

use std::collections::BTreeSet;

use qtl_model::Device;
use qtl_model::parts::Parts;
use qtl_model::pretrained::{Blueprint, Loaded, PretrainedError};
use qtl_model::tuning::{Matrix, Storage, Treatment};
use qtl_model::weights::NamedTensor;

use crate::half::Stages;
use crate::recipe::Recipe;
use crate::tune::{Method, Part, TuneError, TuneSpec, block};

/// A half as the recipe tunes it, computing as the recipe has it compute.
///
/// # Errors
///
/// [`TuneError`] if a part has nothing that the recipe wants to train.
pub fn tuned<S: Stages>(half: S, recipe: &Recipe) -> Result<S, TuneError> {
    fits(&half, recipe)?;
    Ok(half.computing(recipe).adapt(recipe.seed, &|name, kind| {
        treatment(&recipe.tune, name, kind)
    }))
}

/// Checks that the parts whose side this is have what the recipe would train, also what of them the other side holds. It
/// needs no values.
///
/// # Errors
///
/// [`TuneError`] naming the part.
pub fn fits<S: Stages>(half: &S, recipe: &Recipe) -> Result<(), TuneError> {
    let linear = half.whole_parts().into_iter();
    let linear = linear.filter(|parameter| parameter.matrix == Some(Matrix::Linear));
    let names: Vec<String> = linear.map(|parameter| parameter.name).collect();
    let mut parts = S::parts(&recipe.split).into_iter();
    parts.try_for_each(|part| has(&names, part, &recipe.tune))
}

/// A half as the model directory has it, in as few bits as the recipe lets its matrices have.
///
/// # Errors
///
/// [`PretrainedError`] naming the file and the tensors.
pub fn read<S: Stages>(
    blueprint: &Blueprint,
    recipe: &Recipe,
    device: &Device,
) -> Result<Loaded<S>, PretrainedError> {
    S::read(blueprint, device, &|name, kind| {
        storage(&recipe.tune, name, kind)
    })
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

/// Checks that a part of these linear maps has what the recipe would train.
fn has(names: &[String], part: Part, tune: &TuneSpec) -> Result<(), TuneError> {
    let own: Vec<&String> = names.iter().filter(|n| Part::of(n) == part).collect();
    let wrong = |message: String| TuneError {
        part: part.field(),
        message,
    };
    match &tune.part(part).method {
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
            let known: BTreeSet<&str> = own.iter().filter_map(|n| n.rsplit('.').nth(1)).collect();
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
                    "kind = \"lora\" finds no linear map in this part; use \"frozen\" or \"full\""
                        .to_owned(),
                ));
            }
        }
    }
    Ok(())
}

/// A checksum over the names and values of what a run's checkpoints leave out, because it is the base's.
#[derive(Debug, Default)]
pub struct Fingerprint(u32);

impl Fingerprint {
    /// Of a half, before it is adapted.
    pub fn of(half: &impl Parts, tune: &TuneSpec) -> String {
        let mut sum = Self::default();
        half.visit_tensors(&|name| !tune.stores(name), &mut |t| sum.add(&t));
        sum.text()
    }

    /// Of the language model's blocks and final norm, which no adapter holds: what an adapter says of the base that it is for.
    pub(crate) fn of_language_model(half: &impl Parts) -> String {
        let mut sum = Self::default();
        let body = |name: &str| Part::of(name) == Part::Llm && !name.contains("lm_head");
        half.visit_tensors(&body, &mut |t| sum.add(&t));
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
