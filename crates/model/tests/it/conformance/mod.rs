//! What every member of a family must do. New members join by being in the family's list.

mod connector;
mod split;
mod tower;

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use qtl_model::config::Fields;
use qtl_model::connector::{Connector, ConnectorSpec, FAMILIES as CONNECTORS, Family};
use qtl_model::params::{collect, replace, track};
use qtl_model::vision::{FAMILIES, FeatureSelect, VisionSpec, VisionTower};
use qtl_model::weights::{Fill, Stream, initialize, parameters};

use crate::golden::floats;

/// Sizes that any tower can be read from, whichever of these fields it looks at.
pub fn vision_config(model_type: &str) -> serde_json::Value {
    let sizes = serde_json::json!({
        "hidden_size": 8, "intermediate_size": 12, "image_size": 6, "patch_size": 2, "num_hidden_layers": 3,
        "num_attention_heads": 2, "mlp_ratio": 2, "layerscale_value": 0.7,
    });
    let mut config = sizes.clone();
    config["model_type"] = model_type.into();
    for half in ["vision_config", "clip", "dinov2"] {
        config[half] = sizes.clone();
    }
    // One of the two DINOv2 towers has the gated feed-forward part.
    config["dinov2"]["use_swiglu_ffn"] = true.into();
    config
}

/// One tiny tower per family; a tower that can gets pictures of another size than its position table's.
pub fn towers() -> Vec<(&'static str, VisionSpec)> {
    let read = |name: &str| {
        let text = vision_config(name).to_string();
        VisionSpec::from_config(&Fields::parse(Path::new("tiny"), &text).unwrap()).unwrap()
    };
    let spec = |name| {
        let spec = read(name);
        let larger = spec.clone().resized(8);
        (name, larger.unwrap_or(spec))
    };
    FAMILIES.iter().map(|(name, _)| spec(*name)).collect()
}

/// One tiny connector per family.
pub fn connectors() -> Vec<ConnectorSpec> {
    let spec = |family: &Family| {
        let text = serde_json::json!({
            "connector_type": family.example, "num_queries": 3, "num_resampler_layers": 2,
            "qformer": {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 10, "num_hidden_layers": 3},
        });
        let fields = Fields::parse(Path::new("tiny"), &text.to_string()).unwrap();
        let input = 8 * family.towers;
        ConnectorSpec::from_config(&fields, input, family.towers, 8).unwrap()
    };
    CONNECTORS.iter().map(spec).collect()
}

/// A tower in general position: no bias is zero, no scale is one.
pub fn random_tower(spec: &VisionSpec, select: FeatureSelect, seed: u64) -> VisionTower {
    let tower = VisionTower::new(spec.clone(), select, &Device::default());
    initialize(tower, "", seed, |name, shape| {
        perturbed(spec.fill(name, shape))
    })
}

/// A connector in general position.
pub fn random_connector(spec: &ConnectorSpec, seed: u64) -> Connector {
    let connector = Connector::new(spec, &Device::default()).unwrap();
    let rule = connector.clone();
    initialize(connector, "", seed, |name, shape| {
        perturbed(rule.fill(name, shape))
    })
}

fn perturbed(fill: Fill) -> Fill {
    match fill {
        Fill::Zeros => Fill::Normal(0.3),
        Fill::Ones | Fill::Constant(_) => Fill::Uniform(1.5),
        other => other,
    }
}

/// Standard normal values.
pub fn noise<const D: usize>(shape: [usize; D], name: &str) -> Tensor<D> {
    let mut stream = Stream::new(11, name);
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| stream.normal() as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::default())
}

