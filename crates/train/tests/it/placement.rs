//! Where the model is cut: with edges that lose nothing, to no bit a difference; with quantizers, one run whatever disturbs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qtl_model::Device;
use qtl_model::generate::{InProcess, answers};
use qtl_model::text::Answering;
use qtl_model::weights::Checkpoint;
use qtl_train::ServerWork;
use qtl_train::client::{Client, batch};
use qtl_train::export::write_adapter;
use qtl_train::inspect::inspect;
use qtl_train::start::Start;
use qtl_wire::{Exchange, LocalLink, Simulation, WireError, over_loopback};

use crate::world::{
    Drawn, KINDS, blueprint, blueprint_of, kind, random_base, recipe, records_of, records_over,
    saved, server_of, train_on,
};

/// Where the tests cut a model of three blocks, and whether blocks are run again.
pub const PLACEMENTS: &[&[&str]] = &[
    &["split.bottom_blocks=0", "train.recompute=always"],
    &["split.bottom_blocks=0", "train.recompute=never"],
    &["split.bottom_blocks=1", "train.recompute=always"],
    &["split.bottom_blocks=1", "train.recompute=never"],
    &["split.labels=client", "train.recompute=always"],
    &["split.connector=server"],
    &[
        "split.connector=server",
        "split.labels=client",
        "split.top_blocks=1",
    ],
    &[
        "split.labels=client",
        "split.top_blocks=1",
        "train.recompute=never",
    ],
    &[
        "split.labels=client",
        "split.top_blocks=1",
        "split.bottom_blocks=1",
    ],
];

/// Edges that lose nothing, and no clipping, which each side does for itself.
pub const EXACT: &[&str] = &[
    "quantizer.image.kind=exact",
    "quantizer.text.kind=exact",
    "quantizer.text_rows=all",
    "gradient.codec=f32",
    "train.clip=0",
    "train.steps=3",
    "train.save_every=3",
];

/// Quantizers with recorded statistics, whose calibration is part of a run.
pub const QUANTIZED: &[&str] = &[
    "quantizer.image={kind='fsq', levels=4, statistics='channel'}",
    "quantizer.text={kind='fsq', levels=4, statistics='channel'}",
    "quantizer.calibration_batches=2",
    "train.steps=4",
];

