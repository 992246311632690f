//! Processes that die, at moments that nobody chose, and runs that end in the same bits all the same.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use crate::world::{Outcome, RESUMABLE, World};

/// Three moments in ascending order: a step and a time after it, as long as a step takes or longer. New ones in every run of the test.
fn moments() -> [(u64, Duration); 3] {
    let random = |below: u64| RandomState::new().build_hasher().finish() % below;
    let moments = [1, 7, 13].map(|first| (first + random(6), Duration::from_millis(random(150))));
    println!("killed at {moments:?}");
    moments
}

fn step(number: u64) -> String {
    format!("step {number}: loss")
}

#[test]
fn a_client_killed_three_times_ends_in_the_same_bits() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let [client_dir, server_dir] = ["client", "server"].map(|name| dir.path().join(name));
    let (mut server, address) = world.serve(&server_dir, "127.0.0.1:0", RESUMABLE);
    for (at, delay) in moments() {
        let mark = server.mark();
        let client = world.connect(&client_dir, &address, "certs", RESUMABLE);
        server.await_error_line(mark, &step(at));
        std::thread::sleep(delay);
        client.kill();
    }
    world
        .connect(&client_dir, &address, "certs", RESUMABLE)
        .finish()
        .succeeds();
    Outcome::read(&client_dir, &server_dir, 20).is(world.undisturbed());
}

#[test]
fn a_server_killed_three_times_ends_in_the_same_bits() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let [client_dir, server_dir] = ["client", "server"].map(|name| dir.path().join(name));
    let (mut server, address) = world.serve(&server_dir, "127.0.0.1:0", RESUMABLE);
    let client = world.connect(&client_dir, &address, "certs", RESUMABLE);
    for (at, delay) in moments() {
        server.await_error_line(0, &step(at));
        std::thread::sleep(delay);
        server.kill();
        server = world.serve(&server_dir, &address, RESUMABLE).0;
    }
    let ended = client.finish().succeeds();
    assert!(
        ended.stderr.contains("the server was restarted"),
        "{}",
        ended.stderr
    );
    Outcome::read(&client_dir, &server_dir, 20).is(world.undisturbed());
}

#[test]
fn ctrl_c_ends_well_and_the_same_command_resumes() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let [client_dir, server_dir] = ["client", "server"].map(|name| dir.path().join(name));
    let (mut server, address) = world.serve(&server_dir, "127.0.0.1:0", RESUMABLE);
    let client = world.connect(&client_dir, &address, "certs", RESUMABLE);
    server.await_error_line(0, &step(7));
    client.interrupt();
    let ended = client.finish().stops();
    assert!(
        ended.stderr.contains("stopped at step") && ended.stderr.contains("resumes"),
        "{}",
        ended.stderr
    );
    let ended = world
        .connect(&client_dir, &address, "certs", RESUMABLE)
        .finish()
        .succeeds();
    assert!(
        ended.stderr.contains("resuming at step"),
        "{}",
        ended.stderr
    );
    Outcome::read(&client_dir, &server_dir, 20).is(world.undisturbed());
}

#[test]
fn a_machine_that_stops_both_is_not_held_up() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let [client_dir, server_dir] = ["client", "server"].map(|name| dir.path().join(name));
    let (mut server, address) = world.serve(&server_dir, "127.0.0.1:0", RESUMABLE);
    let client = world.connect(&client_dir, &address, "certs", RESUMABLE);
    server.await_error_line(0, &step(7));
    let start = Instant::now();
    server.terminate();
    client.terminate();
    let (client, server) = (client.finish().stops(), server.finish().stops());
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    for ended in [client, server] {
        assert!(
            ended.stderr.contains("the same command") && !ended.stderr.contains("cancelled"),
            "{}",
            ended.stderr
        );
    }
    let (_server, address) = world.serve(&server_dir, "127.0.0.1:0", RESUMABLE);
    world
        .connect(&client_dir, &address, "certs", RESUMABLE)
        .finish()
        .succeeds();
    Outcome::read(&client_dir, &server_dir, 20).is(world.undisturbed());
}
