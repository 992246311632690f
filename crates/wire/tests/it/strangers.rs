//! A second kit of the same authority: what its holder can learn, take, delete and end. Nothing.

use std::time::Duration;

use qtl_wire::message::{ClientMessage, Greeting, ServerMessage};
use qtl_wire::session::server::Peer;
use qtl_wire::verb::{Finish, Open, Save};
use qtl_wire::*;

use crate::greeting::{Desk, forward, hello, on, owner, stranger, welcome};
use crate::toy::{RUN, ToyClient, ToyServer, layout, terms};

pub fn greets(greeting: Greeting) -> ClientMessage {
    ClientMessage::Greeting(greeting)
}

pub fn asking(instance: u64, attempt: u32) -> Greeting {
    Greeting {
        purpose: Purpose::Generate,
        run: String::new(),
        ..hello(instance, attempt)
    }
}

pub fn open() -> ClientMessage {
    on(
        1,
        0,
        Open(Cut {
            image: vec![1],
            layout: layout(),
            ..Cut::default()
        }),
    )
}

fn with_terms(change: &[(&str, &str)]) -> Terms {
    let mut terms = terms();
    for (field, value) in change {
        terms
            .fields
            .insert((*field).to_owned(), (*value).to_owned());
    }
    terms
}

/// The owner has trained a step and saved it.
pub fn owned(generate: Askers) -> Desk {
    let mut desk = Desk::new();
    desk.work.generate = generate;
    desk.say(1, greets(hello(1, 1)));
    desk.say(1, forward(0));
    desk.say(1, on(0, 1, Save { at: 1 }));
    desk
}

#[test]
fn a_stranger_hears_the_same_whatever_differs() {
    let standings: [(&str, &[u64], Option<u64>); 3] = [
        (RUN, &[], None),
        ("", &[], None),
        ("another", &[1, 2, 3], Some(1)),
    ];
    for in_session in [true, false] {
        let mut desk = owned(Askers::Owner);
        if !in_session {
            desk.server.gone(owner(1));
        }
        let mut heard = Vec::new();
        for terms in [
            terms(),
            Terms::default(),
            with_terms(&[("quantizer.bits", "4")]),
            with_terms(&[("a", "b")]),
        ] {
            for (run, saved, answered) in standings {
                for (purpose, instance) in [(Purpose::Train, 1), (Purpose::Generate, 7)] {
                    let greeting = Greeting {
                        purpose,
                        run: run.into(),
                        saved: saved.to_vec(),
                        answered,
                        terms: terms.clone(),
                        ..hello(instance, 9)
                    };
                    heard.push(desk.refused_as(stranger(2), greets(greeting)));
                }
            }
        }
        assert_eq!(heard[0].reason, Reason::Owner);
        for words in ["run-1", "quantizer", "fsq", "train.lr", "1e-4"] {
            assert!(!heard[0].sentence.contains(words), "{}", heard[0]);
        }
        heard.dedup();
        assert_eq!(heard.len(), 1, "{heard:?}");
        // Nothing has happened, but this side was told of each.
        assert_eq!(desk.work.live, Some(1));
        let log = desk.work.log.lock().unwrap();
        assert_eq!(
            (log.restores.as_slice(), log.turned_away.len()),
            (&[0][..], 24)
        );
    }
}

#[test]
fn a_stranger_takes_replays_saves_deletes_and_ends_nothing() {
    // With the owner's instance number and a newer attempt, with the owner in session and without.
    for in_session in [true, false] {
        let mut desk = owned(Askers::Any);
        if !in_session {
            desk.server.gone(owner(1));
        }
        let mut greeting = hello(1, 1000);
        greeting.answered = Some(2);
        desk.refused_as(stranger(2), greets(greeting));
        for message in [
            forward(0),
            forward(1),
            on(0, 1, Save { at: 1 }),
            on(0, 2, Save { at: 1 }),
            on(0, 2, Finish { at: 1 }),
            on(0, 0, Finish { at: 0 }),
            on(0, 0, Calibration::default()),
            open(),
        ] {
            let refusal = desk.refused_as(stranger(2), message.clone());
            assert_eq!(refusal.reason, Reason::Order, "{message:?}");
        }
        assert_eq!(desk.work.disk.lock().unwrap().checkpoints.len(), 1);
        assert_eq!(desk.work.log.lock().unwrap().finishes, 0);
        // The owner goes on live where it was.
        let mut again = hello(1, 2);
        again.saved = vec![1];
        again.answered = Some(2);
        let (heard, _) = desk.say(3, greets(again));
        assert_eq!(heard, welcome(2, true));
    }
}