/// The same of the edges between trunk and top, where there is one.
pub fn edges<'a>(placement: &[&'a str], hidden: &[&'a str]) -> Vec<&'a str> {
    let second = placement.contains(&"split.labels=client");
    let hidden = hidden.iter().filter(|_| second);
    placement.iter().chain(hidden).copied().collect()
}

pub const EXACT_HIDDEN: &[&str] = &["quantizer.hidden.kind=exact", "gradient.hidden=f32"];
pub const QUANTIZED_HIDDEN: &[&str] =
    &["quantizer.hidden={kind='fsq', levels=4, statistics='channel'}"];

/// Quantizers of hidden states that start from more than ranges.
const STARTED_HIDDEN: [&str; 4] = [
    "quantizer.hidden={kind='pca', dims=8, bits=24}",
    "quantizer.hidden={kind='vq', dims=8, codes=16, learned=true}",
    "quantizer.hidden={kind='rvq', dims=8, stages=2, codes=8}",
    "quantizer.hidden={kind='pq', dims=8, groups=2, codes=8}",
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
    let bases = tempfile::tempdir().unwrap();
    let [plain, tied] = [false, true].map(|tied| {
        let dir = bases.path().join(tied.to_string());
        random_base(&dir, 3, tied)
    });
    let every = KINDS.iter().map(|(name, _)| (*name, &[][..]));
    let every = every.chain(more).map(|(name, sets)| (&plain, name, sets));
    for (base, name, sets) in every.chain([(&tied, "full", &[][..]), (&tied, "lora", &[])]) {
        let mut first = None;
        for placement in PLACEMENTS {
            let dir = tempfile::tempdir().unwrap();
            let sets = [EXACT, sets, &edges(placement, EXACT_HIDDEN)].concat();
            let losses = train_on(base, &recipe(kind(name), &sets), dir.path(), None);
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

/// And so it does with the server at the other end of a socket.
#[test]
fn with_exact_edges_every_placement_gives_the_same_bits_over_tls() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, true);
    for name in ["full", "lora"] {
        let in_one = tempfile::tempdir().unwrap();
        let sets = [EXACT, PLACEMENTS[0]].concat();
        let losses = train_on(&base, &recipe(kind(name), &sets), in_one.path(), None);
        let want = (losses, weights(in_one.path(), 3));
        for placement in PLACEMENTS {
            let dir = tempfile::tempdir().unwrap();
            let sets = [EXACT, &edges(placement, EXACT_HIDDEN)].concat();
            let recipe = recipe(kind(name), &sets);
            let start = Start::from(&blueprint_of(&base, &recipe));
            let server = server_of(&start, &recipe, dir.path());
            let records = over_loopback(server, |link| {
                let source = Arc::new(Drawn);
                Ok::<_, WireError>(records_over(
                    link,
                    source,
                    &start,
                    &recipe,
                    dir.path(),
                    None,
                ))
            });
            let losses = records.unwrap().iter().map(|r| r.loss.unwrap()).collect();
            let end = (losses, weights(dir.path(), 3));
            assert!(end == want, "{name} {placement:?}");
        }
    }
}

/// Where equal rows cross once, sums are taken in another order, and only placements that share it give the same bits.
#[test]
fn distinct_rows_and_all_rows_are_either_the_same_wherever_the_model_ends() {
    let bases = tempfile::tempdir().unwrap();
    let [plain, tied] = [false, true].map(|tied| {
        let dir = bases.path().join(tied.to_string());
        random_base(&dir, 3, tied)
    });
    for (base, name) in [
        (&plain, "full"),
        (&tied, "full"),
        (&plain, "lora"),
        (&tied, "lora"),
    ] {
        let mut first = None;
        for placement in [
            &["split.labels=server"][..],
            &["split.labels=client"],
            &["split.labels=client", "split.top_blocks=1"],
            &["split.connector=server"],
            &["split.connector=server", "split.labels=client"],
            &[
                "split.connector=server",
                "split.labels=client",
                "split.top_blocks=1",
            ],
        ] {
            let dir = tempfile::tempdir().unwrap();
            let sets = [
                EXACT,
                &["quantizer.text_rows=distinct"],
                &edges(placement, EXACT_HIDDEN),
            ]
            .concat();
            let losses = train_on(base, &recipe(kind(name), &sets), dir.path(), None);
            let end = (losses, weights(dir.path(), 3));
            let first = first.get_or_insert_with(|| end.clone());
            assert_eq!(first.0, end.0, "{name} {placement:?}: the losses differ");
            assert!(first.1 == end.1, "{name} {placement:?}: the weights differ");
        }
    }
}

/// The base's blocks are where the placement says, and nowhere else; and so is the head.
#[test]
fn a_block_is_at_the_client_or_at_the_server() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    let dir = tempfile::tempdir().unwrap();
    let placement = PLACEMENTS.last().unwrap();
    let sets = [EXACT, &edges(placement, EXACT_HIDDEN)].concat();
    train_on(&base, &recipe(kind("full"), &sets), dir.path(), None);
    for (side, own, other) in [
        (
            "",
            &[
                "model.layers.0.",
                "model.layers.2.",
                "lm_head",
                "model.norm",
            ][..],
            &["model.layers.1."][..],
        ),
        (
            "server",
            &["model.layers.1."],
            &[
                "model.layers.0.",
                "model.layers.2.",
                "lm_head",
                "model.norm",
            ],
        ),
    ] {
        let name = "checkpoints/step-00000003/model.safetensors";
        let file = Checkpoint::open(&dir.path().join(side).join(name)).unwrap();
        let has = |part: &&str| {
            let part = format!("language_model.{part}");
            file.names().any(|name| name.starts_with(&part))
        };
        assert!(own.iter().all(has) && !other.iter().any(has), "{side}");
    }
}

#[test]
fn an_interrupted_run_ends_in_the_same_bits_in_every_placement() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    for name in ["full", "lora"] {
        for placement in &PLACEMENTS[1..] {
            let sets = [QUANTIZED, &edges(placement, QUANTIZED_HIDDEN)].concat();
            let recipe = recipe(kind(name), &sets);
            let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
            let [whole, broken] = [dirs[0].path(), dirs[1].path()];
            let losses = train_on(&base, &recipe, whole, None);
            assert_eq!(train_on(&base, &recipe, broken, Some(1)), losses[..2]);
            assert_eq!(
                train_on(&base, &recipe, broken, None),
                losses[2..],
                "{name}"
            );
            for side in ["", "server"] {
                for file in ["model.safetensors", "optimizer.safetensors"] {
                    let same = saved(whole, side, 4, file) == saved(broken, side, 4, file);
                    assert!(same, "{name} {placement:?}: {side}/{file} differs");
                }
            }
        }
    }
}

