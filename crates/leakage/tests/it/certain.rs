use qtl_leakage::LeakageError;
use qtl_leakage::attack::{
    Attack, Collage, Context, Dictionary, Found, Gradient, Inverse, Lengths, Match, Member, Mixed,
    Optimise, Probe,
};
use qtl_leakage::clock::Clock;
use qtl_leakage::matrix::Matrix;
use qtl_leakage::pictures::{Pictures, psnr};
use qtl_leakage::reference::{Chosen, trained};
use qtl_leakage::seen::Seen;

use crate::world::Scene;

const FSQ_4: [&str; 2] = [
    "quantizer.image={ kind = 'fsq', levels = 4 }",
    "quantizer.text={ kind = 'fsq', levels = 4 }",
];

fn run(attack: &dyn Attack, scene: &Scene, steps: u64) -> Found {
    let clock = Clock::counted(steps);
    scene.with(|case| attack.run(case, &clock).unwrap())
}

fn value(found: &Found, measure: &str) -> f64 {
    let finding = found.findings.iter().find(|f| f.measure == measure);
    finding
        .unwrap_or_else(|| panic!("{measure} in {found:?}"))
        .value
        .unwrap()
}

fn mean_psnr(truth: &Pictures, made: &Pictures) -> f64 {
    let each = truth.each().zip(made.each());
    let sum: f64 = each.map(|(a, b)| psnr(a, b, &|_| true).unwrap()).sum();
    sum / truth.len() as f64
}

/// Rows that are the pixels of their own patches.
fn pixels(seen: &mut Seen) {
    let (side, grid) = (seen.pictures.side, seen.tokens.isqrt());
    let pixels = side / grid;
    let mut values = Vec::new();
    for picture in seen.pictures.each() {
        for token in 0..seen.tokens {
            for y in 0..pixels {
                let begin = 3 * ((token / grid * pixels + y) * side + token % grid * pixels);
                let line = &picture[begin..begin + 3 * pixels];
                values.extend(line.iter().map(|byte| f32::from(*byte) / 255.0));
            }
        }
    }
    seen.image = Matrix::new(3 * pixels * pixels, values);
}

#[test]
fn rows_that_are_pixels_are_reconstructed() {
    let mut scene = Scene::new(&[], [24, 400]);
    pixels(&mut scene.seen);
    pixels(&mut scene.own);
    for attack in [&Inverse as &dyn Attack, &Mixed] {
        let found = run(attack, &scene, 8);
        let made = found.pictures.unwrap();
        let got = mean_psnr(&scene.seen.pictures, &made);
        assert!(got > 40.0, "{}: {got} dB; {:?}", attack.name(), found.notes);
    }
}

#[test]
fn a_collage_of_the_victims_own_pictures_is_perfect() {
    let mut scene = Scene::new(&FSQ_4, [24, 40]);
    scene.own.image.append(scene.seen.image.clone());
    scene
        .own
        .pictures
        .bytes
        .extend(scene.seen.pictures.bytes.clone());
    let found = run(&Collage, &scene, 1);
    let got = mean_psnr(&scene.seen.pictures, &found.pictures.unwrap());
    assert!(got > 50.0, "{got} dB");
}

#[test]
fn text_is_looked_up_at_four_levels() {
    let mut scene = Scene::new(&FSQ_4, [40, 40]);
    assert!(
        scene.seen.told.iter().any(Option::is_some),
        "targets travel"
    );
    // Without what is told anyway.
    scene.seen.told.fill(None);
    let found = run(&Dictionary, &scene, 1);
    for measure in ["tokens of questions %", "tokens of answers %"] {
        assert!(value(&found, measure) > 99.0, "{found:?}");
    }
    let lengths = run(&Lengths, &scene, 1);
    assert!(
        value(&lengths, "tokens of questions %") < 95.0,
        "{lengths:?}"
    );
}

/// Whoever sees lengths alone knows the templates, and that texts are padded, and has texts of its own that are padded too.
#[test]
fn padding_leaves_less_to_lengths_alone() {
    let of = |sets: &[&str]| {
        let scene = Scene::new(&[&FSQ_4[..], sets].concat(), [60, 200]);
        let found = run(&Lengths, &scene, 1);
        let tokens = [
            "tokens of questions %",
            "tokens of answers %",
            "whole stretches %",
        ];
        let spans = scene.seen.spans.iter().map(|span| span.len);
        let lengths = spans.collect::<std::collections::BTreeSet<_>>().len();
        (tokens.map(|measure| value(&found, measure)), lengths)
    };
    let (bare, all) = of(&[]);
    let (eights, fewer) = of(&["privacy.padding=8"]);
    let (most, one) = of(&["privacy.padding=32", "data.max_length=512"]);
    assert!(
        all > fewer && fewer > one && one == 1,
        "{all} {fewer} {one}"
    );
    assert!(eights[0] < bare[0], "{bare:?} {eights:?}");
    for (measure, bare) in bare.into_iter().take(2).enumerate() {
        assert!(
            most[measure] < bare - 5.0,
            "{measure}: {bare} {}",
            most[measure]
        );
    }
    // What is in the rows is read as before.
    let mut scene = Scene::new(&[&FSQ_4[..], &["privacy.padding=8"]].concat(), [40, 40]);
    scene.seen.told.fill(None);
    let found = run(&Dictionary, &scene, 1);
    assert!(value(&found, "tokens of questions %") > 99.0, "{found:?}");
}

