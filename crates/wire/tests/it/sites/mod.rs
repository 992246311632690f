//! Several sites that train one model, in one thread: whatever order their messages come in, whoever is killed, late or lost.
//! Everything follows from a seed.

mod work;
mod world;

use std::sync::Arc;

use qtl_wire::message::decode_server;
use qtl_wire::session::client::Client;
use qtl_wire::session::drive::{Output, carry_out, drive};
use qtl_wire::session::server::Peer;
use qtl_wire::verb::Request;
use qtl_wire::{Course, Mode, Purpose, Reason, Standing, WireError, Work};

use crate::pair::Dice;
use crate::toy::{mix, terms};

use work::{STEPS, key, roster};
use world::World;

/// What comes of steps that these sites took part in, with nothing lost.
fn follows_from(count: usize, record: &[Vec<usize>]) -> (u64, Vec<u64>) {
    let (mut server, mut sites) = (1, vec![1; count]);
    for places in record {
        let before = sites.clone();
        for place in places {
            server = mix(server, &u64::to_le_bytes(before[*place]));
            sites[*place] = mix(before[*place], &u64::to_le_bytes(server));
        }
    }
    (server, sites)
}

fn undisturbed(mode: Mode, count: usize) -> (u64, Vec<u64>) {
    let course = Course::new(mode, count, STEPS, Vec::new());
    let record: Vec<Vec<usize>> = (0..STEPS)
        .map(|step| match mode {
            Mode::Rounds => (0..count).collect(),
            Mode::Turns => vec![(step % count as u64) as usize],
        })
        .collect();
    assert_eq!(course.at(), 0);
    follows_from(count, &record)
}

#[test]
fn the_order_in_which_messages_come_is_nothing_to_the_result() {
    for mode in [Mode::Rounds, Mode::Turns] {
        for count in [1, 2, 3, 5] {
            for seed in 0..10 {
                let mut world = World::new(mode, count, count, seed);
                world.run(|_| {});
                let want = undisturbed(mode, count);
                assert_eq!(world.outcome(), want, "{mode:?} {count} {seed}");
                assert_eq!(world.work.restores, [0]);
            }
        }
    }
}

/// All come back within the patience.
#[test]
fn two_hundred_schedules_with_kills_and_cuts_end_as_one_without() {
    for seed in 0..200 {
        let mode = match seed % 2 {
            0 => Mode::Rounds,
            _ => Mode::Turns,
        };
        let count = 2 + (seed / 2 % 3) as usize;
        let mut world = World::new(mode, count, count, seed);
        let mut dice = Dice(seed + 1000);
        let mut kills = 20;
        world.run(|world| {
            if kills == 0 || !dice.one_in(15) {
                return;
            }
            kills -= 1;
            let place = dice.roll(count as u64) as usize;
            match dice.roll(4) {
                0 => world.restart_server(),
                1 if !world.sites[place].done => world.connect(place),
                _ if !world.sites[place].done => world.start(place),
                _ => {}
            }
        });
        assert_eq!(world.outcome(), undisturbed(mode, count), "{mode:?} {seed}");
    }
}

/// Sites whose connection is lost for longer than the patience: the run goes on, and they come in again.
#[test]
fn a_run_goes_on_with_a_quorum_and_the_record_tells_the_result() {
    let mut missed = 0;
    for seed in 0..100 {
        let mode = match seed % 2 {
            0 => Mode::Rounds,
            _ => Mode::Turns,
        };
        let count = 3;
        let mut world = World::new(mode, count, 2, seed);
        assert_eq!(world.quorum, 2);
        let mut dice = Dice(seed + 77);
        world.run(|world| {
            let here = world
                .sites
                .iter()
                .filter(|site| site.away == 0 && !site.done);
            let place = dice.roll(3) as usize;
            let site = &world.sites[place];
            if here.count() == 3 && dice.one_in(20) && site.asked.is_some() && !site.done {
                world.sites[place].away = 1 + dice.roll(4);
                let peer = Peer {
                    stream: world.sites[place].stream,
                    key: key(place),
                };
                world.server.gone(peer);
            }
        });
        let record = world.work.disk.record.clone();
        assert_eq!(record.len() as u64, STEPS);
        missed += record.iter().filter(|places| places.len() != 3).count();
        assert_eq!(
            world.outcome(),
            follows_from(count, &record),
            "{mode:?} {seed}"
        );
    }
    assert!(missed > 0);
}

