//! The paper's quantizer, and the tanh version, against the reference.

use burn::tensor::{Device, Tensor, TensorData};
use qtl_codec::{Code, Plane, pack::pack};
use qtl_model::nn::Linear;
use qtl_model::quant::{
    ClientHalf, FsqSpec, FsqTanhSpec, NoneSpec, Phase, Scaling, ServerHalf, Spec, Statistics,
    cosine_penalty, level_indices, level_values,
};
use qtl_model::recompute::leaf;

use super::{Case, each, symbols, through_the_container};
use crate::golden::floats;

/// The one plane's symbols, packed.
fn packed(code: &Code) -> Vec<f32> {
    match code.planes.as_slice() {
        [Plane::Symbols(plane)] => pack(plane).into_iter().map(f32::from).collect(),
        other => panic!("{other:?}"),
    }
}

/// Packed symbols; the reference rounds their count up with zeros.
fn check_packed(case: &Case, name: &str, code: &Code) {
    let (_, want) = case.get(name);
    let mut got = packed(code);
    assert!(want.len() - got.len() < 4, "{}: {name}", case.name);
    got.resize(want.len(), 0.0);
    assert_eq!(&got, want, "{}: {name}", case.name);
}

fn weight(linear: &Linear, grads: &burn::tensor::Gradients) -> Tensor<2> {
    linear.weight.val().grad(grads).unwrap()
}

fn bias(linear: &Linear, grads: &burn::tensor::Gradients) -> Tensor<1> {
    linear.bias.as_ref().unwrap().val().grad(grads).unwrap()
}

/// The quantizer that a case's configuration describes.
fn spec(case: &Case) -> FsqSpec {
    let paper = FsqSpec::paper(case.number("levels").unwrap() as u32);
    FsqSpec {
        code_dim: case.number("code_dim").map_or(0, |n| n as usize),
        width: case
            .number("clip_width_std")
            .map_or(paper.width, |n| n as f32),
        penalty: case.number("comm_cost").map_or(paper.penalty, |n| n as f32),
        ..paper
    }
}

fn fsq(case: &Case) {
    let device = Device::default();
    let tanh = case.json["quantizer"] == "fsq_old";
    let spec = spec(case);
    let (levels, code_dim) = (spec.levels, spec.code_dim);
    let dim = case.number("token_dim").unwrap() as usize;
    let in_proj = case.linear("in_proj", &device);
    let encoder: Box<dyn ClientHalf> = if tanh {
        let mut encoder = FsqTanhSpec { levels, code_dim }.client(dim, 0, &device);
        encoder.in_proj = in_proj.clone();
        Box::new(encoder)
    } else {
        let mut encoder = spec.client(dim, 0, &device);
        encoder.in_proj = in_proj.clone();
        Box::new(encoder)
    };
    let mut decoder = spec.server(dim, 0, &device);
    decoder.out_proj = case.linear("out_proj", &device);
    let out_proj = decoder.out_proj.clone();

    let x = leaf(case.rows("x", &device));
    let z = encoder.bound(encoder.input(x.clone()));
    case.check("z", z.clone().inner());
    let code = encoder.quantize(z.clone().inner(), Phase::Evaluate);
    let code = through_the_container(&code);
    assert_eq!(symbols(&code), case.get("indices").1, "{}", case.name);
    if case.has("packed") {
        check_packed(case, "packed", &code);
    }
    let q = leaf(decoder.dequantize(&code, &device).unwrap());
    case.check("dequantised", q.clone().inner());
    let output = decoder.expand(q.clone());
    case.check("output", output.clone().inner());
    if !tanh {
        let loss = cosine_penalty(z.clone(), q.clone().inner());
        case.check("L_comm", loss.inner());
    }

    // The server's backward, the gradient that travels, the client's backward.
    let mut grads = (output * case.rows("cotangent", &device)).sum().backward();
    let returned = q.grad_remove(&mut grads).unwrap();
    if case.has("img_grad") {
        case.check("img_grad", returned.clone());
    }
    case.check("grad_out_proj.weight", weight(&out_proj, &grads));
    case.check("grad_out_proj.bias", bias(&out_proj, &grads));
    let task = (encoder.surrogate(z.clone(), &code) * returned).sum();
    let penalty = encoder.penalty(z);
    assert_eq!(penalty.is_none(), tanh);
    let grads = penalty.into_iter().fold(task, |a, b| a + b).backward();
    case.check("grad_x", x.grad(&grads).unwrap());
    case.check("grad_in_proj.weight", weight(&in_proj, &grads));
    case.check("grad_in_proj.bias", bias(&in_proj, &grads));
}

#[test]
fn golden_fsq_in_the_monolith_and_split() {
    let wanted = |name: &str| {
        name.starts_with("fsq_L")
            || name.starts_with("fsq_old_")
            || (name.starts_with("fsq_split_") && !name.starts_with("fsq_split_step"))
    };
    each(wanted, fsq);
}