#[test]
fn text_is_looked_up_under_noise() {
    let mut scene = Scene::new(&FSQ_4, [60, 60]);
    scene.seen.told.fill(None);
    let mut numbers = qtl_model::weights::Stream::new(1, "noise");
    // One and a half steps between levels.
    let deviation = 1.0;
    scene
        .seen
        .text
        .values
        .iter_mut()
        .for_each(|x| *x += deviation * numbers.normal() as f32);
    let found = run(&Dictionary, &scene, 1);
    assert!(value(&found, "tokens of questions %") > 99.0, "{found:?}");
}

#[test]
fn text_behind_a_block_is_read_by_a_reader() {
    let mut scene = Scene::new(&["split.bottom_blocks=1"], [40, 300]);
    scene.seen.told.fill(None);
    let clock = Clock::counted(1);
    assert!(scene.with(|case| Dictionary.run(case, &clock).is_err()));
    let found = run(&Context, &scene, 500);
    assert!(value(&found, "tokens of questions %") > 99.0, "{found:?}");
}

#[test]
fn labels_are_read_off_an_exact_gradient() {
    let sets = [
        "split.labels='client'",
        "gradient.hidden='f32'",
        "quantizer.hidden={ kind = 'exact' }",
    ];
    let scene = Scene::new(&sets, [16, 16]);
    assert!(
        scene.seen.told.iter().all(Option::is_none),
        "no target travels"
    );
    let found = run(&Gradient, &scene, 1);
    assert!(value(&found, "random words %") > 95.0, "{found:?}");
    assert!(value(&found, "tokens of answers %") > 95.0, "{found:?}");
}

#[test]
fn a_picture_is_found_among_others() {
    let scene = Scene::new(&FSQ_4, [60, 60]);
    let found = run(&Match, &scene, 1);
    assert!(value(&found, "top-1 of 100 %") > 99.0, "{found:?}");
}

#[test]
fn readers_learn_what_rows_say() {
    // The first row of each picture says how many objects there are, and nothing else is sent.
    let mut scene = Scene::new(&[], [60, 400]);
    let sides = [
        (scene.seen.clone(), scene.victims.clone()),
        (scene.own.clone(), scene.auxiliary.clone()),
    ];
    let [seen, own] = sides.map(|(mut seen, reader)| {
        let words = ["one", "two", "three", "four"];
        let mut values = vec![0.0f32; seen.pictures.len() * seen.tokens * 4];
        for (picture, sample) in seen.shown_by.iter().enumerate() {
            let turns = &reader.entry(seen.entries[*sample]).talk.turns;
            let counted = turns
                .iter()
                .filter(|turn| turn.question.contains("How many"));
            let answer = counted
                .filter_map(|turn| turn.answer.as_deref())
                .next()
                .unwrap();
            let word = words.iter().position(|word| *word == answer).unwrap();
            values[picture * seen.tokens * 4 + word] = 1.0;
        }
        seen.image = Matrix::new(4, values);
        seen
    });
    (scene.seen, scene.own) = (seen, own);
    let found = run(&Probe, &scene, 900);
    assert!(value(&found, "answers 'how many..' %") > 99.0, "{found:?}");
}

#[test]
fn an_attacker_without_time_is_no_attacker_that_failed() {
    let scene = Scene::new(&FSQ_4, [8, 24]);
    let no_time = Clock::counted(0);
    for attack in [&Context as &dyn Attack, &Optimise] {
        let ended = scene.with(|case| attack.run(case, &no_time).map_err(Box::new));
        let error = ended.unwrap_err();
        assert!(matches!(*error, LeakageError::Untrained(_)), "{error}");
    }
    // What it begins with is something; it says that it is no more.
    let begun = run(&Inverse, &scene, 0);
    assert_eq!(begun.steps, Some(0));
    assert!(begun.pictures.is_some());
}

/// With patches that are narrower than what the tower makes of them nothing is lost.
#[test]
fn pixels_are_fitted_through_a_tower_that_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let base = crate::world::fine_base(dir.path());
    for (set, least) in [
        ("quantizer.image={ kind = 'exact' }", 30.0),
        (
            "quantizer.image={ kind = 'fsq', levels = 16, statistics = 'channel' }",
            25.0,
        ),
    ] {
        let scene = Scene::of(&base, &[set], [6, 10]);
        let found = run(&Optimise, &scene, 2000);
        let got = mean_psnr(&scene.seen.pictures, found.pictures.as_ref().unwrap());
        assert!(got > least, "{set}: {got} dB; {:?}", found.notes);
    }
}

/// A model that has learned few samples by heart knows them from others.
#[test]
fn members_of_an_overfitted_run_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let base = crate::world::fine_base(dir.path());
    let sets = [
        "train.steps=80",
        "train.lr=3e-3",
        "quantizer.image={ kind = 'none' }",
        "quantizer.text={ kind = 'none' }",
    ];
    let mut scene = Scene::of(&base, &sets, [16, 24]);
    let members = crate::world::scenes_for(&base, dir.path(), &scene.recipe, 13, 16);
    let own = (0..16).map(|sample| (members.clone(), sample)).collect();
    let into = dir.path().join("run");
    let trained = trained(
        &base,
        &scene.recipe,
        Chosen::new(own),
        (&into, qtl_model::Device::flex()),
        |_| true,
    );
    scene.halves = trained.unwrap().unwrap();
    scene.members = Some(members);
    let found = run(&Member, &scene, u64::MAX);
    assert!(value(&found, "AUC %") > 95.0, "{found:?}");
    assert!(
        value(&found, "found at 1 % false alarms %") > 60.0,
        "{found:?}"
    );
}
