//! The promise that splitting changes nothing.

use std::path::Path;

use crate::world::{Outcome, SHORT, TINY, World};

/// Trains in one process and in two over mutual TLS, below `dir`, and compares how they end.
fn one_and_two(world: &World, dir: &Path, sets: &[&str], steps: usize) -> Outcome {
    let [local, client, server] = ["local", "client", "server"].map(|name| dir.join(name));
    world.local(&local, sets).finish().succeeds();
    let (_server, address) = world.serve(&server, "127.0.0.1:0", sets);
    world
        .connect(&client, &address, "certs", sets)
        .finish()
        .succeeds();
    let whole = Outcome::read(&local, &local.join("server"), steps);
    Outcome::read(&client, &server, steps).is(&whole);
    whole
}

#[test]
fn one_process_and_two_over_mutual_tls_end_in_the_same_bits() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let whole = one_and_two(&world, dir.path(), SHORT, 20);
    // Weights that never moved would be equal too.
    assert!(whole.losses.windows(2).any(|pair| pair[0] != pair[1]));
    let server = dir.path().join("server");
    let early = std::fs::read(server.join("checkpoints/step-00000010/model.safetensors")).unwrap();
    assert!(whole.server != early, "ten steps have changed nothing");
}

/// Every other quantizer of the list, two at a time: what is drawn, what depends on the batch and what is learned on the
/// client must be the same on both sides of the wire.
#[test]
fn every_quantizer_trains_the_same_in_one_process_and_in_two() {
    let world = World::shared();
    for (image, text) in [
        (
            "kind='fsq_tanh', levels=4",
            "kind='adsq', levels=4, rate=0.01",
        ),
        (
            "kind='ecsq', bits=2, statistics='calibrated', rate=0.01",
            "kind='normal_float', bits=2",
        ),
        (
            "kind='topk', keep=0.125",
            "kind='rand_topk', keep=0.125, rescale=true",
        ),
        ("kind='splitfc', bits=2", "kind='fedbat'"),
        ("kind='fedbat'", "kind='splitfc', bits=3"),
    ] {
        let quantizers = [
            format!("quantizer.image={{{image}}}"),
            format!("quantizer.text={{{text}}}"),
        ];
        let sets: Vec<&str> = TINY
            .iter()
            .copied()
            .chain(quantizers.iter().map(String::as_str))
            .collect();
        let dir = tempfile::tempdir().unwrap();
        one_and_two(&world, dir.path(), &sets, 2);
    }
}

/// Labels at the client, every kind of quantizer between trunk and top, and the last block there too.
#[test]
fn labels_at_the_client_train_the_same_in_one_process_and_in_two() {
    let world = World::shared();
    for placement in [
        &["quantizer.hidden={kind='fsq', levels=4, statistics='channel'}"][..],
        &["quantizer.hidden={kind='rand_topk', keep=0.125, rescale=true}"],
        &[
            "split.top_blocks=1",
            "quantizer.hidden={kind='fsq', levels=4}",
            "gradient.hidden={kind='tiled', bits=4}",
        ],
    ] {
        let sets = [TINY, &["split.labels=client"], placement].concat();
        let dir = tempfile::tempdir().unwrap();
        one_and_two(&world, dir.path(), &sets, 2);
    }
    let dir = tempfile::tempdir().unwrap();
    let sets = [TINY, &["split.labels=client"]].concat();
    let local = world.local(&dir.path().join("local"), &sets).finish();
    let said = local.succeeds().stderr;
    assert!(said.contains("no protection of the labels"), "{said}");
    let (_server, address) = world.serve(&dir.path().join("other"), "127.0.0.1:0", &sets);
    world
        .connect(&dir.path().join("third"), &address, "certs", TINY)
        .finish()
        .fails_naming(&["split.labels"]);
}

/// A block of the language model at the client: rows that cross are no longer functions of their tokens.
#[test]
fn a_cut_behind_a_block_trains_the_same_in_one_process_and_in_two() {
    let world = World::shared();
    let sets = [TINY, &["split.bottom_blocks=1"]].concat();
    let dir = tempfile::tempdir().unwrap();
    one_and_two(&world, dir.path(), &sets, 2);
    // A client that cuts elsewhere is told so.
    let (_server, address) = world.serve(&dir.path().join("other"), "127.0.0.1:0", &sets);
    world
        .connect(&dir.path().join("third"), &address, "certs", TINY)
        .finish()
        .fails_naming(&["split.bottom_blocks"]);
}

/// The connector at the server: image rows cross as the tower's features.
#[test]
fn a_connector_at_the_server_trains_the_same_in_one_process_and_in_two() {
    let world = World::shared();
    let quantized = [
        "split.connector=server",
        "quantizer.image={kind='fsq', levels=4}",
        "gradient.codec={kind='tiled', bits=4}",
    ];
    let hidden = [
        "split.labels=client",
        "quantizer.hidden={kind='fsq', levels=4}",
        "gradient.hidden={kind='tiled', bits=4}",
    ];
    for more in [&[][..], &["tune.vision_tower=full"], &hidden] {
        let sets = [TINY, &quantized, more].concat();
        let dir = tempfile::tempdir().unwrap();
        one_and_two(&world, dir.path(), &sets, 2);
    }
    // A client that has it as well is told so.
    let sets = [TINY, &quantized].concat();
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = world.serve(&dir.path().join("other"), "127.0.0.1:0", &sets);
    let sets = [TINY, &quantized[1..]].concat();
    world
        .connect(&dir.path().join("third"), &address, "certs", &sets)
        .finish()
        .fails_naming(&["split.connector"]);
}
