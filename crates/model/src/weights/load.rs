//! Filling a module from a checkpoint, all or nothing.

use std::collections::HashMap;
use std::fmt::Write as _;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Shape, Tensor, TensorData};
use rayon::prelude::*;
use thiserror::Error;

use super::decode::Float;
use super::names::{Parameter, PathStack, param_id, parameters};
use super::{Checkpoint, CheckpointError, KeyMap, NamedTensor, cause};
use crate::tuning::{Matrix, Storage};

/// Why a module cannot be filled from a checkpoint.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Names or shapes do not agree; all disagreements are listed.
    #[error("{place} does not fit the model:{listing}")]
    Mismatch {
        /// The file or folder.
        place: String,
        /// The disagreements, grouped.
        listing: String,
        /// Parameters that the file lacks, as the file would spell them.
        missing: Vec<String>,
        /// Tensors in the file that no parameter wants.
        surplus: Vec<String>,
        /// Tensors of another shape.
        misshaped: Vec<String>,
    },
    /// The weights are in a form that is not read: quantized, in pieces.
    #[error("{place} {cause}")]
    Form {
        /// The file or folder.
        place: String,
        /// What they are, and the cure.
        cause: String,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Lines that are shown of what may be hundreds.
const SHOWN: usize = 8;

/// How a matrix, given the name of its parameter, will be kept.
pub type Keep<'a> = &'a dyn Fn(&str, Matrix) -> Storage;

/// Fills every float parameter of `module` from the checkpoint and gives it the id of its name.
///
/// The values are converted to f32. Nothing is read before all names and shapes agree.
///
/// # Errors
///
/// One [`LoadError::Mismatch`] with all missing, surplus and misshapen tensors, or what went wrong while reading.
pub fn load_into<M: Module>(module: M, file: &Checkpoint, keys: &KeyMap) -> Result<M, LoadError> {
    load_keeping(module, file, keys, &|_, _| Storage::F32)
}

/// As [`load_into`], but matrices that the file has in bfloat16 are not widened where `keep` says that they will not be kept
/// in 32 bits. Those that stay in bfloat16 are views of the file: see [`Checkpoint::map_bf16`].
///
/// # Errors
///
/// As [`load_into`].
pub fn load_keeping<M: Module>(
    module: M,
    file: &Checkpoint,
    keys: &KeyMap,
    keep: Keep<'_>,
) -> Result<M, LoadError> {
    let wanted: Vec<_> = sources(&module, file, keys)?
        .into_iter()
        .map(|(parameter, source)| {
            let kept = parameter.matrix.map(|kind| keep(&parameter.name, kind));
            (parameter, source, kept.unwrap_or_default())
        })
        .collect();
    // Several at once: two threads that fill one huge page wait for each other.
    let values: Vec<_> = wanted
        .into_par_iter()
        .map(|(parameter, source, kept)| {
            let data = read(file, &source, Shape::from(parameter.shape), kept)?;
            Ok((parameter.name, data))
        })
        .collect();
    let values = numbers(file, values)?;
    let path = PathStack::default();
    Ok(module.map(&mut Mapper { path, values }))
}

/// What was read, or one error that names all tensors with values that are none.
fn numbers<T, C: FromIterator<T>>(
    file: &Checkpoint,
    read: Vec<Result<T, CheckpointError>>,
) -> Result<C, CheckpointError> {
    let mut flawed = Vec::new();
    let mut sound = Vec::with_capacity(read.len());
    for result in read {
        match result {
            Ok(values) => sound.push(values),
            Err(CheckpointError::NotFinite { file, tensors }) => flawed.push((file, tensors)),
            Err(other) => return Err(other),
        }
    }
    match flawed.as_slice() {
        [] => Ok(sound.into_iter().collect()),
        [(first, _), others @ ..] => {
            let one = others.iter().all(|(other, _)| other == first);
            let place = if one { first.as_path() } else { file.place() };
            Err(CheckpointError::NotFinite {
                file: place.to_owned(),
                tensors: flawed.iter().flat_map(|(_, t)| t.clone()).collect(),
            })
        }
    }
}

/// The values of one tensor that will be kept as `kept` says: in bfloat16 if they are so in the file, or else in f32.
fn read(
    file: &Checkpoint,
    source: &str,
    shape: Shape,
    kept: Storage,
) -> Result<TensorData, CheckpointError> {
    if kept == Storage::Bf16
        && let Some(bytes) = file.map_bf16(source)?
    {
        return Ok(TensorData::from_bytes(bytes, shape, DType::BF16));
    }
    // What will be packed is let go at once: a view would keep the pages of all that was packed.
    if kept != Storage::F32
        && let Some(values) = file.read_bf16(source)?
    {
        return Ok(TensorData::new(values, shape));
    }
    Ok(TensorData::new(file.read(source)?, shape))
}

struct Mapper {
    path: PathStack,
    values: HashMap<String, TensorData>,
}

impl ModuleMapper for Mapper {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name("");
        let Some(data) = self.values.remove(name.as_str()) else {
            return param;
        };
        let options = (&param.lazy_device(), data.dtype());
        param.transform_for_load(Tensor::from_data(data, options), param_id(&name))
    }
}

