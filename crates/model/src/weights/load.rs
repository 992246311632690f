//! Filling a module from a checkpoint, all or nothing.

use std::fmt::Write as _;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use thiserror::Error;

use super::names::{PathStack, param_id, parameters};
use super::{Checkpoint, CheckpointError, KeyMap};

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
    /// The file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Fills every float parameter of `module` from the checkpoint and gives it the id of its name.
///
/// The values are converted to f32. Nothing is read before all names and shapes agree.
///
/// # Errors
///
/// One [`LoadError::Mismatch`] with all missing, surplus and misshapen tensors, or what went wrong while reading.
pub fn load_into<M: Module>(module: M, file: &Checkpoint, keys: &KeyMap) -> Result<M, LoadError> {
    let wanted = parameters(&module, "");
    let names: Vec<&str> = wanted.iter().map(|p| p.name.as_str()).collect();
    let resolved = keys.resolve(&names, file);
    let mut missing = Vec::new();
    let mut misshaped = Vec::new();
    for parameter in &wanted {
        let source = resolved.source(&parameter.name, file);
        match file.shape(&source) {
            None => missing.push(source),
            Some(shape) if shape != parameter.shape => misshaped.push(format!(
                "{source}: {shape:?} in the file, {:?} in the model",
                parameter.shape
            )),
            Some(_) => {}
        }
    }
    let surplus: Vec<String> = resolved
        .surplus(&names, file)
        .into_iter()
        .map(str::to_owned)
        .collect();
    if !(missing.is_empty() && misshaped.is_empty() && surplus.is_empty()) {
        return Err(mismatch(file, missing, surplus, misshaped));
    }
    let mut mapper = Mapper {
        path: PathStack::default(),
        file,
        source: |name: &str| resolved.source(name, file),
        failed: None,
    };
    let module = module.map(&mut mapper);
    match mapper.failed {
        None => Ok(module),
        Some(error) => Err(error.into()),
    }
}

struct Mapper<'a, F> {
    path: PathStack,
    file: &'a Checkpoint,
    source: F,
    failed: Option<CheckpointError>,
}

impl<F: Fn(&str) -> String> ModuleMapper for Mapper<'_, F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.failed.is_some() {
            return param;
        }
        let name = self.path.name("");
        match self.file.read(&(self.source)(&name)) {
            Ok(values) => {
                let data = TensorData::new(values, param.lazy_shape());
                let tensor = Tensor::from_data(data, &param.lazy_device());
                param.transform_for_load(tensor, param_id(&name))
            }
            Err(error) => {
                self.failed = Some(error);
                param
            }
        }
    }
}

fn mismatch(
    file: &Checkpoint,
    missing: Vec<String>,
    surplus: Vec<String>,
    misshaped: Vec<String>,
) -> LoadError {
    let mut listing = String::new();
    let mut group = |title: &str, lines: &[String]| {
        if !lines.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(listing, "\n  {title} ({}):", lines.len());
            for line in lines {
                let _ = write!(listing, "\n    {line}");
            }
        }
    };
    let hints: Vec<String> = missing
        .iter()
        .map(|name| match nearest(name, &surplus) {
            Some(near) => format!("{name} (nearest in the file: {near})"),
            None => name.clone(),
        })
        .collect();
    group("missing in the file", &hints);
    group("in the file, but not in the model", &surplus);
    group("other shape", &misshaped);
    listing.push_str("\n  check that config.json and the weights are of the same model");
    LoadError::Mismatch {
        place: file.place().display().to_string(),
        listing,
        missing,
        surplus,
        misshaped,
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
