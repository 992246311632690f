//! What people see when the connection cannot be: typed, in one sentence, with the cure.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use qtl_wire::certs::{Fault, Issue, Role, make_client_kit, make_server_kit};
use qtl_wire::*;

use crate::toy::{ToyClient, ToyServer, terms};
use crate::world::{Kits, Running, kits, listen, unchecked};

fn once(server: &Running) -> ClientOptions {
    let mut options = server.client_options();
    options.retry.connect_for = Duration::ZERO;
    options
}

fn problem(options: ClientOptions) -> TlsProblem {
    let start = Instant::now();
    match GrpcClient::connect(options) {
        Err(WireError::Tls { problem, .. }) => {
            assert!(start.elapsed() < Duration::from_secs(10));
            println!("{problem}");
            problem
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("connected"),
    }
}

fn past() -> Issue {
    let now = SystemTime::now();
    let day = Duration::from_secs(86_400);
    Issue {
        from: now - 3 * day,
        until: now - day,
        overwrite: false,
    }
}

#[test]
fn a_client_of_another_authority_is_not_let_in() {
    let server = Running::fresh();
    let foreign = Kits::new("test authority");
    let mut options = once(&server);
    options.tls.identity = foreign.client().identity;
    let problem = problem(options);
    assert!(
        matches!(&problem, TlsProblem::Client(Fault::Issuer { issuer, .. }) if issuer.contains("test authority")),
        "{problem:?}"
    );
}

#[test]
fn a_server_of_another_authority_is_not_trusted() {
    let server = Running::fresh();
    let mut options = once(&server);
    options.tls = Kits::new("test authority").client();
    let problem = problem(options);
    assert!(
        matches!(problem, TlsProblem::Server(Fault::Issuer { .. })),
        "{problem:?}"
    );
}

#[test]
fn a_client_without_a_certificate_is_not_let_in() {
    let server = Running::fresh();
    let mut options = once(&server);
    options.tls.identity = None;
    assert_eq!(problem(options), TlsProblem::ClientCertificateMissing);
}

#[test]
fn an_expired_client_is_not_let_in() {
    let server = Running::fresh();
    let dir = tempfile::tempdir().unwrap();
    make_client_kit(&kits().ca, dir.path(), "late", &past()).unwrap();
    // The kit says so before any connection is tried.
    let error = ClientTls::from_kit(dir.path()).unwrap_err();
    assert!(matches!(error, KitError::Expired { .. }), "{error:?}");
    let mut options = once(&server);
    options.tls.identity = Some(unchecked(dir.path(), Role::Client));
    assert_eq!(problem(options), TlsProblem::ClientExpired);
}

#[test]
fn an_expired_server_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    make_server_kit(&kits().ca, dir.path(), &["localhost".to_owned()], &past()).unwrap();
    let tls = ServerTls {
        identity: unchecked(dir.path(), Role::Server),
        ..kits().server()
    };
    let server = Running::start(ServeOptions::new(listen(0), tls), ToyServer::fresh());
    assert_eq!(problem(once(&server)), TlsProblem::ServerExpired);
}

#[test]
fn a_server_from_the_future_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let day = Duration::from_secs(86_400);
    let issue = Issue {
        from: now + day,
        until: now + 3 * day,
        overwrite: false,
    };
    make_server_kit(&kits().ca, dir.path(), &["localhost".to_owned()], &issue).unwrap();
    let tls = ServerTls {
        identity: unchecked(dir.path(), Role::Server),
        ..kits().server()
    };
    let server = Running::start(ServeOptions::new(listen(0), tls), ToyServer::fresh());
    assert_eq!(problem(once(&server)), TlsProblem::ServerNotYetValid);
}

#[test]
fn a_server_of_another_name_is_not_trusted() {
    let server = Running::fresh();
    let mut options = once(&server);
    options.server_name = "gpu.example.org".to_owned();
    let expected = "gpu.example.org".to_owned();
    assert_eq!(problem(options), TlsProblem::WrongName { expected });
}

