//! What holds for every way of tuning: what is trained gets a gradient, and nothing else moves.

use std::collections::{BTreeMap, BTreeSet};

use qtl_codec::Code;
use qtl_model::Device;
use qtl_model::params::Named;
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::parts::Parts;
use qtl_model::targets;
use qtl_model::tuning::dropout::{Draw, drawing};
use qtl_model::weights::NamedTensor;
use qtl_train::client::batch;
use qtl_train::optimizer::Optimizer;
use qtl_train::tune::block;
use qtl_train::{Recipe, adapt};
use safetensors::SafeTensors;

use crate::world::{Drawn, KINDS, blueprint, kind, recipe, saved, train};

struct Halves {
    client: ClientPartition,
    server: ServerPartition,
}

impl Halves {
    fn open(recipe: &Recipe) -> Self {
        let blueprint = blueprint(recipe);
        let device = Device::default();
        let client = blueprint.client(&device).unwrap().partition;
        let server = blueprint.server(&device).unwrap().partition;
        Self {
            client: adapt::tuned(client, recipe).unwrap(),
            server: adapt::tuned(server, recipe).unwrap(),
        }
    }

    /// Gradients of both halves for some examples.
    fn gradients(&mut self, recipe: &Recipe, step: u64, examples: std::ops::Range<usize>) -> Named {
        let device = Device::default();
        let examples: Vec<_> = examples.map(Drawn::example).collect();
        let batch = batch(&self.client, &examples, 256, &device).unwrap();
        let trained = |name: &str| recipe.tune.trains(name);
        let draw = Draw {
            seed: recipe.seed,
            step,
        };
        drawing(draw, || {
            let (cut, pending) = self.client.forward(&batch, step, &trained);
            let targets: Code = targets::encode(&batch.spliced.labels, self.server.vocab_size());
            let step = self.server.step(&cut, &targets, &trained, &device).unwrap();
            let mut gradients = pending.backward(step.returned.rows);
            gradients.extend(step.returned.parameters);
            gradients
        })
    }

    fn tensors(&self) -> BTreeMap<String, NamedTensor> {
        let both = self
            .client
            .tensors()
            .into_iter()
            .chain(self.server.tensors());
        both.map(|tensor| (tensor.name.clone(), tensor)).collect()
    }
}

#[test]
fn what_is_trained_gets_a_gradient_and_nothing_else_moves() {
    for (name, tune) in KINDS {
        let recipe = recipe(
            tune,
            &["quantizer.text.kind=fsq", "quantizer.text.levels=4"],
        );
        let mut halves = Halves::open(&recipe);
        let start = halves.tensors();
        let trained: BTreeSet<&String> = start.keys().filter(|n| recipe.tune.trains(n)).collect();
        // The feature is taken before the tower's last block, so that one never runs.
        let depth = halves.client.bottom.vision_tower.vits()[0].depth();
        let idle = |name: &str| {
            name.starts_with("vision_tower.") && block(name).is_some_and(|b| b >= depth)
        };
        let wanted: BTreeSet<&String> = trained.iter().copied().filter(|n| !idle(n)).collect();
        assert!(!wanted.is_empty(), "{name}");
        let mut optimizer = Optimizer::new(&recipe.train, &recipe.tune);
        for step in 0..2 {
            let gradients = halves.gradients(&recipe, step, 0..2);
            let got: BTreeSet<&String> = gradients.keys().collect();
            assert_eq!(got, wanted, "{name}");
            optimizer.add(gradients, 1.0).unwrap();
            optimizer.clip().unwrap();
            halves.client = optimizer.update(halves.client, 1.0);
            halves.server = optimizer.update(halves.server, 1.0);
        }
        for (tensor, value) in halves.tensors() {
            let moved = value != start[&tensor];
            let statistic = tensor.contains("running_");
            assert!(
                moved == wanted.contains(&tensor) || statistic,
                "{name}: {tensor}"
            );
        }
        let entries = optimizer.entries();
        let states: BTreeSet<&str> = entries
            .names()
            .filter_map(|entry| entry.strip_suffix(".moment_1"))
            .collect();
        assert_eq!(
            states,
            wanted.iter().map(|n| n.as_str()).collect(),
            "{name}"
        );
    }
}

#[test]
fn checkpoints_hold_what_is_trained_and_not_the_base() {
    let recipe = recipe(kind("lora"), &["train.steps=2"]);
    let dir = tempfile::tempdir().unwrap();
    train(&recipe, dir.path(), None);
    let bytes = saved(dir.path(), "server", 2, "model.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(
        file.len(),
        2 * 7 * 2,
        "two factors for seven maps of two blocks"
    );
    assert!(file.names().iter().all(|name| name.contains(".lora_")));
    let q = "language_model.model.layers.1.self_attn.q_proj.lora_A.weight";
    assert_eq!(file.tensor(q).unwrap().shape(), [4, 128]);
}

#[test]
fn accumulated_micro_batches_are_one_large_batch() {
    // Without dropout, whose masks differ from micro-batch to micro-batch.
    let tunes = [
        kind("full").to_owned(),
        kind("lora").replace("dropout = 0.1", "dropout = 0"),
        kind("qlora").replace("dropout = 0.05", "dropout = 0"),
    ];
    for tune in tunes {
        let recipe = recipe(&tune, &[]);
        let mut halves = Halves::open(&recipe);
        // Branches start with B = 0, which would hide the gradient of A.
        halves.server = halves
            .server
            .replace(&mut |name, value| name.contains("lora_B").then(|| value.ones_like() * 0.05));
        let large = halves.gradients(&recipe, 0, 0..4);
        let mut sum = Named::new();
        for i in 0..4 {
            for (name, gradient) in halves.gradients(&recipe, 0, i..i + 1) {
                let part = gradient * 0.25;
                let total = match sum.remove(&name) {
                    Some(before) => before + part,
                    None => part,
                };
                sum.insert(name, total);
            }
        }
        assert!(sum.keys().eq(large.keys()));
        for (name, gradient) in large {
            let norm = |g: burn::tensor::Tensor<1>| g.square().sum().sqrt().into_scalar::<f32>();
            let difference = norm(gradient.clone() - sum[&name].clone());
            let size = norm(gradient);
            assert!(
                difference <= 1e-4 * size + 1e-7,
                "{name}: {difference} of {size}"
            );
        }
    }
}

#[test]
fn packed_weights_learn() {
    let recipe = recipe(
        kind("qlora"),
        &["train.steps=30", "train.lr=5e-3", "train.save_every=30"],
    );
    let dir = tempfile::tempdir().unwrap();
    let losses = train(&recipe, dir.path(), None);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..5]), mean(&losses[25..]));
    assert!(last < 0.8 * first, "from {first} to {last}");
}

#[test]
fn bfloat16_activations_train() {
    let sets = ["train.steps=20", "train.lr=3e-3", "train.activation=bf16"];
    let recipe = recipe(kind("lora"), &sets);
    let dir = tempfile::tempdir().unwrap();
    let losses = train(&recipe, dir.path(), None);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..4]), mean(&losses[16..]));
    assert!(last < 0.95 * first, "from {first} to {last}");
}
