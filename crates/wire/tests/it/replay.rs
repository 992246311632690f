//! Repeats are answered from memory; what comes out of order is refused; failures are not papered over.

use qtl_wire::message::{ClientMessage, ServerMessage};
use qtl_wire::*;

use crate::greeting::{Desk, hello, owner};
use crate::toy::{ToyClient, ToyServer, layout, terms, undisturbed};

fn forward(step: u64) -> ClientMessage {
    ClientMessage::Forward(ToyClient::default().forward(step))
}

fn in_training() -> Desk {
    let mut desk = Desk::new();
    desk.say(1, ClientMessage::Greeting(hello(1, 1)));
    desk
}

#[test]
fn a_repeated_step_is_answered_from_memory() {
    let mut desk = in_training();
    let first = desk.say(1, forward(0));
    assert!(matches!(first.0[..], [ServerMessage::Backward(_)]));
    assert_eq!(desk.say(1, forward(0)), first);
    assert_eq!(desk.work.log.lock().unwrap().steps, 1);
    desk.say(1, forward(1));
    // Only the last answer is kept; nobody waits for an older one.
    let refusal = desk.refused(1, forward(0));
    assert_eq!(refusal.reason, Reason::Order);
    assert_eq!(
        refusal.sentence,
        "step 0 is out of order: the server expects step 2"
    );
}

#[test]
fn a_step_from_the_future_is_refused() {
    let mut desk = in_training();
    let refusal = desk.refused(1, forward(5));
    assert_eq!(
        refusal.sentence,
        "step 5 is out of order: the server expects step 0"
    );
    assert_eq!(desk.server.in_session(), None);
}

#[test]
fn save_finish_and_calibration_happen_once() {
    let mut desk = in_training();
    let calibration = ToyClient::default().calibration();
    for _ in 0..2 {
        let said = desk
            .say(1, ClientMessage::Calibration(calibration.clone()))
            .0;
        assert_eq!(said, [ServerMessage::Calibrated]);
    }
    assert_eq!(desk.work.disk.lock().unwrap().calibrated, 1);
    desk.say(1, forward(0));
    for _ in 0..2 {
        assert_eq!(
            desk.say(1, ClientMessage::Save(1)).0,
            [ServerMessage::Saved(1)]
        );
        assert_eq!(
            desk.say(1, ClientMessage::Finish(1)).0,
            [ServerMessage::Finished(1)]
        );
    }
    let log = desk.work.log.lock().unwrap();
    assert_eq!((log.saves, log.finishes), (1, 1));
    drop(log);
    assert_eq!(
        desk.refused(1, ClientMessage::Save(0)).reason,
        Reason::Order
    );
}

#[test]
fn calibration_comes_before_the_first_step_and_once() {
    let mut desk = in_training();
    desk.say(1, forward(0));
    let late = ClientMessage::Calibration(ToyClient::default().calibration());
    assert_eq!(desk.refused(1, late).reason, Reason::Order);

    let mut desk = in_training();
    desk.say(
        1,
        ClientMessage::Calibration(ToyClient::default().calibration()),
    );
    let other = ClientMessage::Calibration(Calibration {
        image: vec![1],
        text: vec![],
    });
    assert_eq!(desk.refused(1, other).reason, Reason::Order);
}

#[test]
fn what_the_work_rejects_changes_nothing() {
    let mut link = LocalLink::local(ToyServer::fresh());
    let mut toy = ToyClient::default();
    link.greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    let bad = Forward {
        image: b"bad".to_vec(),
        ..toy.forward(0)
    };
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

#[test]
fn generation_is_replayed_and_ordered_too() {
    let mut desk = in_training();
    let prompt = Prompt {
        image: vec![1],
        text: vec![],
        layout: layout(),
        text_index: vec![],
    };
    let open = ClientMessage::Open {
        generation: 1,
        prompt,
    };
    let next = |index| ClientMessage::Next {
        generation: 1,
        index,
        rows: Rows {
            text: vec![3],
            keep: vec![0],
        },
    };
    assert_eq!(desk.say(1, open.clone()), desk.say(1, open));
    let first = desk.say(1, next(1));
    assert_eq!(desk.say(1, next(1)), first);
    assert_ne!(desk.say(1, next(2)), first);
    assert_eq!(desk.refused(1, next(4)).reason, Reason::Order);
    desk.say(
        2,
        ClientMessage::Greeting(qtl_wire::message::Greeting {
            standing: Standing {
                live: Some(0),
                ..hello(1, 2).standing
            },
            ..hello(1, 2)
        }),
    );
    let close = ClientMessage::Close { generation: 1 };
    assert_eq!(
        desk.say(2, close.clone()).0,
        [ServerMessage::Closed { generation: 1 }]
    );
    assert_eq!(
        desk.say(2, close).0,
        [ServerMessage::Closed { generation: 1 }]
    );
    assert_eq!(desk.work.log.lock().unwrap().closes, 1);
    assert_eq!(desk.refused(2, next(3)).reason, Reason::Generation);
}

#[test]
fn another_client_ends_an_abandoned_generation() {
    let mut desk = in_training();
    let prompt = Prompt {
        image: vec![1],
        text: vec![],
        layout: layout(),
        text_index: vec![],
    };
    desk.say(
        1,
        ClientMessage::Open {
            generation: 1,
            prompt,
        },
    );
    desk.server.gone(owner(1));
    assert!(desk.work.cache.is_some(), "its client may come back");
    desk.say(2, ClientMessage::Greeting(hello(2, 1)));
    assert!(desk.work.cache.is_none());
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
