//! Padding of texts: the server is told other lengths, and nothing that comes of the run is another.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use qtl_data::example::{IGNORED, PLACEHOLDER, TokenSpan};
use qtl_data::loader::Source;
use qtl_data::{DataError, Example};
use qtl_train::Recipe;
use qtl_train::start::Start;
use qtl_wire::verb::Request;
use qtl_wire::{LocalLink, SpanKind};

use crate::world::{Drawn, Tapped, blueprint, recipe, records_over, saved, server_of};

/// Two turns about a picture, of lengths that differ from sample to sample.
struct Uneven;

impl Source for Uneven {
    fn lengths(&self) -> Vec<i64> {
        vec![7; 16]
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Example, DataError> {
        let mut example = Drawn::example(index);
        let turn = |branch: u32, len: usize| {
            let ids: Vec<i64> = (0..len)
                .map(|i| 4 + ((7 * i + 13 * index) % 110) as i64)
                .collect();
            let labels = [vec![IGNORED; 2], ids[2..].to_vec()].concat();
            TokenSpan {
                branch,
                ids,
                labels,
            }
        };
        example.spans = vec![
            TokenSpan {
                branch: 0,
                ids: vec![PLACEHOLDER],
                labels: vec![IGNORED],
            },
            turn(1, 3 + index % 4),
            turn(2, 4 + index % 7),
        ];
        Ok(example)
    }
}

/// What a run told the server of lengths: those of all texts, and those of all sequences of each step.
#[derive(Default)]
struct Told {
    texts: BTreeSet<u32>,
    sequences: Vec<BTreeSet<u64>>,
    bytes: [usize; 3],
}

/// Losses of a run, and what it told.
fn run(recipe: &Recipe, dir: &Path) -> (Vec<Option<f64>>, Told) {
    let start = Start::from(&blueprint(recipe));
    let told = Arc::new(Mutex::new(Told::default()));
    let heard = Arc::clone(&told);
    let mut link = Tapped {
        link: LocalLink::local(server_of(&start, recipe, dir)),
        ask: move |link: &mut LocalLink<_>, request: Request| {
            let cut = match &request {
                Request::Forward(forward) => Some(&forward.cut),
                Request::ForwardHidden(forward) => Some(&forward.cut),
                Request::MeasureHidden(measure) => Some(&measure.cut),
                _ => None,
            };
            if let Some(cut) = cut {
                let mut told = heard.lock().unwrap();
                let sequences = &cut.layout.sequences;
                let spans = sequences.iter().flat_map(|sequence| &sequence.spans);
                let texts = spans.filter(|span| span.kind == SpanKind::Text);
                told.texts.extend(texts.map(|span| span.len));
                let all = sequences.iter().map(|sequence| sequence.rows());
                told.sequences.push(all.collect());
                let sizes = [cut.image.len(), cut.text.len(), cut.text_index.len()];
                (0..3).for_each(|part| told.bytes[part] += sizes[part]);
            }
            qtl_wire::Exchange::ask(link, request)
        },
    };
    let records = records_over(&mut link, Arc::new(Uneven), &start, recipe, dir, None);
    let losses = records.iter().map(|record| record.loss).collect();
    drop(link);
    let told = std::mem::take(&mut *told.lock().unwrap());
    (losses, told)
}

/// Runs a recipe bare and with this padding: what the latter told beside the former, if both end in the same bits.
fn compared(sets: &[&str], padding: &str) -> [Told; 2] {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [bare, padded] = [dirs[0].path(), dirs[1].path()];
    let with = [sets, &[padding]].concat();
    let (losses, plain) = run(&recipe("", sets), bare);
    let (same, told) = run(&recipe("", &with), padded);
    assert_eq!(losses, same, "{with:?}");
    for side in ["", "server"] {
        let file = "model.safetensors";
        assert!(
            saved(bare, side, 6, file) == saved(padded, side, 6, file),
            "{with:?}: the {side} half is another"
        );
    }
    [plain, told]
}

const FSQ: [&str; 2] = [
    "quantizer.image={ kind = 'fsq', levels = 4, statistics = 'channel', penalty = 0.1 }",
    "quantizer.text={ kind = 'fsq', levels = 4, statistics = 'channel', penalty = 0.1 }",
];

/// Longer sequences: sums over them are taken in other pieces, and nothing else is another.
#[test]
fn multiples_hide_lengths_and_change_no_loss() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (losses, bare) = run(&recipe("", &FSQ), dirs[0].path());
    let with = [&FSQ[..], &["privacy.padding=8"]].concat();
    let (same, padded) = run(&recipe("", &with), dirs[1].path());
    for (a, b) in losses.into_iter().zip(same) {
        let apart = (a.unwrap() - b.unwrap()).abs();
        assert!(apart < 1e-5, "{a:?} {b:?}");
    }
    assert!(bare.texts.len() > 5, "{:?}", bare.texts);
    let texts = &padded.texts;
    assert!(texts.iter().all(|len| len % 8 == 0), "{texts:?}");
    assert!(padded.bytes[2] > bare.bytes[2]);
}

#[test]
fn sequences_are_as_long_as_the_longest_and_no_bit_is_another() {
    for sets in [
        &FSQ[..],
        &["quantizer.text_rows='all'", "gradient.codec='f32'"],
        &["split.bottom_blocks=1", "gradient.codec='f32'"],
        &["split.labels=client", "quantizer.calibration_batches=2"],
    ] {
        let [bare, padded] = compared(sets, "privacy.padding='longest'");
        assert!(bare.sequences.iter().any(|step| step.len() > 1));
        assert!(padded.sequences.iter().all(|step| step.len() == 1));
    }
}

#[test]
fn what_padding_would_change_is_refused() {
    for (sets, field) in [
        (&["privacy.padding=1"][..], "privacy.padding"),
        (&["privacy.padding=9999"], "privacy.padding"),
        (&["privacy.padding='all'"], "longest"),
        (
            &["privacy.padding=8", "quantizer.text={ kind = 'splitfc' }"],
            "quantizer.text",
        ),
        (
            &[
                "privacy.padding=8",
                "quantizer.text={ kind = 'fsq', levels = 4, statistics = 'batch' }",
            ],
            "quantizer.text",
        ),
        (
            &[
                "privacy.padding=8",
                "split.labels=client",
                "split.top_blocks=1",
                "quantizer.hidden={ kind = 'fsq', levels = 4 }",
            ],
            "quantizer.hidden",
        ),
        (
            &[
                "privacy.padding=8",
                "split.text=ids",
                "tune.embed_tokens=frozen",
            ],
            "privacy",
        ),
    ] {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let plain = recipe("", &[]).to_toml();
        let error = Recipe::parse(&plain, &sets, Path::new("r.toml")).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}
