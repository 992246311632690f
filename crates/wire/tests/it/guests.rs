//! Several clients that ask for answers, beside each other and beside training.

use std::time::Duration;

use qtl_wire::message::{ClientMessage, ServerMessage};
use qtl_wire::session::server::Peer;
use qtl_wire::*;

use crate::greeting::{Desk, hello, on, owner, stranger, welcome};
use crate::strangers::{asking, greets, open, owned};
use crate::toy::ToyClient;

fn guest(n: u8, stream: u64) -> Peer {
    Peer {
        stream,
        key: Key::of_public_key(&[n]),
    }
}

fn row(text: u8, sequence: u64) -> ClientMessage {
    let rows = Next {
        text: vec![text],
        keep: vec![0],
    };
    on(1, sequence, rows)
}

/// Every guest has a cache of its own, and training goes on beside them.
#[test]
fn guests_ask_beside_each_other_and_beside_training() {
    let alone = |text| {
        let mut desk = owned(Askers::Any);
        desk.say_as(guest(0, 2), greets(asking(1, 1)));
        desk.say_as(guest(0, 2), open());
        desk.say_as(guest(0, 2), row(text, 1));
        desk.say_as(guest(0, 2), row(text, 2)).0
    };
    let mut desk = owned(Askers::Any);
    // The same number drawn by all of them: it is the key that tells them apart.
    for n in 0..8 {
        let peer = guest(n, 10 + u64::from(n));
        let (heard, hung_up) = desk.say_as(peer, greets(asking(1, 1)));
        assert_eq!(heard, welcome(1, true));
        assert!(hung_up.is_empty());
        desk.say_as(peer, open());
    }
    for n in (0..8).rev() {
        desk.say_as(guest(n, 10 + u64::from(n)), row(n, 1));
    }
    desk.say(1, on(0, 2, ToyClient::default().forward(1)));
    for n in 0..8 {
        let (heard, _) = desk.say_as(guest(n, 10 + u64::from(n)), row(n, 2));
        assert_eq!(heard, alone(n), "guest {n}");
    }
    assert_eq!(desk.work.caches.len(), 8);
    assert_eq!(desk.work.live, Some(2));
    assert!(desk.in_session(owner(1)));
}

/// After a failed step a guest has the newest checkpoint read; whoever trained is not to go on from that as if it were live.
#[test]
fn weights_that_were_read_for_a_guest_are_not_what_training_left_in_memory() {
    let mut desk = owned(Askers::Any);
    desk.say(1, on(0, 2, ToyClient::default().forward(1)));
    desk.work.fail_steps = 1;
    let failed = desk.refused(1, on(0, 3, ToyClient::default().forward(2)));
    assert_eq!(failed.reason, Reason::Failed);
    let (heard, _) = desk.say_as(guest(1, 2), greets(asking(1, 1)));
    assert_eq!(heard, welcome(1, true));
    let mut again = hello(1, 2);
    again.saved = vec![1];
    again.answered = Some(3);
    let (heard, _) = desk.say(3, greets(again));
    assert_eq!(heard, welcome(1, false));
}

#[test]
fn a_key_has_a_few_sessions_and_an_idle_one_yields() {
    let mut desk = owned(Askers::Any);
    for process in 1..=4 {
        desk.say_as(guest(1, 10 + process), greets(asking(process, 1)));
        desk.say_as(guest(1, 10 + process), open());
    }
    let refusal = desk.refused_as(guest(1, 20), greets(asking(5, 1)));
    assert_eq!(refusal.reason, Reason::Busy);
    // Another key is not kept out by that.
    desk.say_as(guest(2, 21), greets(asking(5, 1)));
    assert!(desk.in_session(guest(2, 21)));
    desk.server.waited(Duration::from_secs(59));
    // A message makes a session busy again.
    desk.say_as(guest(1, 11), row(1, 1));
    desk.server.waited(Duration::from_secs(1));
    let (_, hung_up) = desk.say_as(guest(1, 22), greets(asking(5, 1)));
    assert_eq!(hung_up, [12], "the one that was silent for longest");
    assert_eq!(desk.work.caches.len(), 3);
}

#[test]
fn there_is_room_for_so_many_and_the_owner() {
    let mut desk = owned(Askers::Any);
    for n in 1..64 {
        desk.say_as(guest(n, u64::from(n) + 10), greets(asking(1, 1)));
    }
    assert_eq!(desk.server.in_session().count(), 64);
    let refusal = desk.refused_as(guest(64, 100), greets(asking(1, 1)));
    assert_eq!(refusal.reason, Reason::Busy);
    // The owner does not wait, and goes on live.
    desk.server.gone(owner(1));
    desk.say_as(guest(64, 101), greets(asking(1, 2)));
    let mut again = hello(1, 2);
    again.answered = Some(2);
    let (heard, hung_up) = desk.say(6, greets(again));
    assert_eq!(heard, welcome(2, true));
    assert!(hung_up.is_empty());
    desk.server.waited(Duration::from_secs(60));
    let (_, hung_up) = desk.say_as(guest(65, 102), greets(asking(1, 1)));
    assert_eq!(hung_up.len(), 1);
}

/// What a server remembers of clients is bounded, and what it forgets it lets go.
#[test]
fn clients_that_have_left_are_forgotten_one_day() {
    let mut desk = owned(Askers::Any);
    for n in 0..1000_u64 {
        let peer = Peer {
            stream: 10 + n,
            key: Key::of_public_key(&n.to_le_bytes()),
        };
        desk.say_as(peer, greets(asking(1, 1)));
        desk.say_as(peer, open());
        desk.server.gone(peer);
    }
    assert_eq!(desk.work.caches.len(), 255, "the owner has none");
}

#[test]
fn who_finds_no_room_waits_and_those_who_left_make_it() {
    let mut desk = owned(Askers::Any);
    desk.work.room = 1;
    desk.say_as(guest(1, 11), greets(asking(1, 1)));
    desk.say_as(guest(1, 11), open());
    desk.say_as(guest(2, 12), greets(asking(1, 1)));
    assert_eq!(desk.refused_as(guest(2, 12), open()).reason, Reason::Busy);
    desk.say_as(guest(2, 13), greets(asking(1, 2)));
    assert_eq!(desk.refused_as(guest(2, 13), open()).reason, Reason::Busy);
    // The first goes without a word; its cache is kept until somebody needs the room.
    desk.server.gone(guest(1, 11));
    desk.say_as(guest(2, 14), greets(asking(1, 3)));
    assert_eq!(desk.refused_as(guest(2, 14), open()).reason, Reason::Busy);
    desk.say_as(guest(2, 15), greets(asking(1, 4)));
    let (heard, _) = desk.say_as(guest(2, 15), open());
    assert!(matches!(heard[..], [ServerMessage::Answer(..)]));
}

/// A silent guest on a run that nobody has begun does not keep its first client out.
#[test]
fn who_begins_a_run_does_not_wait_for_a_guest() {
    let mut desk = Desk::new();
    desk.say_as(stranger(1), greets(asking(1, 1)));
    assert!(desk.in_session(stranger(1)));
    let (heard, hung_up) = desk.say(2, greets(hello(1, 1)));
    assert_eq!((heard, hung_up), (welcome(0, false), vec![]));
}
