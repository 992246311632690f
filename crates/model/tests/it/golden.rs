//! Reading the golden cases: numbers that the reference implementation computed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use qtl_model::weights::parameters;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::set;

/// One folder of numbers.
pub struct Case {
    pub name: String,
    pub dir: PathBuf,
    pub json: Value,
    tensors: BTreeMap<String, Stored>,
}

struct Stored {
    shape: Vec<usize>,
    floats: Vec<f32>,
    ints: Vec<i64>,
}

impl Case {
    fn read(dir: PathBuf) -> Self {
        let json = std::fs::read_to_string(dir.join("case.json")).unwrap();
        let bytes = std::fs::read(dir.join("io.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let data = view.data();
            let mut stored = Stored {
                shape: view.shape().to_vec(),
                floats: Vec::new(),
                ints: Vec::new(),
            };
            match view.dtype() {
                Dtype::F32 => {
                    let words = data.as_chunks::<4>().0.iter();
                    stored.floats = words.map(|b| f32::from_le_bytes(*b)).collect();
                }
                Dtype::I64 => {
                    let words = data.as_chunks::<8>().0.iter();
                    stored.ints = words.map(|b| i64::from_le_bytes(*b)).collect();
                }
                Dtype::U8 => stored.floats = data.iter().map(|b| f32::from(*b)).collect(),
                other => panic!("{name} has type {other:?}"),
            }
            tensors.insert(name, stored);
        }
        Self {
            name: dir.file_name().unwrap().to_string_lossy().into_owned(),
            json: serde_json::from_str(&json).unwrap(),
            dir,
            tensors,
        }
    }

    fn get(&self, name: &str) -> &Stored {
        let found = self.tensors.get(name);
        found.unwrap_or_else(|| panic!("{}: no {name}", self.name))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let stored = self.get(name);
        let data = TensorData::new(stored.floats.clone(), stored.shape.clone());
        Tensor::from_data(data, device)
    }

    pub fn scalar(&self, name: &str) -> f32 {
        self.get(name).floats[0]
    }

    /// The values of a tensor of bytes.
    pub fn bytes(&self, name: &str) -> Vec<f32> {
        self.get(name).floats.clone()
    }

    /// Number of values of a float tensor.
    pub fn count(&self, name: &str) -> usize {
        self.get(name).floats.len()
    }

    /// [`Self::check_grad`] for a flattened gradient.
    pub fn check_flat_grad(&self, name: &str, got: Tensor<1>) -> f32 {
        let shape = self.get(name).shape.clone();
        match shape.as_slice() {
            [a, b] => self.check_grad(name, Some(got.reshape([*a, *b]))),
            _ => self.check_grad(name, Some(got)),
        }
    }

    pub fn ints(&self, name: &str) -> &[i64] {
        &self.get(name).ints
    }

    /// A two-dimensional integer tensor row by row.
    pub fn rows(&self, name: &str) -> Vec<Vec<i64>> {
        let stored = self.get(name);
        let rows = stored.ints.chunks(stored.shape[1]);
        rows.map(<[i64]>::to_vec).collect()
    }

    pub fn family(&self) -> &str {
        self.json["family"].as_str().unwrap()
    }

    /// Checks an output against `out.*` with the case's tolerance and returns the largest difference.
    pub fn check<const D: usize>(&self, name: &str, got: Tensor<D>) -> f32 {
        let stored = self.get(name);
        assert_eq!(got.dims().as_slice(), stored.shape, "{}: {name}", self.name);
        self.check_where(name, &floats(got), |_| true)
    }

    /// [`Self::check`] for the entries whose index `wanted` accepts.
    pub fn check_where(&self, name: &str, got: &[f32], wanted: impl Fn(usize) -> bool) -> f32 {
        let forward = &self.json["tolerance"]["forward"];
        let limit = |key: &str| forward[key].as_f64().unwrap() as f32;
        let (atol, rtol) = (limit("atol"), limit("rtol"));
        let want = &self.get(name).floats;
        assert_eq!(got.len(), want.len(), "{}: {name}", self.name);
        let mut worst = 0.0f32;
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            if wanted(i) {
                let error = (got - want).abs();
                let ok = error <= atol + rtol * want.abs();
                assert!(ok, "{}: {name}[{i}] is {got}, not {want}", self.name);
                worst = worst.max(error);
            }
        }
        worst
    }

