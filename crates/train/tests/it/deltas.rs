//! Text rows against the last ones that were sent for their tokens: fewer bytes, and not a bit of difference otherwise.

use std::path::Path;
use std::sync::Arc;

use qtl_codec::past::is_message;
use qtl_data::loader::Source;
use qtl_data::{DataError, Example};
use qtl_train::Recipe;
use qtl_train::deltas::Sent;
use qtl_train::inspect::inspect;
use qtl_train::metrics::StepRecord;
use qtl_train::start::Start;
use qtl_wire::verb::{Answer, Request};
use qtl_wire::{Cut, LocalLink, Purpose, Reply, Simulation, WireError, Work, WorkError};

use crate::placement::{QUANTIZED, weights};
use crate::world::{
    Drawn, Tapped, blueprint, kind, random_base, recipe, records_of, records_over, server_of,
};

/// Examples of few different tokens.
pub struct Words;

impl Words {
    pub fn example(index: usize) -> Example {
        let mut example = Drawn::example(index);
        for span in &mut example.spans {
            let few = |id: &mut i64| *id = if *id > 0 { 4 + *id % 5 } else { *id };
            span.ids.iter_mut().chain(&mut span.labels).for_each(few);
        }
        example
    }
}

impl Source for Words {
    fn lengths(&self) -> Vec<i64> {
        Drawn.lengths()
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Example, DataError> {
        Ok(Self::example(index))
    }
}

const DELTAS: &str = "quantizer.text_deltas=true";

/// Losses, and bytes of text.
fn told(records: &[StepRecord]) -> (Vec<f64>, u64) {
    let losses = records.iter().map(|r| r.loss.unwrap()).collect();
    let bytes = records.iter().map(|r| r.bytes_text + r.bytes_index);
    (losses, bytes.sum())
}

fn run(recipe: &Recipe, dir: &Path, stop: Option<u64>) -> Vec<StepRecord> {
    let start = Start::from(&blueprint(recipe));
    records_of(Arc::new(Words), &start, recipe, dir, stop)
}

#[test]
fn rows_against_earlier_ones_teach_the_same_bits() {
    let text = |spec: &'static str| vec![spec];
    let cases = [
        ("full", text("train.accumulate=2")),
        ("lora", text("quantizer.text={kind='none'}")),
        ("full", text("quantizer.text={kind='none'}")),
        ("full", text("quantizer.text={kind='normal_float', bits=2}")),
        (
            "full",
            text("quantizer.text={kind='fsq', levels=4, statistics='batch'}"),
        ),
        (
            "full",
            text("quantizer.text={kind='pca', dims=12, bits=20.0}"),
        ),
        (
            "full",
            text("quantizer.text={kind='vq', dims=4, codes=9, learned=true}"),
        ),
        (
            "lora",
            text("quantizer.text={kind='pq', dims=16, groups=4, codes=300}"),
        ),
        ("full", vec!["split.labels=client"]),
        ("full", vec!["messages.layout=packed"]),
        ("lora", vec!["split.labels=client", "split.top_blocks=1"]),
    ];
    for (tune, sets) in cases {
        let sets = [QUANTIZED, &["train.batch=8"], &sets].concat();
        let ends = [&[][..], &[DELTAS]].map(|more| {
            let dir = tempfile::tempdir().unwrap();
            let recipe = recipe(kind(tune), &[&sets[..], more].concat());
            let (losses, bytes) = told(&run(&recipe, dir.path(), None));
            (losses, weights(dir.path(), 4), bytes)
        });
        let [(losses, weights, whole), (other, others, deltas)] = ends;
        assert!(losses == other && weights == others, "{tune} {sets:?}");
        assert!(deltas < whole, "{tune} {sets:?}: {deltas} bytes, {whole}");
    }
}

#[test]
fn an_interrupted_run_with_deltas_ends_in_the_same_bits() {
    for labels in ["split.labels=server", "split.labels=client"] {
        let recipe = recipe(kind("full"), &[QUANTIZED, &[labels, DELTAS]].concat());
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [whole, broken, lossy] = dirs.each_ref().map(|dir| dir.path());
        let (losses, bytes) = told(&run(&recipe, whole, None));
        let (before, _) = told(&run(&recipe, broken, Some(1)));
        assert_eq!(before, losses[..2]);
        // Both begin anew, and what they send first is whole again.
        let (after, again) = told(&run(&recipe, broken, None));
        assert_eq!(after, losses[2..]);
        assert!(again < bytes);
        assert!(weights(whole, 4) == weights(broken, 4), "{labels}");
        // Messages and answers are lost, and what was sent is told again as it was.
        let start = Start::from(&blueprint(&recipe));
        let simulation = Simulation {
            loss: 0.3,
            seed: 5,
            ..Simulation::default()
        };
        let mut link = LocalLink::simulated(server_of(&start, &recipe, lossy), simulation);
        let source = Arc::new(Words);
        let (others, sent) = told(&records_over(
            &mut link, source, &start, &recipe, lossy, None,
        ));
        assert_eq!((others, sent), (losses, bytes), "{labels}");
        assert!(weights(whole, 4) == weights(lossy, 4), "{labels}");
    }
}

/// The cuts of the steps of a run.
fn cuts(recipe: &Recipe) -> Vec<qtl_wire::Forward> {
    let dir = tempfile::tempdir().unwrap();
    let start = Start::from(&blueprint(recipe));
    let mut said = Vec::new();
    let mut link = Tapped {
        link: LocalLink::local(server_of(&start, recipe, dir.path())),
        ask: |link: &mut LocalLink<_>, request: Request| -> Result<Reply<Answer>, WireError> {
            if let Request::Forward(forward) = &request {
                said.push(forward.clone());
            }
            qtl_wire::Exchange::ask(link, request)
        },
    };
    records_over(&mut link, Arc::new(Words), &start, recipe, dir.path(), None);
    drop(link);
    said
}

#[test]
fn rows_that_go_on_from_others_than_the_server_holds_are_refused() {
    let recipe = recipe(
        kind("full"),
        &["train.steps=4", "train.save_every=4", DELTAS],
    );
    let steps = cuts(&recipe);
    let start = Start::from(&blueprint(&recipe));
    let dir = tempfile::tempdir().unwrap();
    let mut server = server_of(&start, &recipe, dir.path());
    server.restore(0).unwrap();
    let refused = |answer: Result<_, WorkError>, what: &str| match answer {
        Err(WorkError::Invalid(sentence)) => assert!(sentence.contains(what), "{sentence}"),
        other => panic!("{other:?}"),
    };
    refused(server.step(steps[1].clone()), "there was none here");
    server.step(steps[0].clone()).unwrap();
    refused(server.step(steps[2].clone()), "the last one here is");
    // One that was refused for something else has taught nothing.
    let mut spoiled = steps[1].clone();
    spoiled.targets.clear();
    refused(server.step(spoiled), "targets");
    let mut spoiled = steps[1].clone();
    spoiled.cut.text_index.push(0);
    refused(server.step(spoiled), "they were changed");
    server.step(steps[1].clone()).unwrap();
    // Before a checkpoint there was nothing.
    server.restore(0).unwrap();
    refused(server.step(steps[2].clone()), "there was none here");
    // What is not agreed is not read.
    let plain = Recipe::parse(
        &recipe.to_toml(),
        &["quantizer.text_deltas=false".to_owned()],
        Path::new("r"),
    );
    let dir = tempfile::tempdir().unwrap();
    let mut server = server_of(&start, &plain.unwrap(), dir.path());
    server.restore(0).unwrap();
    refused(server.step(steps[0].clone()), "text container");
}

#[test]
fn no_more_slots_are_kept_than_there_are_tokens() {
    let sets = [
        "train.steps=1",
        "quantizer.text={kind='fsq', levels=4}",
        DELTAS,
    ];
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 2, true);
    let recipe = recipe(kind("full"), &sets);
    let start = Start::from(&recipe.blueprint(&base).unwrap());
    let vocab = start.blueprint.config.text.vocab_size;
    let dir = tempfile::tempdir().unwrap();
    let mut server = server_of(&start, &recipe, dir.path());
    server.restore(0).unwrap();
    // A client of another vocabulary: as many tokens as there are places, one twice.
    let example = cuts(&recipe).remove(0);
    let channels = start.blueprint.config.text.hidden_size;
    let said = |tokens: usize| {
        let rows = tokens;
        let symbols = qtl_codec::Symbols::from_u32(4, rows, channels, vec![1; rows * channels]);
        let index: Vec<u32> = (0..rows as u32).chain([0]).collect();
        let index = qtl_codec::Symbols::from_u32(rows as u32, rows + 1, 1, index);
        let span = |kind, len| qtl_model::splice::Span {
            kind,
            len,
            branch: 0,
        };
        let cut = qtl_model::edge::Cut {
            image: None,
            text: qtl_codec::Code::new(vec![symbols.unwrap().into()]),
            index: Some(qtl_codec::Code::new(vec![index.unwrap().into()])),
            layout: qtl_model::splice::Layout {
                sequences: vec![vec![span(qtl_model::splice::Kind::Text, rows + 1)]],
            },
        };
        let ids: Vec<i64> = (0..rows as i64).chain([0]).collect();
        let (cut, _): (Cut, _) = Sent::default().encode(&cut, &ids);
        qtl_wire::Forward {
            cut,
            ..example.clone()
        }
    };
    let mut says = |tokens| match server.step(said(tokens)) {
        Err(WorkError::Invalid(sentence)) => sentence,
        other => panic!("{other:?}"),
    };
    let sentence = says(vocab + 2);
    let most = format!("there are {} at most", vocab + 1);
    assert!(sentence.contains(&most), "{sentence}");
    // As many are read, and then the targets are those of another batch.
    let sentence = says(vocab + 1);
    assert!(sentence.contains("target"), "{sentence}");
}

