//! Whole runs over real sockets with mutual TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use qtl_wire::*;

use crate::toy::{ToyClient, ToyServer, layout, terms, undisturbed};
use crate::world::{Kits, Running, kits, listen, options};

#[test]
fn a_run_over_the_network_is_the_run_in_one_process() {
    let server = Running::fresh();
    let mut client = server.connect();
    let mut toy = ToyClient::default();
    toy.train(&mut client, 20, 6).unwrap();
    assert_eq!(toy.state, undisturbed(20).0);

    let meter = client.meter();
    let mut link = LocalLink::local(ToyServer::fresh());
    ToyClient::default().train(&mut link, 20, 6).unwrap();
    assert_eq!(
        (meter.up, meter.down),
        (link.meter().up, link.meter().down),
        "the same messages"
    );
    // Sockets carry the messages and more: TLS, HTTP/2 and certificates.
    assert!(
        meter.socket_sent > meter.up.total().bytes + 1000,
        "{meter:?}"
    );
    assert!(
        meter.socket_received > meter.down.total().bytes + 1000,
        "{meter:?}"
    );
    assert!(meter.waiting_seconds > 0.0);
    assert_eq!(meter.connections, 1);
}

#[test]
fn a_restarted_server_costs_steps_but_changes_nothing() {
    let mut server = Running::fresh();
    let mut client = server.connect();
    let mut toy = ToyClient::default();
    toy.train(&mut client, 6, 4).unwrap();
    server.restart();
    assert_eq!(
        client.step(toy.forward(6)).unwrap(),
        Reply::Rewind { to: 4 }
    );
    toy.restore(4);
    toy.go_on(&mut client, 4, 15, 4).unwrap();
    assert_eq!(toy.state, undisturbed(15).0);
    assert_eq!(client.meter().connections, 2);
}

#[test]
fn a_step_under_way_is_finished_and_answered_at_shutdown() {
    let mut work = ToyServer::fresh();
    work.pace = Duration::from_millis(400);
    let mut server = Running::start(options(0), work);
    let mut client = server.connect();
    let toy = ToyClient::default();
    client
        .greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    let forward = toy.forward(0);
    let step = thread::spawn(move || client.step(forward));
    while server.log.lock().unwrap().begun == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    server.stop().unwrap();
    assert!(matches!(step.join().unwrap(), Ok(Reply::Done(_))));
}

#[test]
fn a_restarted_client_takes_its_run_up_again() {
    let server = Running::fresh();
    let mut toy = ToyClient::default();
    toy.train(&mut server.connect(), 6, 4).unwrap();
    // The first process is gone; what it did after step 4 was never on a disk.
    let mut again = ToyClient {
        checkpoints: toy.checkpoints.clone(),
        ..ToyClient::default()
    };
    again.train(&mut server.connect(), 12, 4).unwrap();
    assert_eq!(again.state, undisturbed(12).0);
    assert_eq!(server.log.lock().unwrap().restores, [0, 4]);
}

#[test]
fn a_second_client_is_told_that_the_server_is_busy() {
    let server = Running::fresh();
    let mut first = server.connect();
    let standing = ToyClient::default().standing();
    first.greet(&terms(), &standing, Purpose::Train).unwrap();
    let mut options = server.client_options();
    options.retry.connect_for = Duration::from_millis(300);
    let mut second = GrpcClient::connect(options).unwrap();
    let start = Instant::now();
    let error = second
        .greet(&terms(), &standing, Purpose::Train)
        .unwrap_err();
    let WireError::GaveUp { attempts, last, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        *attempts > 1 && last.to_string().contains("another client"),
        "{error}"
    );
    assert!(start.elapsed() < Duration::from_secs(5));
    // As soon as the first has left, there is room.
    drop(first);
    let mut third = server.connect();
    third.greet(&terms(), &standing, Purpose::Train).unwrap();
}

#[test]
fn messages_of_many_megabytes_arrive() {
    let server = Running::fresh();
    let mut client = server.connect();
    let toy = ToyClient::default();
    client
        .greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    let mut forward = toy.forward(0);
    forward.cut.image = vec![5; 24 << 20];
    assert!(matches!(client.step(forward), Ok(Reply::Done(_))));
    assert!(client.meter().socket_sent > 24 << 20);
}

#[test]
fn a_message_beyond_the_servers_limit_is_refused_not_retried() {
    let mut small = options(0);
    small.max_message_bytes = 10_000;
    let server = Running::start(small, ToyServer::fresh());
    let mut client = server.connect();
    let toy = ToyClient::default();
    client
        .greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    let mut forward = toy.forward(0);
    forward.cut.image = vec![5; 20_000];
    let error = client.step(forward).unwrap_err();
    let WireError::Refused(refusal) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(refusal.reason, Reason::Invalid);
    assert!(refusal.sentence.contains("10000"), "{error}");
    // And beyond the client's own limit it is not even sent.
    let mut options = server.client_options();
    options.max_message_bytes = 10_000;
    drop(client);
    let mut client = GrpcClient::connect(options).unwrap();
    client
        .greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    let mut forward = toy.forward(0);
    forward.cut.image = vec![5; 20_000];
    let error = client.step(forward).unwrap_err();
    assert!(matches!(error, WireError::Message(_)), "{error:?}");
    assert!(matches!(client.step(toy.forward(0)), Ok(Reply::Done(_))));
}

