//! `gradient`: labels at the client, read off the gradient of the hidden states.
//!
//! With no block behind it, the gradient of a hidden state is that of the loss of one token through final norm and head. Who has
//! a head makes the gradient that every token of the vocabulary would have given, and takes the nearest.

use burn::tensor::{Tensor, TensorData};
use qtl_data::Example;
use qtl_data::example::IGNORED;
use qtl_data::loader::Source;
use qtl_model::edge::Cut;
use qtl_model::llm::Supervision;
use qtl_model::partition::Top;
use qtl_model::quant::gradient::Draw;
use qtl_model::recompute::{leaf, take};
use qtl_model::splice::Grid;
use qtl_model::stage::Batch;
use qtl_model::weights::Stream as Numbers;
use qtl_train::message::{decode_gradient, encode_gradient};

use super::{Attack, Case, Found, Stream, unfit};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::finding::Finding;
use crate::matrix::Matrix;
use crate::seen::send;

/// Tokens that are enough to count.
const ENOUGH: usize = 1500;
/// Tokens of a vocabulary that are tried for a row: all of a small one, the likeliest of a large one.
const TRIED: usize = 1024;

/// See the module.
pub struct Gradient;

impl Attack for Gradient {
    fn name(&self) -> &'static str {
        "gradient"
    }
    fn stream(&self) -> Stream {
        Stream::Labels
    }
    fn needs(&self) -> &'static str {
        "a final norm and head (the trained ones, or the public base's); takes the token for which the gradient that came and the head's own guess speak together; on \
         random words the one whose gradient is nearest"
    }

    fn run(&self, case: &Case<'_>, _: &Clock<'_>) -> Result<Found, LeakageError> {
        let (Some(top), Some(victim)) = (
            case.known.client.top.as_deref(),
            case.victim.client.top.as_deref(),
        ) else {
            return unfit("the labels are the server's, and travel in clear: see `targets`");
        };
        if !top.stage.blocks.is_empty() {
            return unfit("an attack through blocks behind the hidden states is not built");
        }
        let mut tally = Tally::default();
        let size = case.world.recipe.train.batch;
        for (step, entries) in case.seen.entries.chunks(size).enumerate() {
            let read = |i: &usize| case.world.victims.read(*i, 0);
            let examples: Vec<Example> = entries.iter().map(read).collect::<Result<_, _>>()?;
            let mut batch = case.victim.batch(&examples, case.world.recipe)?;
            let sent = send(case.victim, &batch, step as u64)?;
            tally
                .true_labels
                .add(attack(case, top, victim, &sent.cut, &batch, step as u64)?);
            // The same hidden states, and answers that no model can guess.
            let mut numbers = Numbers::new(case.world.seed, &format!("labels.{step}"));
            let vocab = case.victim.server.vocab_size() as u64;
            for label in batch
                .spliced
                .labels
                .iter_mut()
                .filter(|label| **label != IGNORED)
            {
                *label = (numbers.bits() % vocab) as i64;
            }
            tally
                .random
                .add(attack(case, top, victim, &sent.cut, &batch, step as u64)?);
            if tally.true_labels.count >= ENOUGH {
                break;
            }
        }
        let Tally {
            true_labels,
            random,
        } = tally;
        if true_labels.count == 0 {
            return unfit("no answer has a token whose hidden state is its own");
        }
        Ok(Found::numbers(vec![
            Finding::share("tokens of answers %", true_labels.right, true_labels.count),
            Finding::share(
                "guess without the gradient %",
                true_labels.guessed,
                true_labels.count,
            ),
            Finding::share(
                "where the guess is wrong %",
                true_labels.beyond,
                true_labels.missed(),
            ),
            Finding::share("random words %", random.nearest, random.count),
        ]))
    }
}

#[derive(Default)]
struct Tally {
    true_labels: Counts,
    random: Counts,
}

#[derive(Default)]
struct Counts {
    count: usize,
    /// By gradient and guess together.
    right: usize,
    /// By the gradient alone.
    nearest: usize,
    guessed: usize,
    /// Right where the guess was wrong.
    beyond: usize,
}

impl Counts {
    fn missed(&self) -> usize {
        self.count - self.guessed
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.nearest += other.nearest;
        self.right += other.right;
        self.guessed += other.guessed;
        self.beyond += other.beyond;
    }
}

