//! `probe`: small readers that learn, on auxiliary pictures, to answer the data's questions from rows.

use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use qtl_model::llm::cross_entropy;
use qtl_model::weights::Stream as Numbers;

use super::{Attack, Case, Found, Stream, ask, trained, unfit};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::finding::Finding;
use crate::fit::Fit;
use crate::matrix::Matrix;
use crate::network::Classifier;
use crate::questions::Asked;
use crate::seen::Seen;

/// Questions of a step.
const BATCH: usize = 128;
/// Width of the layer of the reader that has one.
const INNER: usize = 512;
const RATE: f64 = 1e-3;
const DECAY: f32 = 0.05;
/// Makes the scores of other questions' answers impossible.
const NEVER: f32 = -1e9;

/// See the module.
pub struct Probe;

/// The readers: what they are called, whether they see the mean of a picture's rows only, the layer between.
const READERS: [(&str, bool, Option<usize>); 3] = [
    ("mean of rows, linear", true, None),
    ("all rows, linear", false, None),
    ("all rows, one layer", false, Some(INNER)),
];

impl Attack for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }
    fn stream(&self) -> Stream {
        Stream::Picture
    }
    fn needs(&self) -> &'static str {
        "auxiliary pictures with answers, and a client's half; trains small readers that answer the data's questions from rows"
    }
    fn weight(&self) -> f64 {
        2.0
    }

    fn run(&self, case: &Case<'_>, clock: &Clock<'_>) -> Result<Found, LeakageError> {
        let world = case.world;
        let lessons = world.catalogue.asked(case.own, world.auxiliary);
        if world.asked.is_empty() || lessons.is_empty() {
            return unfit("the data asks no question often enough to learn its answers");
        }
        let scale = case.own.image.scale();
        let mut found = Found::default();
        for (place, (name, mean, inner)) in READERS.into_iter().enumerate() {
            let rows = |seen: &Seen| match mean {
                true => means(&scale.of(&seen.image), seen.tokens),
                false => scale.of(&seen.image).folded(seen.tokens),
            };
            let (own, victims) = (rows(case.own), rows(case.seen));
            let clock = clock.share(1.0 / (READERS.len() - place) as f64);
            let (model, steps) = learn(case, &own, &lessons, inner, &clock);
            trained(steps, &clock)?;
            found.steps = Some(found.steps.map_or(steps, |least| least.min(steps)));
            let asked = world.asked.iter();
            let right = asked
                .clone()
                .map(|one| answered(case, &model, &victims, one));
            let right: Vec<bool> = right.collect();
            let mut forms: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
            for (one, right) in asked.zip(&right) {
                let form = world.catalogue.questions[one.question].form.as_str();
                let counts = forms.entry(form).or_default();
                counts[0] += usize::from(*right);
                counts[1] += 1;
            }
            let all = right.iter().filter(|right| **right).count();
            found
                .findings
                .push(Finding::share(format!("{name} %"), all, right.len()));
            if place + 1 == READERS.len() {
                found
                    .findings
                    .extend(forms.into_iter().map(|(form, [right, count])| {
                        Finding::share(format!("answers '{form}..' %"), right, count)
                    }));
            }
            found
                .notes
                .push(format!("{name}: {steps} steps of {BATCH}"));
        }
        found.findings.push(ask::guess(case));
        Ok(found)
    }
}

fn means(rows: &Matrix, tokens: usize) -> Matrix {
    let mean = |picture: &[f32]| -> Vec<f32> {
        let column = |j: usize| picture.iter().skip(j).step_by(rows.cols).sum::<f32>();
        (0..rows.cols).map(|j| column(j) / tokens as f32).collect()
    };
    let pictures = rows.values.chunks_exact(rows.cols * tokens);
    Matrix::new(rows.cols, pictures.flat_map(mean).collect())
}

fn learn(
    case: &Case<'_>,
    rows: &Matrix,
    lessons: &[Asked],
    inner: Option<usize>,
    clock: &Clock<'_>,
) -> (Classifier, usize) {
    let (catalogue, device) = (case.world.catalogue, &case.world.device);
    let classes = catalogue.classes.len();
    let known: Vec<(usize, usize, usize)> = lessons
        .iter()
        .filter_map(|one| {
            let class = catalogue.class(one.question, &one.answer)?;
            Some((one.picture, one.question, class))
        })
        .collect();
    let numbers = RefCell::new(Numbers::new(case.world.seed, "probe"));
    let loss = |model: &Classifier| {
        let mut numbers = numbers.borrow_mut();
        let one = |_| known[(numbers.bits() % known.len() as u64) as usize];
        let chosen: Vec<_> = (0..BATCH).map(one).collect();
        let x = rows.pick(chosen.iter().map(|one| one.0)).tensor(device);
        let mut never = vec![NEVER; BATCH * classes];
        for (row, (_, question, _)) in chosen.iter().enumerate() {
            for class in &catalogue.questions[*question].classes {
                never[row * classes + class] = 0.0;
            }
        }
        let never = Tensor::<2>::from_data(TensorData::new(never, [BATCH, classes]), device);
        let labels: Vec<i64> = chosen.iter().map(|one| one.2 as i64).collect();
        cross_entropy(model.forward(x) + never, &labels)
    };
    let model = Classifier::new(rows.cols, inner, classes, device);
    let mut fit = Fit::new(model, case.world.seed, RATE, DECAY);
    fit.run(clock, loss);
    (fit.model().clone(), fit.steps())
}

fn answered(case: &Case<'_>, model: &Classifier, rows: &Matrix, one: &Asked) -> bool {
    let catalogue = case.world.catalogue;
    let scores = Matrix::of(model.forward(rows.pick([one.picture]).tensor(&case.world.device)));
    let own = catalogue.questions[one.question].classes.iter();
    let best = own.max_by(|a, b| scores.values[**a].total_cmp(&scores.values[**b]));
    best.is_some_and(|class| catalogue.classes[*class].1 == one.answer)
}
