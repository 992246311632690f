//! The link within one process: bytes are real and counted, time is simulated, servers restart.

use std::time::{Duration, Instant};

use qtl_wire::meter::{Meter, Tally};
use qtl_wire::*;

use crate::toy::{RUN, ToyClient, ToyServer, terms, undisturbed};

#[test]
fn a_run_over_a_link_is_the_run_without_one() {
    let mut link = LocalLink::local(ToyServer::fresh());
    let mut toy = ToyClient::default();
    toy.train(&mut link, 10, 4).unwrap();
    assert_eq!((toy.state, link.work().state), undisturbed(10));
    let log = link.work().log.lock().unwrap();
    assert_eq!(
        (log.saves, log.finishes, log.restores.as_slice()),
        (2, 1, &[0][..])
    );
}

#[test]
fn every_byte_is_accounted_for() {
    let mut link = LocalLink::local(ToyServer::fresh());
    let mut toy = ToyClient::default();
    toy.train(&mut link, 10, 4).unwrap();
    let meter = link.meter();
    let Tally {
        messages,
        bytes,
        image,
        text,
        index,
        targets,
        hidden,
        framing,
    } = meter.up.step;
    assert_eq!(
        (messages, image, text, index, targets),
        (10, 80, 20, 30, 80)
    );
    assert_eq!(image + text + index + targets + hidden + framing, bytes);
    // Five spans, two sequences, a number, and the tags of eight fields.
    assert!(
        (280..320).contains(&framing),
        "{framing} bytes of framing for ten steps"
    );
    let down = meter.down.step;
    assert_eq!(
        (down.messages, down.image, down.text, down.targets),
        (10, 80, 30, 0)
    );
    assert_eq!(meter.up.calibration.image, 4);
    assert_eq!((meter.up.save.messages, meter.down.save.messages), (2, 2));
    assert_eq!((meter.up.greeting.messages, meter.connections), (1, 1));
    assert_eq!((meter.socket_sent, meter.socket_received), (0, 0));
    let total = meter.up.total();
    assert_eq!(total.messages, 1 + 1 + 10 + 2 + 1);
    assert_eq!(
        total.bytes,
        total.image + total.text + total.index + total.targets + total.framing
    );

    // Snapshots subtract to what came in between.
    link.finish(10).unwrap();
    let since = link.meter().since(&meter);
    assert_eq!(
        (since.up.finish.messages, since.up.step),
        (1, Tally::default())
    );
    let sum = meter + since;
    assert_eq!((sum.up, sum.down), (link.meter().up, link.meter().down));
    assert_eq!(Meter::default() + meter, meter);
}

#[test]
fn a_restarted_server_rewinds_the_client() {
    let mut link = LocalLink::local(ToyServer::fresh());
    let mut toy = ToyClient::default();
    toy.train(&mut link, 6, 4).unwrap();
    let (disk, log) = (link.work().disk.clone(), link.work().log.clone());
    let old = link.restart(ToyServer::new(&disk, &log));
    assert_eq!(old.live, Some(6));
    assert_eq!(link.step(toy.forward(6)).unwrap(), Reply::Rewind { to: 4 });
    toy.restore(4);
    toy.go_on(&mut link, 4, 9, 4).unwrap();
    assert_eq!((toy.state, link.work().state), undisturbed(9));
}

#[test]
fn delay_and_throughput_cost_the_time_they_should() {
    let simulation = Simulation {
        delay: Duration::from_millis(10),
        bytes_per_second: 1_000_000,
        ..Simulation::default()
    };
    let mut link = LocalLink::simulated(ToyServer::fresh(), simulation);
    let standing = Standing {
        run: RUN.to_owned(),
        ..Standing::default()
    };
    link.greet(&terms(), &standing, Purpose::Train).unwrap();
    let before = (Instant::now(), link.meter());
    let mut forward = ToyClient::default().forward(0);
    forward.cut.image = vec![0; 30_000];
    link.step(forward).unwrap();
    let waited = link.meter().since(&before.1).waiting_seconds;
    // 10 ms each way and 30 ms of transfer.
    assert!(waited >= 0.05, "{waited} s");
    assert!(waited <= before.0.elapsed().as_secs_f64());
}

#[test]
fn calls_out_of_order_are_the_callers_mistake() {
    let mut link = LocalLink::local(ToyServer::fresh());
    let toy = ToyClient::default();
    let says = |error: WireError, what: &str| {
        assert!(matches!(error, WireError::Misuse(_)), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    };
    says(link.step(toy.forward(0)).unwrap_err(), "greeting");
    link.greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    says(
        link.next(Next::default()).unwrap_err(),
        "no generation is open",
    );
    link.greet(&terms(), &toy.standing(), Purpose::Generate)
        .unwrap();
    says(link.step(toy.forward(0)).unwrap_err(), "generation");
}
