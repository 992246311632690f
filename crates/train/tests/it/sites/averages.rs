//! What sites average of their halves: by the server, by another program, and in the merged model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread;

use qtl_model::weights::{Checkpoint, SaveType};
use qtl_train::Recipe;
use qtl_train::average;
use qtl_train::client::Ended;
use qtl_train::merge::merge_sites;
use qtl_train::tune::Part;
use qtl_wire::Shared;

use super::{NAMES, client, key, of_sites, one, run, same, server};
use crate::world::{base, saved};

#[test]
fn what_sites_average_is_the_same_for_all_afterwards_and_the_rest_is_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let sets = [
        "sites.average_every=3",
        "quantizer.image.kind=fsq",
        "quantizer.image.levels=4",
    ];
    run(&of_sites("", 2, &sets), dir.path());
    let weights = |place: usize| {
        let path = dir
            .path()
            .join(NAMES[place])
            .join("checkpoints/step-00000006/model.safetensors");
        let file = Checkpoint::open(&path).unwrap();
        let names: Vec<String> = file.names().map(str::to_owned).collect();
        names
            .into_iter()
            .map(|name| (name.clone(), file.read(&name).unwrap()))
            .collect::<BTreeMap<_, _>>()
    };
    let [north, south] = [weights(0), weights(1)];
    let out = dir.path().join("merged");
    let halves = [0, 1].map(|place| dir.path().join(NAMES[place]));
    let halves: Vec<&Path> = halves.iter().map(PathBuf::as_path).collect();
    let server = dir.path().join("server");
    merge_sites(&halves, &server, &base(), &out, SaveType::F32).unwrap();
    let merged = Checkpoint::open(&out).unwrap();
    let table = north
        .keys()
        .find(|name| Part::of(name) == Part::EmbedTokens)
        .unwrap();
    let got = merged.read(table).unwrap();
    let want = north[table]
        .iter()
        .zip(&south[table])
        .map(|(a, b)| f32::midpoint(*a, *b));
    assert!(
        got.iter()
            .zip(want)
            .all(|(got, want)| (got - want).abs() < 1e-6)
    );
    let (mut shared, mut own) = (0, 0);
    for (name, value) in &north {
        let same = south[name] == *value;
        match Part::of(name) {
            Part::Connector => {
                assert!(same, "{name}");
                shared += 1;
            }
            Part::EmbedTokens => own += usize::from(!same),
            _ => {}
        }
    }
    assert!(shared > 0 && own > 0);
}

/// All sites until each ends or waits, in processes of their own; the server is another one each time, too.
fn until_they_wait(recipe: &Recipe, dir: &Path, given: Option<&Path>) -> Vec<Ended> {
    let shared = Shared::new(server(recipe, dir));
    let one = |place: usize| {
        let mut client = client(recipe, dir, place);
        if let Some(given) = given {
            client.is_given(given.to_owned());
        }
        let mut link = shared.client(key(NAMES[place]));
        let never = AtomicBool::new(false);
        client.train(&mut link, &never, &mut |_| {}).unwrap()
    };
    thread::scope(|scope| {
        let sites: Vec<_> = (0..2)
            .map(|place| scope.spawn(move || one(place)))
            .collect();
        sites.into_iter().map(|site| site.join().unwrap()).collect()
    })
}

#[test]
fn another_program_averages_as_the_server_would() {
    for mode in ["sites.mode=rounds", "sites.mode=turns"] {
        let sets = [mode, "sites.average_every=2", "train.save_every=6"];
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [inside, outside] = [dirs[0].path(), dirs[1].path()];
        run(&of_sites("", 2, &sets), inside);
        let recipe = of_sites("", 2, &[&sets[..], &["sites.average=outside"]].concat());
        let given = outside.join("mean.safetensors");
        let mut averaged = None;
        for due in [2, 4] {
            // The second time without a new average, as if someone had been too early.
            for _ in 0..2 {
                let waits = until_they_wait(&recipe, outside, averaged);
                let of: Vec<_> = waits
                    .iter()
                    .map(|ended| {
                        let Ended::Waits { step, file } = ended else {
                            panic!("{ended:?}");
                        };
                        assert_eq!(*step, due);
                        let bytes = std::fs::read(file).unwrap();
                        assert_eq!(average::step_of(&bytes), Some(due));
                        (average::from_bytes(&bytes).unwrap(), 1)
                    })
                    .collect();
                let mean = average::mean(&of).unwrap();
                std::fs::write(
                    outside.join("next"),
                    average::to_bytes(&mean, None).unwrap(),
                )
                .unwrap();
            }
            std::fs::rename(outside.join("next"), &given).unwrap();
            averaged = Some(given.as_path());
        }
        let ended = until_they_wait(&recipe, outside, averaged);
        assert_eq!(ended, [Ended::Finished, Ended::Finished]);
        same(inside, outside, 6);
    }
}

#[test]
fn what_is_no_average_of_a_site_s_half_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let sets = ["sites.average_every=2", "sites.average=outside"];
    let recipe = of_sites("", 2, &sets);
    let waits = until_they_wait(&recipe, dir.path(), None);
    let Ended::Waits { file, .. } = &waits[0] else {
        panic!("{waits:?}");
    };
    let mut weights = average::from_bytes(&std::fs::read(file).unwrap()).unwrap();
    weights.pop_first();
    let given = dir.path().join("mean.safetensors");
    std::fs::write(&given, average::to_bytes(&weights, None).unwrap()).unwrap();
    let shared = Shared::new(server(&recipe, dir.path()));
    let mut client = client(&recipe, dir.path(), 0);
    client.is_given(given);
    let mut link = shared.client(key(NAMES[0]));
    let never = AtomicBool::new(false);
    let error = client.train(&mut link, &never, &mut |_| {}).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("mean.safetensors") && error.contains("is missing there"),
        "{error}"
    );
}

/// What a site had trained on since the last average counts in the next one, wherever it was in between.
#[test]
fn a_site_that_leaves_between_two_averages_weighs_as_if_it_had_stayed() {
    let recipe = of_sites("", 2, &["sites.average_every=3"]);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [whole, broken] = [dirs[0].path(), dirs[1].path()];
    run(&recipe, whole);
    let shared = Shared::new(server(&recipe, broken));
    thread::scope(|scope| {
        let (recipe, first) = (&recipe, shared.clone());
        let north = scope.spawn(move || one(recipe, broken, 0, &first, None));
        one(recipe, broken, 1, &shared, Some(3));
        one(recipe, broken, 1, &shared, None);
        north.join().unwrap();
    });
    same(whole, broken, 6);
    for name in &NAMES[..2] {
        let of = |dir: &Path| saved(dir, name, 6, "model.safetensors");
        assert!(of(whole) == of(broken), "{name}");
    }
}
