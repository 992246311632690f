//! What the tests share: scenes, certificates, the demo's base, and short runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use tempfile::TempDir;

use crate::program::{Program, run};

/// Generated once for all tests that run at the same time, and removed with the last of them.
pub struct World {
    dir: TempDir,
}

/// What a run leaves behind, to be compared bit for bit.
#[derive(Clone, PartialEq)]
pub struct Outcome {
    pub losses: Vec<u64>,
    pub client: Vec<u8>,
    pub server: Vec<u8>,
}

impl World {
    /// A server for answers of the model in `dir`, on a port of its own.
    pub fn answering(&self, dir: &Path) -> Program {
        let mut args = ["serve", "--listen", "127.0.0.1:0"]
            .map(str::to_owned)
            .to_vec();
        args.extend(flags(&[
            ("--model", dir),
            ("--tls", &self.path("certs/server")),
        ]));
        Program::start(args)
    }

    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<World>> = Mutex::new(Weak::new());
        let mut shared = SHARED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(world) = shared.upgrade() {
            return world;
        }
        let world = Arc::new(Self {
            dir: tempfile::tempdir().unwrap(),
        });
        let at = |name: &str| world.path(name).display().to_string();
        run(["data", "scenes", "--count", "64", "--out", &at("train")]).succeeds();
        run([
            "data",
            "scenes",
            "--split",
            "test",
            "--relations",
            "--seed",
            "102",
            "--count",
            "4",
            "--out",
            &at("test"),
        ])
        .succeeds();
        for certs in ["certs", "foreign"] {
            let names = ["--server-name", "127.0.0.1", "--server-name", "localhost"];
            run(["certs", "--out", &at(certs)].into_iter().chain(names)).succeeds();
        }
        *shared = Arc::downgrade(&world);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `serve` on `listen`, with its address.
    pub fn serve(&self, run: &Path, listen: &str, sets: &[&str]) -> (Program, String) {
        let mut args = model(sets);
        args.insert(0, "serve".to_owned());
        args.extend(flags(&[
            ("--run", run),
            ("--tls", &self.path("certs/server")),
        ]));
        args.extend(["--listen".to_owned(), listen.to_owned()]);
        let mut server = Program::start(args);
        let address = server.address();
        (server, address)
    }

    /// `train --connect` with the kit of `certs`.
    pub fn connect(&self, run: &Path, address: &str, certs: &str, sets: &[&str]) -> Program {
        let mut args = model(sets);
        args.insert(0, "train".to_owned());
        let kit = self.path(certs).join("client");
        args.extend(flags(&[
            ("--run", run),
            ("--tls", &kit),
            ("--data", &self.path("train/llava.json")),
        ]));
        args.extend(["--connect".to_owned(), address.to_owned()]);
        Program::start(args)
    }

    /// `train --local` on the shared scenes.
    pub fn local(&self, run: &Path, sets: &[&str]) -> Program {
        local(run, &self.path("train/llava.json"), sets)
    }

    /// A model of such a run on the shared scenes, whose halves are below `dir` too.
    pub fn merged(&self, dir: &Path, sets: &[&str]) -> PathBuf {
        let [local, merged] = ["local", "merged"].map(|name| dir.join(name));
        self.local(&local, sets).finish().succeeds();
        let mut args = vec!["merge".to_owned()];
        args.extend(flags(&[
            ("--client", &local),
            ("--model", &base()),
            ("--out", &merged),
        ]));
        run(args).succeeds();
        merged
    }

    /// The end of twenty steps that nothing disturbs, with a checkpoint every five.
    pub fn undisturbed(&self) -> &'static Outcome {
        static OUTCOME: OnceLock<Outcome> = OnceLock::new();
        OUTCOME.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let (client, server) = (dir.path().join("client"), dir.path().join("server"));
            let (_server, address) = self.serve(&server, "127.0.0.1:0", RESUMABLE);
            self.connect(&client, &address, "certs", RESUMABLE)
                .finish()
                .succeeds();
            Outcome::read(&client, &server, 20)
        })
    }
}

/// Twenty steps with a checkpoint every ten.
pub const SHORT: &[&str] = &[
    "train.steps=20",
    "train.save_every=10",
    "quantizer.calibration_batches=4",
];
/// Twenty steps with a checkpoint every five.
pub const RESUMABLE: &[&str] = &[
    "train.steps=20",
    "train.save_every=5",
    "quantizer.calibration_batches=4",
];
/// As little training as there can be.
pub const TINY: &[&str] = &[
    "train.steps=2",
    "train.save_every=1",
    "quantizer.calibration_batches=1",
];

/// The model that the demo starts from.
pub fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-base")
}

/// The recipe of the demo.
pub fn recipe() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/demo.toml")
}

/// `train --local` on `data`.
pub fn local(run: &Path, data: &Path, sets: &[&str]) -> Program {
    let mut args = model(sets);
    args.splice(0..0, ["train".to_owned(), "--local".to_owned()]);
    args.extend(flags(&[("--run", run), ("--data", data)]));
    Program::start(args)
}

/// `--flag PATH` for each.
pub fn flags(pairs: &[(&str, &Path)]) -> Vec<String> {
    pairs
        .iter()
        .flat_map(|(flag, path)| [(*flag).to_owned(), path.display().to_string()])
        .collect()
}

pub fn model(sets: &[&str]) -> Vec<String> {
    let mut args = flags(&[("--model", &base()), ("--recipe", &recipe())]);
    args.extend(
        sets.iter()
            .flat_map(|set| ["--set".to_owned(), (*set).to_owned()]),
    );
    args
}

impl Outcome {
    /// Reads what the two halves have written; there must be one metrics line per step.
    pub fn read(client: &Path, server: &Path, steps: usize) -> Self {
        let weights = |run: &Path| {
            fs::read(run.join(format!("checkpoints/step-{steps:08}/model.safetensors"))).unwrap()
        };
        let metrics = fs::read_to_string(client.join("metrics.jsonl")).unwrap();
        let records: Vec<serde_json::Value> = metrics
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for (step, record) in records.iter().enumerate() {
            assert_eq!(
                record["step"].as_u64(),
                Some(step as u64),
                "metrics.jsonl is not one line per step"
            );
        }
        assert_eq!(records.len(), steps);
        let losses = records
            .iter()
            .map(|record| record["loss"].as_f64().unwrap().to_bits())
            .collect();
        Self {
            losses,
            client: weights(client),
            server: weights(server),
        }
    }

    /// Bit for bit the same; a plain comparison would print megabytes.
    #[track_caller]
    pub fn is(&self, other: &Self) {
        assert_eq!(self.losses, other.losses, "the losses differ");
        assert!(self.client == other.client, "the client's weights differ");
        assert!(self.server == other.server, "the server's weights differ");
    }
}
