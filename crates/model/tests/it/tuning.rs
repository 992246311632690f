//! Low-rank branches, packed weights, recompute with dropout.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use qtl_model::llm::{Decoder, DecoderSpec, Supervision};
use qtl_model::nn::Linear;
use qtl_model::params::{Named, collect, replace, track};
use qtl_model::recompute::{Tape, leaf, pull, take};
use qtl_model::tuning::dropout::{Draw, drawing};
use qtl_model::tuning::{LoraSpec, Matrix, NF4_LEVELS, Nf4, Storage, Treatment, adapt};
use qtl_model::weights::{Stream, initialize, parameters, tensors_of};

use crate::golden::floats;

const LORA: LoraSpec = LoraSpec {
    rank: 4,
    alpha: 8.0,
    dropout: 0.3,
    rslora: false,
};

fn spec() -> DecoderSpec {
    let fields = serde_json::json!({
        "model_type": "llama", "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    std::fs::write(&file, fields.to_string()).unwrap();
    DecoderSpec::from_config(&qtl_model::config::Fields::read(&file).unwrap()).unwrap()
}

fn decoder() -> Decoder {
    Decoder::init(spec(), 3, &Device::default())
}

fn everywhere(storage: Storage, lora: Option<LoraSpec>) -> impl Fn(&str, Matrix) -> Treatment {
    move |name, kind| {
        let inside = kind == Matrix::Linear && name.contains("layers.");
        Treatment {
            storage: if inside { storage } else { Storage::F32 },
            lora: lora.clone().filter(|_| inside),
        }
    }
}

/// Branches that do something: `B` gets values.
fn adapted(storage: Storage) -> Decoder {
    let decoder = adapt(decoder(), "", 7, &everywhere(storage, Some(LORA)));
    replace(decoder, "", &mut |name, value| {
        name.contains("lora_B")
            .then(|| normal(value.dims()[0], name) * 0.1)
    })
}

fn normal(count: usize, name: &str) -> Tensor<1> {
    let mut stream = Stream::new(11, name);
    let values: Vec<f32> = (0..count).map(|_| stream.normal() as f32).collect();
    Tensor::from_data(TensorData::from(values.as_slice()), &Device::default())
}

fn input() -> Tensor<3> {
    normal(2 * 7 * 32, "input").reshape([2, 7, 32])
}

fn logits(decoder: &Decoder, x: Tensor<3>) -> Vec<f32> {
    let context = decoder.blocks.causal_context(x.dims()[1], &x.device());
    floats(decoder.head.forward(decoder.blocks.forward(x, &context)))
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |m, (a, b)| m.max((a - b).abs()))
}

#[test]
fn branches_have_pefts_names_and_start_by_adding_nothing() {
    let plain = decoder();
    assert!(
        parameters(&plain, "")
            .iter()
            .all(|p| !p.name.contains("lora"))
    );
    let only_q = |name: &str, _: Matrix| Treatment {
        storage: Storage::F32,
        lora: name.ends_with("1.self_attn.q_proj.weight").then_some(LORA),
    };
    let decoder = adapt(plain.clone(), "language_model.", 7, &only_q);
    let new: Vec<(String, Vec<usize>)> = parameters(&decoder, "language_model.")
        .into_iter()
        .map(|p| (p.name, p.shape))
        .filter(|(name, _)| name.contains("lora"))
        .collect();
    let map = "language_model.model.layers.1.self_attn.q_proj";
    let want = [
        (format!("{map}.lora_A.weight"), vec![4, 32]),
        (format!("{map}.lora_B.weight"), vec![32, 4]),
    ];
    assert_eq!(new, want);
    assert_eq!(logits(&decoder, input()), logits(&plain, input()));
    let tensors = tensors_of(&decoder, "language_model.");
    let a = tensors
        .iter()
        .find(|t| t.name.ends_with("lora_A.weight"))
        .unwrap();
    let bound = 1.0 / 32f32.sqrt();
    let largest = a.data.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(largest <= bound && largest > 0.9 * bound, "{largest}");
}

#[test]
fn a_folded_model_computes_what_the_branches_did() {
    for storage in [Storage::F32, Storage::Bf16, Storage::Nf4] {
        let decoder = adapted(storage);
        let with_branches = logits(&decoder, input());
        let folded = decoder.materialize();
        assert!(
            parameters(&folded, "")
                .iter()
                .all(|p| !p.name.contains("lora"))
        );
        assert_eq!(
            parameters(&folded, "").len(),
            parameters(&self::decoder(), "").len()
        );
        let difference = largest_difference(&with_branches, &logits(&folded, input()));
        assert!(difference < 2e-5, "{storage:?}: {difference}");
    }
    let spec = LoraSpec {
        rslora: true,
        ..LORA
    };
    assert_eq!((LORA.scale(), spec.scale()), (2.0, 4.0));
}

#[test]
fn a_branch_beside_a_fused_map_with_bias() {
    // As in OpenELM and Phi: one map for queries, keys and values.
    let device = Device::default();
    #[derive(Module, Debug)]
    struct Fused {
        qkv_proj: Linear,
    }
    let fused = Fused {
        qkv_proj: Linear::new(8, 24, true, &device),
    };
    let fused = initialize(fused, "", 5, |_, _| qtl_model::weights::Fill::Normal(0.5));
    let all = |_: &str, _: Matrix| Treatment {
        storage: Storage::F32,
        lora: Some(LORA),
    };
    let fused = replace(adapt(fused, "", 7, &all), "", &mut |name, value| {
        name.contains("lora_B")
            .then(|| normal(value.dims()[0], name))
    });
    let x = normal(3 * 8, "x").reshape([3, 8]);
    let value = |name: &str| {
        let tensors = tensors_of(&fused, "");
        let found = tensors
            .into_iter()
            .find(|t| t.name == format!("qkv_proj.{name}"));
        let t = found.unwrap();
        Tensor::<1>::from_data(TensorData::from(t.data.as_slice()), &device)
    };
    let [w, a, b] = [
        value("weight").reshape([24, 8]),
        value("lora_A.weight").reshape([4, 8]),
        value("lora_B.weight").reshape([24, 4]),
    ];
    let product = x.clone().matmul(w.transpose());
    let branch = x.clone().matmul(a.transpose()).matmul(b.transpose()) * 2.0;
    let want = product + value("bias").unsqueeze() + branch;
    let difference = largest_difference(&floats(fused.qkv_proj.forward(x)), &floats(want));
    assert!(difference < 1e-5, "{difference}");
}

/// Gradients of the branches and of the input, through one graph or recomputed block by block.
fn gradients(decoder: &Decoder, recomputed: bool) -> (Vec<f32>, Named) {
    let tracked = track(decoder, "", &|name| name.contains("lora"));
    let x = input();
    let context = decoder.blocks.causal_context(7, &x.device());
    let seed = normal(2 * 7 * 32, "gradient").reshape([2, 7, 32]);
    let mut named = Named::new();
    if recomputed {
        let count = decoder.blocks.len();
        let plain = |i, x| decoder.blocks.block(i, x, &context);
        let again = |i, x| tracked.blocks.block(i, x, &context);
        let (_, tape) = Tape::run(count, 0, x, plain, again);
        let gradient = tape.backward(
            seed,
            |i, x| tracked.blocks.block(i, x, &context),
            |grads| collect(&tracked, "", grads, &mut named),
        );
        return (floats(gradient), named);
    }
    let x = leaf(x);
    let mut grads = pull(tracked.blocks.forward(x.clone(), &context), seed);
    let gradient = take(&x, &mut grads);
    collect(&tracked, "", &mut grads, &mut named);
    (floats(gradient), named)
}

#[test]
fn recomputed_gradients_are_the_direct_ones_with_dropout() {
    for storage in [Storage::F32, Storage::Nf4] {
        let decoder = adapted(storage);
        let draw = Draw { seed: 5, step: 9 };
        let (direct_input, direct) = drawing(draw, || gradients(&decoder, false));
        let (input, recomputed) = drawing(draw, || gradients(&decoder, true));
        assert_eq!(direct.len(), 3 * 7 * 2);
        assert!(largest_difference(&direct_input, &input) < 1e-5);
        assert!(direct.keys().eq(recomputed.keys()));
        for (name, want) in direct {
            let want = floats(want);
            let scale = want.iter().fold(0f32, |m, v| m.max(v.abs()));
            let difference = largest_difference(&want, &floats(recomputed[&name].clone()));
            assert!(
                scale > 0.0 && difference <= 1e-5 * scale.max(1.0),
                "{name}: {difference}"
            );
        }
        // The masks matter: another step has other gradients.
        let later = Draw { step: 10, ..draw };
        let (other, _) = drawing(later, || gradients(&decoder, true));
        assert!(largest_difference(&input, &other) > 1e-2);
    }
}

/// The inverse of the normal distribution function, by bisection of its integral.
fn quantile(p: f64) -> f64 {
    // erf by its series, which converges everywhere.
    let cdf = |x: f64| {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-17 {
            n += 1.0;
            term *= -x * x / (2.0 * n);
            sum += term / (2.0 * n + 1.0);
        }
        0.5 + sum / std::f64::consts::TAU.sqrt()
    };
    let (mut low, mut high) = (-6.0, 6.0);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[test]
fn levels_are_quantiles_of_the_normal_distribution() {
    // Eight quantiles above and seven below an exact zero. The outermost leaves half a sixteenth and half a fifteenth,
    // averaged, outside.
    let outermost = 0.5 * ((1.0 - 1.0 / 32.0) + (1.0 - 1.0 / 30.0));
    let side = |count: usize| {
        let step = (outermost - 0.5) / count as f64;
        (0..count).map(move |i| quantile(outermost - step * i as f64))
    };
    let mut levels: Vec<f64> = side(7).map(|q| -q).collect();
    levels.push(0.0);
    levels.extend(side(8).collect::<Vec<_>>().into_iter().rev());
    let largest = levels[15];
    assert_eq!(levels.len(), 16);
    for (got, want) in NF4_LEVELS.iter().zip(levels) {
        assert!(
            (f64::from(*got) - want / largest).abs() < 3e-7,
            "{got} {want}"
        );
    }
}

#[test]
fn packing_rounds_to_the_nearest_level_in_four_bits_and_an_eighth() {
    let (rows, columns) = (96, 1024);
    let values: Vec<f32> = floats(normal(rows * columns, "weights"))
        .iter()
        .map(|v| v * 0.02)
        .collect();
    let packed = Nf4::pack(&values, [rows, columns], &Device::default());
    let bits = 8.0 * packed.bytes() as f64 / values.len() as f64;
    // 2 KiB of the table weigh less in a larger matrix.
    assert!((4.12..4.32).contains(&bits), "{bits}");
    let back = floats(packed.unpack());
    let mut squares = 0.0;
    for (block, (values, back)) in values.chunks(64).zip(back.chunks(64)).enumerate() {
        let scale = values.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (value, got) in values.iter().zip(back) {
            let nearest = NF4_LEVELS
                .iter()
                .map(|level| level * scale)
                .min_by(|a, b| (a - value).abs().total_cmp(&(b - value).abs()))
                .unwrap();
            // 8-bit scales are off by at most half a 127th of their largest deviation from the mean.
            let allowed = (nearest - value).abs() + 0.01 * scale;
            assert!(
                (got - value).abs() <= allowed,
                "block {block}: {value} {got}"
            );
            squares += f64::from(got - value).powi(2);
        }
    }
    let error = (squares / values.len() as f64).sqrt() / 0.02;
    // Normal values and exact scales give 0.092.
    assert!((0.085..0.105).contains(&error), "{error}");
}

#[test]
fn packing_takes_any_matrix() {
    let device = Device::default();
    let cases: [(Vec<f32>, [usize; 2]); 5] = [
        (vec![0.0; 130], [2, 65]),
        (vec![0.25; 64], [1, 64]),
        (vec![-1e-30, 3.0, 1e30], [3, 1]),
        ([vec![0.0; 64], vec![5.0; 64]].concat(), [2, 64]),
        ((0..64 * 300).map(|i| (i as f32).sin()).collect(), [300, 64]),
    ];
    for (values, shape) in cases {
        let unpacked = Nf4::pack(&values, shape, &device).unpack();
        assert_eq!(unpacked.dims(), shape);
        let back = floats(unpacked);
        for (block, got) in values.chunks(64).zip(back.chunks(64)) {
            let scale = block.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (value, got) in block.iter().zip(got) {
                assert!(got.is_finite());
                assert!((value - got).abs() <= 0.17 * scale, "{value} {got}");
            }
        }
    }
}

#[test]
fn frozen_weights_in_bfloat16_compute_with_their_rounded_values_in_32_bits() {
    let rounded = replace(decoder(), "", &mut |name, value| {
        let matrix = name.contains("proj") || name.contains("head");
        matrix.then(|| value.cast(DType::BF16).cast(DType::F32))
    });
    let halves = |_: &str, _: Matrix| Treatment {
        storage: Storage::Bf16,
        lora: None,
    };
    let stored = adapt(decoder(), "", 7, &halves);
    // The order of the sums is another.
    for (stored, rounded) in logits(&stored, input())
        .iter()
        .zip(logits(&rounded, input()))
    {
        assert!((stored - rounded).abs() < 1e-6, "{stored} {rounded}");
    }
}

#[test]
fn activations_in_bfloat16_stay_near_those_in_32_bits() {
    let loss = |decoder: &Decoder| {
        let x = input().cast(decoder.blocks.activation());
        let tracked = track(decoder, "", &|name| name.contains("lora"));
        let context = decoder.blocks.causal_context(7, &x.device());
        let supervision = Supervision::shifted(&[vec![1, 2, 3, 4, 5, 6, 7], vec![8; 7]], 7);
        let hidden = tracked.blocks.forward(x, &context);
        assert_eq!(hidden.dtype(), decoder.blocks.activation());
        let loss = tracked.head.loss(hidden, &supervision);
        assert_eq!(loss.dtype(), DType::F32);
        let value = loss.clone().inner().into_scalar::<f32>();
        let mut grads = loss.backward();
        let mut named = Named::new();
        collect(&tracked, "", &mut grads, &mut named);
        (value, named)
    };
    let decoder = adapted(Storage::Bf16);
    let (exact, exact_grads) = loss(&decoder);
    let (half, half_grads) = loss(&decoder.with_activation(DType::BF16));
    assert!(
        half != exact && (half - exact).abs() < 0.02,
        "{half} {exact}"
    );
    assert_eq!(half_grads.len(), exact_grads.len());
    for (name, gradient) in half_grads {
        // Master weights are 32 bits wide, and so are their gradients.
        assert_eq!(gradient.dtype(), DType::F32);
        let norm = |g: Tensor<1>| g.square().sum().sqrt().into_scalar::<f32>();
        let want = exact_grads[&name].clone();
        let off = norm(gradient - want.clone()) / norm(want);
        assert!(off < 0.1, "{name}: {off}");
    }
}
