//! The quantizers against the reference's numbers, in the monolith's order of operations and through the container.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use qtl_codec::{Code, Limits, Options, Plane};
use qtl_model::nn::Linear;
use qtl_model::quant::{
    Decoder, Encoder, FsqDecoder, FsqEncoder, QuantizerSpec, Statistics, cosine_penalty,
    level_indices, level_values,
};
use qtl_model::recompute::leaf;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::golden::{floats, root};

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
        let (_, want) = self.get(name);
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
    let folder = root().join("quant");
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("tensors.safetensors").is_file())
        .collect();
    dirs.sort();
    let mut ran = 0;
    for dir in dirs {
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        if wanted(&name) {
            test(&Case::read(&dir));
            println!("ran {name}");
            ran += 1;
        } else {
            println!("skipped {name}");
        }
    }
    assert!(ran > 0, "no case in {}", folder.display());
}

fn through_the_container(code: &Code) -> Code {
    let bytes = qtl_codec::encode(code, &Options::default());
    let (back, account) = qtl_codec::decode(&bytes, &Limits::default()).unwrap();
    assert_eq!(account.total(), bytes.len() as u64);
    assert_eq!(&back, code);
    back
}

fn symbols(code: &Code) -> Vec<f32> {
    match code.planes.as_slice() {
        [Plane::Symbols(plane)] => plane.data.iter().map(|s| s as f32).collect(),
        other => panic!("{other:?}"),
    }
}

fn fsq(case: &Case) {
    let device = Device::default();
    let config = &case.json["config"];
    let levels = config["levels"].as_u64().unwrap() as u32;
    let spec = QuantizerSpec::Fsq {
        levels,
        width: 3.0,
        statistics: Statistics::Batch,
        code_dim: config["code_dim"].as_u64().unwrap() as usize,
        penalty: 0.25,
    };
    let dim = config["token_dim"].as_u64().unwrap() as usize;
    let mut encoder = FsqEncoder::init(&spec, dim, 0, &device);
    encoder.in_proj = case.linear("in_proj", &device);
    let mut decoder = FsqDecoder::init(&spec, dim, 0, &device);
    decoder.out_proj = case.linear("out_proj", &device);
    let (in_proj, out_proj) = (encoder.in_proj.clone(), decoder.out_proj.clone());
    let (encoder, decoder) = (Encoder::Fsq(encoder), Decoder::Fsq(decoder));

    let x = leaf(case.rows("x", &device));
    let z = encoder.bound(encoder.input(x.clone()));
    case.check("z", z.clone().inner());
    let code = through_the_container(&encoder.quantize(z.clone().inner()));
    assert_eq!(symbols(&code), case.get("indices").1, "{}", case.name);
    let q = leaf(decoder.dequantize(&code, &device).unwrap());
    case.check("dequantised", q.clone().inner());
    let output = decoder.expand(q.clone());
    case.check("output", output.clone().inner());
    case.check(
        "L_comm",
        cosine_penalty(z.clone(), q.clone().inner()).inner(),
    );

    // The server's backward, the gradient that travels, the client's backward.
    let mut grads = (output * case.rows("cotangent", &device)).sum().backward();
    let returned = q.grad_remove(&mut grads).unwrap();
    if case.tensors.contains_key("img_grad") {
        case.check("img_grad", returned.clone());
    }
    let weight = |linear: &Linear, grads: &_| linear.weight.val().grad(grads).unwrap();
    let bias =
        |linear: &Linear, grads: &_| linear.bias.as_ref().unwrap().val().grad(grads).unwrap();
    case.check("grad_out_proj.weight", weight(&out_proj, &grads));
    case.check("grad_out_proj.bias", bias(&out_proj, &grads));
    let penalty = encoder.penalty(z.clone()).unwrap();
    let grads = ((encoder.surrogate(z) * returned).sum() + penalty).backward();
    case.check("grad_x", x.grad(&grads).unwrap());
    case.check("grad_in_proj.weight", weight(&in_proj, &grads));
    case.check("grad_in_proj.bias", bias(&in_proj, &grads));
}

#[test]
fn golden_fsq_in_the_monolith_and_split() {
    let wanted = |name: &str| {
        name.starts_with("fsq_L")
            || (name.starts_with("fsq_split_") && !name.starts_with("fsq_split_step"))
    };
    each(wanted, fsq);
}

#[test]
fn golden_fsq_ties_and_degenerate_input() {
    let device = Device::default();
    each(
        |name| name == "fsq_edge",
        |case| {
            for levels in [2, 3, 4, 5, 6, 8, 9, 16] {
                let (_, z) = case.get(&format!("tie_z_L{levels}"));
                let got = level_indices(z, levels);
                let (_, want) = case.get(&format!("tie_indices_L{levels}"));
                let as_floats: Vec<f32> = got.iter().map(|s| f32::from(*s)).collect();
                assert_eq!(&as_floats, want, "L = {levels}");
                let values = level_values(&got, levels);
                let data = TensorData::from(values.as_slice());
                let name = format!("tie_dequantised_L{levels}");
                case.check(&name, Tensor::<1>::from_data(data, &device));
            }
            for (name, width) in [("minmax_w3", 3.0), ("minmax_w1", 1.0)] {
                let spec = QuantizerSpec::Fsq {
                    levels: 4,
                    width,
                    statistics: Statistics::Batch,
                    code_dim: 0,
                    penalty: 0.25,
                };
                let r = leaf(case.rows(&format!("{name}_r"), &device));
                let z = Encoder::init(&spec, r.dims()[1], 0, &device).bound(r.clone());
                case.check(&format!("{name}_z"), z.clone().inner());
                let grads = (z * case.rows(&format!("{name}_cotangent"), &device))
                    .sum()
                    .backward();
                case.check(&format!("{name}_grad_r"), r.grad(&grads).unwrap());
            }
            for levels in [3, 4] {
                let z = leaf(case.rows("lcomm_z", &device));
                let loss =
                    cosine_penalty(z.clone(), case.rows(&format!("lcomm_L{levels}_q"), &device));
                case.check(&format!("lcomm_L{levels}_loss"), loss.clone().inner());
                let grad = z.grad(&loss.backward()).unwrap();
                case.check(&format!("lcomm_L{levels}_grad_z"), grad);
            }
        },
    );
}

#[test]
fn golden_none_passes_16_bit_floats() {
    let device = Device::default();
    each(
        |name| name == "none",
        |case| {
            let x = case.rows("x", &device);
            let dim = x.dims()[1];
            let encoder = Encoder::init(&QuantizerSpec::None, dim, 0, &device);
            let decoder = Decoder::init(&QuantizerSpec::None, dim, 0, &device);
            let code = through_the_container(&encoder.quantize(x));
            case.check("output", decoder.dequantize(&code, &device).unwrap());
        },
    );
}
