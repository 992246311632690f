//! Runs that are interrupted, with every way of tuning.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use qtl_data::example::IGNORED;
use qtl_data::loader::Source;
use qtl_data::{DataError, Example};
use qtl_model::Device;
use qtl_train::client::{Client, Ended};
use qtl_train::metrics::{self, StepRecord};
use qtl_train::start::Start;
use qtl_train::{Recipe, ServerWork, files};
use qtl_wire::{
    Access, Backward, Calibration, Cut, Forward, Key, Lane, Limits, LocalLink, Next, Simulation,
    Standing, Terms, Tokens, Work, WorkError,
};
use safetensors::SafeTensors;

use crate::world::{Drawn, KINDS, blueprint, kind, recipe, records_of, saved, train};

/// A run that is interrupted, and one that is not: the same losses and the same bits. Where the whole one is.
fn interrupted(recipe: &Recipe, name: &str) -> tempfile::TempDir {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [whole, broken] = [dirs[0].path(), dirs[1].path()];
    let losses = train(recipe, whole, None);
    assert_eq!(losses.len(), 6);
    let before = train(recipe, broken, Some(2));
    assert_eq!(before, losses[..3]);
    // As if both processes had died before saving step 3: they go back to step 2.
    for side in ["", "server"] {
        let checkpoints = broken.join(side).join("checkpoints");
        std::fs::remove_dir_all(checkpoints.join("step-00000003")).unwrap();
    }
    let after = train(recipe, broken, None);
    assert_eq!(after, losses[2..], "{name}");
    for side in ["", "server"] {
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let same = saved(whole, side, 6, file) == saved(broken, side, 6, file);
            assert!(same, "{name}: {side}/{file} differs");
        }
    }
    let [whole, _] = dirs;
    whole
}

#[test]
fn an_interrupted_run_ends_in_the_same_bits_with_every_tuning() {
    for (name, tune) in KINDS {
        let recipe = recipe(
            tune,
            &["quantizer.image.kind=fsq", "quantizer.image.levels=4"],
        );
        interrupted(&recipe, name);
    }
}

/// What a calibration finds is known to both sides in the same bits, and lasts.
#[test]
fn codebooks_outlive_an_interruption_at_both_ends() {
    let pairs = [
        (
            "{kind='pca', dims=12, bits=20.0}",
            "{kind='vq', dims=4, codes=40, learned=true}",
        ),
        (
            "{kind='rvq', dims=12, stages=3, codes=9}",
            "{kind='pq', dims=16, groups=4, codes=300}",
        ),
    ];
    for (image, text) in pairs {
        let sets = [
            format!("quantizer.image={image}"),
            format!("quantizer.text={text}"),
            "quantizer.calibration_batches=4".to_owned(),
        ];
        let recipe = recipe(kind("full"), &sets.each_ref().map(String::as_str));
        let run = interrupted(&recipe, image);
        let [client, server] =
            ["", "server"].map(|side| saved(run.path(), side, 6, "model.safetensors"));
        let client = SafeTensors::deserialize(&client).unwrap();
        let server = SafeTensors::deserialize(&server).unwrap();
        for (modality, spec) in [("image", image), ("text", text)] {
            let (own, other) = match spec.contains("pca") {
                true => ("running_sides", "running_levels"),
                false => ("running_codes", "running_table"),
            };
            let name = |field: &str| format!("VQ.quantizer_{modality}.quantizer.{field}");
            let own = client.tensor(&name(own)).unwrap().data().to_vec();
            assert_eq!(own, server.tensor(&name(other)).unwrap().data(), "{spec}");
            assert!(own.iter().any(|byte| *byte != 0), "{spec}");
        }
    }
}

/// What a user sees are steps, of however many micro-batches; draws and the wire go by the latter.
#[test]
fn steps_of_several_micro_batches_are_counted_as_steps() {
    let tune = "llm = { kind = 'lora', rank = 2, alpha = 4, dropout = 0.1 }";
    let recipe = recipe(tune, &["train.accumulate=2", "train.steps=4"]);
    let start = Start::from(&blueprint(&recipe));
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [whole, broken] = [dirs[0].path(), dirs[1].path()];
    let run = |dir, stop| records_of(Arc::new(Drawn), &start, &recipe, dir, stop);
    let numbers = |records: &[StepRecord]| -> Vec<[u64; 2]> {
        let numbers = records.iter().map(|r| [r.step, r.number()]);
        numbers.collect()
    };
    let all = run(whole, None);
    let want: Vec<[u64; 2]> = (0..8).map(|n| [n / 2, n]).collect();
    assert_eq!(numbers(&all), want);
    assert!(all[1].gradient_norm > 0.0 && all[2].gradient_norm == 0.0);
    for step in ["step-00000002", "step-00000004"] {
        assert!(whole.join("server/checkpoints").join(step).is_dir());
    }
    // It stops where a step ends.
    assert_eq!(numbers(&run(broken, Some(2))), want[..6]);
    assert!(broken.join("checkpoints/step-00000003").is_dir());
    assert_eq!(numbers(&run(broken, None)), want[6..]);
    let lines = metrics::read(&broken.join("metrics.jsonl")).unwrap();
    assert_eq!(numbers(&lines), want);
    for side in ["", "server"] {
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let same = saved(whole, side, 4, file) == saved(broken, side, 4, file);
            assert!(same, "{side}/{file} differs");
        }
    }
}