/// Checks the gradients of `sum(output * weights)` to every parameter and to the input against central differences,
/// along the gradient itself and along two random directions.
pub fn gradients_agree<M: Module, const D: usize>(
    what: &str,
    module: &M,
    input: Tensor<D>,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<3>,
) {
    let weights = noise(forward(module, input.clone()).dims(), "weights");
    let value = |module: &M, input: Tensor<D>| -> f64 {
        let products = forward(module, input) * weights.clone();
        floats(products).into_iter().map(f64::from).sum()
    };
    let tracked = track(module, "", &|_| true);
    let leaf = input.clone().autodiff().require_grad();
    let mut grads = (forward(&tracked, leaf.clone()) * weights.clone())
        .sum()
        .backward();
    let mut named = BTreeMap::new();
    collect(&tracked, "", &mut grads, &mut named);
    let all: Vec<String> = parameters(module, "").into_iter().map(|p| p.name).collect();
    assert_eq!(
        named.keys().cloned().collect::<Vec<_>>(),
        sorted(&all),
        "{what}"
    );
    for (name, gradient) in &named {
        let gradient = floats(gradient.clone());
        let moved = |step: &[f32]| {
            let change = |at: &str, old: Tensor<1>| (at == name).then(|| old + vector(step));
            let mut change = change;
            value(&replace(module.clone(), "", &mut change), input.clone())
        };
        slopes_agree(&format!("{what}, {name}"), &gradient, moved);
    }
    let gradient = floats(leaf.grad(&grads).unwrap());
    let shape = input.dims();
    slopes_agree(&format!("{what}, input"), &gradient, |step| {
        value(module, input.clone() + vector(step).reshape(shape))
    });
}

fn slopes_agree(what: &str, gradient: &[f32], value: impl Fn(&[f32]) -> f64) {
    const STEP: f64 = 4e-3;
    let norm = |x: &[f32]| x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let size = norm(gradient);
    assert!(size.is_finite(), "{what}");
    for direction in ["gradient", "one way", "another way"] {
        let mut along = gradient.to_vec();
        if direction != "gradient" || size < 1e-4 {
            let mut stream = Stream::new(3, direction);
            along.fill_with(|| stream.normal() as f32);
        }
        let length = norm(&along);
        let step = |sign: f64| -> Vec<f32> {
            let scale = sign * STEP / length;
            along
                .iter()
                .map(|v| (f64::from(*v) * scale) as f32)
                .collect()
        };
        let slope = (value(&step(1.0)) - value(&step(-1.0))) / (2.0 * STEP);
        let pairs = gradient.iter().zip(&along);
        let want = pairs
            .map(|(g, a)| f64::from(*g) * f64::from(*a))
            .sum::<f64>()
            / length;
        assert!(
            (slope - want).abs() <= 0.01 * size + 2e-3,
            "{what}, along {direction}: slope {slope}, gradient says {want} (its norm is {size})"
        );
    }
}

fn vector(values: &[f32]) -> Tensor<1> {
    Tensor::from_floats(values, &Device::default())
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

/// Checks that a copy in which only the parameters chosen by `trained` are tracked gets gradients for all of them, none of
/// which vanishes unless `may_vanish`, and for no other.
pub fn exactly_the_trained_get_gradients<M: Module, const D: usize>(
    what: &str,
    module: &M,
    input: Tensor<D>,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<3>,
    may_vanish: impl Fn(&str) -> bool,
) {
    let all: Vec<String> = parameters(module, "").into_iter().map(|p| p.name).collect();
    for rest in 0..2 {
        let chosen: Vec<String> = all.iter().skip(rest).step_by(2).cloned().collect();
        if chosen.is_empty() {
            continue;
        }
        let tracked = track(module, "", &|name| chosen.iter().any(|c| c == name));
        let out = forward(&tracked, input.clone());
        let weights = noise(out.dims(), "weights");
        let mut grads = (out * weights).sum().backward();
        let mut named = BTreeMap::new();
        collect(&tracked, "", &mut grads, &mut named);
        assert_eq!(
            named.keys().cloned().collect::<Vec<_>>(),
            sorted(&chosen),
            "{what}"
        );
        for (name, gradient) in named {
            let largest = floats(gradient)
                .iter()
                .fold(0.0f32, |top, x| top.max(x.abs()));
            assert!(
                largest > 1e-6 || may_vanish(&name),
                "{what}: {name} learns nothing"
            );
        }
    }
}

/// Checks that what `forward` makes of a row does not depend on the other rows.
pub fn rows_are_independent<const D: usize>(
    what: &str,
    input: Tensor<D>,
    forward: impl Fn(Tensor<D>) -> Tensor<3>,
) {
    let rows = input.dims()[0];
    let together = forward(input.clone());
    for row in 0..rows {
        let alone = floats(forward(input.clone().narrow(0, row, 1)));
        let among = floats(together.clone().narrow(0, row, 1));
        for (a, b) in alone.iter().zip(&among) {
            assert!(
                (a - b).abs() <= 1e-5 * b.abs().max(1.0),
                "{what}: {a} alone, {b} among others"
            );
        }
    }
}