#[test]
fn what_deltas_do_not_go_with_is_refused_by_name() {
    for (set, field) in [
        ("split.bottom_blocks=1", "split.bottom_blocks"),
        ("split.text=ids", "split.text"),
        ("quantizer.text_rows=all", "quantizer.text_rows"),
        ("quantizer.text={kind='topk', keep=0.4}", "quantizer.text"),
        ("quantizer.text={kind='fedbat'}", "quantizer.text"),
    ] {
        let text = recipe(kind("frozen"), &[]).to_toml();
        let sets = [set.to_owned(), DELTAS.to_owned()];
        let error = Recipe::parse(&text, &sets, Path::new("r.toml")).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains(field) && error.contains("quantizer.text_deltas"),
            "{error}"
        );
    }
    // Where it is not given, no term has its name; where one side alone has it, the greeting tells.
    let [off, on] = [&[][..], &[DELTAS]].map(|sets| recipe(kind("full"), sets));
    assert!(!off.terms().contains_key("quantizer.text_deltas"));
    let dir = tempfile::tempdir().unwrap();
    let server = server_of(&Start::from(&blueprint(&off)), &off, dir.path());
    let mut link = LocalLink::local(server);
    let terms = server_of(
        &Start::from(&blueprint(&on)),
        &on,
        &dir.path().join("other"),
    )
    .terms();
    let standing = qtl_wire::Standing {
        run: "test".to_owned(),
        ..qtl_wire::Standing::default()
    };
    let error = qtl_wire::Exchange::greet(&mut link, &terms, &standing, Purpose::Train);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("quantizer.text_deltas"), "{error}");
}