    /// Checks a loss: 1e-5, as the cases' description says.
    pub fn check_loss(&self, name: &str, got: f32) -> f32 {
        let error = (got - self.scalar(name)).abs();
        assert!(
            error <= 1e-5,
            "{}: {name} is {got}, off by {error}",
            self.name
        );
        error
    }

    /// Checks a gradient and returns the largest difference relative to the largest entry.
    pub fn check_grad<const D: usize>(&self, name: &str, got: Option<Tensor<D>>) -> f32 {
        let rule = self.json["tolerance"]["grad"]["rule"].as_str().unwrap();
        assert_eq!(
            rule, "max|got-want| <= 1e-3 * max|want| + 1e-6",
            "unknown rule"
        );
        let stored = self.get(name);
        let got = got.unwrap_or_else(|| panic!("{}: {name} has no gradient", self.name));
        assert_eq!(got.dims().as_slice(), stored.shape, "{}: {name}", self.name);
        let top = stored.floats.iter().fold(0.0f32, |top, x| top.max(x.abs()));
        let differences = floats(got).into_iter().zip(&stored.floats);
        let worst = differences.fold(0.0f32, |worst, (got, want)| worst.max((got - want).abs()));
        let ok = worst <= 1e-3 * top + 1e-6;
        assert!(
            ok,
            "{}: {name} is off by {worst}, largest is {top}",
            self.name
        );
        worst / top.max(f32::MIN_POSITIVE)
    }

    /// Checks every `{prefix}NAME` in the case against the gradient of the parameter NAME.
    pub fn check_parameters<M: Module>(&self, prefix: &str, module: &M, grads: &Gradients) -> f32 {
        let mut worst = 0.0f32;
        for full in self.names() {
            if let Some(name) = full.strip_prefix(prefix) {
                let known = parameters(module, "");
                // transformers 5 dropped a level of the vision towers' names.
                let old = format!("vision_model.{name}");
                let parameter = known.iter().find(|p| p.name == name || p.name == old);
                let parameter = parameter.unwrap_or_else(|| panic!("no parameter {name}"));
                let mut check = CheckGrad {
                    case: self,
                    name: full,
                    id: parameter.id,
                    grads,
                    error: None,
                };
                module.visit(&mut check);
                worst = worst.max(check.error.unwrap());
            }
        }
        worst
    }
}

struct CheckGrad<'a> {
    case: &'a Case,
    name: &'a str,
    id: ParamId,
    grads: &'a Gradients,
    error: Option<f32>,
}

impl ModuleVisitor for CheckGrad<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.id == self.id {
            let grad = param.val().grad(self.grads);
            self.error = Some(self.case.check_grad(self.name, grad));
        }
    }
}

/// The values of a tensor.
pub fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Runs `test` on all cases of the set whose names start with one of `prefixes`. It returns what it found, or `Err` with
/// the reason why the case cannot be run.
pub fn each(prefixes: &[&str], test: impl Fn(&Case) -> Result<String, String>) {
    set::ran(run(&set::root(), prefixes, test), format!("{prefixes:?}"));
}

/// The same on the repository's own set, for tests that need some model and compare nothing that a case recorded.
pub fn each_fixture(prefixes: &[&str], test: impl Fn(&Case) -> Result<String, String>) {
    assert!(run(&set::fixture(""), prefixes, test) > 0, "{prefixes:?}");
}

fn run(root: &Path, prefixes: &[&str], test: impl Fn(&Case) -> Result<String, String>) -> usize {
    let mut ran = 0;
    for (name, folder) in set::subfolders(&root.join("model")) {
        if !prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        match test(&Case::read(folder)) {
            Ok(found) => {
                ran += 1;
                println!("ran     {name}: {found}");
            }
            Err(reason) => println!("skipped {name}: {reason}"),
        }
    }
    ran
}