#[test]
fn generation_runs_over_the_network() {
    let server = Running::fresh();
    let mut client = server.connect();
    client
        .greet(&terms(), &Standing::default(), Purpose::Generate)
        .unwrap();
    let prompt = Cut {
        image: vec![1],
        text: vec![2],
        layout: layout(),
        text_index: vec![],
        packed: false,
    };
    assert_eq!(client.open(prompt).unwrap().ids, [1, 1]);
    for i in 0..5 {
        client
            .next(Next {
                text: vec![i],
                keep: vec![0, 1],
            })
            .unwrap();
    }
    client.end().unwrap();
    assert_eq!(client.meter().up.generate.messages, 7);
}

#[test]
fn raising_the_flag_ends_a_call_at_once() {
    let mut work = ToyServer::fresh();
    work.pace = Duration::from_secs(2);
    let server = Running::start(options(0), work);
    let mut options = server.client_options();
    let cancel = Arc::new(AtomicBool::new(false));
    options.cancel = cancel.clone();
    let mut client = GrpcClient::connect(options).unwrap();
    let toy = ToyClient::default();
    client
        .greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    let flag = cancel.clone();
    let raiser = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        flag.store(true, Ordering::Relaxed);
        Instant::now()
    });
    let error = client.step(toy.forward(0)).unwrap_err();
    let reaction = Instant::now().duration_since(raiser.join().unwrap());
    assert!(matches!(error, WireError::Cancelled), "{error:?}");
    assert!(reaction < Duration::from_secs(1), "{reaction:?}");
    // Lowered again, the same step goes on where it was: the server has applied it meanwhile.
    cancel.store(false, Ordering::Relaxed);
    assert!(matches!(client.step(toy.forward(0)), Ok(Reply::Done(_))));
    assert_eq!(server.log.lock().unwrap().steps, 1);
}

#[test]
fn a_panic_in_the_work_ends_the_server_with_an_error() {
    let mut server = Running::fresh();
    let mut options = server.client_options();
    options.retry.reconnect_for = Duration::ZERO;
    let mut client = GrpcClient::connect(options).unwrap();
    let toy = ToyClient::default();
    client
        .greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    let mut forward = toy.forward(0);
    forward.cut.image = b"panic".to_vec();
    assert!(client.step(forward).is_err());
    assert!(matches!(server.stop(), Err(WireError::WorkPanicked)));
}

#[test]
fn paths_of_the_server_do_not_reach_the_client() {
    let mut work = ToyServer::fresh();
    work.fail_saves = 1;
    let server = Running::start(options(0), work);
    let mut client = server.connect();
    let mut toy = ToyClient::default();
    let WireError::Refused(refusal) = toy.train(&mut client, 2, 1).unwrap_err() else {
        panic!("not refused")
    };
    assert_eq!(refusal.reason, Reason::Failed);
    assert!(
        refusal.sentence.contains("the disk is full") && !refusal.sentence.contains('/'),
        "{refusal}"
    );
}

/// Connections of one kit that answer a health check, out of so many that are held open.
fn answered(server: &Running, tls: ClientTls, connections: usize) -> usize {
    use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;
    let identity = tls.identity.unwrap();
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&tls.ca))
        .identity(Identity::from_pem(&identity.certificate, &identity.key));
    let endpoint = Endpoint::from_shared(format!("https://localhost:{}", server.port)).unwrap();
    let endpoint = endpoint.tls_config(config).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (mut held, mut answered) = (Vec::new(), 0);
        for _ in 0..connections {
            let Ok(channel) = endpoint.connect().await else {
                continue;
            };
            let mut client = HealthClient::new(channel);
            let request = HealthCheckRequest {
                service: "qtl.split.v1.Split".to_owned(),
            };
            if let Ok(answer) = client.check(request).await {
                assert_eq!(answer.into_inner().status, ServingStatus::Serving as i32);
                answered += 1;
            }
            held.push(client);
        }
        answered
    })
}

#[test]
fn health_checks_are_answered_within_mutual_tls() {
    assert_eq!(answered(&Running::fresh(), kits().client(), 1), 1);
}

/// File descriptors and memory are left for others, and for the same key when it has let go.
#[test]
fn one_key_holds_so_many_connections_and_no_more() {
    let server = Running::fresh();
    for _ in 0..2 {
        assert_eq!(answered(&server, kits().client(), 20), 16);
        // Whoever has gone is not forgotten in the same instant.
        std::thread::sleep(Duration::from_millis(200));
    }
    let second = tempfile::tempdir().unwrap();
    certs::make_client_kit(&kits().ca, second.path(), "x", &certs::Issue::days(1)).unwrap();
    let second = ClientTls::from_kit(second.path()).unwrap();
    let held: Vec<_> = (0..8).map(|_| server.connect()).collect();
    assert_eq!(answered(&server, second, 1), 1);
    drop(held);
}