/// One exchange of hidden states and their gradient, and what the server makes of it.
fn attack(
    case: &Case<'_>,
    top: &Top,
    victim: &Top,
    cut: &Cut,
    batch: &Batch,
    step: u64,
) -> Result<Counts, LeakageError> {
    let (device, recipe) = (&case.world.device, case.world.recipe);
    let mut server = case.victim.server.clone();
    let wanted = victim.wanted(&batch.spliced);
    let (Some(code), _) = server.forward_hidden(cut, wanted.as_ref(), step, &|_| false, device)?
    else {
        return Ok(Counts::default());
    };
    let learned = victim.learn(Some(&code), &batch.spliced, &|_| false, device)?;
    let Some(gradient) = learned.gradient else {
        return Ok(Counts::default());
    };
    let draw = || Draw {
        seed: recipe.seed,
        step,
        tensor: "hidden",
    };
    let shape = gradient.dims();
    let gradient = match &case.victim.client.uplink.private {
        Some(private) => private.on_gradient(gradient, step),
        None => gradient,
    };
    let codec = &recipe.gradient.hidden;
    let bytes =
        encode_gradient(codec, gradient, draw()).map_err(qtl_train::error::AnswerError::from);
    let bytes = bytes.map_err(|error| LeakageError::Unfit(error.to_string()))?;
    let came = decode_gradient(codec, &bytes, shape, draw(), device)
        .map_err(|error| LeakageError::Unfit(error.to_string()))?;
    let states = top.downlink.hidden.dequantize(&code, device)?;
    if states.dims() != shape {
        return unfit(
            "the hidden states' quantizer keeps some entries only; an attack on those is not built",
        );
    }
    // The loss is a mean, and the server has counted the bits of the supervised rows.
    let came = Matrix::of(came * learned.tokens as f64);
    let states = Matrix::of(states);
    let mut counts = Counts::default();
    for (row, target) in targets(batch).into_iter().enumerate().take(states.rows) {
        let Some(target) = target else {
            continue;
        };
        let said = read(case, top, states.row(row), came.row(row));
        counts.count += 1;
        counts.guessed += usize::from(said.guess == target);
        counts.nearest += usize::from(said.nearest == target);
        counts.right += usize::from(said.likeliest == target);
        counts.beyond += usize::from(said.likeliest == target && said.guess != target);
    }
    Ok(counts)
}

/// Truth: per hidden state, in the order in which they come, the token that it is to predict; none where it is several.
fn targets(batch: &Batch) -> Vec<Option<usize>> {
    let grid = Grid::new(&batch.spliced.layout);
    let mut of_cell: std::collections::BTreeMap<usize, Vec<usize>> =
        std::collections::BTreeMap::new();
    for (label, cell) in batch.spliced.labels.iter().zip(&grid.predictors) {
        if let (Some(cell), true) = (cell, *label != IGNORED) {
            of_cell.entry(*cell).or_default().push(*label as usize);
        }
    }
    let single = |labels: Vec<usize>| match labels.as_slice() {
        [label] => Some(*label),
        _ => None,
    };
    of_cell.into_values().map(single).collect()
}

/// What is made of a gradient.
struct Said {
    /// The token that the head says by itself.
    guess: usize,
    /// The one whose gradient is nearest.
    nearest: usize,
    /// The one for which both speak: what came is the token's gradient with normal noise, as loud as the nearest leaves over,
    /// and the token is as likely as the head says.
    likeliest: usize,
}

fn read(case: &Case<'_>, top: &Top, state: &[f32], came: &[f32]) -> Said {
    let device = &case.world.device;
    let head = &top.stage.head;
    let one = |values: &[f32]| {
        let data = TensorData::new(values.to_vec(), [1, values.len()]);
        Tensor::<2>::from_data(data, device)
    };
    let logits = Matrix::of(head.forward(top.downlink.hidden.expand(one(state)))).values;
    let guess = most(&logits);
    let vocab = logits.len();
    let mut tried: Vec<usize> = (0..vocab).collect();
    if vocab > TRIED {
        // The gradient falls along the target's row of the head.
        let towards = top.downlink.hidden.expand(one(came)).mul_scalar(-1.0);
        let along = Matrix::of(head.lm_head.forward(towards)).values;
        tried.sort_by(|a, b| along[*b].total_cmp(&along[*a]));
        tried.truncate(TRIED);
        tried.push(guess);
    }
    let count = tried.len();
    let repeated = Tensor::<2>::from_data(
        TensorData::new(state.repeat(count), [count, state.len()]),
        device,
    );
    let x = leaf(repeated);
    let supervision = Supervision {
        rows: (0..count).collect(),
        targets: tried.iter().map(|token| *token as i64).collect(),
    };
    let hidden = top.downlink.hidden.expand(x.clone()).unsqueeze_dim(0);
    let mut grads = head.loss(hidden, &supervision).backward();
    let gradients = Matrix::of(take(&x, &mut grads) * count as f64);
    let distance = |row: usize| -> f32 {
        let both = gradients.row(row).iter().zip(came);
        both.map(|(a, b)| (a - b).powi(2)).sum()
    };
    let distances: Vec<f32> = (0..count).map(distance).collect();
    let nearest = (0..count).min_by(|a, b| distances[*a].total_cmp(&distances[*b]));
    let Some(nearest) = nearest else {
        return Said {
            guess,
            nearest: guess,
            likeliest: guess,
        };
    };
    let noise = (distances[nearest] / came.len().max(1) as f32).max(f32::MIN_POSITIVE);
    let likely = |row: usize| logits[tried[row]] - distances[row] / (2.0 * noise);
    let likeliest = (0..count).max_by(|a, b| likely(*a).total_cmp(&likely(*b)));
    Said {
        guess,
        nearest: tried[nearest],
        likeliest: tried[likeliest.unwrap_or(nearest)],
    }
}

fn most(values: &[f32]) -> usize {
    let best = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(token, _)| token)
}
