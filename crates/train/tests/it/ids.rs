//! Text that crosses as token ids, and gradients that nobody reads.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qtl_model::Device;
use qtl_model::edge::Returns;
use qtl_model::generate::{InProcess, answers};
use qtl_model::params::Named;
use qtl_model::partition::ClientPartition;
use qtl_model::stage::Batch;
use qtl_model::text::Answering;
use qtl_model::weights::{SaveType, Stream};
use qtl_train::adapt::tuned;
use qtl_train::client::{Client, batch};
use qtl_train::inspect::inspect;
use qtl_train::random::random_model;
use qtl_train::start::Start;
use qtl_train::{Recipe, TrainError};
use qtl_wire::{LocalLink, WireError, over_loopback};

use burn::tensor::{Tensor, TensorData};

use crate::placement::{EXACT, QUANTIZED, weights};
use crate::world::{
    Drawn, KINDS, blueprint_of, kind, random_base, recipe, records_of, records_over, saved,
    server_of, train_on,
};

/// Token ids instead of rows.
const IDS: &[&str] = &["split.text=ids", "quantizer.text={kind='none'}"];

#[test]
fn ids_teach_what_rows_teach_where_the_table_does_not_learn() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, true);
    for name in ["frozen", "lora", "qlora"] {
        let ends = [&[][..], IDS].map(|ids| {
            let dir = tempfile::tempdir().unwrap();
            let recipe = recipe(kind(name), &[EXACT, ids].concat());
            let start = Start::from(&blueprint_of(&base, &recipe));
            let server = server_of(&start, &recipe, dir.path());
            let records = over_loopback(server, |link| {
                let (source, dir) = (Arc::new(Drawn), dir.path());
                Ok::<_, WireError>(records_over(link, source, &start, &recipe, dir, None))
            });
            let records = records.unwrap();
            for record in &records {
                // Nothing learns from the gradient of text rows, whatever crossed for them.
                assert_eq!(record.bytes_gradient_text, 0, "{name}");
                assert!(record.bytes_gradient > 0, "{name}");
                assert!(ids.is_empty() || record.bytes_text + record.bytes_index < 60);
            }
            let losses: Vec<_> = records.iter().map(|r| r.loss.unwrap()).collect();
            (losses, weights(dir.path(), 3))
        });
        assert!(ends[0] == ends[1], "{name}");
    }
}

#[test]
fn an_interrupted_run_with_ids_ends_in_the_same_bits() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    let recipe = recipe(kind("lora"), &[QUANTIZED, IDS].concat());
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [whole, broken] = [dirs[0].path(), dirs[1].path()];
    let losses = train_on(&base, &recipe, whole, None);
    assert_eq!(train_on(&base, &recipe, broken, Some(1)), losses[..2]);
    assert_eq!(train_on(&base, &recipe, broken, None), losses[2..]);
    for side in ["", "server"] {
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let same = saved(whole, side, 4, file) == saved(broken, side, 4, file);
            assert!(same, "{side}/{file} differs");
        }
    }
}

#[test]
fn answers_are_the_same_from_ids_and_from_rows() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    let device = Device::default();
    let given = [&[][..], IDS].map(|ids| {
        let recipe = recipe(kind("lora"), &[EXACT, ids].concat());
        let start = Start::from(&blueprint_of(&base, &recipe));
        let client = start.client(&device).unwrap();
        let server = start.server(&device).unwrap();
        let examples = [Drawn::example(1), Drawn::example(2)];
        let prompts = batch(&client, &examples, 256, &device).unwrap();
        let mut remote = InProcess::new(&server);
        let how = Answering::greedy(Vec::new(), 6);
        answers(&client, &prompts, &mut remote, &how, &mut |_, _| true).unwrap()
    });
    assert_eq!(given[0][0].len(), 6);
    assert_eq!(given[0], given[1]);
}

/// Rows read in another table would be other rows, and nobody would see it.
#[test]
fn a_server_with_another_table_is_named_before_the_first_step() {
    let bases = tempfile::tempdir().unwrap();
    let own = random_base(bases.path(), 3, false);
    let other = bases.path().join("other");
    random_model(&bases.path().join("start"), &other, 2, SaveType::F32).unwrap();
    let recipe = recipe(kind("lora"), &[EXACT, IDS].concat());
    let [here, there] = [&own, &other].map(|base| Start::from(&blueprint_of(base, &recipe)));
    let dir = tempfile::tempdir().unwrap();
    let mut link = LocalLink::local(server_of(&there, &recipe, dir.path()));
    let device = Device::default();
    let source = Arc::new(Drawn);
    let mut client = Client::open(recipe, &here, source, dir.path(), "test", device).unwrap();
    let error = client.train(&mut link, &AtomicBool::new(false), &mut |_| {});
    let Err(TrainError::Wire(error)) = error else {
        panic!("{error:?}");
    };
    let error = error.to_string();
    assert!(error.contains("checkpoint.embed_tokens"), "{error}");
}

