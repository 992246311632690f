//! Sites that go half way: within the measurement of hidden states, between the trips of a step, for longer than the others wait.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;

use qtl_model::weights::Checkpoint;
use qtl_train::{Recipe, ServerWork, average};
use qtl_wire::verb::{Average, Request};
use qtl_wire::{Exchange, Shared, SharedLink, WireError};

use super::{BOOKS, NAMES, client, key, of_sites, one, run, same, server, starts};
use crate::world::{Tapped, saved};

/// Whether a request is of a kind.
type Counts = fn(&Request) -> bool;

/// What a faulty site makes of its average.
type Spoils = fn(Average) -> Average;

/// A site whose process dies with the request number `at` of those that `counts` knows: before it has gone, or once it was
/// answered.
fn dies(
    recipe: &Recipe,
    dir: &Path,
    place: usize,
    shared: &Shared<ServerWork>,
    counts: Counts,
    at: usize,
    sent: bool,
) {
    let mut left = at;
    let mut link = Tapped {
        link: shared.client(key(NAMES[place])),
        ask: |link: &mut SharedLink<ServerWork>, request: Request| {
            left -= usize::from(counts(&request));
            if left > 0 {
                return link.ask(request);
            }
            if sent {
                link.ask(request)?;
            }
            Err(WireError::Protocol("the process is dead".to_owned()))
        },
    };
    let never = AtomicBool::new(false);
    let died = client(recipe, dir, place).train(&mut link, &never, &mut |_| {});
    let died = died.unwrap_err().to_string();
    assert!(died.contains("is dead"), "{died}");
}

fn measures(request: &Request) -> bool {
    matches!(request, Request::MeasureHidden(_))
}

fn goes_forward(request: &Request) -> bool {
    matches!(request, Request::ForwardHidden(_))
}

fn comes_back(request: &Request) -> bool {
    matches!(request, Request::BackwardHidden(_))
}

fn forwards(request: &Request) -> bool {
    matches!(request, Request::Forward(_))
}

/// Statistics of hidden states move with every forward, and are part of the server's checkpoint.
#[test]
fn a_site_that_dies_half_way_and_comes_back_changes_no_bit() {
    let sets = [
        "split.labels=client",
        "quantizer.hidden={kind='fsq', levels=4, statistics='channel'}",
        "quantizer.image={kind='fsq', levels=4, statistics='channel'}",
        "quantizer.calibration_batches=3",
    ];
    for mode in ["sites.mode=rounds", "sites.mode=turns"] {
        let recipe = of_sites("", 2, &[&[mode], &sets[..]].concat());
        let whole = tempfile::tempdir().unwrap();
        run(&recipe, whole.path());
        let moments: [(Counts, usize); 6] = [
            (measures, 2),
            (measures, 3),
            (goes_forward, 1),
            (comes_back, 1),
            // Behind a checkpoint: it comes back to the step that the others are in.
            (comes_back, if mode.ends_with("turns") { 2 } else { 3 }),
            (goes_forward, 2),
        ];
        for (counts, at) in moments {
            for sent in [false, true] {
                let broken = tempfile::tempdir().unwrap();
                let dir = broken.path();
                let shared = Shared::new(server(&recipe, dir));
                thread::scope(|scope| {
                    let (recipe, first) = (&recipe, shared.clone());
                    scope.spawn(move || one(recipe, dir, 0, &first, None));
                    dies(recipe, dir, 1, &shared, counts, at, sent);
                    one(recipe, dir, 1, &shared, None);
                });
                same(whole.path(), dir, 6);
                for name in &NAMES[..2] {
                    let of = |dir: &Path| saved(dir, name, 6, "model.safetensors");
                    assert!(of(whole.path()) == of(dir), "{mode} {at} {sent} {name}");
                }
            }
        }
    }
}

/// Three sites of which two are enough.
fn of_three(sets: &[&str]) -> Recipe {
    let quorum = ["sites.quorum=2", "sites.patience_s=1"];
    of_sites("", 3, &[&quorum[..], &BOOKS, sets].concat())
}

/// By step the names of those who took part.
fn record(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("server/rounds.jsonl")).unwrap();
    let of = |line: &str| line.split_once("\"sites\":").unwrap().1.replace('"', "");
    text.lines().map(of).collect()
}

