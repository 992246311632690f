//! Whole runs: one process against two, killed against undisturbed, over the wire against merged.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::{World, losses, ok, program, weights};

const LIMIT: Duration = Duration::from_secs(120);

/// Both halves in one process: the run that all others must equal.
fn local() -> &'static PathBuf {
    static LOCAL: OnceLock<PathBuf> = OnceLock::new();
    LOCAL.get_or_init(|| {
        let world = World::get();
        let run = world.dir.path().join("local");
        let status = program()
            .args(["train", "--local"])
            .args(world.model())
            .arg("--run")
            .arg(&run)
            .args(["--data", &world.at("train/llava.json")])
            .status()
            .unwrap();
        assert!(status.success());
        run
    })
}

fn same_as_local(client: &Path, server: &Path) {
    let local = local();
    assert_eq!(losses(client), losses(local), "the losses of {}", client.display());
    assert_eq!(losses(client).len(), 20);
    let same = weights(client, server) == weights(local, &local.join("server"));
    assert!(same, "the final weights of {} differ from those of one process", client.display());
}

#[test]
fn two_processes_over_tls_equal_one_process_bit_for_bit() {
    let world = World::get();
    let (client, server) = (world.dir.path().join("split-client"), world.dir.path().join("split-server"));
    let (mut serving, address) = world.serve(&server, "127.0.0.1:0");
    assert!(world.train(&client, &address).end(LIMIT));
    assert!(serving.end(LIMIT));
    same_as_local(&client, &server);
}

/// Steps done according to the metrics file.
fn wait_for_step(client: &Path, step: usize) {
    let start = std::time::Instant::now();
    loop {
        let saved = std::fs::read_dir(client.join("checkpoints")).map_or(0, |entries| {
            entries
                .flatten()
                .filter_map(|e| e.file_name().to_str()?.strip_prefix("step-")?.parse::<usize>().ok())
                .max()
                .unwrap_or(0)
        });
        if saved >= step || start.elapsed() > LIMIT {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn killed_anywhere_and_restarted_a_run_ends_the_same_bit_for_bit() {
    let world = World::get();
    // Moments after the start or after a checkpoint, spread by a fixed pseudo-random rule.
    let moments = [(0, 300), (0, 700), (5, 120), (5, 340), (10, 210), (15, 90)];
    for (number, (step, extra)) in moments.into_iter().enumerate() {
        let kill_client = number % 2 == 0;
        let client = world.dir.path().join(format!("killed-{number}-client"));
        let server = world.dir.path().join(format!("killed-{number}-server"));
        let (mut serving, address) = world.serve(&server, "127.0.0.1:0");
        let mut training = world.train(&client, &address);
        wait_for_step(&client, step);
        std::thread::sleep(Duration::from_millis(extra));
        if kill_client {
            training.kill();
            training = world.train(&client, &address);
        } else {
            serving.kill();
            serving = world.serve(&server, &address).0;
        }
        assert!(training.end(LIMIT), "moment {number}");
        assert!(serving.end(LIMIT), "moment {number}");
        same_as_local(&client, &server);
    }
}

#[test]
fn a_merged_model_scores_the_same_in_one_process_and_over_the_wire() {
    let world = World::get();
    let local = local();
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-base").display().to_string();
    let merged = world.at("merged");
    ok(&["merge", "--client", &local.display().to_string(), "--model", &base, "--out", &merged]);
    let (one, two) = (world.at("one.json"), world.at("two.json"));
    ok(&["eval", "--checkpoint", &merged, "--data", &world.at("test"), "--json", &one]);
    let mut child = program()
        .args(["serve", "--model", &merged, "--listen", "127.0.0.1:0", "--tls", &world.at("certs/server")])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = child.stdout.take().unwrap();
    let _server = crate::support::Guard(child);
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap();
    let tls = world.at("certs/client");
    let test = world.at("test");
    ok(&["eval", "--checkpoint", &merged, "--data", &test, "--json", &two, "--split", address, "--tls", &tls]);
    let (one, two) = (std::fs::read_to_string(one).unwrap(), std::fs::read_to_string(two).unwrap());
    assert_eq!(one, two);
    let scores: serde_json::Value = serde_json::from_str(&one).unwrap();
    for form in ["pope", "vqa", "mme", "caption"] {
        assert!(scores[form].as_f64().is_some_and(|s| (0.0..=100.0).contains(&s)), "{form}: {one}");
    }
}
