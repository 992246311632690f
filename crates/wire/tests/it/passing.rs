//! Trouble that passes: after the first welcome all of it is waited out, before it the true reason is told at once.

use std::net::TcpListener;

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use qtl_wire::*;

use crate::proxy::{Fate, Proxy};
use crate::toy::{ToyClient, ToyServer, terms, undisturbed};
use crate::world::{Kits, Running, kits, listen, options};

/// A server that another authority has certified, as behind a wrong address.
fn stranger() -> Running {
    let kits = Kits::new("elsewhere");
    Running::start(
        ServeOptions::new(listen(0), kits.server()),
        ToyServer::fresh(),
    )
}

#[test]
fn after_the_first_welcome_every_trouble_is_waited_out() {
    let (server, stranger) = (Running::fresh(), stranger());
    // A handshake takes about 2,500 bytes either way.
    let script = [
        Fate::FlippedDown(5_000),
        Fate::Page,
        Fate::Closed,
        Fate::Elsewhere(stranger.port),
        Fate::FlippedUp(5_000),
        Fate::FlippedDown(1_200),
        Fate::FlippedUp(700),
        Fate::Truncated(1_000),
        Fate::Truncated(4_001),
    ];
    let proxy = Proxy::start(server.port, script);
    let mut options = server.client_options();
    options.address = proxy.address();
    let mut client = GrpcClient::connect(options).unwrap();
    let mut toy = ToyClient::default();
    toy.train(&mut client, 120, 50).unwrap();
    assert_eq!(toy.state, undisturbed(120).0);
    assert_eq!(proxy.left(), 0, "not all of the script was played");
    assert_eq!(server.log.lock().unwrap().steps, 120, "no step twice");
}

#[test]
fn before_the_first_welcome_the_true_reason_is_told_at_once() {
    let (server, stranger) = (Running::fresh(), stranger());
    for (fate, expected) in [
        (Fate::Page, "does not speak TLS"),
        (Fate::Elsewhere(stranger.port), "no authority in ca.pem"),
    ] {
        let proxy = Proxy::start(server.port, [fate, fate]);
        let mut options = server.client_options();
        options.address = proxy.address();
        let start = Instant::now();
        let error = GrpcClient::connect(options).unwrap_err();
        assert!(matches!(error, WireError::Tls { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(start.elapsed() < Duration::from_secs(4), "{error}");
        assert_eq!(proxy.left(), 1, "it was tried more than once");
    }
}

#[test]
fn the_time_to_connect_is_as_long_as_is_said() {
    let second = Duration::from_secs(1);
    // Nobody listens; somebody listens and is silent.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [
        listen(0).local_addr().unwrap().port(),
        silent.local_addr().unwrap().port(),
    ];
    for port in ports {
        let mut options = ClientOptions::new(&format!("localhost:{port}"), kits().client());
        options.retry.connect_for = second;
        let start = Instant::now();
        let error = GrpcClient::connect(options).unwrap_err();
        let elapsed = start.elapsed();
        assert!(elapsed >= second && elapsed < 4 * second, "{elapsed:?}");
        let WireError::GaveUp { seconds, .. } = error else {
            panic!("{error:?}")
        };
        assert!(
            seconds >= 1.0 && seconds <= elapsed.as_secs_f64(),
            "{seconds} said, {elapsed:?} waited"
        );
    }
}

#[test]
fn whoever_is_about_to_stop_does_not_wait_for_a_server_that_is_gone() {
    let mut server = Running::fresh();
    let mut options = server.client_options();
    options.retry.longest_delay = Duration::from_secs(10);
    options.retry.factor = 50.0;
    let hurry = options.hurry.clone();
    let mut client = GrpcClient::connect(options).unwrap();
    let mut toy = ToyClient::default();
    toy.train(&mut client, 2, 1).unwrap();
    server.stop().unwrap();
    let raiser = thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        hurry.store(true, Ordering::Relaxed);
        Instant::now()
    });
    let error = client.step(toy.forward(2)).unwrap_err();
    let reaction = Instant::now().duration_since(raiser.join().unwrap());
    assert!(matches!(error, WireError::GaveUp { .. }), "{error:?}");
    assert!(reaction < Duration::from_secs(4), "{reaction:?}");
}

