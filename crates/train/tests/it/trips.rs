//! Sides that die between the two trips of a step.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qtl_model::Device;
use qtl_train::ServerWork;
use qtl_train::client::Client;
use qtl_train::start::Start;
use qtl_wire::verb::Request;
use qtl_wire::{Exchange, Key, Shared, SharedLink, WireError};

use crate::placement::weights;
use crate::world::{Drawn, Tapped, blueprint, kind, recipe, records_over, server_of};

#[test]
fn a_side_that_dies_between_the_two_trips_changes_no_bit() {
    let sets = [
        "split.labels=client",
        "quantizer.image={kind='fsq', levels=4, statistics='channel'}",
        "quantizer.text={kind='fsq', levels=4, statistics='channel'}",
        "quantizer.hidden={kind='fsq', levels=4, statistics='channel'}",
        "quantizer.calibration_batches=2",
        "train.accumulate=2",
        "train.steps=4",
        "train.save_every=2",
    ];
    let recipe = recipe(kind("lora"), &sets);
    let start = Start::from(&blueprint(&recipe));
    let all = |shared: &Shared<ServerWork>, dir: &Path| {
        let mut link = shared.client(Key::LOCAL);
        records_over(&mut link, Arc::new(Drawn), &start, &recipe, dir, None);
        weights(dir, 4)
    };
    let whole = tempfile::tempdir().unwrap();
    let want = all(
        &Shared::new(server_of(&start, &recipe, whole.path())),
        whole.path(),
    );
    // In the first step, within a step, and behind a checkpoint; the client alone, or the server with it.
    for at in [1, 4, 6] {
        for sent in [false, true] {
            for both in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let dir = dir.path();
                let shared = Shared::new(server_of(&start, &recipe, dir));
                let source = Arc::new(Drawn);
                let device = Device::default();
                let mut client =
                    Client::open(recipe.clone(), &start, source, dir, "test", device).unwrap();
                // Before the message has gone, or once it has been answered.
                let mut left = at;
                let mut link = Tapped {
                    link: shared.client(Key::LOCAL),
                    ask: |link: &mut SharedLink<ServerWork>, request: Request| {
                        left -= usize::from(matches!(request, Request::BackwardHidden(_)));
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
                assert!(all(&shared, dir) == want, "{at} {sent} {both}");
            }
        }
    }
}