/// A whole step with two streams. The reference encodes both with the image quantizer's input projection; what is
/// checked are the quantizers, given that.
#[test]
fn golden_fsq_step_of_two_streams() {
    let device = Device::default();
    each(
        |name| name.starts_with("fsq_split_step"),
        |case| {
            let spec = spec(case);
            let (x, (_, text)) = (case.rows("x", &device), case.get("text_positions"));
            let dim = x.dims()[1];
            let mut encoder = spec.client(dim, 0, &device);
            encoder.in_proj = case.linear("image.in_proj", &device);
            let (_, cotangent) = case.get("cotangent");
            let rows_of = |values: &[f32], kind: f32| -> Vec<f32> {
                let rows = values.chunks(dim).zip(text);
                let rows = rows.filter(|(_, t)| **t == kind);
                rows.flat_map(|(row, _)| row.to_vec()).collect()
            };
            let tensor = |values: Vec<f32>| {
                let rows = values.len() / dim;
                Tensor::<2>::from_data(TensorData::new(values, [rows, dim]), &device)
            };
            let mut terms = Vec::new();
            let mut penalties = Vec::new();
            let mut streams = Vec::new();
            for (stream, returned_name, kind) in
                [("image", "img_grad", 0.0), ("text", "txt_grad", 1.0)]
            {
                let rows = leaf(tensor(rows_of(&floats(x.clone()), kind)));
                let z = encoder.bound(encoder.input(rows.clone()));
                case.check(&format!("z_{stream}"), z.clone().inner());
                let code = encoder.quantize(z.clone().inner(), Phase::Train(0));
                let code = through_the_container(&code);
                check_packed(case, &format!("packed_{stream}"), &code);
                let mut decoder = spec.server(dim, 0, &device);
                decoder.out_proj = case.linear(&format!("{stream}.out_proj"), &device);
                let q = leaf(decoder.dequantize(&code, &device).unwrap());
                case.check(&format!("dequantised_{stream}"), q.clone().inner());
                let output = decoder.expand(q.clone());
                let want = tensor(rows_of(&case.get("server_input").1, kind));
                case.close("server_input", output.clone().inner(), &floats(want));
                let g = tensor(rows_of(cotangent, kind));
                let mut grads = (output * g).sum().backward();
                let returned = q.clone().grad_remove(&mut grads).unwrap();
                case.check(returned_name, returned.clone());
                let name = |part: &str| format!("grad_{stream}.out_proj.{part}");
                case.check(&name("weight"), weight(&decoder.out_proj, &grads));
                case.check(&name("bias"), bias(&decoder.out_proj, &grads));
                let loss = cosine_penalty(z.clone(), q.inner());
                case.check(&format!("L_comm_{stream}"), loss.inner());
                penalties.push(encoder.penalty(z.clone()).unwrap());
                terms.push((encoder.surrogate(z, &code) * returned).sum());
                streams.push((rows, kind));
            }
            let penalty = penalties.into_iter().reduce(|a, b| a + b).unwrap();
            case.check("vq_loss", penalty.clone().inner());
            let grads = terms.into_iter().fold(penalty, |a, b| a + b).backward();
            case.check(
                "grad_image.in_proj.weight",
                weight(&encoder.in_proj, &grads),
            );
            case.check("grad_image.in_proj.bias", bias(&encoder.in_proj, &grads));
            for (rows, kind) in streams {
                let want = tensor(rows_of(&case.get("grad_x").1, kind));
                case.close("grad_x", rows.grad(&grads).unwrap(), &floats(want));
            }
        },
    );
}

#[test]
fn golden_fsq_ties_and_degenerate_input() {
    let device = Device::default();
    each(
        |name| name == "fsq_edge",
        |case| {
            for levels in case.between("tie_z_L", "") {
                let levels: u32 = levels.parse().unwrap();
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
            let entries = case.json["tensors"].as_array().unwrap();
            let inputs = case.between("", "_r").into_iter();
            for name in inputs.filter(|name| !name.ends_with("_grad")) {
                let entry = entries
                    .iter()
                    .find(|entry| entry["name"] == format!("{name}_r"));
                let meaning = entry.unwrap()["meaning"].as_str().unwrap();
                let (_, width) = meaning.split_once("width=").unwrap_or(("", "3"));
                let spec = FsqSpec {
                    width: width.parse().unwrap(),
                    ..FsqSpec::paper(4)
                };
                let r = leaf(case.rows(&format!("{name}_r"), &device));
                let z = spec.client(r.dims()[1], 0, &device).bound(r.clone());
                case.check(&format!("{name}_z"), z.clone().inner());
                let grads = (z * case.rows(&format!("{name}_cotangent"), &device))
                    .sum()
                    .backward();
                case.check(&format!("{name}_grad_r"), r.grad(&grads).unwrap());
            }
            for levels in case.between("lcomm_L", "_q") {
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
            let encoder = NoneSpec {}.client(dim, 0, &device);
            let decoder = NoneSpec {}.server(dim, 0, &device);
            let code = through_the_container(&encoder.quantize(x, Phase::Evaluate));
            case.check("output", decoder.dequantize(&code, &device).unwrap());
        },
    );
}

/// The part of the reference's learned-width quantizer that runs: scaling, with a gradient for the width.
#[test]
fn golden_adsq_scales_by_a_learned_width() {
    let device = Device::default();
    each(
        |name| name == "adsq",
        |case| {
            let r = leaf(case.rows("r", &device));
            let width = leaf(case.rows("width", &device));
            let scaling = Scaling::new(Statistics::Batch, r.dims()[1], &device);
            let z = scaling.bound(r.clone(), |deviation| deviation * width.clone());
            case.check("z", z.clone().inner());
            let grads = (z * case.rows("cotangent", &device)).sum().backward();
            case.check("grad_r", r.grad(&grads).unwrap());
            case.check("grad_width", width.grad(&grads).unwrap());
        },
    );
}
