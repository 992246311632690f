//! Losses, gradients and features that are no numbers: the run stops with the sample's id, nothing of the step is saved, and
//! the same run goes on from its last checkpoint.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Tensor;
use qtl_codec::{Code, Options, Plane, ScalarData, Symbols};
use qtl_data::loader::Source;
use qtl_data::{DataError, Example, IGNORED};
use qtl_model::Device;
use qtl_model::edge::StepError;
use qtl_model::parts::Parts;
use qtl_model::targets;
use qtl_train::client::{Client, Ended, Event, batch};
use qtl_train::{Recipe, ServerWork, TrainError};
use qtl_wire::*;

use crate::world::{self, Drawn, blueprint, saved, train};

/// A server that breaks once, at the step of this number.
struct Breaking {
    work: ServerWork,
    at: u64,
    how: Break,
}

#[derive(Clone, Copy, PartialEq)]
enum Break {
    /// It finds that the second sequence has no loss.
    Loss,
    /// It has applied the step, and its answer holds what is no number.
    Gradient,
    /// It is sound again.
    Sound,
}

impl Work for Breaking {
    fn terms(&self) -> Terms {
        self.work.terms()
    }
    fn limits(&self, limits: Limits) -> Limits {
        self.work.limits(limits)
    }
    fn standing(&self) -> Standing {
        self.work.standing()
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
        let how = match self.work.standing().live == Some(self.at) {
            true => std::mem::replace(&mut self.how, Break::Sound),
            false => Break::Sound,
        };
        if how == Break::Loss {
            return Err(WorkError::NotFinite {
                what: "the loss is NaN in sequence 1 of the batch".into(),
                sequence: Some(1),
            });
        }
        let mut answer = self.work.step(f)?;
        if how == Break::Gradient {
            let (mut code, _) =
                qtl_codec::decode(&answer.image, &qtl_codec::Limits::default()).unwrap();
            spoil(&mut code);
            answer.image = qtl_codec::encode(&code, &Options::default());
        }
        Ok(answer)
    }
    fn save(&mut self, step: u64) -> Result<(), WorkError> {
        self.work.save(step)
    }
    fn restore(&mut self, step: u64) -> Result<(), WorkError> {
        self.work.restore(step)
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

/// The last number of the gradient, which belongs to the last sequence.
fn spoil(code: &mut Code) {
    let Some(Plane::Scalars(plane)) = code.planes.last_mut() else {
        panic!("a gradient of 32-bit floats is one plane of them");
    };
    let ScalarData::F32(data) = &mut plane.data else {
        panic!("of 32 bits");
    };
    *data.last_mut().unwrap() = f32::INFINITY;
}

fn client(recipe: &Recipe, dir: &Path, source: Arc<dyn Source>) -> Client {
    let blueprint = blueprint(recipe);
    Client::open(
        recipe.clone(),
        &blueprint,
        source,
        dir,
        "test",
        Device::default(),
    )
    .unwrap()
}

fn server(recipe: &Recipe, dir: &Path) -> ServerWork {
    let dir = dir.join("server");
    ServerWork::open(
        recipe.clone(),
        &blueprint(recipe),
        Some(&dir),
        Device::default(),
    )
    .unwrap()
}

/// Trains; the error, and the last step that was reported.
fn fails(client: &mut Client, link: &mut dyn Exchange) -> (TrainError, Option<u64>) {
    let mut last = None;
    let mut watch = |event: &Event| {
        if let Event::Step(record) = event {
            last = Some(record.step);
        }
    };
    let error = client
        .train(link, &AtomicBool::new(false), &mut watch)
        .unwrap_err();
    (error, last)
}

/// Ids of the batch of each step.
fn samples(error: &TrainError) -> &[String] {
    match error {
        TrainError::Diverged { samples, .. } => samples,
        other => panic!("another error: {other}"),
    }
}

#[test]
fn the_run_stops_with_the_sample_and_goes_on_from_its_last_checkpoint() {
    let recipe = world::recipe("vision_tower = 'frozen'", &["gradient.codec=f32"]);
    let whole = tempfile::tempdir().unwrap();
    train(&recipe, whole.path(), None);
    for how in [Break::Loss, Break::Gradient] {
        // Checkpoints are written after 2, 4 and 6 steps.
        let dir = tempfile::tempdir().unwrap();
        let breaking = Breaking {
            work: server(&recipe, dir.path()),
            at: 3,
            how,
        };
        let mut link = LocalLink::local(breaking);
        let mut client = client(&recipe, dir.path(), Arc::new(Drawn));
        let (error, last) = fails(&mut client, &mut link);
        assert_eq!(last, Some(2), "{error}");
        let [id] = samples(&error) else {
            panic!("whose? {error}");
        };
        let sentence = error.to_string();
        assert!(
            sentence.contains(&format!("step 3, sample {id:?}")),
            "{sentence}"
        );
        for side in ["", "server"] {
            let checkpoints = dir.path().join(side).join("checkpoints");
            assert!(checkpoints.join("step-00000002").exists());
            assert!(!checkpoints.join("step-00000004").exists());
        }
        let metrics = std::fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
        assert!(!metrics.contains("\"step\":3,"), "{metrics}");

        // Both go back, in the same processes too, and end in the bits of a run during which nothing happened.
        let ended = client.train(&mut link, &AtomicBool::new(false), &mut |_| {});
        assert_eq!(ended.unwrap(), Ended::Finished);
        for side in ["", "server"] {
            let same =
                |file| saved(whole.path(), side, 6, file) == saved(dir.path(), side, 6, file);
            assert!(
                same("model.safetensors") && same("optimizer.safetensors"),
                "{side}"
            );
        }
    }
}

#[test]
fn a_run_that_diverges_saves_nothing_of_it() {
    let mut recipe = world::recipe("", &["train.clip=0", "train.save_every=1"]);
    // No recipe file may say so.
    recipe.train.lr = 1e30;
    let dir = tempfile::tempdir().unwrap();
    let mut link = LocalLink::local(server(&recipe, dir.path()));
    let (error, last) = fails(&mut client(&recipe, dir.path(), Arc::new(Drawn)), &mut link);
    assert!(!samples(&error).is_empty());
    let saved = last.map_or(0, |step| step + 1);
    assert!(saved < 6, "{error}");
    for side in ["", "server"] {
        let next = format!("checkpoints/step-{:08}", saved + 1);
        assert!(!dir.path().join(side).join(next).exists(), "{error}");
    }
}

/// One picture with a pixel that is no number.
struct Spoiled;

impl Source for Spoiled {
    fn lengths(&self) -> Vec<i64> {
        Drawn.lengths()
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Example, DataError> {
        let mut example = Drawn.read(index, epoch)?;
        if let Some(pixels) = example.pixels.as_mut().filter(|_| index == 5) {
            pixels.data[17] = f32::NAN;
        }
        Ok(example)
    }
}

#[test]
fn a_feature_that_is_no_number_is_found_before_it_is_coded() {
    let quantizer = "quantizer.image={kind='fsq', levels=4}";
    let frozen = "vision_tower = 'frozen'";
    let dir = tempfile::tempdir().unwrap();
    let sets = [
        "quantizer.calibration_batches=0",
        "train.steps=16",
        quantizer,
    ];
    let recipe = world::recipe(frozen, &sets);
    let mut link = LocalLink::local(server(&recipe, dir.path()));
    let (error, _) = fails(
        &mut client(&recipe, dir.path(), Arc::new(Spoiled)),
        &mut link,
    );
    assert_eq!(samples(&error), ["5"], "{error}");
    assert!(
        error.to_string().contains("the image features are NaN"),
        "{error}"
    );

    // Measured before the first step, it spoils the whole range.
    let dir = tempfile::tempdir().unwrap();
    let recipe = world::recipe(frozen, &["quantizer.calibration_batches=8", quantizer]);
    let mut link = LocalLink::local(server(&recipe, dir.path()));
    let (error, last) = fails(
        &mut client(&recipe, dir.path(), Arc::new(Spoiled)),
        &mut link,
    );
    assert_eq!(last, None);
    let sentence = error.to_string();
    assert!(
        sentence.contains("the image features of the first batches: the mean of channel"),
        "{sentence}"
    );
}

/// Features of the second sequence alone that overflow in the language model.
#[test]
fn the_server_names_the_sequence() {
    let device = Device::default();
    let recipe = world::recipe(
        "",
        &[
            "quantizer.text={kind='fsq_tanh', levels=3}",
            "quantizer.text_rows=all",
        ],
    );
    let blueprint = blueprint(&recipe);
    let mut client = blueprint.client(&device).unwrap().partition;
    client.uplink.text_rows = recipe.quantizer.text_rows;
    let examples = [0, 1].map(Drawn::example);
    let batch = batch(&client, &examples, 256, &device).unwrap();
    let (mut cut, _) = client.forward(&batch, 0, &|_| false);
    let Some(Plane::Symbols(plane)) = cut.text.planes.first().cloned() else {
        panic!("text crosses as symbols");
    };
    let own = plane.rows / 2;
    let mut fill = |symbol: u32| {
        // The middle one of three levels is zero, and so is the first sequence.
        let data = (0..plane.len()).map(|at| if at / plane.cols < own { 1 } else { symbol });
        let symbols = Symbols::from_u32(3, plane.rows, plane.cols, data).unwrap();
        cut.text = Code::new(vec![symbols.into()]);
        cut.clone()
    };
    let mut labels = batch.spliced.labels.clone();
    type Change = fn(&str, Tensor<1>) -> Option<Tensor<1>>;
    let cases: [(u32, &str, Change); 2] = [
        (2, "loss", |name, value| match name {
            // A sum over the channels that overflows.
            PROJECTION => Some(value.full_like(3e38)),
            _ => None,
        }),
        (1, "gradient of the text rows", |name, value| match name {
            // Ordinary values, whatever the symbols, and a way back that is too steep.
            PROJECTION => Some(value.mul_scalar(1e10)),
            BIAS => Some(value.add_scalar(1.0)),
            HEAD => Some(value.mul_scalar(1e30)),
            _ => None,
        }),
    ];
    for (symbol, what, change) in cases {
        let server = blueprint.server(&device).unwrap().partition;
        let server = server.replace(&mut |name, value| change(name, value));
        let targets = targets::encode(&labels, server.vocab_size());
        let step = server.step(&fill(symbol), &targets, &|_| true, &device);
        let error = step.map(|step| step.loss).unwrap_err();
        let StepError::NotFinite {
            what: found,
            sequence,
            ..
        } = &error
        else {
            panic!("another error: {error}");
        };
        assert_eq!((*found, *sequence), (what, Some(1)), "{error}");
        // The first sequence has no gradient where it teaches nothing.
        labels[..own].fill(IGNORED);
    }
}

const PROJECTION: &str = "VQ.quantizer_text.quantizer.out_proj.weight";
const BIAS: &str = "VQ.quantizer_text.quantizer.out_proj.bias";
const HEAD: &str = "language_model.lm_head.weight";
