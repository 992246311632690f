//! Answers that are generated beside each other and beside training: each as if it were alone.

use std::path::Path;

use qtl_train::ServerWork;
use qtl_train::fuzzing::{Desk, Legal};
use qtl_wire::{Lane, Work, WorkError};

/// Tokens of a generation, two from `open` and two from each row that follows.
type Said = Vec<u32>;

fn served(dir: &Path) -> (ServerWork, Legal) {
    let (mut work, legal) = Desk::served(0, dir).unwrap();
    work.restore(0).unwrap();
    work.calibrate(legal.calibration.clone()).unwrap();
    (work, legal)
}

fn open(work: &mut ServerWork, legal: &Legal, lane: u64) -> Said {
    work.open(Lane(lane), legal.prompt.clone()).unwrap().ids
}

fn next(work: &mut ServerWork, legal: &Legal, lane: u64) -> Said {
    work.next(Lane(lane), legal.next.clone()).unwrap().ids
}

fn whole(work: &mut ServerWork, legal: &Legal, lane: u64) -> [Said; 3] {
    let first = open(work, legal, lane);
    let said = [first, next(work, legal, lane), next(work, legal, lane)];
    work.end(Lane(lane));
    said
}

#[test]
fn an_answer_keeps_the_weights_that_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let (mut work, legal) = served(dir.path());
    let before = whole(&mut work, &legal, 1);
    // One stands open while others come and go, and while training moves the weights under it.
    let first = open(&mut work, &legal, 2);
    assert_eq!(whole(&mut work, &legal, 3), before);
    let second = next(&mut work, &legal, 2);
    for step in 0..40 {
        work.step(legal.steps[step % 2].clone()).unwrap();
    }
    let after = whole(&mut work, &legal, 4);
    assert_ne!(after, before, "training changes what is said");
    let third = next(&mut work, &legal, 2);
    assert_eq!([first, second, third], before);
    assert_eq!(whole(&mut work, &legal, 5), after);
}

#[test]
fn answers_beside_training_leave_it_alone() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [mut alone, mut beside] = dirs.each_ref().map(|dir| served(dir.path()));
    for step in 0..6_usize {
        let forward = alone.1.steps[step % 2].clone();
        let expected = alone.0.step(forward.clone()).unwrap();
        open(&mut beside.0, &beside.1, step as u64 + 1);
        let backward = beside.0.step(forward).unwrap();
        next(&mut beside.0, &beside.1, step as u64 / 2 + 1);
        let bits = |loss: f64| loss.to_bits();
        assert_eq!(bits(backward.loss), bits(expected.loss), "step {step}");
        assert_eq!(backward.image, expected.image, "step {step}");
        assert_eq!(backward.text, expected.text, "step {step}");
    }
}

#[test]
fn beyond_the_memory_for_answers_a_client_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (mut work, legal) = served(dir.path());
    // One alone may be larger than all that there is room for.
    work.generations_may_hold(1);
    open(&mut work, &legal, 1);
    let full = work.open(Lane(2), legal.prompt.clone()).unwrap_err();
    assert!(matches!(&full, WorkError::Busy(_)), "{full}");
    next(&mut work, &legal, 1);
    work.end(Lane(1));
    open(&mut work, &legal, 2);
    // The least room that lets in a third beside two, to 64 bytes.
    work.generations_may_hold(u64::MAX);
    open(&mut work, &legal, 3);
    let fits = |room: &u64| {
        work.generations_may_hold(*room);
        let third = work.open(Lane(4), legal.prompt.clone());
        work.end(Lane(4));
        third.is_ok()
    };
    let room = (64..).step_by(64).find(fits).unwrap();
    assert!(room > 64);
    // Weights that training has replaced, and that answers still need, count as well.
    work.step(legal.steps[0].clone()).unwrap();
    let full = work.open(Lane(4), legal.prompt.clone()).unwrap_err();
    assert!(matches!(&full, WorkError::Busy(_)), "{full}");
    work.end(Lane(2));
    work.end(Lane(3));
    open(&mut work, &legal, 4);
}