/// The bounded driver and the fuzz target play sessions against a server that holds rows.
#[test]
fn the_tiny_client_s_second_step_goes_on_from_its_first() {
    let last = qtl_train::fuzzing::KINDS - 1;
    let dir = tempfile::tempdir().unwrap();
    let (mut server, legal) = qtl_train::fuzzing::Desk::served(last, dir.path()).unwrap();
    assert!(legal.steps.iter().all(|step| is_message(&step.cut.text)));
    server.restore(0).unwrap();
    server.calibrate(legal.calibration.clone()).unwrap();
    let early = server.step(legal.steps[1].clone()).unwrap_err();
    assert!(early.to_string().contains("there was none here"), "{early}");
    for step in &legal.steps {
        server.step(step.clone()).unwrap();
    }
}

#[test]
fn inspect_counts_the_rows_that_are_kept() {
    let base = crate::world::base();
    let [off, on] = [&[][..], &[DELTAS]].map(|sets| {
        let recipe = recipe(kind("full"), &[QUANTIZED, sets].concat());
        inspect(&base, Some(&recipe), 40).unwrap().cost.unwrap()
    });
    assert_eq!(off.traffic.kept, 0);
    let kept = on.traffic.kept;
    assert!(kept > 0);
    for (off, on) in [(off.client, on.client), (off.server, on.server)] {
        assert_eq!(on.training, off.training + kept);
    }
}