#[test]
fn a_link_that_breaks_at_every_message_is_given_up() {
    let server = Running::fresh();
    // Enough for a greeting, too little for what follows.
    let proxy = Proxy::start(server.port, (0..1000).map(|_| Fate::TruncatedUp(9_000)));
    let mut options = server.client_options();
    options.address = proxy.address();
    options.retry.reconnect_for = Duration::from_secs(2);
    let mut client = GrpcClient::connect(options).unwrap();
    let toy = ToyClient::default();
    client
        .greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    let mut forward = toy.forward(0);
    forward.cut.image = vec![5; 20_000];
    let start = Instant::now();
    // A server that has heard nothing yet begins anew at each greeting, which is no progress either.
    let error = loop {
        match client.step(forward.clone()) {
            Ok(Reply::Rewind { to: 0 }) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, WireError::GaveUp { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(8));
    assert!(client.meter().connections > 3, "each was welcomed");
}

/// Three steps, and a proxy that loses the answer to what comes next.
fn before_the_end(server: &Running, change: fn(&mut ClientOptions)) -> (Proxy, GrpcClient) {
    let proxy = Proxy::start(server.port, []);
    let mut options = server.client_options();
    options.address = proxy.address();
    change(&mut options);
    let mut client = GrpcClient::connect(options).unwrap();
    let toy = ToyClient::default();
    client
        .greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    for step in 0..3 {
        assert!(matches!(client.step(toy.forward(step)), Ok(Reply::Done(_))));
    }
    server.shutdown.shutdown_after_session();
    proxy.lose_next_answer();
    (proxy, client)
}

#[test]
fn a_server_that_ends_with_its_run_waits_until_the_last_answer_has_come() {
    let mut server = Running::fresh();
    let (_proxy, mut client) = before_the_end(&server, |_| ());
    assert_eq!(client.finish(3).unwrap(), Reply::Done(()));
    assert_eq!(server.log.lock().unwrap().finishes, 1, "once, asked twice");
    // And no longer.
    let start = Instant::now();
    server.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_run_whose_end_is_not_confirmed_says_what_is_known() {
    let mut server = Running::fresh();
    let (_proxy, mut client) = before_the_end(&server, |options| {
        options.retry.reconnect_for = Duration::from_secs(1);
    });
    // It ends in the moment in which the answer is lost.
    let (log, handle) = (server.log.clone(), server.shutdown.clone());
    let ender = thread::spawn(move || {
        while log.lock().unwrap().finishes == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        handle.shutdown();
    });
    let error = client.finish(3).map(|_| ());
    ender.join().unwrap();
    server.stop().unwrap();
    // Between the two there may have been time for a second answer.
    if let Err(error) = error {
        let WireError::Unconfirmed { step, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(*step, 3);
        assert!(error.to_string().contains("step-00000003"), "{error}");
    }
}

#[test]
fn silent_strangers_do_not_keep_clients_out() {
    let server = Running::fresh();
    let strangers: Vec<_> = (0..200)
        .map(|_| std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap())
        .collect();
    let start = Instant::now();
    let mut client = server.connect();
    let toy = ToyClient::default();
    client
        .greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(strangers);
}

#[test]
fn strangers_that_begin_and_do_not_go_on_do_not_keep_clients_out_either() {
    use std::io::Write;
    let mut bounded = options(0);
    bounded.handshakes.per_address = 8;
    let server = Running::start(bounded, ToyServer::fresh());
    let strangers: Vec<_> = (0..50)
        .map(|_| {
            let mut socket = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
            socket.write_all(&[22, 3, 1]).unwrap();
            socket
        })
        .collect();
    server.connect();
    drop(strangers);
}

#[test]
fn an_address_is_understood_or_its_form_is_named() {
    let server = Running::fresh();
    for form in [
        "https://localhost:PORT",
        "https://localhost:PORT/",
        " localhost:PORT ",
    ] {
        let address = form.replace("PORT", &server.port.to_string());
        GrpcClient::connect(ClientOptions::new(&address, kits().client())).unwrap();
    }
    for wrong in [
        "localhost",
        "::1:7443",
        "http://localhost:7443",
        ":7443",
        "localhost:0",
        "[::1]",
    ] {
        let error = GrpcClient::connect(ClientOptions::new(wrong, kits().client())).unwrap_err();
        assert!(
            matches!(
                &error,
                WireError::Option {
                    option: "address",
                    ..
                }
            ),
            "{wrong}: {error:?}"
        );
        assert!(error.to_string().contains("[2001:db8::5]:7443"), "{error}");
    }
}