/// A server that falls after one site has missed steps: these are done again without it, though it is there by then.
#[test]
fn what_is_done_again_is_done_by_those_who_did_it() {
    for seed in 0..50 {
        let mode = match seed % 2 {
            0 => Mode::Rounds,
            _ => Mode::Turns,
        };
        let mut world = World::new(mode, 3, 2, seed);
        let (mut phase, mut before) = (0, Vec::new());
        world.run(|world| match (phase, world.work.course.at()) {
            // Behind a checkpoint, before its next step.
            (0, 8) if matches!(world.sites[2].asked, Some(Request::Save(_))) => {
                phase = 1;
                world.sites[2].away = u64::MAX;
                let stream = world.sites[2].stream;
                world.server.gone(Peer {
                    stream,
                    key: key(2),
                });
            }
            (1, 10) => {
                phase = 2;
                world.sites[2].away = 0;
                before.clone_from(&world.work.disk.record);
                world.restart_server();
            }
            _ => {}
        });
        let record = &world.work.disk.record;
        assert_eq!((phase, record.len() as u64), (2, STEPS), "{mode:?} {seed}");
        assert!(before[8..].iter().all(|places| !places.contains(&2)));
        assert_eq!(record[..10], before, "{mode:?} {seed}");
        assert_eq!(world.outcome(), follows_from(3, record), "{mode:?} {seed}");
    }
}

/// A site that was killed and missed steps goes on from its own newest state; nobody goes back for it.
#[test]
fn a_late_a_lost_and_a_returning_site_hold_nobody_up() {
    let mut world = World::new(Mode::Rounds, 3, 2, 5);
    const FAR: u64 = 1_000_000;
    world.sites[2].away = FAR;
    let mut phase = 0;
    world.run(|world| match (phase, world.work.course.at()) {
        // Late.
        (0, 3) => {
            phase = 1;
            world.sites[2].away = 0;
        }
        // Lost, with what it had in memory.
        (1, 7) => {
            phase = 2;
            world.start(1);
            world.sites[1].away = FAR;
        }
        (2, 10) => {
            phase = 3;
            world.sites[1].away = 0;
        }
        _ => {}
    });
    let record = &world.work.disk.record;
    assert!(
        !record[2].contains(&2) && record[6].contains(&2),
        "{record:?}"
    );
    assert!(!record[9].contains(&1), "{record:?}");
    assert!(record.iter().any(|places| places.len() == 3), "{record:?}");
    assert!(world.sites.iter().all(|site| site.at >= STEPS));
    assert_eq!(world.work.restores, [0], "nobody goes back");
}

#[test]
fn a_key_that_is_taken_from_the_roster_is_shut_out_at_once() {
    let mut world = World::new(Mode::Rounds, 2, 1, 1);
    for _ in 0..8 {
        world.happens();
    }
    assert_eq!(world.server.in_session().count(), 2);
    let mut fewer = roster(2, 1);
    fewer.places.remove(&key(1));
    world.work.roster = Arc::new(fewer);
    let access = world.work.access();
    let (server, work) = (&mut world.server, &mut world.work);
    let outputs = carry_out(server, work, |server| server.admits(&access));
    assert!(matches!(outputs[0], Output::Send { peer, .. } if peer.key == key(1)));
    assert_eq!(world.server.in_session().count(), 1);
}

#[test]
fn a_site_has_no_more_sessions_for_answers_than_the_roster_says() {
    let mut world = World::new(Mode::Rounds, 2, 1, 1);
    for _ in 0..8 {
        world.happens();
    }
    let mut limited = roster(2, 1);
    limited.answers = [(0, 1)].into();
    world.work.roster = Arc::new(limited);
    let mut asks = |place: usize, instance: u64| {
        let mut client = Client::new(instance, world.limits);
        client.greet(&terms(), &Standing::default(), Purpose::Generate);
        let frame = client.connected().unwrap();
        let (server, work) = (&mut world.server, &mut world.work);
        let access = work.access();
        carry_out(server, work, |server| server.admits(&access));
        let peer = Peer {
            stream: instance,
            key: key(place),
        };
        let said = drive(server, work, &world.limits, peer, &frame.bytes);
        let Output::Send { frame, .. } = &said[0] else {
            panic!("hung up on");
        };
        let message = decode_server(frame, &world.limits).unwrap();
        match client.receive(message) {
            Err(WireError::Refused(refusal)) => Some(refusal.reason),
            other => other.map(|_| None).unwrap(),
        }
    };
    assert_eq!(asks(0, 7001), None);
    assert_eq!(asks(0, 7002), Some(Reason::Busy));
    // Another site is not limited.
    assert_eq!([asks(1, 7003), asks(1, 7004)], [None, None]);
    // Nor does it keep anybody from training.
    assert_eq!(world.server.in_session().count(), 5);
}