#[test]
fn a_stranger_that_may_ask_learns_no_field_and_ends_nothing() {
    let mut desk = owned(Askers::Any);
    desk.server.gone(owner(1));
    let other = Greeting {
        terms: with_terms(&[("quantizer.bits", "4")]),
        ..asking(1, 1)
    };
    let refusal = desk.refused_as(stranger(2), greets(other));
    assert_eq!(
        (refusal.reason, refusal.field.as_str()),
        (Reason::Terms, "")
    );
    assert!(!refusal.sentence.contains("quantizer"), "{refusal}");
    let (heard, _) = desk.say_as(stranger(3), greets(asking(1, 1)));
    assert_eq!(heard, welcome(1, true));
    desk.say_as(stranger(3), open());
    let refusal = desk.refused_as(stranger(3), on(0, 2, Finish { at: 1 }));
    assert_eq!(refusal.reason, Reason::Order);
    assert_eq!(desk.work.log.lock().unwrap().finishes, 0);
}

/// `--generate owner`, and nobody has begun.
#[test]
fn a_run_that_is_nobodys_answers_nobody() {
    let mut desk = Desk::new();
    desk.work.generate = Askers::Owner;
    let refusal = desk.refused_as(stranger(1), greets(asking(1, 1)));
    assert_eq!(refusal.reason, Reason::Owner);
    desk.say(2, greets(hello(1, 1)));
    desk.server.gone(owner(2));
    let (heard, _) = desk.say(3, greets(asking(2, 1)));
    assert_eq!(heard, welcome(0, true));
}

#[test]
fn the_first_whose_terms_all_match_owns_the_run() {
    let mut desk = Desk::new();
    let other = Greeting {
        terms: with_terms(&[("train.lr", "1")]),
        ..hello(1, 1)
    };
    let refusal = desk.refused_as(stranger(1), greets(other));
    assert_eq!(
        (refusal.reason, refusal.field.as_str()),
        (Reason::Terms, "train.lr")
    );
    assert!(refusal.sentence.contains("'1'"), "{refusal}");
    assert!(!refusal.sentence.contains("1e-4"), "{refusal}");
    desk.say(2, greets(hello(1, 1)));
    assert_eq!(desk.work.disk.lock().unwrap().owner, Some(owner(2).key));
    let refusal = desk.refused_as(stranger(3), greets(hello(2, 1)));
    assert_eq!(refusal.reason, Reason::Owner);
}

/// Naming the field that differs answers a question about its value.
#[test]
fn before_there_is_an_owner_a_client_may_ask_a_few_times() {
    let mut desk = Desk::new();
    let mut named = 0;
    for guess in 0..100 {
        let greeting = Greeting {
            terms: with_terms(&[("quantizer.bits", &guess.to_string()), ("train.lr", "no")]),
            ..hello(1, 1 + guess)
        };
        let refusal = desk.refused_as(stranger(1), greets(greeting));
        assert_eq!(refusal.reason, Reason::Terms);
        named += u32::from(!refusal.field.is_empty());
        assert_eq!(refusal.field.is_empty(), !refusal.sentence.contains(" in "));
    }
    assert_eq!(named, 16);
    // Others may still ask, and who has the recipe still gets the run.
    let other = Greeting {
        terms: with_terms(&[("train.lr", "1")]),
        ..hello(1, 1)
    };
    assert_eq!(desk.refused(2, greets(other.clone())).field, "train.lr");
    desk.say(3, greets(hello(1, 2)));
    desk.server.gone(owner(3));
    // The owner may ask without end.
    for attempt in 3..50 {
        let other = Greeting {
            attempt,
            ..other.clone()
        };
        assert_eq!(desk.refused(4, greets(other)).field, "train.lr");
    }
}

/// The owner's other process waits until the first has been silent for long.
#[test]
fn two_processes_of_the_owner_do_not_take_from_each_other() {
    let mut desk = owned(Askers::Owner);
    let second = || greets(hello(2, 1));
    desk.server.waited(Duration::from_secs(599));
    assert_eq!(desk.refused(2, second()).reason, Reason::Busy);
    desk.server.waited(Duration::from_secs(1));
    let (heard, hung_up) = desk.say(3, second());
    assert_eq!((heard, hung_up), (welcome(0, false), vec![1]));
    assert_eq!(desk.work.disk.lock().unwrap().aside.len(), 1);
}

#[test]
fn a_server_without_a_run_refuses_training_at_the_greeting() {
    let mut desk = Desk::new();
    desk.work.trains = false;
    let refusal = desk.refused(1, greets(hello(1, 1)));
    assert_eq!(refusal.reason, Reason::Purpose);
    assert!(refusal.sentence.contains("--run"), "{refusal}");
    assert!(desk.work.disk.lock().unwrap().owner.is_none());
    let (heard, _) = desk.say_as(stranger(2), greets(asking(1, 1)));
    assert_eq!(heard, welcome(0, true));
}

