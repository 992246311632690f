//! Whose a run is: strangers with a kit of the same authority, wrong directories, renewed certificates.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::program::{Ended, Program, run};
use crate::world::{Outcome, RESUMABLE, TINY, World, base, flags, model};

/// One more client kit of the shared authority, for one test.
fn kit(world: &World, name: &str) -> PathBuf {
    let certs = world.path("certs").display().to_string();
    run(["certs", "--out", &certs, "--client", name]).succeeds();
    world.path("certs").join(name)
}

/// `train --connect` with a kit.
fn train(world: &World, dir: &Path, address: &str, kit: &Path, more: &[&str]) -> Program {
    train_with(world, dir, address, kit, TINY, more)
}

fn train_with(
    world: &World,
    dir: &Path,
    address: &str,
    kit: &Path,
    sets: &[&str],
    more: &[&str],
) -> Program {
    let mut args = vec!["train".to_owned()];
    args.extend(model(sets));
    args.extend(flags(&[
        ("--run", dir),
        ("--tls", kit),
        ("--data", &world.path("train/llava.json")),
    ]));
    args.extend(["--connect", address].map(str::to_owned));
    args.extend(more.iter().map(|flag| (*flag).to_owned()));
    Program::start(args)
}

/// `serve` with more flags, and its address.
fn serve(world: &World, dir: &Path, sets: &[&str], more: &[&str]) -> (Program, String) {
    let mut args = vec!["serve".to_owned()];
    args.extend(model(sets));
    args.extend(flags(&[
        ("--run", dir),
        ("--tls", &world.path("certs/server")),
    ]));
    args.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
    args.extend(more.iter().map(|flag| (*flag).to_owned()));
    let mut server = Program::start(args);
    let address = server.address();
    (server, address)
}

/// The checkpoints and metrics of a run, every byte.
fn kept(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![dir.join("checkpoints")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(files.insert(path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    if let Ok(metrics) = fs::read(dir.join("metrics.jsonl")) {
        files.insert(dir.join("metrics.jsonl"), metrics);
    }
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, &to).unwrap()),
        }
    }
}

#[test]
fn a_second_kit_learns_deletes_and_ends_nothing() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let [server_dir, client_dir, fresh, copied] =
        ["server", "client", "fresh", "copied"].map(|name| dir.path().join(name));
    let (mine, other) = (world.path("certs/client"), kit(&world, "second"));
    let (first, address) = serve(&world, &server_dir, TINY, &[]);
    let ended = train(&world, &client_dir, &address, &mine, &[]).finish();
    ended.succeeds();
    first.kill();

    let (mut server, address) = serve(&world, &server_dir, TINY, &["--once"]);
    let before = kept(&server_dir);
    assert!(!before.is_empty());
    // With the right recipe, with another one, and with all that the owner knows: the same words.
    copy(&client_dir, &copied);
    let lr: &[&str] = &["--set", "train.lr=0.5"];
    let told = [(&fresh, &[][..]), (&fresh, lr), (&copied, &[])].map(|(dir, more)| {
        let ended = train(&world, dir, &address, &other, more).finish();
        let Ended { stderr, .. } = ended.fails_naming(&["refused", "this client's key"]);
        let said = stderr.split("the server refused: ").nth(1).unwrap();
        let said = said.split(". This client's key").next().unwrap().to_owned();
        assert!(!said.contains("train.") && !said.contains("run-"), "{said}");
        said
    });
    assert!(told.iter().all(|said| *said == told[0]), "{told:?}");
    server.await_error_line(0, "turned away the client with key");
    assert!(kept(&server_dir) == before, "the server's run has changed");

    // The server is still there for its owner, and ends with it.
    train(&world, &client_dir, &address, &mine, &[])
        .finish()
        .succeeds();
    server.finish().succeeds();
    assert!(kept(&server_dir) == before);
}