#[test]
fn steps_that_are_done_again_are_done_by_those_who_did_them() {
    let hidden = [
        "split.labels=client",
        "quantizer.hidden={kind='fsq', levels=4, statistics='channel'}",
    ];
    let placements: [(&[&str], Counts); 2] = [(&[], forwards), (&hidden, goes_forward)];
    for (sets, counts) in placements {
        let recipe = of_three(sets);
        let kept = tempfile::tempdir().unwrap();
        let dir = kept.path();
        let shared = Shared::new(server(&recipe, dir));
        // One site goes with the third step, and is not waited for any longer than the patience.
        thread::scope(|scope| {
            for place in [0, 1] {
                let (recipe, shared) = (&recipe, shared.clone());
                scope.spawn(move || one(recipe, dir, place, &shared, None));
            }
            dies(&recipe, dir, 2, &shared, counts, 3, false);
        });
        drop(shared);
        let took_part = record(dir);
        let [all, two] = ["[north,south,west]}", "[north,south]}"];
        assert_eq!(took_part, [all, all, two, two, two, two]);
        let of = |name| saved(dir, name, 6, "model.safetensors");
        let want = ["server", NAMES[0], NAMES[1]].map(of);
        let state =
            std::fs::read_to_string(dir.join("server/checkpoints/step-00000006/state.json"));
        let state: serde_json::Value = serde_json::from_str(&state.unwrap()).unwrap();
        let two_alone = serde_json::json!([{"from": 2, "to": 6, "sites": ["north", "south"]}]);
        assert_eq!(state["odd"], two_alone);
        // All lose what they had after the second step; all three are there when the others are done again.
        for name in ["server", NAMES[0], NAMES[1]] {
            for step in [4, 6] {
                let checkpoint = format!("{name}/checkpoints/step-{step:08}");
                std::fs::remove_dir_all(dir.join(checkpoint)).unwrap();
            }
        }
        // A record that is cut short is completed from the checkpoint.
        let rounds = dir.join("server/rounds.jsonl");
        let text = std::fs::read_to_string(&rounds).unwrap();
        let short: String = text
            .lines()
            .take(1)
            .map(|line| format!("{line}\n"))
            .collect();
        std::fs::write(&rounds, short).unwrap();
        drop(server(&recipe, dir));
        assert_eq!(record(dir), took_part[..2]);
        std::fs::write(&rounds, text).unwrap();
        let shared = Shared::new(server(&recipe, dir));
        thread::scope(|scope| {
            for place in 0..3 {
                let (recipe, shared) = (&recipe, shared.clone());
                scope.spawn(move || one(recipe, dir, place, &shared, None));
            }
        });
        assert_eq!(record(dir), took_part);
        assert!(["server", NAMES[0], NAMES[1]].map(of) == want);
    }
}

#[test]
fn a_late_site_starts_from_what_the_others_have_and_takes_part_from_then_on() {
    let recipe = of_three(&["train.save_every=6"]);
    let kept = tempfile::tempdir().unwrap();
    let dir = kept.path();
    let shared = Shared::new(server(&recipe, dir));
    thread::scope(|scope| {
        let (recipe, first) = (&recipe, shared.clone());
        scope.spawn(move || one(recipe, dir, 1, &first, None));
        // The second stops where the third is to come in: one alone is too few.
        one(recipe, dir, 0, &shared, Some(2));
        let (again, late) = (shared.clone(), shared.clone());
        scope.spawn(move || one(recipe, dir, 0, &again, None));
        one(recipe, dir, 2, &late, None);
    });
    let record = record(dir);
    assert_eq!(record[..3], ["[north,south]}"; 3]);
    assert_eq!(record[5], "[north,south,west]}", "{record:?}");
    let [north, south, west] = NAMES.map(|name| starts(dir, name, 6));
    assert!(north == south && north == west && !north.is_empty());
    // It has learned what it took part in.
    let of = |name: &str| {
        let path = dir.join(format!(
            "{name}/checkpoints/step-00000006/model.safetensors"
        ));
        let file = Checkpoint::open(&path).unwrap();
        let names: Vec<String> = file.names().map(str::to_owned).collect();
        names
            .iter()
            .map(|name| file.read(name).unwrap())
            .collect::<Vec<_>>()
    };
    assert!(of("west") != of("north"));
}

/// A site that says that it has seen more samples than there were would have its own weights be the mean; one that shares other
/// parts than the others has no mean. Neither holds up more than itself.
#[test]
fn an_average_that_cannot_be_had_is_the_fault_of_one() {
    let more = |average: Average| Average {
        samples: u64::MAX,
        ..average
    };
    let fewer = |average: Average| {
        let mut weights = average::from_bytes(&average.weights).unwrap();
        weights.pop_first();
        Average {
            weights: average::to_bytes(&weights, None).unwrap(),
            ..average
        }
    };
    let faults: [(Spoils, &str); 2] = [
        (more, "can have sent 2 at most"),
        (fewer, "have to share the same parts"),
    ];
    for (spoilt, what) in faults {
        let recipe = of_sites("", 2, &["sites.average_every=2"]);
        let kept = tempfile::tempdir().unwrap();
        let dir = kept.path();
        let shared = Shared::new(server(&recipe, dir));
        thread::scope(|scope| {
            let (recipe, first) = (&recipe, shared.clone());
            scope.spawn(move || one(recipe, dir, 0, &first, None));
            let mut link = Tapped {
                link: shared.client(key(NAMES[1])),
                ask: |link: &mut SharedLink<ServerWork>, request: Request| {
                    link.ask(match request {
                        Request::Average(average) => spoilt(average).into(),
                        request => request,
                    })
                },
            };
            let never = AtomicBool::new(false);
            let refused = client(recipe, dir, 1).train(&mut link, &never, &mut |_| {});
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(what), "{refused}");
            // The other site has waited, and both go on.
            one(recipe, dir, 1, &shared, None);
        });
    }
}