#[test]
fn a_directory_that_never_saw_the_run_is_told_from_one_without_a_checkpoint_yet() {
    let began = |saved: &[u64], answered| Greeting {
        saved: saved.to_vec(),
        answered,
        ..hello(2, 1)
    };
    // Never seen: whatever the client has would have to be done again.
    for (saved, answered) in [(&[30, 40][..], None), (&[][..], Some(3))] {
        let mut desk = Desk::new();
        let refusal = desk.refused(1, greets(began(saved, answered)));
        assert_eq!(refusal.reason, Reason::OtherRun);
        assert!(refusal.sentence.contains("never seen"), "{refusal}");
        assert!(!refusal.sentence.contains(RUN), "{refusal}");
        assert_eq!(desk.work.disk.lock().unwrap().run, "", "nothing has begun");
        let log = desk.work.log.lock().unwrap();
        assert!(log.restores.is_empty());
        let (_, _, here) = log.turned_away.last().unwrap();
        assert!(here.contains("'run-1'"), "{here}");
    }
    // Seen, and killed before or over its first save.
    for saved in [&[][..], &[10]] {
        let mut desk = Desk::new();
        desk.say(1, greets(hello(1, 1)));
        desk.say(1, forward(0));
        let (disk, log) = (desk.work.disk.clone(), desk.work.log.clone());
        assert_eq!(disk.lock().unwrap().run, RUN);
        desk = Desk::new();
        desk.work = ToyServer::new(&disk, &log);
        let (heard, _) = desk.say(1, greets(began(saved, None)));
        assert_eq!(heard, welcome(0, false));
    }
    // A client that has begun nothing begins here, even where another run has left a name and no checkpoint.
    let mut desk = Desk::new();
    desk.say(1, greets(hello(1, 1)));
    desk.server.gone(owner(1));
    let mut other = hello(2, 1);
    other.run = "run-2".into();
    let (heard, _) = desk.say(2, greets(other));
    assert_eq!(heard, welcome(0, false));
    assert_eq!(desk.work.disk.lock().unwrap().run, "run-2");
}

/// A message on this lane with one part of this number, whose content no decoder takes.
fn undecodable(lane: u8, number: u8) -> Vec<u8> {
    let tag = match number {
        0..16 => vec![number << 3 | 2],
        _ => vec![(number & 15) << 3 | 2 | 0x80, number >> 4],
    };
    [&[1 << 3, lane][..], &tag, &[3, 0xff, 0xff, 0xff]].concat()
}

#[test]
fn what_nobody_may_send_is_refused_undecoded() {
    let mut desk = owned(Askers::Any);
    let reason = |desk: &mut Desk, peer: Peer, lane: u8, number: u8| {
        let (heard, _) = desk.say_bytes(peer, &undecodable(lane, number));
        match heard.as_slice() {
            [ServerMessage::Refusal(refusal)] => refusal.reason,
            other => panic!("{other:?}"),
        }
    };
    // Without a session nothing but a greeting is read.
    for number in 4..=17 {
        assert_eq!(reason(&mut desk, stranger(2), 0, number), Reason::Order);
        assert_eq!(reason(&mut desk, stranger(2), 1, number), Reason::Order);
    }
    assert_eq!(reason(&mut desk, stranger(2), 0, 3), Reason::Invalid);
    assert_eq!(reason(&mut desk, stranger(2), 0, 18), Reason::Invalid);
    // Who is in a session for questions may only ask.
    desk.server.gone(owner(1));
    desk.say_as(stranger(3), greets(asking(5, 1)));
    assert!(desk.in_session(stranger(3)));
    assert_eq!(reason(&mut desk, stranger(3), 0, 6), Reason::Order);
    desk.say_as(stranger(3), greets(asking(5, 2)));
    assert_eq!(reason(&mut desk, stranger(3), 1, 9), Reason::Invalid);
    // The owner's are read.
    desk.say(4, greets(hello(1, 2)));
    assert_eq!(reason(&mut desk, owner(4), 0, 6), Reason::Invalid);
}

#[test]
fn training_and_generations_keep_to_their_lanes() {
    let mut desk = owned(Askers::Owner);
    let wrong = [
        on(1, 0, ToyClient::default().forward(1)),
        on(0, 2, Open::default()),
        on(0, 2, Next::default()),
        on(1, 1, Open::default()),
    ];
    for (attempt, wrong) in (2..).zip(wrong) {
        let refusal = desk.refused(1, wrong);
        assert_eq!(refusal.reason, Reason::Invalid);
        assert!(refusal.sentence.contains("ClientMessage.lane"), "{refusal}");
        let again = Greeting {
            answered: Some(2),
            ..hello(1, attempt)
        };
        desk.say(1, greets(again));
    }
    assert_eq!(desk.work.live, Some(1));
}