#[test]
fn an_owner_that_is_named_is_the_only_one() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let [server_dir, client_dir] = ["server", "client"].map(|name| dir.path().join(name));
    let (mine, other) = (world.path("certs/client"), kit(&world, "too-early"));
    let certificate = mine.join("client.pem").display().to_string();
    let (_server, address) = serve(&world, &server_dir, TINY, &["--owner", &certificate]);
    let ended = train(&world, &dir.path().join("other"), &address, &other, &[]).finish();
    ended.fails_naming(&["refused"]);
    train(&world, &client_dir, &address, &mine, &[])
        .finish()
        .succeeds();
    let record = |dir: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(dir.join("run.json")).unwrap()).unwrap()
    };
    let (here, there) = (record(&server_dir), record(&client_dir));
    assert_eq!(
        (&here["run"], &here["owner"]),
        (&there["run"], &there["owner"])
    );
    assert_eq!(here["owner"].as_str().unwrap().len(), 64);
    let mut args = vec!["serve".to_owned()];
    args.extend(model(TINY));
    args.extend(flags(&[("--tls", &world.path("certs/server"))]));
    args.extend(["--owner", "123"].map(str::to_owned));
    let ended = run(args);
    assert!(
        !ended.success && ended.stderr.contains("64 hexadecimal digits"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_wrong_or_empty_directory_on_either_side_erases_nothing() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let [server_dir, client_dir, empty, wrong] =
        ["server", "client", "empty", "wrong"].map(|name| dir.path().join(name));
    let mine = world.path("certs/client");
    let (right, address) = serve(&world, &server_dir, TINY, &[]);
    train(&world, &client_dir, &address, &mine, &[])
        .finish()
        .succeeds();
    let (here, there) = (kept(&client_dir), kept(&server_dir));
    let same = |what: &str| {
        assert!(kept(&client_dir) == here, "{what}: the client's run");
        assert!(kept(&server_dir) == there, "{what}: the server's run");
    };
    let named = |dir: &Path| dir.display().to_string();

    // The client's directory is empty, and then another run's.
    world.local(&wrong, TINY).finish().succeeds();
    for client in [&empty, &wrong] {
        let ended = train(&world, client, &address, &mine, &[]).finish();
        let ended = ended.fails_naming(&["another run", &named(client), "--start-over"]);
        assert!(
            !ended.stderr.contains(&named(&server_dir)),
            "{}",
            ended.stderr
        );
        same("a wrong directory of the client");
    }
    let ended = {
        right.interrupt();
        right.finish()
    };
    assert!(ended.stderr.contains(&named(&server_dir)) && ended.stderr.contains("--start-over"));

    // The server's directory is empty, and then another run's.
    let lost = dir.path().join("lost");
    for (server, words) in [
        (&lost, "never seen"),
        (&wrong.join("server"), "another run"),
    ] {
        let (mut serving, address) = serve(&world, server, TINY, &[]);
        let ended = train(&world, &client_dir, &address, &mine, &[]).finish();
        ended.fails_naming(&[words, &named(&client_dir), "--start-over"]);
        serving.await_error_line(0, &named(server));
        same("a wrong directory of the server");
    }

    // On purpose it begins anew, and keeps what was there.
    let (_serving, address) = serve(&world, &lost, TINY, &[]);
    let ended = train(&world, &client_dir, &address, &mine, &["--start-over"]).finish();
    let ended = ended.succeeds();
    assert!(ended.stderr.contains("before-1"), "{}", ended.stderr);
    let moved = kept(&client_dir.join("before-1"));
    assert!(moved.values().eq(here.values()), "what was there");
}

/// The server knows its run from before its first checkpoint: both go back to the beginning, and what the client had saved
/// is gone only when as much is on both sides again.
#[test]
fn a_server_killed_over_its_first_save_goes_on() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let [server_dir, client_dir] = ["server", "client"].map(|name| dir.path().join(name));
    let mine = world.path("certs/client");
    let (mut server, address) = serve(&world, &server_dir, RESUMABLE, &[]);
    let client = train_with(&world, &client_dir, &address, &mine, RESUMABLE, &[]);
    server.await_error_line(0, "step 6: loss");
    client.kill();
    server.kill();
    // As if it had been killed before its first checkpoint was whole.
    fs::remove_dir_all(server_dir.join("checkpoints")).unwrap();
    assert!(client_dir.join("checkpoints/step-00000005").exists());
    let (_server, address) = serve(&world, &server_dir, RESUMABLE, &[]);
    train_with(&world, &client_dir, &address, &mine, RESUMABLE, &[])
        .finish()
        .succeeds();
    Outcome::read(&client_dir, &server_dir, 20).is(world.undisturbed());
}

#[test]
fn a_renewed_kit_resumes_its_run() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let [server_dir, client_dir] = ["server", "client"].map(|name| dir.path().join(name));
    let mine = kit(&world, "renewed");
    let (mut server, address) = serve(&world, &server_dir, RESUMABLE, &[]);
    let client = train_with(&world, &client_dir, &address, &mine, RESUMABLE, &[]);
    server.await_error_line(0, "step 6: loss");
    client.kill();
    let before = fs::read(mine.join("client.pem")).unwrap();
    let named = mine.display().to_string();
    let ended = run(["certs", "renew", &named, "--days", "30"]).succeeds();
    assert!(ended.stdout.contains("'renewed'"), "{}", ended.stdout);
    assert_ne!(fs::read(mine.join("client.pem")).unwrap(), before);
    let ended = train_with(&world, &client_dir, &address, &mine, RESUMABLE, &[]).finish();
    assert!(ended.succeeds().stderr.contains("resuming at step 5"));
    Outcome::read(&client_dir, &server_dir, 20).is(world.undisturbed());
}

#[test]
fn a_server_without_a_run_refuses_training_at_the_greeting() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let mut args = vec!["serve".to_owned()];
    args.extend(model(TINY));
    args.extend(flags(&[("--tls", &world.path("certs/server"))]));
    args.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
    let mut server = Program::start(args);
    let address = server.address();
    let ended = train(
        &world,
        &dir.path().join("run"),
        &address,
        &world.path("certs/client"),
        &[],
    );
    let ended = ended
        .finish()
        .fails_naming(&["does not train", "--run DIR"]);
    assert!(!ended.stderr.contains("calibrated"), "{}", ended.stderr);
}

#[test]
fn who_may_ask_is_a_flag() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let [server_dir, client_dir, merged] =
        ["server", "client", "merged"].map(|name| dir.path().join(name));
    let (mine, other) = (world.path("certs/client"), kit(&world, "guest"));
    let (server, address) = serve(&world, &server_dir, TINY, &[]);
    train(&world, &client_dir, &address, &mine, &[])
        .finish()
        .succeeds();
    let mut args = vec!["merge".to_owned()];
    args.extend(flags(&[
        ("--client", &client_dir),
        ("--server", &server_dir),
        ("--model", &base()),
        ("--out", &merged),
    ]));
    run(args).succeeds();
    let eval = |address: &str, kit: &Path| {
        let mut args = vec!["eval".to_owned()];
        args.extend(flags(&[
            ("--checkpoint", &merged),
            ("--data", &world.path("test")),
            ("--tls", kit),
        ]));
        args.extend(["--split", address, "--longest", "2"].map(str::to_owned));
        run(args)
    };
    eval(&address, &other).fails_naming(&["refused", "nothing for this client's key"]);
    eval(&address, &mine).succeeds();
    drop(server);
    let (_server, address) = serve(&world, &server_dir, TINY, &["--generate", "any"]);
    eval(&address, &other).succeeds();
}