#[test]
fn what_speaks_no_tls_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 64]);
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        thread::sleep(Duration::from_millis(200));
    });
    let mut options = ClientOptions::new(&address, kits().client());
    options.retry.connect_for = Duration::ZERO;
    assert_eq!(problem(options), TlsProblem::NotTls);
}

#[test]
fn nobody_there_names_host_and_port() {
    let port = listen(0).local_addr().unwrap().port();
    let mut options = ClientOptions::new(&format!("localhost:{port}"), kits().client());
    options.retry.connect_for = Duration::ZERO;
    let error = GrpcClient::connect(options.clone()).unwrap_err();
    assert!(
        matches!(error, WireError::ConnectionRefused { .. }),
        "{error:?}"
    );
    assert!(
        error.to_string().contains(&format!("localhost:{port}")),
        "{error}"
    );

    // With patience, it is tried more than once, and the error says so.
    options.retry.connect_for = Duration::from_millis(300);
    options.retry.first_delay = Duration::from_millis(20);
    let error = GrpcClient::connect(options).unwrap_err();
    let WireError::GaveUp {
        attempts, seconds, ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert!(*attempts >= 3 && *seconds < 2.0, "{error}");
    assert!(
        error.to_string().contains(&format!("localhost:{port}")),
        "{error}"
    );
}

#[test]
fn a_server_that_stays_away_is_given_up() {
    let mut server = Running::fresh();
    let mut options = server.client_options();
    options.retry.reconnect_for = Duration::from_millis(400);
    let mut client = GrpcClient::connect(options).unwrap();
    let mut toy = ToyClient::default();
    toy.train(&mut client, 2, 1).unwrap();
    server.stop().unwrap();
    let error = client.step(toy.forward(2)).unwrap_err();
    let WireError::GaveUp { last, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(**last, WireError::ConnectionRefused { .. }),
        "{error:?}"
    );
}

#[test]
fn raising_the_flag_ends_reconnecting() {
    let mut server = Running::fresh();
    let mut options = server.client_options();
    let cancel = Arc::new(AtomicBool::new(false));
    options.cancel = cancel.clone();
    options.retry.longest_delay = Duration::from_secs(10);
    options.retry.factor = 20.0;
    let mut client = GrpcClient::connect(options).unwrap();
    let toy = ToyClient::default();
    client
        .greet(&terms(), &toy.standing(), Purpose::Train)
        .unwrap();
    server.stop().unwrap();
    let raiser = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        cancel.store(true, Ordering::Relaxed);
        Instant::now()
    });
    let error = client.step(toy.forward(0)).unwrap_err();
    let reaction = Instant::now().duration_since(raiser.join().unwrap());
    assert!(matches!(error, WireError::Cancelled), "{error:?}");
    assert!(reaction < Duration::from_secs(1), "{reaction:?}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = listen(0);
    let address = taken.local_addr().unwrap().to_string();
    let error = bind(&address).unwrap_err();
    assert!(matches!(error, WireError::AddressInUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&address), "{error}");
}

#[test]
fn options_that_make_no_sense_are_named() {
    let bad = |change: fn(&mut ClientOptions), name: &str| {
        let mut options = ClientOptions::new("localhost:1", kits().client());
        change(&mut options);
        match GrpcClient::connect(options) {
            Err(WireError::Option { option, .. }) => assert_eq!(option, name),
            other => panic!("{other:?}"),
        }
    };
    bad(
        |options| options.address = "localhost".to_owned(),
        "address",
    );
    bad(
        |options| options.address = "localhost:99999".to_owned(),
        "address",
    );
    bad(
        |options| options.server_name = "not a name".to_owned(),
        "server_name",
    );
    bad(|options| options.retry.factor = 0.5, "retry.factor");
}
