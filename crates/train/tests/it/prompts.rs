//! Questions about one picture that are read together: answered as each is alone, wherever the model is cut, over the wire.

use std::collections::BTreeSet;
use std::path::Path;

use qtl_data::TokenSpan;
use qtl_data::example::{IGNORED, PLACEHOLDER};
use qtl_model::Device;
use qtl_model::generate::answers;
use qtl_model::prompts::splice_prompts;
use qtl_model::quant::QuantizerSpec;
use qtl_model::sampling::Sampling;
use qtl_model::splice::{Sample, splice};
use qtl_model::stage::{Batch, Pictures};
use qtl_model::text::Answering;
use qtl_train::answer::Linked;
use qtl_train::client::batch;
use qtl_train::start::Start;
use qtl_train::terms::Facts;
use qtl_train::{Recipe, ServerWork};
use qtl_wire::{Exchange, LocalLink, Purpose, Standing};

use crate::placement::EXACT;
use crate::world::{Drawn, blueprint_of, random_base, recipe};

/// Every room that a prompt goes through.
const PLACEMENTS: &[&[&str]] = &[
    &[],
    &["split.bottom_blocks=1"],
    &["split.labels=client"],
    &["split.connector=server"],
    &["split.labels=client", "split.top_blocks=1"],
    &[
        "split.labels=client",
        "split.top_blocks=1",
        "split.bottom_blocks=1",
    ],
    &[
        "split.text=ids",
        "quantizer.text={kind='none'}",
        "tune.embed_tokens=frozen",
    ],
];

/// Quantizers whose codes are each row's own; `true` where text rows of one token cross once.
const QUANTIZERS: &[(&[&str], &[&str])] = &[
    (EXACT, &["quantizer.hidden.kind=exact"]),
    (
        &["quantizer.text_rows=distinct"],
        &["quantizer.hidden={kind='none'}"],
    ),
    (
        &[
            "quantizer.image={kind='fsq', levels=5, statistics='channel'}",
            "quantizer.text={kind='normal_float', bits=4}",
            "train.activation=bf16",
        ],
        &["quantizer.hidden={kind='fsq', levels=9, statistics='channel'}"],
    ),
    (
        &[
            "quantizer.image={kind='topk', keep=0.5}",
            "quantizer.text={kind='ecsq', bits=4}",
        ],
        &["quantizer.hidden={kind='topk', keep=0.6}"],
    ),
];

/// Prompts of one picture, of none, and of another; one is longer than they may be, and is cut.
fn prompts() -> Vec<(Vec<TokenSpan>, std::ops::Range<usize>)> {
    let prompt = |before: &[i64], after: &[i64], pictures| {
        let shown: &[i64] = if after.is_empty() {
            &[]
        } else {
            &[PLACEHOLDER]
        };
        let ids = [before, shown, after].concat();
        let labels = vec![IGNORED; ids.len()];
        let spans = vec![TokenSpan {
            branch: 0,
            ids,
            labels,
        }];
        (spans, pictures)
    };
    vec![
        prompt(&[9, 5], &[7, 8, 30, 12], 0..1),
        prompt(&[9, 5], &[7], 0..1),
        prompt(&[9, 5], &[7, 8, 31, 44, 45, 46, 47], 0..1),
        prompt(&[9, 5, 33], &[], 1..1),
        prompt(&[9, 5], &[41, 42], 1..2),
        prompt(&[9, 5], &[50; 40], 1..2),
        prompt(&[9], &[7, 8], 1..2),
        prompt(&[9], &[10, 11, 12], 1..2),
    ]
}

