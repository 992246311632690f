//! Starting the program, and waiting for it with a limit.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_qtinyllava"))
}

/// Runs to the end; standard output and error together.
pub fn run(args: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } = program().args(args).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert!(!text.contains("panicked"), "{args:?}:\n{text}");
    (status.success(), text)
}

pub fn ok(args: &[&str]) -> String {
    let (success, text) = run(args);
    assert!(success, "{args:?}:\n{text}");
    text
}

pub fn fails(args: &[&str]) -> String {
    let (success, text) = run(args);
    assert!(!success, "{args:?} should have failed:\n{text}");
    text
}

/// A process that does not outlive its test.
pub struct Guard(pub Child);

impl Guard {
    pub fn kill(&mut self) {
        self.0.kill().ok();
        self.0.wait().unwrap();
    }

    pub fn end(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("a process did not end within {limit:?}");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What all tests share: certificates, a few scenes, and the shipped base.
pub struct World {
    pub dir: tempfile::TempDir,
}

impl World {
    pub fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let world = World { dir };
            ok(&["certs", "--out", &world.at("certs"), "--server-name", "localhost", "--server-name", "127.0.0.1"]);
            ok(&["data", "scenes", "--out", &world.at("train"), "--count", "64"]);
            ok(&["data", "scenes", "--out", &world.at("test"), "--split", "test", "--seed", "102", "--count", "4"]);
            world
        })
    }

    pub fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Flags that both sides share: a short run of the demo's recipe.
    pub fn model(&self) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut flags = vec![
            "--model".to_owned(),
            root.join("assets/demo-base").display().to_string(),
            "--recipe".to_owned(),
            root.join("../../recipes/demo.toml").display().to_string(),
        ];
        for set in ["train.steps=20", "train.save_every=5", "quantizer.calibration_batches=2"] {
            flags.extend(["--set".to_owned(), set.to_owned()]);
        }
        flags
    }

    pub fn serve(&self, run: &Path, listen: &str) -> (Guard, String) {
        let mut child = program()
            .arg("serve")
            .args(self.model())
            .arg("--run")
            .arg(run)
            .args(["--listen", listen, "--once", "--tls", &self.at("certs/server")])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect(&line).to_owned();
        (Guard(child), address)
    }

    pub fn train(&self, run: &Path, address: &str) -> Guard {
        let child = program()
            .arg("train")
            .args(self.model())
            .arg("--run")
            .arg(run)
            .args(["--connect", address, "--tls", &self.at("certs/client"), "--data", &self.at("train/llava.json")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Guard(child)
    }
}

/// The final weights of both halves.
pub fn weights(client: &Path, server: &Path) -> [Vec<u8>; 2] {
    [client, server].map(|dir| {
        let path: PathBuf = dir.join("checkpoints/step-00000020/model.safetensors");
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    })
}

/// The loss of every step, as written.
pub fn losses(client: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(client.join("metrics.jsonl")).unwrap();
    let loss = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].to_string();
    text.lines().map(loss).collect()
}
