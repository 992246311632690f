//! Sides that die in the middle of a step: between its two trips, or around its only one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qtl_model::Device;
use qtl_train::client::Client;
use qtl_train::start::Start;
use qtl_train::{Recipe, ServerWork};
use qtl_wire::verb::Request;
use qtl_wire::{Exchange, Key, Shared, SharedLink, WireError};

use crate::placement::{PLACEMENTS, QUANTIZED, QUANTIZED_HIDDEN, edges, weights};
use crate::world::{
    Drawn, Tapped, blueprint_of, kind, random_base, recipe, records_over, server_of,
};

/// What a client is about to send when it dies.
type Counts = fn(&Request) -> bool;

/// The request of that number is its last, before it has gone or (`true`) once it was answered; alone, or (`true`) the server
/// with it.
type Moment = (Counts, usize, bool, bool);

fn forward(request: &Request) -> bool {
    matches!(request, Request::Forward(_))
}

fn goes_forward(request: &Request) -> bool {
    matches!(request, Request::ForwardHidden(_))
}

fn comes_back(request: &Request) -> bool {
    matches!(request, Request::BackwardHidden(_))
}

/// Four steps of two micro-batches, with a checkpoint in their middle.
fn of_eight(placement: &[&str]) -> Recipe {
    let sets = ["train.accumulate=2", "train.save_every=2"];
    let edges = edges(placement, QUANTIZED_HIDDEN);
    recipe(kind("lora"), &[QUANTIZED, &sets, &edges].concat())
}

fn to_the_end(
    shared: &Shared<ServerWork>,
    start: &Start,
    recipe: &Recipe,
    dir: &Path,
) -> impl PartialEq + use<> {
    let mut link = shared.client(Key::LOCAL);
    records_over(&mut link, Arc::new(Drawn), start, recipe, dir, None);
    weights(dir, 4)
}

/// A client that dies at each of the moments and comes back ends in the weights of a run that nothing disturbs.
fn dies(base: &Path, placement: &[&str], moments: &[Moment]) {
    let recipe = of_eight(placement);
    let start = Start::from(&blueprint_of(base, &recipe));
    let whole = tempfile::tempdir().unwrap();
    let whole = whole.path();
    let shared = Shared::new(server_of(&start, &recipe, whole));
    let want = to_the_end(&shared, &start, &recipe, whole);
    for &(counts, at, sent, both) in moments {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let shared = Shared::new(server_of(&start, &recipe, dir));
        let (source, device) = (Arc::new(Drawn), Device::default());
        let mut client = Client::open(recipe.clone(), &start, source, dir, "test", device).unwrap();
        let mut left = at;
        let mut link = Tapped {
            link: shared.client(Key::LOCAL),
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
        let died = client.train(&mut link, &never, &mut |_| {}).unwrap_err();
        assert!(died.to_string().contains("is dead"), "{died}");
        drop((client, link));
        if both {
            shared.restart(|| server_of(&start, &recipe, dir));
        }
        let end = to_the_end(&shared, &start, &recipe, dir);
        assert!(end == want, "{placement:?} {at} {sent} {both}");
    }
}

#[test]
fn a_side_that_dies_between_the_two_trips_changes_no_bit() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    let mut moments = Vec::new();
    // In the first step, within a step, and behind a checkpoint; the client alone, or the server with it.
    for (counts, at) in [
        (comes_back as Counts, 1),
        (comes_back, 4),
        (comes_back, 6),
        (goes_forward, 4),
    ] {
        for sent in [false, true] {
            moments.extend([false, true].map(|both| (counts, at, sent, both)));
        }
    }
    dies(&base, &["split.labels=client"], &moments);
    for placement in PLACEMENTS
        .iter()
        .filter(|p| p.contains(&"split.labels=client") && p.len() > 2)
    {
        let moments: [Moment; 4] = [
            (goes_forward, 4, true, false),
            (goes_forward, 6, false, true),
            (comes_back, 4, false, false),
            (comes_back, 6, true, true),
        ];
        dies(&base, placement, &moments);
    }
}

#[test]
fn a_side_that_dies_around_the_only_trip_changes_no_bit() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    for placement in ["split.bottom_blocks=1", "split.connector=server"] {
        let moments: [Moment; 4] = [
            (forward, 4, true, false),
            (forward, 6, false, false),
            (forward, 3, false, true),
            (forward, 6, true, true),
        ];
        dies(&base, &[placement], &moments);
    }
}
