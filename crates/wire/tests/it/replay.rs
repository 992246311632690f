//! Repeats are answered from memory; what comes out of order is refused; failures are not papered over.

use qtl_wire::message::{ClientMessage, On, ServerMessage};
use qtl_wire::verb::{Answer, Done, Finish, Open, Save};
use qtl_wire::*;

use crate::greeting::{Desk, forward, hello, on, owner};
use crate::toy::{ToyClient, ToyServer, layout, terms, undisturbed};

fn in_training() -> Desk {
    let mut desk = Desk::new();
    desk.say(1, ClientMessage::Greeting(hello(1, 1)));
    desk
}

fn done(lane: u32, sequence: u64) -> [ServerMessage; 1] {
    [ServerMessage::Answer(
        On { lane, sequence },
        Answer::Done(Done),
    )]
}

#[test]
fn a_repeated_step_is_answered_from_memory() {
    let mut desk = in_training();
    let first = desk.say(1, forward(0));
    assert!(matches!(
        first.0[..],
        [ServerMessage::Answer(_, Answer::Backward(_))]
    ));
    assert_eq!(desk.say(1, forward(0)), first);
    assert_eq!(desk.work.log.lock().unwrap().steps, 1);
    desk.say(1, forward(1));
    // Only the last answer is kept; nobody waits for an older one.
    let refusal = desk.refused(1, forward(0));
    assert_eq!(refusal.reason, Reason::Order);
    assert_eq!(
        refusal.sentence,
        "request 0 of lane 0 is out of order: the server expects request 2"
    );
}

#[test]
fn a_step_from_the_future_is_refused() {
    let mut desk = in_training();
    let refusal = desk.refused(1, forward(5));
    assert_eq!(
        refusal.sentence,
        "request 5 of lane 0 is out of order: the server expects request 0"
    );
    assert_eq!(desk.server.in_session().count(), 0);
}

#[test]
fn whatever_is_asked_happens_once() {
    let mut desk = in_training();
    let calibration = ToyClient::default().calibration();
    let requests = [
        on(0, 0, calibration),
        on(0, 1, ToyClient::default().forward(0)),
        on(0, 2, Save { at: 1 }),
        on(0, 3, Finish { at: 1 }),
    ];
    for (sequence, request) in (0..).zip(requests) {
        let first = desk.say(1, request.clone()).0;
        if sequence != 1 {
            assert_eq!(first, done(0, sequence));
        }
        for _ in 0..2 {
            assert_eq!(desk.say(1, request.clone()).0, first);
        }
    }
    assert_eq!(desk.work.disk.lock().unwrap().calibrated, 1);
    let log = desk.work.log.lock().unwrap();
    assert_eq!((log.steps, log.saves, log.finishes), (1, 1, 1));
}

#[test]
fn another_request_with_the_number_of_the_last_is_not_answered_as_that() {
    let mut desk = in_training();
    desk.say(1, on(0, 0, ToyClient::default().calibration()));
    let other = Calibration {
        image: vec![1],
        text: vec![],
    };
    for other in [on(0, 0, other), on(0, 0, Save { at: 0 })] {
        assert_eq!(desk.refused(1, other).reason, Reason::Order);
        desk.server.gone(owner(1));
        desk.say(1, ClientMessage::Greeting(hello(1, 2)));
        desk = in_training();
        desk.say(1, on(0, 0, ToyClient::default().calibration()));
    }
}

#[test]
fn what_the_work_rejects_changes_nothing() {
    let mut link = LocalLink::local(ToyServer::fresh());
    let mut toy = ToyClient::default();
    link.greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    let mut bad = toy.forward(0);
    bad.cut.image = b"bad".to_vec();
    let error = link.step(bad).unwrap_err();
    let WireError::Refused(refusal) = error else {
        panic!("{error:?}")
    };
    assert_eq!(refusal.reason, Reason::Invalid);
    assert!(refusal.sentence.contains("has no planes"), "{refusal}");
    // The session is over, the memory is not: the next call mends it.
    assert!(matches!(link.step(toy.forward(0)), Ok(Reply::Done(_))));
    toy.state = 1;
    assert_eq!(link.work().log.lock().unwrap().restores, [0]);
}

#[test]
fn after_a_failed_step_only_a_checkpoint_is_trusted() {
    let mut link = LocalLink::local(ToyServer::fresh());
    let mut toy = ToyClient::default();
    toy.train(&mut link, 6, 4).unwrap();
    link.work_mut().fail_steps = 1;
    let error = link.step(toy.forward(6)).unwrap_err();
    let WireError::Refused(refusal) = error else {
        panic!("{error:?}")
    };
    assert_eq!(refusal.reason, Reason::Failed);
    assert!(refusal.sentence.contains("smaller batch"), "{refusal}");
    assert_eq!(link.step(toy.forward(6)).unwrap(), Reply::Rewind { to: 4 });
}

