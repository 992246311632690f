//! Questions about one picture that are read together: answered as each is alone, wherever the model is cut, over the wire.

use qtl_data::TokenSpan;
use qtl_data::example::{IGNORED, PLACEHOLDER};
use qtl_model::Device;
use qtl_model::generate::answers;
use qtl_model::prompts::splice_prompts;
use qtl_model::sampling::Sampling;
use qtl_model::splice::{Sample, splice};
use qtl_model::stage::{Batch, Pictures};
use qtl_model::text::Answering;
use qtl_train::ServerWork;
use qtl_train::answer::Linked;
use qtl_train::client::batch;
use qtl_train::start::Start;
use qtl_train::terms::Facts;
use qtl_wire::{Exchange, LocalLink, Purpose, Standing};

use crate::placement::EXACT;
use crate::world::{Drawn, blueprint_of, random_base, recipe};

/// Every room that a prompt goes through.
const PLACEMENTS: &[&[&str]] = &[
    &[],
    &["split.bottom_blocks=1"],
    &["split.labels=client"],
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

#[test]
fn questions_about_one_picture_are_answered_as_each_is_alone() {
    let bases = tempfile::tempdir().unwrap();
    let base = random_base(bases.path(), 3, false);
    let device = Device::default();
    let prompts = prompts();
    let samples: Vec<Sample<'_>> = prompts
        .iter()
        .map(|(spans, pictures)| Sample {
            spans,
            pictures: pictures.clone(),
        })
        .collect();
    for (placement, (quantizer, hidden)) in PLACEMENTS
        .iter()
        .flat_map(|placement| QUANTIZERS.iter().map(move |q| (placement, q)))
    {
        let second = placement.contains(&"split.labels=client");
        let ids = placement.contains(&"split.text=ids");
        let quantizer: Vec<&str> = quantizer
            .iter()
            .filter(|set| !ids || !set.starts_with("quantizer.text=") && !set.contains("text.kind"))
            .copied()
            .collect();
        let hidden = if second { hidden } else { &[][..] };
        let sets = [&quantizer[..], hidden, placement].concat();
        let recipe = recipe("", &sets);
        let start = Start::from(&blueprint_of(&base, &recipe));
        let client = start
            .client(&device)
            .unwrap()
            .sending(recipe.quantizer.text_rows);
        let server = ServerWork::open(recipe.clone(), &start, None, device.clone()).unwrap();
        let mut link = LocalLink::local(server);
        let terms = Facts::of(&start, &client, &recipe).with(&recipe);
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
            sampling: match second {
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
        let alone: Vec<_> = samples
            .iter()
            .flat_map(|sample| ask(splice(&[sample.clone()], tokens, longest).unwrap()))
            .collect();
        let together = splice_prompts(&samples, tokens, longest).unwrap();
        // Three ask about one picture, two about another in other words, and two stand alone with it.
        assert_eq!(together.image_rows.len(), 4 * tokens);
        assert_eq!(ask(together), alone, "{sets:?}");
        assert!(alone.iter().any(|answer| *answer != alone[0]), "{alone:?}");
    }
}