/// Examples of which nothing is supervised.
struct Silent;

impl Source for Silent {
    fn lengths(&self) -> Vec<i64> {
        Drawn.lengths()
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Example, DataError> {
        let mut example = Drawn::example(index);
        example.spans[0].labels.fill(IGNORED);
        Ok(example)
    }
}

/// A loss of 0 would be the best there is.
#[test]
fn a_step_without_supervised_tokens_has_no_loss() {
    let recipe = recipe("", &["train.steps=2"]);
    let dir = tempfile::tempdir().unwrap();
    let start = Start::from(&blueprint(&recipe));
    let records = records_of(Arc::new(Silent), &start, &recipe, dir.path(), None);
    for record in &records {
        assert_eq!((record.tokens, record.loss), (0, None));
    }
    let text = std::fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
    assert_eq!(text.matches("\"loss\":null").count(), 2, "{text}");
    let read = qtl_train::metrics::read(&dir.path().join("metrics.jsonl"));
    assert_eq!(read.unwrap().len(), 2);
}

/// A server that forgets the run with every lost connection, on disks that lose a bit of the checkpoint that is gone back to.
struct Forgetful {
    work: ServerWork,
    dir: PathBuf,
    /// On whose disk, one after the other.
    damage: Vec<&'static str>,
    /// The steps that were gone back to, and whether that was possible.
    back: Arc<Mutex<Vec<(u64, bool)>>>,
}

impl Work for Forgetful {
    fn standing(&self) -> Standing {
        Standing {
            live: None,
            ..self.work.standing()
        }
    }

    fn restore(&mut self, step: u64) -> Result<(), WorkError> {
        if step > 0
            && let Some(side) = self.damage.pop()
        {
            let path = format!("checkpoints/step-{step:08}/model.safetensors");
            let path = self.dir.join(side).join(path);
            let mut bytes = std::fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            files::replace(&path, &bytes).unwrap();
        }
        let restored = self.work.restore(step);
        self.back.lock().unwrap().push((step, restored.is_ok()));
        restored
    }

    fn terms(&self) -> Terms {
        self.work.terms()
    }

    fn limits(&self, limits: Limits) -> Limits {
        self.work.limits(limits)
    }

    fn access(&self) -> Access {
        self.work.access()
    }

    fn begin(&mut self, run: &str, owner: Key) -> Result<(), WorkError> {
        self.work.begin(run, owner)
    }

    fn calibrate(&mut self, c: Calibration) -> Result<(), WorkError> {
        self.work.calibrate(c)
    }

    fn step(&mut self, f: Forward) -> Result<Backward, WorkError> {
        self.work.step(f)
    }

    fn save(&mut self, step: u64) -> Result<(), WorkError> {
        self.work.save(step)
    }

    fn open(&mut self, lane: Lane, prompts: Cut) -> Result<Tokens, WorkError> {
        self.work.open(lane, prompts)
    }

    fn next(&mut self, lane: Lane, rows: Next) -> Result<Tokens, WorkError> {
        self.work.next(lane, rows)
    }

    fn end(&mut self, lane: Lane) {
        self.work.end(lane);
    }

    fn finish(&mut self, step: u64) -> Result<(), WorkError> {
        self.work.finish(step)
    }
}

#[test]
fn checkpoints_that_are_damaged_while_both_sides_live_are_gone_round() {
    let recipe = recipe("", &["train.save_every=1"]);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [whole, broken] = [dirs[0].path(), dirs[1].path()];
    train(&recipe, whole, None);
    let (start, device) = (Start::from(&blueprint(&recipe)), Device::default());
    let source = Arc::new(Drawn);
    let mut client = Client::open(
        recipe.clone(),
        &start,
        source,
        broken,
        "test",
        device.clone(),
    )
    .unwrap();
    let server = broken.join("server");
    let back = Arc::default();
    let work = Forgetful {
        work: ServerWork::open(recipe.clone(), &start, Some(&server), device).unwrap(),
        dir: broken.to_owned(),
        damage: vec!["", "server", "server", ""],
        back: Arc::clone(&back),
    };
    let network = Simulation {
        loss: 0.3,
        seed: 5,
        ..Simulation::default()
    };
    let mut link = LocalLink::simulated(work, network);
    let ended = client.train(&mut link, &AtomicBool::new(false), &mut |_| {});
    assert_eq!(ended.unwrap(), Ended::Finished);
    assert!(link.work().damage.is_empty());
    let back = back.lock().unwrap().clone();
    assert_eq!(back.iter().filter(|(_, went)| !went).count(), 2, "{back:?}");
    for side in ["", "server"] {
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let same = saved(whole, side, 6, file) == saved(broken, side, 6, file);
            assert!(same, "{side}/{file} differs after {back:?}");
        }
    }
}