/// The server has the encoder here, and the client is told what its half starts from: over a socket, cut off and gone on, it
/// is one run.
#[test]
fn hidden_states_may_have_components_and_books() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    let second = PLACEMENTS
        .iter()
        .filter(|p| p.contains(&"split.labels=client"));
    for (number, (hidden, placement)) in STARTED_HIDDEN.iter().zip(second.cycle()).enumerate() {
        let sets = [QUANTIZED, placement, &[*hidden]].concat();
        let recipe = recipe(kind("lora"), &sets);
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [whole, broken, apart] = dirs.each_ref().map(|dir| dir.path());
        let losses = train_on(&base, &recipe, whole, None);
        assert_eq!(train_on(&base, &recipe, broken, Some(1)), losses[..2]);
        assert_eq!(train_on(&base, &recipe, broken, None), losses[2..]);
        let start = Start::from(&blueprint_of(&base, &recipe));
        let server = server_of(&start, &recipe, apart);
        let records = over_loopback(server, |link| {
            let source = Arc::new(Drawn);
            Ok::<_, WireError>(records_over(link, source, &start, &recipe, apart, None))
        });
        let over: Vec<f64> = records.unwrap().iter().map(|r| r.loss.unwrap()).collect();
        assert_eq!(over, losses, "{hidden}");
        let want = weights(whole, 4);
        assert!(
            want == weights(broken, 4) && want == weights(apart, 4),
            "{hidden}"
        );
        // Both halves have the components or books that the server measured, and learned projections around them.
        let of = |name: &str| {
            let name = want.keys().find(|known| known.ends_with(name)).unwrap();
            &want[name]
        };
        let (own, other) = match number {
            0 => (".running_sides", ".running_levels"),
            _ => (".running_codes", ".running_table"),
        };
        assert_eq!(of(own), of(other), "{hidden}");
        assert!(of(own).iter().any(|x| *x != 0.0), "{hidden}");
    }
}

/// Between the two trips, too, a message or its answer may be lost, and nothing happens twice.
#[test]
fn a_connection_that_breaks_in_either_trip_changes_no_bit() {
    let device = Device::default();
    for placement in [&PLACEMENTS[0][..1], &["split.labels=client"]] {
        let sets = [QUANTIZED, &edges(placement, QUANTIZED_HIDDEN)].concat();
        let recipe = recipe(kind("lora"), &sets);
        let start = Start::from(&blueprint(&recipe));
        let ends = [0.0, 0.3].map(|loss| {
            let dir = tempfile::tempdir().unwrap();
            let server_dir = dir.path().join("server");
            let server =
                ServerWork::open(recipe.clone(), &start, Some(&server_dir), device.clone());
            let simulation = Simulation {
                loss,
                seed: 5,
                ..Simulation::default()
            };
            let mut link = LocalLink::simulated(server.unwrap(), simulation);
            let source = Arc::new(Drawn);
            let mut client = Client::open(
                recipe.clone(),
                &start,
                source,
                dir.path(),
                "test",
                device.clone(),
            )
            .unwrap();
            let stop = AtomicBool::new(false);
            client.train(&mut link, &stop, &mut |_| {}).unwrap();
            assert_eq!(link.meter().connections > 1, loss > 0.0);
            weights(dir.path(), 4)
        });
        assert!(ends[0] == ends[1], "{placement:?}");
    }
}

