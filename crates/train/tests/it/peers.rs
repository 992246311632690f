//! What a peer that is not what it should be can do to a run on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qtl_model::Device;
use qtl_train::record::Record;
use qtl_train::{Client, Recipe, TrainError};
use qtl_wire::verb::{Answer, Finish, Request};
use qtl_wire::{Exchange, Key, Meter, Purpose, Reply, Resume, Standing, Terms, WireError};

use crate::world::{Drawn, blueprint, kind, recipe, saved, train};

/// A server that sends everyone back to the beginning, and then says nothing more.
struct Hostile {
    /// What it was told of the run, and whether the run was on disk by then.
    heard: Option<(Standing, bool)>,
    dir: PathBuf,
}

fn gone<T>() -> Result<T, WireError> {
    Err(WireError::Cancelled)
}

impl Exchange for Hostile {
    fn greet(&mut self, _: &Terms, said: &Standing, _: Purpose) -> Result<Resume, WireError> {
        let record = Record::read(&self.dir).unwrap();
        let known = record.is_some_and(|record| record.run == said.run);
        self.heard = Some((said.clone(), known));
        Ok(Resume { at: 0, site: None })
    }

    fn ask(&mut self, _: Request) -> Result<Reply<Answer>, WireError> {
        gone()
    }

    fn conclude(&mut self, _: Finish) -> Result<Reply<()>, WireError> {
        gone()
    }

    fn end(&mut self) -> Result<(), WireError> {
        gone()
    }

    fn holds(&mut self, _: u64) {}

    fn meter(&self) -> Meter {
        Meter::default()
    }
}

/// A client in `dir` meets such a server; the error that it ends with, and what the server heard.
fn meets(recipe: &Recipe, dir: &Path) -> (TrainError, Standing, bool) {
    let blueprint = blueprint(recipe);
    let source = Arc::new(Drawn);
    let mut client = Client::open(
        recipe.clone(),
        &blueprint,
        source,
        dir,
        "fresh",
        Device::default(),
    )
    .unwrap();
    client.shows(Key::of_public_key(b"mine"));
    let mut server = Hostile {
        heard: None,
        dir: dir.to_owned(),
    };
    let error = client
        .train(&mut server, &AtomicBool::new(false), &mut |_| {})
        .unwrap_err();
    let (standing, known) = server.heard.unwrap();
    (error, standing, known)
}

#[test]
fn a_server_that_sends_a_client_back_for_no_reason_destroys_nothing() {
    let recipe = recipe(kind("lora"), &[]);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let losses = train(&recipe, dir, None);
    let weights = saved(dir, "", 6, "model.safetensors");
    for _ in 0..2 {
        let (error, said, _) = meets(&recipe, dir);
        assert!(
            matches!(error, TrainError::Wire(WireError::Cancelled)),
            "{error}"
        );
        assert_eq!(said.saved, [2, 4, 6], "what was set aside is still offered");
        for step in [2, 4, 6] {
            let aside = dir.join(format!("checkpoints/step-{step:08}.aside"));
            assert!(
                aside.join("model.safetensors").exists(),
                "{}",
                aside.display()
            );
        }
        let lines = std::fs::read_to_string(dir.join("metrics.aside.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), losses.len());
    }
    // With its own server it is where it was.
    assert_eq!(train(&recipe, dir, None), [0.0; 0]);
    assert!(saved(dir, "", 6, "model.safetensors") == weights);
    let lines = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), losses.len());
}

#[test]
fn a_run_is_on_disk_before_the_server_hears_of_it() {
    let recipe = recipe(kind("frozen"), &[]);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("run");
    // Twice: what is on disk is the same run.
    for _ in 0..2 {
        let (_, said, known) = meets(&recipe, &dir);
        assert_eq!((said.run.as_str(), known), ("fresh", true));
    }
    let record = Record::read(&dir).unwrap().unwrap();
    assert_eq!(record.owner, Some(Key::of_public_key(b"mine")));
}
