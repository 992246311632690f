//! Where the model is cut: with edges that lose nothing, to no bit a difference; with quantizers, one run whatever disturbs it.

use std::collections::BTreeMap;
use std::path::Path;

use qtl_model::Device;
use qtl_model::generate::{InProcess, answers};
use qtl_model::text::Answering;
use qtl_model::weights::Checkpoint;
use qtl_train::client::batch;
use qtl_train::start::Start;

use crate::world::{Drawn, KINDS, base, blueprint, kind, recipe, saved, train};

/// Where the tests cut the model, and which blocks are run again.
const PLACEMENTS: &[[&str; 2]] = &[
    ["split.bottom_blocks=0", "train.recompute=always"],
    ["split.bottom_blocks=0", "train.recompute=never"],
    ["split.bottom_blocks=1", "train.recompute=always"],
    ["split.bottom_blocks=1", "train.recompute=never"],
];

/// Edges that lose nothing, and no clipping, which each side does for itself.
const EXACT: &[&str] = &[
    "quantizer.image.kind=exact",
    "quantizer.text.kind=exact",
    "quantizer.text_rows=all",
    "gradient.codec=f32",
    "train.clip=0",
    "train.steps=3",
    "train.save_every=3",
];

/// What both sides have saved of a step, by name.
pub fn weights(dir: &Path, step: u64) -> BTreeMap<String, Vec<f32>> {
    let mut all = BTreeMap::new();
    for side in ["", "server"] {
        let name = format!("checkpoints/step-{step:08}/model.safetensors");
        let file = Checkpoint::open(&dir.join(side).join(name)).unwrap();
        for name in file.names() {
            let before = all.insert(name.to_owned(), file.read(name).unwrap());
            assert!(before.is_none() || name.starts_with("VQ."), "{name} twice");
        }
    }
    all
}

#[test]
fn with_exact_edges_every_placement_gives_the_same_bits() {
    let more = [
        ("full", &["train.accumulate=2"][..]),
        ("lora", &["train.accumulate=2"]),
        ("full", &["train.activation=bf16"]),
    ];
    let plain = KINDS.iter().map(|(name, _)| (*name, &[][..]));
    for (name, sets) in plain.chain(more) {
        let mut first = None;
        for placement in PLACEMENTS {
            let dir = tempfile::tempdir().unwrap();
            let sets = [EXACT, sets, placement].concat();
            let losses = train(&recipe(kind(name), &sets), dir.path(), None);
            let end = (losses, weights(dir.path(), 3));
            assert!(end.0.windows(2).any(|pair| pair[0] != pair[1]));
            match &first {
                None => first = Some(end),
                Some(first) => {
                    assert_eq!(first.0, end.0, "{name} {sets:?}: the losses differ");
                    assert!(first.1 == end.1, "{name} {sets:?}: the weights differ");
                }
            }
        }
    }
}

/// The base's blocks are where the placement says, and nowhere else.
#[test]
fn a_block_is_at_the_client_or_at_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let sets = [EXACT, &["split.bottom_blocks=1"]].concat();
    train(&recipe(kind("full"), &sets), dir.path(), None);
    for (side, own, other) in [("", "0", "1"), ("server", "1", "0")] {
        let name = "checkpoints/step-00000003/model.safetensors";
        let file = Checkpoint::open(&dir.path().join(side).join(name)).unwrap();
        let has = |block: &str| {
            let block = format!("language_model.model.layers.{block}.");
            file.names().any(|name| name.starts_with(&block))
        };
        assert!(has(own) && !has(other), "{side}");
    }
}

#[test]
fn an_interrupted_run_with_a_block_at_the_client_ends_in_the_same_bits() {
    for name in ["full", "lora"] {
        let recipe = recipe(
            kind(name),
            &[
                "split.bottom_blocks=1",
                "quantizer.image={kind='fsq', levels=4}",
                "quantizer.text={kind='fsq', levels=4}",
                "train.steps=4",
            ],
        );
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [whole, broken] = [dirs[0].path(), dirs[1].path()];
        let losses = train(&recipe, whole, None);
        assert_eq!(train(&recipe, broken, Some(1)), losses[..2]);
        assert_eq!(train(&recipe, broken, None), losses[2..], "{name}");
        for side in ["", "server"] {
            for file in ["model.safetensors", "optimizer.safetensors"] {
                let same = saved(whole, side, 4, file) == saved(broken, side, 4, file);
                assert!(same, "{name}: {side}/{file} differs");
            }
        }
    }
}

/// The client goes on with a cache of its own.
#[test]
fn answers_are_the_same_wherever_the_model_is_cut() {
    let device = Device::default();
    let given: Vec<Vec<Vec<u32>>> = PLACEMENTS
        .iter()
        .map(|placement| {
            let recipe = recipe("", &[EXACT, placement].concat());
            let start = Start::from(&blueprint(&recipe));
            let client = start
                .client(&device)
                .unwrap()
                .sending(recipe.quantizer.text_rows);
            let server = start.server(&device).unwrap();
            // Two prompts of different lengths, which end at different times.
            let mut examples = [Drawn::example(1), Drawn::example(2)];
            let short = &mut examples[1].spans[0];
            short.ids.truncate(4);
            short.labels.truncate(4);
            let prompts = batch(&client, &examples, 256, &device).unwrap();
            let mut remote = InProcess::new(&server);
            let mut seen = |sequence: usize, _| sequence == 0;
            let how = Answering::greedy(Vec::new(), 6);
            answers(&client, &prompts, &mut remote, &how, &mut seen).unwrap()
        })
        .collect();
    assert_eq!(given[0][0].len(), 6);
    assert_eq!(given[0][1].len(), 1);
    assert!(given.iter().all(|other| *other == given[0]), "{given:?}");
}

#[test]
fn more_blocks_than_there_are_are_refused_by_name() {
    for count in [2, 3] {
        let set = format!("split.bottom_blocks={count}");
        let error = recipe("", &[&set]).blueprint(&base()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("split.bottom_blocks"), "{error}");
    }
}
