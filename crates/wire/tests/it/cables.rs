//! Cables that break and fall silent.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use qtl_wire::*;

use crate::pair::Dice;
use crate::toy::{ToyClient, ToyServer, undisturbed};
use crate::world::{Running, options};

/// Forwards bytes, and cuts each connection after some of them.
fn bad_cable(to: u16, seed: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut dice = Dice(seed);
        for near in listener.incoming() {
            let near = near.unwrap();
            let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else {
                continue;
            };
            // A handshake takes about 2,500 bytes up.
            let budget = 2_500 + dice.roll(3_000) as usize;
            pump(near.try_clone().unwrap(), far.try_clone().unwrap(), budget);
            pump(far, near, usize::MAX);
        }
    });
    port
}

fn pump(mut from: TcpStream, mut to: TcpStream, mut budget: usize) {
    thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if read > budget || to.write_all(&buffer[..read]).is_err() {
                break;
            }
            budget -= read;
        }
        let _ = from.shutdown(std::net::Shutdown::Both);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

#[test]
fn a_cable_that_breaks_in_mid_message_changes_nothing() {
    let server = Running::fresh();
    let port = bad_cable(server.port, 1);
    let mut options = server.client_options();
    options.address = format!("localhost:{port}");
    let mut client = GrpcClient::connect(options).unwrap();
    let mut toy = ToyClient::default();
    toy.train(&mut client, 200, 70).unwrap();
    assert_eq!(toy.state, undisturbed(200).0);
    let log = server.log.lock().unwrap();
    assert_eq!(
        (log.steps, log.restores.as_slice()),
        (200, &[0][..]),
        "no step twice, no step back"
    );
    let connections = client.meter().connections;
    assert!(
        connections > 3,
        "only {connections} connections: the cable held"
    );
}

/// Forwards bytes; the first connection falls silent after some of them, without an end.
fn mute_cable(to: u16, after: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut after = Some(after);
        for near in listener.incoming() {
            let near = near.unwrap();
            let far = TcpStream::connect(("127.0.0.1", to)).unwrap();
            let (near2, far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            match after.take() {
                Some(budget) => thread::spawn(move || silent(near2, far2, budget)),
                None => thread::spawn(move || pump(near2, far2, usize::MAX)),
            };
            pump(far, near, usize::MAX);
        }
    });
    port
}

fn silent(mut from: TcpStream, mut to: TcpStream, mut budget: usize) {
    let mut buffer = [0; 256];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if budget >= read && to.write_all(&buffer[..read]).is_ok() {
            budget -= read;
        } else {
            budget = 0;
        }
    }
}

#[test]
fn a_connection_that_falls_silent_is_found_out_by_both() {
    let quick = Duration::from_millis(400);
    let mut server = options(0);
    server.keep_alive = quick;
    let server = Running::start(server, ToyServer::fresh());
    let port = mute_cable(server.port, 4_000);
    let mut options = server.client_options();
    options.address = format!("localhost:{port}");
    options.keep_alive = quick;
    let mut client = GrpcClient::connect(options).unwrap();
    let mut toy = ToyClient::default();
    toy.train(&mut client, 60, 20).unwrap();
    assert_eq!(toy.state, undisturbed(60).0);
    assert!(
        client.meter().connections > 1,
        "the first connection never fell silent"
    );
    assert_eq!(server.log.lock().unwrap().steps, 60);
}