/// The client goes on with caches of its own.
#[test]
fn answers_are_the_same_wherever_the_model_is_cut() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    let device = Device::default();
    let given: Vec<Vec<Vec<u32>>> = PLACEMENTS
        .iter()
        .map(|placement| {
            let recipe = recipe("", &[EXACT, &edges(placement, EXACT_HIDDEN)].concat());
            let start = Start::from(&blueprint_of(&base, &recipe));
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
fn inspect_says_what_labels_at_the_client_do_not_hide_and_counts_both_edges() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, true);
    let at_client = |placement: &&&[&str]| placement.contains(&"split.labels=client");
    for placement in PLACEMENTS.iter().filter(at_client) {
        let sets = [QUANTIZED, &edges(placement, QUANTIZED_HIDDEN)].concat();
        let found = inspect(&base, Some(&recipe("", &sets)), 20).unwrap();
        assert_eq!(found.problems, [""; 0]);
        assert!(
            found
                .notes
                .iter()
                .any(|note| note.contains("no protection of the labels"))
        );
        let head: Vec<_> = found
            .parts
            .iter()
            .filter(|part| part.name == "head")
            .collect();
        assert!(head.len() == 1 && head[0].side == "client" && head[0].parameters > 0);
        let cost = found.cost.unwrap();
        assert!(cost.server.waiting > 0 && cost.server.waiting <= cost.server.activations);
        let hidden = cost.traffic.hidden.unwrap();
        assert!(hidden.down < hidden.down_16bit && hidden.up < hidden.up_32bit);
    }
    let found = inspect(&base, Some(&recipe("", &[])), 20).unwrap();
    assert!(found.notes.is_empty() && found.cost.unwrap().traffic.hidden.is_none());
}

#[test]
fn what_no_placement_is_is_refused_by_name() {
    let base = crate::world::base();
    let dir = tempfile::tempdir().unwrap();
    let labels = recipe(kind("lora"), &["split.labels=client", "train.steps=1"]);
    train_on(&base, &labels, dir.path(), None);
    let server = dir.path().join("server");
    let error = write_adapter(dir.path(), &server, &base, &dir.path().join("adapter"));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("split.labels") && error.contains("without --adapter"),
        "{error}"
    );
    for count in [2, 3] {
        let set = format!("split.bottom_blocks={count}");
        let error = recipe("", &[&set]).blueprint(&base).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("split.bottom_blocks"), "{error}");
    }
    let sets = [
        "split.labels=client",
        "split.bottom_blocks=1",
        "split.top_blocks=1",
    ];
    let error = recipe("", &sets).blueprint(&base).unwrap_err().to_string();
    assert!(error.contains("split.top_blocks = 1"), "{error}");
    let sets = ["split.connector='server'", "split.bottom_blocks=1"].map(str::to_owned);
    let error = recipe("", &[]).with(&sets).unwrap_err().to_string();
    assert!(
        error.contains("split.bottom_blocks") && error.contains("split.connector"),
        "{error}"
    );
    for (set, field) in [
        ("split.top_blocks=1", "split.top_blocks"),
        (
            "quantizer.hidden={kind='fsq', levels=4}",
            "quantizer.hidden",
        ),
        ("gradient.hidden=f32", "gradient.hidden"),
    ] {
        let text = recipe("", &[]).to_toml();
        let error = qtl_train::Recipe::parse(&text, &[set.to_owned()], Path::new("r.toml"));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(field) && error.contains("split.labels"),
            "{error}"
        );
    }
}

/// All that a run with labels at the client measured adds up.
#[test]
fn both_edges_are_measured() {
    let dir = tempfile::tempdir().unwrap();
    let sets = [
        "split.labels=client",
        "train.steps=2",
        "metrics.compare_every=1",
    ];
    let recipe = recipe("", &sets);
    let start = Start::from(&blueprint(&recipe));
    let records = records_of(Arc::new(Drawn), &start, &recipe, dir.path(), None);
    for record in records {
        let hidden = record.hidden.unwrap();
        // Two samples with answers of three tokens, in 16 bits.
        assert_eq!((hidden.rows_hidden, hidden.elements_hidden), (6, 6 * 128));
        assert!(hidden.bytes_hidden > 2 * 6 * 128 / 2 && hidden.bytes_hidden_gradient > 0);
        assert!(
            record.bytes_up > record.bytes_image + record.bytes_text + hidden.bytes_hidden_gradient
        );
        assert!(record.bytes_down > record.bytes_gradient + hidden.bytes_hidden);
        let other = record.alternatives.unwrap();
        assert!(other.down_32bit > record.bytes_down && other.up_16bit > record.bytes_up / 2);
        assert_eq!(record.bytes_targets, 0);
    }
    let wire = std::fs::read(dir.path().join("wire.json")).unwrap();
    let wire: serde_json::Value = serde_json::from_slice(&wire).unwrap();
    let of = |way: &str, part: &str| wire[way]["step"][part].as_u64().unwrap();
    for way in ["up", "down"] {
        assert!(of(way, "hidden") > of(way, "framing"), "{wire}");
    }
}