#[test]
fn a_failed_save_can_be_repeated() {
    let mut link = LocalLink::local(ToyServer::fresh());
    let mut toy = ToyClient::default();
    toy.train(&mut link, 3, 4).unwrap();
    link.work_mut().fail_saves = 1;
    assert!(
        link.save(3)
            .unwrap_err()
            .to_string()
            .contains("disk is full")
    );
    assert_eq!(link.save(3).unwrap(), Reply::Done(()));
    assert_eq!(
        link.work().log.lock().unwrap().restores,
        [0],
        "nothing was lost"
    );
}

fn prompt() -> Open {
    Open(Cut {
        image: vec![1],
        layout: layout(),
        ..Cut::default()
    })
}

#[test]
fn generation_is_replayed_and_ordered_too() {
    let mut desk = in_training();
    let open = on(1, 0, prompt());
    let next = |sequence| {
        let rows = Next {
            text: vec![3],
            keep: vec![0],
        };
        on(1, sequence, rows)
    };
    assert_eq!(desk.say(1, open.clone()), desk.say(1, open.clone()));
    let first = desk.say(1, next(1));
    assert_eq!(desk.say(1, next(1)), first);
    assert_ne!(desk.say(1, next(2)), first);
    assert_eq!(desk.refused(1, next(4)).reason, Reason::Order);
    desk.say(
        2,
        ClientMessage::Greeting(qtl_wire::message::Greeting {
            answered: Some(0),
            ..hello(1, 2)
        }),
    );
    let end = ClientMessage::End(On {
        lane: 1,
        sequence: 3,
    });
    assert_eq!(desk.say(2, end.clone()).0, done(1, 3));
    assert_eq!(desk.say(2, end).0, done(1, 3));
    assert_eq!(desk.work.log.lock().unwrap().closes, 1);
    assert_eq!(desk.refused(2, next(3)).reason, Reason::Generation);
    // A late copy of what began it does not begin it again.
    desk.say(3, ClientMessage::Greeting(hello(1, 3)));
    assert_eq!(desk.refused(3, open).reason, Reason::Generation);
    assert!(desk.work.caches.is_empty());
}

#[test]
fn a_new_generation_takes_the_place_of_the_one_before() {
    let mut desk = in_training();
    desk.say(1, on(1, 0, prompt()));
    desk.say(1, on(2, 0, prompt()));
    assert_eq!(desk.work.caches.len(), 1);
    assert_eq!(desk.work.log.lock().unwrap().closes, 1);
    let rows = Next {
        text: vec![3],
        keep: vec![0],
    };
    let gone = on(1, 1, rows);
    assert_eq!(desk.refused(1, gone).reason, Reason::Generation);
}

#[test]
fn another_client_ends_an_abandoned_generation() {
    let mut desk = in_training();
    desk.say(1, on(1, 0, prompt()));
    desk.server.gone(owner(1));
    assert_eq!(desk.work.caches.len(), 1, "its client may come back");
    desk.say(2, ClientMessage::Greeting(hello(2, 1)));
    assert!(desk.work.caches.is_empty());
}

#[test]
fn a_damaged_checkpoint_is_gone_round_while_both_processes_live() {
    for (damaged, to) in [(vec![12], 8), (vec![12, 8], 4), (vec![12, 8, 4], 0)] {
        let mut link = LocalLink::local(ToyServer::fresh());
        let mut toy = ToyClient::default();
        toy.train(&mut link, 14, 4).unwrap();
        let (disk, log) = (link.work().disk.clone(), link.work().log.clone());
        disk.lock().unwrap().damaged = damaged;
        link.restart(ToyServer::new(&disk, &log));
        assert_eq!(link.step(toy.forward(14)).unwrap(), Reply::Rewind { to });
        toy.restore(to);
        toy.go_on(&mut link, to, 20, 4).unwrap();
        assert_eq!(toy.state, undisturbed(20).0);
    }
}

#[test]
fn who_asks_for_answers_gets_those_of_the_newest_checkpoint_that_is_whole() {
    let mut link = LocalLink::local(ToyServer::fresh());
    ToyClient::default().train(&mut link, 10, 4).unwrap();
    let (disk, log) = (link.work().disk.clone(), link.work().log.clone());
    disk.lock().unwrap().damaged = vec![8];
    let mut link = LocalLink::local(ToyServer::new(&disk, &log));
    let resume = link
        .greet(&terms(), &Standing::default(), Purpose::Generate)
        .unwrap();
    assert_eq!(resume.at, 4);
}
