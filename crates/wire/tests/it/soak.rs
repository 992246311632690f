//! Whole runs through bad networks and dying processes, for hundreds of seeds.

use qtl_wire::message::{On, ServerMessage};
use qtl_wire::{Askers, LocalLink, Reason, Simulation};

use crate::greeting::owner;
use crate::pair::{Faults, Pair};
use crate::toy::{ToyClient, ToyServer, undisturbed};

const STEPS: u64 = 40;

fn survives(name: &str, faults: Faults, seeds: u64) {
    let (client, server) = undisturbed(STEPS);
    let (mut seen, mut restores) = (0, 0);
    for seed in 0..seeds {
        let mut pair = Pair::new(seed, faults);
        let state = pair.run(STEPS, 7);
        let log = pair.log.lock().unwrap();
        let applied: Vec<u64> = (0..STEPS).collect();
        assert_eq!(
            log.applied, applied,
            "seed {seed}: every step once, in order"
        );
        assert_eq!(
            (state, pair.work.state),
            (client, server),
            "seed {seed}: same weights"
        );
        assert!(log.finishes >= 1);
        if faults.kill_server == 0 && faults.kill_client == 0 {
            assert_eq!(
                log.steps, STEPS,
                "seed {seed}: a lost connection costs no step"
            );
            // A welcome that was lost is repeated, restore and all, as long as nothing was built on it.
            assert!(
                log.restores.iter().all(|to| *to == 0),
                "seed {seed}: {:?}",
                log.restores
            );
            assert_eq!((log.saves, log.finishes), (STEPS / 7, 1), "seed {seed}");
        }
        seen += pair.faults_seen;
        restores += log.restores.len();
    }
    println!("{name}: {seeds} seeds, {seen} faults, {restores} restores");
    assert!(seen > seeds, "{name}: too few faults to mean anything");
}

const CALM: Faults = Faults {
    drop: 0,
    repeat: 0,
    cut: 0,
    kill_server: 0,
    kill_client: 0,
    stranger: 0,
};

#[test]
fn drops_repeats_and_cuts_change_nothing() {
    let faults = Faults {
        drop: 12,
        repeat: 8,
        cut: 25,
        ..CALM
    };
    survives("bad network", faults, 300);
}

#[test]
fn a_dying_server_changes_nothing() {
    let faults = Faults {
        drop: 30,
        repeat: 20,
        cut: 40,
        kill_server: 60,
        ..CALM
    };
    survives("dying server", faults, 200);
}

#[test]
fn a_dying_client_changes_nothing() {
    let faults = Faults {
        drop: 30,
        repeat: 20,
        cut: 40,
        kill_client: 60,
        ..CALM
    };
    survives("dying client", faults, 200);
}

#[test]
fn everything_at_once_changes_nothing() {
    let faults = Faults {
        drop: 20,
        repeat: 10,
        cut: 30,
        kill_server: 80,
        kill_client: 80,
        ..CALM
    };
    survives("everything", faults, 300);
}

#[test]
fn strangers_change_nothing_and_learn_nothing() {
    let faults = Faults {
        drop: 30,
        repeat: 20,
        cut: 40,
        kill_server: 120,
        kill_client: 120,
        stranger: 5,
    };
    let (client, server) = undisturbed(STEPS);
    for seed in 0..300 {
        let mut pair = Pair::new(seed, faults);
        let askers = [Askers::Owner, Askers::Any][seed as usize % 2];
        pair.answers(askers);
        let state = pair.run(STEPS, 7);
        let log = pair.log.lock().unwrap();
        let applied: Vec<u64> = (0..STEPS).collect();
        assert_eq!(
            log.applied, applied,
            "seed {seed}: every step once, in order"
        );
        assert_eq!(
            (state, pair.work.state),
            (client, server),
            "seed {seed}: same weights"
        );
        let disk = pair.disk.lock().unwrap();
        assert_eq!(disk.owner, Some(owner(0).key), "seed {seed}");
        let mut foreign = Vec::new();
        for message in &pair.told {
            match message {
                ServerMessage::Refusal(refusal) if refusal.reason == Reason::Owner => {
                    foreign.push(refusal.sentence.clone());
                }
                ServerMessage::Refusal(refusal) => {
                    let asked = [
                        Reason::Order,
                        Reason::Busy,
                        Reason::Terms,
                        Reason::Generation,
                    ];
                    assert!(asked.contains(&refusal.reason), "seed {seed}: {refusal:?}");
                }
                _ => assert_eq!(askers, Askers::Any, "seed {seed}: {message:?}"),
            }
            let trained =
                matches!(message, ServerMessage::Answer(on, _) if on.lane == On::TRAINING);
            assert!(!trained, "seed {seed}: {message:?}");
        }
        foreign.dedup();
        assert_eq!(foreign.len(), 1, "seed {seed}: the same words always");
    }
}

#[test]
fn the_local_link_survives_losses_too() {
    let (client, server) = undisturbed(STEPS);
    let mut connections = 0;
    for seed in 0..100 {
        let simulation = Simulation {
            loss: 0.2,
            seed,
            ..Simulation::default()
        };
        let mut link = LocalLink::simulated(ToyServer::fresh(), simulation);
        let mut toy = ToyClient::default();
        toy.train(&mut link, STEPS, 7).unwrap();
        assert_eq!(
            (toy.state, link.work().state),
            (client, server),
            "seed {seed}"
        );
        assert_eq!(link.work().log.lock().unwrap().steps, STEPS);
        connections += qtl_wire::Exchange::meter(&link).connections;
    }
    assert!(
        connections > 500,
        "only {connections} connections: nothing was lost"
    );
}