/// The answers to the prompts, each asked alone and all together, by a model under this recipe with its server at the other end of
/// a link.
fn alone_and_together(base: &Path, recipe: &Recipe) -> [Vec<Vec<u32>>; 2] {
    let device = Device::default();
    let start = Start::from(&blueprint_of(base, recipe));
    let client = start
        .client(&device)
        .unwrap()
        .sending(recipe.quantizer.text_rows);
    assert!(client.codes_rows_alone(&recipe.quantizer.hidden));
    let server = ServerWork::open(recipe.clone(), &start, None, device.clone()).unwrap();
    let mut link = LocalLink::local(server);
    let terms = Facts::of(&start, &client, recipe).with(recipe);
    link.greet(&terms, &Standing::default(), Purpose::Generate)
        .unwrap();
    let mut remote = Linked::new(&mut link, &client);
    let examples = [Drawn::example(1), Drawn::example(2)];
    let pictures = batch(&client, &examples, 256, &device).unwrap().pictures;
    let Some(Pictures::Pixels(pixels)) = pictures else {
        panic!("examples have pictures");
    };
    let how = Answering {
        end: vec![3],
        longest: 6,
        sampling: match client.top.is_some() {
            true => Sampling {
                temperature: 1.2,
                top_p: 0.9,
                seed: 4,
            },
            false => Sampling::GREEDY,
        },
    };
    let tokens = client.tokens_per_picture();
    let longest = tokens + 20;
    let mut ask = |spliced| {
        let pictures = Some(Pictures::Pixels(pixels.clone()));
        let batch = Batch { pictures, spliced };
        answers(&client, &batch, &mut remote, &how, &mut |_, _| true).unwrap()
    };
    let prompts = prompts();
    let samples = prompts.iter().map(|(spans, pictures)| Sample {
        spans,
        pictures: pictures.clone(),
    });
    let samples: Vec<Sample<'_>> = samples.collect();
    let alone = samples
        .iter()
        .flat_map(|sample| ask(splice(std::slice::from_ref(sample), tokens, longest).unwrap()))
        .collect();
    let together = splice_prompts(&samples, tokens, longest).unwrap();
    // Three ask about one picture, two about another in other words, and two stand alone with it.
    assert_eq!(together.image_rows.len(), 4 * tokens);
    [alone, ask(together)]
}

#[test]
fn questions_about_one_picture_are_answered_as_each_is_alone() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    let both = |placement| QUANTIZERS.iter().map(move |q| (placement, q));
    for (placement, (quantizer, hidden)) in PLACEMENTS.iter().flat_map(both) {
        let second = placement.contains(&"split.labels=client");
        let ids = placement.contains(&"split.text=ids");
        let text = |set: &&&str| set.starts_with("quantizer.text=") || set.contains("text.kind");
        let quantizer = quantizer.iter().filter(|set| !(ids && text(set)));
        let quantizer: Vec<&str> = quantizer.copied().collect();
        let hidden = if second { hidden } else { &[][..] };
        let sets = [&quantizer[..], hidden, placement].concat();
        let [alone, together] = alone_and_together(&base, &recipe("", &sets));
        assert_eq!(alone, together, "{sets:?}");
        assert!(alone.iter().any(|answer| *answer != alone[0]), "{alone:?}");
    }
}

/// Whatever codes the rows, as long as it codes each alone. Components and codebooks come with a calibration, and are no other kind of code.
#[test]
fn so_they_are_with_every_quantizer() {
    use QuantizerSpec::{Pca, Pq, Rvq, Vq};
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 2, true);
    let (mut tried, mut others) = (BTreeSet::new(), BTreeSet::new());
    for spec in QuantizerSpec::settings() {
        let mut recipe = recipe("", &[]);
        (recipe.quantizer.image, recipe.quantizer.text) = (spec.clone(), spec.clone());
        let kind = format!("{spec:?}").split('(').next().unwrap().to_owned();
        let start = Start::from(&blueprint_of(&base, &recipe));
        let client = start.client(&Device::default()).unwrap();
        if matches!(spec, Pca(_) | Vq(_) | Rvq(_) | Pq(_))
            || !client.codes_rows_alone(&recipe.quantizer.hidden)
        {
            others.insert(kind);
            continue;
        }
        let [alone, together] = alone_and_together(&base, &recipe);
        assert_eq!(alone, together, "{spec:?}");
        tried.insert(kind);
    }
    let all = QuantizerSpec::ALL.len();
    assert!(tried.len() + 5 >= all, "{tried:?}, and not {others:?}");
}