/// Which tensor of the checkpoint each float parameter of `module` is filled from. Nothing is read but where the tensors
/// lie.
///
/// # Errors
///
/// As [`load_into`].
pub fn sources<M: Module>(
    module: &M,
    file: &Checkpoint,
    keys: &KeyMap,
) -> Result<Vec<(Parameter, String)>, LoadError> {
    let wanted = parameters(module, "");
    let names: Vec<&str> = wanted.iter().map(|p| p.name.as_str()).collect();
    let resolved = keys.resolve(&names, file);
    let sources: Vec<String> = names.iter().map(|n| resolved.source(n, file)).collect();
    file.require(sources.iter().map(String::as_str))?;
    let mut wrong = Mismatch::default();
    for (parameter, source) in wanted.iter().zip(&sources) {
        wrong.compare(file, source, &parameter.shape)?;
    }
    let surplus = resolved.surplus(&names, file);
    wrong.surplus = surplus.into_iter().map(str::to_owned).collect();
    wrong.end(file)?;
    Ok(wanted.into_iter().zip(sources).collect())
}

/// The tensors of the checkpoint that belong to `module` and that it does not hold, because nothing reads them, under the
/// names that the module would give them.
///
/// # Errors
///
/// If a file cannot be read.
pub fn unheld<M: Module>(
    module: &M,
    file: &Checkpoint,
    keys: &KeyMap,
) -> Result<Vec<NamedTensor>, CheckpointError> {
    let read = |(name, source): (String, String)| {
        Ok(NamedTensor {
            name,
            shape: file.entry(&source)?.shape.clone(),
            data: file.read(&source)?,
        })
    };
    unheld_names(module, file, keys)
        .into_iter()
        .map(read)
        .collect()
}

/// The names of these tensors as the module and as the file spell them.
pub(crate) fn unheld_names<M: Module>(
    module: &M,
    file: &Checkpoint,
    keys: &KeyMap,
) -> Vec<(String, String)> {
    let wanted = parameters(module, "");
    let names: Vec<&str> = wanted.iter().map(|p| p.name.as_str()).collect();
    let ignored = keys.resolve(&names, file).ignored(file);
    let own = |(name, source): (String, &str)| (name, source.to_owned());
    ignored.into_iter().map(own).collect()
}

/// All that a checkpoint and a model do not agree on.
#[derive(Debug, Default)]
pub(crate) struct Mismatch {
    pub(super) missing: Vec<String>,
    pub(super) surplus: Vec<String>,
    misshaped: Vec<String>,
    /// Names, and types that are not read.
    pub(super) mistyped: Vec<(String, String)>,
    /// Of the misshaped, those without a value.
    pub(super) empty: Vec<String>,
}

impl Mismatch {
    /// Compares the tensor `source` of the file with what the model wants.
    ///
    /// # Errors
    ///
    /// If the file that should hold it cannot be read.
    pub(crate) fn compare(
        &mut self,
        file: &Checkpoint,
        source: &str,
        shape: &[usize],
    ) -> Result<(), CheckpointError> {
        if !file.contains(source) || file.is_absent(source) {
            self.missing.push(source.to_owned());
            return Ok(());
        }
        let entry = file.entry(source)?;
        if entry.shape != shape {
            let stored = &entry.shape;
            self.misshaped.push(format!(
                "{source}: {stored:?} in the file, {shape:?} in the model"
            ));
            if entry.count() == 0 {
                self.empty.push(source.to_owned());
            }
        }
        if Float::of(entry.dtype).is_none() {
            let dtype = format!("{:?}", entry.dtype);
            self.mistyped.push((source.to_owned(), dtype));
        }
        Ok(())
    }

    /// An error with everything in it, if there is anything.
    pub(crate) fn end(self, file: &Checkpoint) -> Result<(), LoadError> {
        if let Some(cause) = cause::of(file, &self) {
            let place = file.place().display().to_string();
            return Err(LoadError::Form { place, cause });
        }
        let Self {
            missing,
            surplus,
            misshaped,
            mistyped,
            ..
        } = self;
        let mut listing = String::new();
        let mut group = |title: &str, lines: &[String]| {
            if !lines.is_empty() {
                // Writing to a string cannot fail.
                let _ = write!(listing, "\n  {title} ({}):", lines.len());
                for line in lines.iter().take(SHOWN) {
                    let _ = write!(listing, "\n    {line}");
                }
                if lines.len() > SHOWN {
                    let _ = write!(listing, "\n    and {} more", lines.len() - SHOWN);
                }
            }
        };
        let shown = missing
            .iter()
            .take(SHOWN)
            .map(|name| match nearest(name, &surplus) {
                Some(near) => format!("{name} (nearest in the file: {near})"),
                None => name.clone(),
            });
        let rest = missing.iter().skip(SHOWN).cloned();
        let hints: Vec<String> = shown.chain(rest).collect();
        let types = mistyped
            .iter()
            .map(|(name, dtype)| format!("{name}: {dtype}"));
        let types: Vec<String> = types.collect();
        group("missing in the file", &hints);
        group("in the file, but not in the model", &surplus);
        group("other shape", &misshaped);
        group("neither F64, F32, F16 nor BF16", &types);
        if listing.is_empty() {
            return Ok(());
        }
        listing.push_str("\n  check that config.json and the weights are of the same model");
        Err(LoadError::Mismatch {
            place: file.place().display().to_string(),
            listing,
            missing,
            surplus,
            misshaped,
        })
    }
}

/// The most similar name, if it is similar at all.
fn nearest<'a>(name: &str, among: &'a [String]) -> Option<&'a String> {
    let scored = among
        .iter()
        .map(|other| (strsim::normalized_levenshtein(name, other), other));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.5).then_some(best.1)
}