#[test]
fn a_server_listens_again_on_the_same_port_at_once() {
    let mut server = Running::fresh();
    let port = server.port;
    for _ in 0..3 {
        server.restart();
        assert_eq!(server.port, port);
        server.connect();
    }
    server.stop().unwrap();
    drop(listen(port));
}

#[test]
fn a_second_kit_of_the_same_authority_has_no_part_in_a_run() {
    let server = Running::fresh();
    let mut client = server.connect();
    let mut toy = ToyClient::default();
    toy.train(&mut client, 3, 2).unwrap();
    drop(client);
    let second = tempfile::tempdir().unwrap();
    let issue = certs::Issue::days(1);
    certs::make_client_kit(&kits().ca, second.path(), "hospital", &issue).unwrap();
    let mut options = server.client_options();
    options.tls = ClientTls::from_kit(second.path()).unwrap();
    let mut stranger = GrpcClient::connect(options).unwrap();
    let error = stranger
        .greet(&terms(), &ToyClient::default().standing(), Purpose::Train)
        .unwrap_err();
    let WireError::Refused(refusal) = error else {
        panic!("{error:?}")
    };
    assert_eq!(refusal.reason, Reason::Owner);
    assert_eq!(server.disk.lock().unwrap().checkpoints.len(), 1);
    assert_eq!(server.log.lock().unwrap().finishes, 1);
}

/// Both ends' kits are renewed while they run: the next connection uses the new certificates, and the run is still the
/// same key's.
#[test]
fn renewed_kits_are_used_at_the_next_connection() {
    let kits = Kits::new("renewed while running");
    let mut serving = ServeOptions::new(listen(0), kits.server());
    serving.kit = Some(kits.path("server"));
    let server = Running::start(serving, ToyServer::fresh());
    let mut options = server.client_options();
    options.tls = kits.client();
    options.kit = Some(kits.path("client"));
    let mut client = GrpcClient::connect(options).unwrap();
    let mut toy = ToyClient::default();
    toy.train(&mut client, 3, 2).unwrap();
    // A new authority certificate for the same key, and kits that know only that one.
    for kit in ["ca", "server", "client"] {
        certs::renew(&kits.path(kit), &kits.path("ca"), &certs::Issue::days(50)).unwrap();
    }
    let resume = client
        .greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    assert_eq!(resume.at, 2);
    // Which certificates were used does not show from that. Kits of another authority in the same folders do show: either
    // end trusts the other only if both have read them.
    let other = Kits::new("another authority");
    for kit in ["server", "client"] {
        for file in ["ca.pem", &format!("{kit}.pem"), &format!("{kit}.key")] {
            std::fs::copy(other.path(kit).join(file), kits.path(kit).join(file)).unwrap();
        }
    }
    let error = client
        .greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap_err();
    let WireError::Refused(refusal) = error else {
        panic!("{error:?}")
    };
    assert_eq!(refusal.reason, Reason::Owner, "another key, another owner");
}

#[test]
fn the_owner_does_not_stand_in_line_with_strangers() {
    let mut work = ToyServer::fresh();
    work.bother = Duration::from_millis(10);
    let server = Running::start(options(0), work);
    let mut client = server.connect();
    let mut toy = ToyClient::default();
    toy.train(&mut client, 2, 2).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let issue = certs::Issue::days(1);
    let over = Arc::new(AtomicBool::new(false));
    let strangers: Vec<_> = (0..12)
        .map(|number: u32| {
            let kit = dir.path().join(number.to_string());
            certs::make_client_kit(&kits().ca, &kit, "stranger", &issue).unwrap();
            let mut options = server.client_options();
            options.tls = ClientTls::from_kit(&kit).unwrap();
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let mut client = GrpcClient::connect(options).unwrap();
                while !over.load(Ordering::Relaxed) {
                    let standing = ToyClient::default().standing();
                    let refused = client.greet(&terms(), &standing, Purpose::Train);
                    assert!(matches!(refused, Err(WireError::Refused(_))), "{refused:?}");
                }
            })
        })
        .collect();
    let bothered = || server.log.lock().unwrap().turned_away.len();
    while bothered() < 24 {
        thread::sleep(Duration::from_millis(5));
    }
    let (before, messages) = (bothered(), 30);
    toy.go_on(&mut client, 2, 2 + messages - 1, 1000).unwrap();
    let between = bothered() - before;
    over.store(true, Ordering::Relaxed);
    for stranger in strangers {
        stranger.join().unwrap();
    }
    // One is under way when a message comes, and one more may come first after an answer. In one line with them each message
    // would wait for nearly all twelve.
    assert!(between <= 3 * messages as usize, "{between}");
}
