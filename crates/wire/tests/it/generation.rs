//! Generation: within training, on its own, across lost connections, and never without its cache.

use std::sync::Arc;

use qtl_wire::*;

use crate::toy::{ToyClient, ToyServer, layout, terms};

fn prompt() -> Cut {
    Cut {
        image: vec![1, 2, 3],
        text: vec![4],
        layout: layout(),
        text_index: vec![],
        packed: false,
    }
}

fn rows(i: u8) -> Next {
    Next {
        text: vec![i; 5],
        keep: vec![0],
    }
}

/// What an undisturbed generation says.
fn generate(link: &mut dyn Exchange) -> Result<Vec<Vec<u32>>, WireError> {
    let mut all = vec![link.open(prompt())?.ids];
    for i in 0..20 {
        all.push(link.next(rows(i))?.ids);
    }
    link.end()?;
    Ok(all)
}

#[test]
fn generation_needs_no_training_run() {
    let mut link = LocalLink::local(ToyServer::fresh());
    let resume = link
        .greet(&terms(), &Standing::default(), Purpose::Generate)
        .unwrap();
    assert_eq!(resume, Resume { at: 0, site: None });
    assert_eq!(generate(&mut link).unwrap().len(), 21);
    link.end().unwrap();
    assert!(link.work().caches.is_empty());
    assert_eq!(
        link.work().log.lock().unwrap().closes,
        1,
        "closing what is closed does nothing"
    );
    assert_eq!(link.work().disk.lock().unwrap().run, "", "no run was begun");
}

#[test]
fn generation_survives_lost_connections() {
    let mut calm = LocalLink::local(ToyServer::fresh());
    calm.greet(&terms(), &Standing::default(), Purpose::Generate)
        .unwrap();
    let expected = generate(&mut calm).unwrap();
    for seed in 0..100 {
        let simulation = Simulation {
            loss: 0.3,
            seed,
            ..Simulation::default()
        };
        let mut link = LocalLink::simulated(ToyServer::fresh(), simulation);
        link.greet(&terms(), &Standing::default(), Purpose::Generate)
            .unwrap();
        assert_eq!(generate(&mut link).unwrap(), expected, "seed {seed}");
        assert_eq!(
            generate(&mut link).unwrap(),
            expected,
            "seed {seed}, second generation"
        );
    }
}

#[test]
fn generation_between_steps_leaves_training_alone() {
    let mut link = LocalLink::local(ToyServer::fresh());
    let mut toy = ToyClient::default();
    toy.train(&mut link, 5, 4).unwrap();
    generate(&mut link).unwrap();
    resume(&mut toy, &mut link);
    assert_eq!(link.work().live, Some(8));
}

#[test]
fn a_restarted_server_has_lost_the_cache_and_says_so() {
    let mut link = LocalLink::local(ToyServer::fresh());
    let mut toy = ToyClient::default();
    toy.train(&mut link, 5, 4).unwrap();
    link.open(prompt()).unwrap();
    let (disk, log) = (link.work().disk.clone(), link.work().log.clone());
    link.restart(ToyServer::new(&disk, &log));
    let error = link.next(rows(0)).unwrap_err();
    assert!(matches!(error, WireError::GenerationLost), "{error:?}");
    // And the rewind, which no generation call can report, comes with the next training call.
    assert_eq!(link.save(5).unwrap(), Reply::Rewind { to: 4 });
    toy.restore(4);
    toy.go_on(&mut link, 4, 6, 4).unwrap();
}

#[test]
fn a_generation_session_reopens_after_a_restart() {
    let (disk, log) = (Arc::default(), Arc::default());
    let mut link = LocalLink::local(ToyServer::new(&disk, &log));
    link.greet(&terms(), &Standing::default(), Purpose::Generate)
        .unwrap();
    link.open(prompt()).unwrap();
    link.restart(ToyServer::new(&disk, &log));
    assert!(matches!(link.next(rows(0)), Err(WireError::GenerationLost)));
    assert_eq!(generate(&mut link).unwrap().len(), 21);
}

#[test]
fn generation_after_a_restart_uses_the_latest_checkpoint_and_keeps_all() {
    let (disk, log) = (Arc::default(), Arc::default());
    let mut link = LocalLink::local(ToyServer::new(&disk, &log));
    ToyClient::default().train(&mut link, 9, 4).unwrap();
    link.restart(ToyServer::new(&disk, &log));
    // This client has no checkpoint at all; the server must not forget its own for that.
    let resume = link
        .greet(&terms(), &Standing::default(), Purpose::Generate)
        .unwrap();
    assert_eq!(resume.at, 8);
    generate(&mut link).unwrap();
    let saved: Vec<u64> = disk.lock().unwrap().checkpoints.keys().copied().collect();
    assert_eq!(saved, [4, 8]);
}

/// Steps 5 to 7, live.
fn resume(toy: &mut ToyClient, link: &mut dyn Exchange) {
    for step in 5..8 {
        match link.step(toy.forward(step)).unwrap() {
            Reply::Done(backward) => toy.apply(&backward),
            Reply::Rewind { to } | Reply::Moved { to } => panic!("moved to {to}"),
        }
    }
}
