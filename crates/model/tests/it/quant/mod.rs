//! The quantizers against the reference's numbers, in the monolith's order of operations and through the container; and
//! the laws that all of them keep.

mod baselines;
mod conformance;
mod fsq;
mod pooled;
mod rate;

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use qtl_codec::{Code, Limits, Options, Plane};
use qtl_model::nn::Linear;
use qtl_model::recompute::leaf;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::golden::floats;
use crate::set;

struct Case {
    name: String,
    json: Value,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Case {
    fn read(dir: &Path) -> Self {
        let json: Value =
            serde_json::from_slice(&std::fs::read(dir.join("case.json")).unwrap()).unwrap();
        let bytes = std::fs::read(dir.join("tensors.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(name, view)| {
            let values = match view.dtype() {
                Dtype::F32 => view
                    .data()
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect(),
                Dtype::U8 => view.data().iter().map(|b| f32::from(*b)).collect(),
                // Column numbers.
                Dtype::I64 => view
                    .data()
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|b| i64::from_le_bytes(*b) as f32)
                    .collect(),
                _ => Vec::new(),
            };
            (name.to_owned(), (view.shape().to_vec(), values))
        });
        Self {
            name: dir.file_name().unwrap().to_string_lossy().into_owned(),
            json,
            tensors: tensors.collect(),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// What follows `before` and stands before `after` in the names of the case's tensors.
    fn between(&self, before: &str, after: &str) -> Vec<&str> {
        let names = self.tensors.keys();
        names
            .filter_map(|name| name.strip_prefix(before)?.strip_suffix(after))
            .collect()
    }

    /// A number of the case's configuration.
    fn number(&self, field: &str) -> Option<f64> {
        self.json["config"][field].as_f64()
    }

    fn get(&self, name: &str) -> &(Vec<usize>, Vec<f32>) {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("{}: no {name}", self.name))
    }

    /// As rows of the last dimension.
    fn rows(&self, name: &str, device: &Device) -> Tensor<2> {
        let (shape, values) = self.get(name);
        let cols = *shape.last().unwrap();
        let data = TensorData::new(values.clone(), [values.len() / cols, cols]);
        Tensor::from_data(data, device)
    }

    fn linear(&self, name: &str, device: &Device) -> Linear {
        let bias = self.rows(&format!("{name}.bias"), device);
        Linear {
            weight: Param::from_tensor(leaf(self.rows(&format!("{name}.weight"), device))),
            bias: Some(Param::from_tensor(leaf(bias.reshape([-1])))),
        }
    }

    /// Elementwise, with the tolerance that the case states for the tensor.
    fn check<const D: usize>(&self, name: &str, got: Tensor<D>) {
        self.close(name, got, &self.get(name).1);
    }

    /// The same for a part of the tensor.
    fn close<const D: usize>(&self, name: &str, got: Tensor<D>, want: &[f32]) {
        let entries = self.json["tensors"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["name"] == name).unwrap();
        let limit = |key: &str| entry["compare"][key].as_f64().unwrap_or(0.0) as f32;
        let (atol, rtol) = (limit("atol"), limit("rtol"));
        let got = floats(got);
        assert_eq!(got.len(), want.len(), "{}: {name}", self.name);
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let same = got == want || (got - want).abs() <= atol + rtol * want.abs();
            assert!(same, "{}: {name}[{i}] is {got}, not {want}", self.name);
        }
    }
}

/// Every case folder; those that `wanted` does not take are listed as skipped.
fn each(wanted: impl Fn(&str) -> bool, test: impl Fn(&Case)) {
    let mut ran = 0;
    for (name, dir) in set::folders("quant") {
        if dir.join("tensors.safetensors").is_file() && wanted(&name) {
            test(&Case::read(&dir));
            println!("ran {name}");
            ran += 1;
        } else {
            println!("skipped {name}");
        }
    }
    let test = std::thread::current();
    set::ran(
        ran,
        format!("cases for {}", test.name().unwrap_or_default()),
    );
}

fn through_the_container(code: &Code) -> Code {
    let bytes = qtl_codec::encode(code, &Options::default());
    let (back, account) = qtl_codec::decode(&bytes, &Limits::default()).unwrap();
    assert_eq!(account.total(), bytes.len() as u64);
    assert_eq!(&back, code);
    back
}

/// The symbols of the first plane.
fn symbols(code: &Code) -> Vec<f32> {
    match code.planes.as_slice() {
        [Plane::Symbols(plane), ..] => plane.data.iter().map(|s| s as f32).collect(),
        other => panic!("{other:?}"),
    }
}
