//! Adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`, as `peft` in Python writes and reads
//! them. Of a field of the configuration that is not computed, `fields` knows.

mod fields;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use qtl_model::tuning::LoraSpec;
use qtl_model::weights::{self, NamedTensor, SaveType};
use serde::Serialize;
use serde_json::Value;

use crate::error::TrainError;
use crate::files;
use crate::tune::{Part, is_branch};
pub use read::{Peft, read};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before the names of the model it wraps.
const WRAPPER: &str = "base_model.model.";

/// Why an adapter directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// Not an adapter, or damaged.
    #[error("{path}: {message}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A kind of adapter that we do not compute.
    #[error("{path}: {field} = {value} is not supported; expected {want}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field of `adapter_config.json`.
        field: String,
        /// Its value.
        value: String,
        /// What is supported, and the cure.
        want: String,
    },
    /// The factors do not fit the model.
    #[error("{path} does not fit the model: {message}")]
    Fit {
        /// The file.
        path: PathBuf,
        /// Which tensor, and why.
        message: String,
    },
}

/// The fields of `adapter_config.json` that PEFT wants to find.
#[derive(Serialize)]
struct Config {
    peft_type: &'static str,
    task_type: Option<&'static str>,
    base_model_name_or_path: String,
    r: usize,
    lora_alpha: f64,
    lora_dropout: f64,
    target_modules: Vec<String>,
    modules_to_save: Option<Vec<String>>,
    bias: &'static str,
    use_rslora: bool,
    use_dora: bool,
    fan_in_fan_out: bool,
    rank_pattern: BTreeMap<String, Value>,
    alpha_pattern: BTreeMap<String, Value>,
    inference_mode: bool,
}

/// Writes the adapter of `part` into `dir`. Of `tensors`, given under the names of a whole model, those of the part's
/// branches become factors, and others (a trained token embedding) are written whole. `base` says what it is for.
///
/// # Errors
///
/// [`TrainError`] naming the file.
pub fn write(
    dir: &Path,
    part: Part,
    lora: &LoraSpec,
    tensors: &[NamedTensor],
    base: &str,
) -> Result<(), TrainError> {
    let prefix = part.prefix();
    let mut targets = BTreeSet::new();
    let mut saved = BTreeSet::new();
    let mut written = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let name = tensor.name.strip_prefix(prefix).unwrap_or(&tensor.name);
        let module = name.split(".lora_").next().unwrap_or(name);
        let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
        if !is_branch(name) {
            saved.insert(last(name.strip_suffix(".weight").unwrap_or(name)));
        } else if part == Part::Llm {
            targets.insert(last(module));
        } else {
            // Python's towers have maps of the same last name in places that ours does not need.
            targets.insert(module.to_owned());
        }
        written.push(NamedTensor {
            name: format!("{WRAPPER}{name}"),
            ..tensor.clone()
        });
    }
    let config = Config {
        peft_type: "LORA",
        task_type: (part == Part::Llm).then_some("CAUSAL_LM"),
        base_model_name_or_path: base.to_owned(),
        r: lora.rank,
        lora_alpha: lora.alpha,
        lora_dropout: lora.dropout,
        target_modules: targets.into_iter().collect(),
        modules_to_save: (!saved.is_empty()).then(|| saved.into_iter().collect()),
        bias: "none",
        use_rslora: lora.rslora,
        use_dora: false,
        fan_in_fan_out: false,
        rank_pattern: BTreeMap::new(),
        alpha_pattern: BTreeMap::new(),
        inference_mode: true,
    };
    std::fs::create_dir_all(dir).map_err(|e| TrainError::io(dir, e))?;
    weights::save(&dir.join(WEIGHTS), &written, SaveType::F32)
        .map_err(qtl_model::pretrained::PretrainedError::from)?;
    let path = dir.join(CONFIG);
    let json =
        serde_json::to_vec_pretty(&config).expect("an adapter's configuration is plain data");
    files::replace(&path, &json).map_err(|e| TrainError::io(&path, e))
}

/// Whether `dir` holds an adapter in PEFT's format.
pub fn is_in(dir: &Path) -> bool {
    dir.join(CONFIG).is_file()
}