#[test]
fn what_ids_do_not_go_with_is_refused_by_name() {
    let text = recipe(kind("lora"), IDS).to_toml();
    for (set, field) in [
        ("tune.embed_tokens=full", "tune.embed_tokens"),
        ("split.bottom_blocks=1", "split.bottom_blocks"),
        ("split.labels=client", "split.labels"),
        ("quantizer.text={kind='fsq', levels=4}", "quantizer.text"),
        ("privacy.clip=1", "privacy"),
    ] {
        let error = Recipe::parse(&text, &[set.to_owned()], Path::new("r.toml"));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(field) && error.contains("split.text = \"ids\""),
            "{error}"
        );
    }
}

#[test]
fn inspect_says_that_ids_are_told_and_counts_the_servers_table() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    let rows = &IDS[1..];
    let [rows, ids] = [rows, IDS].map(|ids| {
        let recipe = recipe(kind("lora"), &[QUANTIZED, ids].concat());
        let found = inspect(&base, Some(&recipe), 20).unwrap();
        assert_eq!(found.problems, [""; 0]);
        let told = found
            .notes
            .iter()
            .any(|note| note.contains("tells the server every token"));
        assert_eq!(told, ids == IDS);
        found.cost.unwrap()
    });
    assert!(ids.traffic.up_text < rows.traffic.up_text / 10);
    assert!(ids.server.weights > rows.server.weights);
}

/// Where the rule says that a gradient does not come back, the client learns the same bits without it; where it says that it does,
/// something depends on it.
#[test]
fn a_gradient_that_nothing_learns_from_does_not_come_back() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    let device = Device::default();
    let fsq = "{kind='fsq', levels=4, statistics='channel'}";
    let quantizers = [
        [String::from("{kind='none'}"), String::from("{kind='none'}")],
        [fsq.to_owned(), fsq.to_owned()],
        [fsq.to_owned(), String::from("{kind='none'}")],
        [
            String::from("{kind='pca', dims=8, bits=16}"),
            fsq.to_owned(),
        ],
    ];
    let still = "connector = 'frozen'\nembed_tokens = 'frozen'\nllm = 'frozen'";
    let mut kinds: Vec<_> = KINDS.iter().map(|(_, tune)| (*tune).to_owned()).collect();
    kinds.extend([
        format!("{still}\nquantizer = 'frozen'"),
        still.to_owned(),
        "connector = 'frozen'".to_owned(),
        "quantizer = 'frozen'\nembed_tokens = 'frozen'".to_owned(),
    ]);
    let mut left_out = 0;
    for tune in &kinds {
        for [image, text] in &quantizers {
            for blocks in 0..2 {
                let sets = [
                    format!("quantizer.image={image}"),
                    format!("quantizer.text={text}"),
                    format!("split.bottom_blocks={blocks}"),
                ];
                let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
                let recipe = recipe(tune, &sets);
                let blueprint = recipe.blueprint(&base).unwrap();
                let half = blueprint.client(&device).unwrap().partition;
                let mut half = tuned(half, &recipe).unwrap();
                let returns = half.uplink.returns;
                let examples = [Drawn::example(0), Drawn::example(1)];
                let batch = batch(&half, &examples, 256, &device).unwrap();
                let learned = |half: &mut ClientPartition, all: bool| {
                    half.uplink.returns = match all {
                        true => Returns::default(),
                        false => returns,
                    };
                    learned(half, &recipe, &batch, &device)
                };
                let (with, without) = (learned(&mut half, true), learned(&mut half, false));
                assert!(with == without, "{tune} {sets:?}");
                left_out += u32::from(!returns.image) + u32::from(!returns.text);
            }
        }
    }
    assert!(left_out > 20);
}

/// What the client's half learns from the same gradients, of those that it has come back.
fn learned(
    half: &mut ClientPartition,
    recipe: &Recipe,
    batch: &Batch,
    device: &Device,
) -> Vec<(String, Vec<f32>)> {
    let trained = |name: &str| recipe.tune.trains(name);
    let (_, pending) = half.clone().forward(batch, 0, &trained);
    let mut streams = [Stream::new(1, "image"), Stream::new(1, "text")].into_iter();
    let rows = pending.gradient_shapes().map(|shape| {
        let mut stream = streams.next()?;
        let [rows, cols] = shape?;
        let values: Vec<f32> = (0..rows * cols).map(|_| stream.normal() as f32).collect();
        Some(Tensor::<2>::from_data(
            TensorData::new(values, [rows, cols]),
            device,
        ))
    });
    let named: Named = pending.backward(rows);
    let floats = |x: Tensor<1>| x.into_data().iter::<f32>().collect();
    named
        .into_iter()
        .map(|(name, x)| (name, floats(x)))
        .collect()
}

/// A run whose client learns nothing has nothing come back.
#[test]
fn a_client_that_learns_nothing_gets_no_gradient() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    let tune = "connector = 'frozen'\nembed_tokens = 'frozen'\nquantizer = 'frozen'";
    for labels in ["server", "client"] {
        let dir = tempfile::tempdir().unwrap();
        let recipe = recipe(tune, &[&format!("split.labels={labels}")]);
        let start = Start::from(&blueprint_of(&base, &recipe));
        for record in records_of(Arc::new(Drawn), &start, &recipe, dir.path(), None) {
            assert_eq!(record.bytes_gradient, 0, "{labels}");
            assert_eq!(record.elements_gradient, 0, "{labels}");
        }
    }
}
