//! `member`: was this sample in training? By the loss that the trained model has on it, beside the losses of models that the
//! attacker trains itself.
//!
//! The score is the ratio of RMIA (Zarifzadeh, Liu and Shokri 2024): how likely the sample is to the model, over how likely it is
//! on average to reference models of which half had it in training. Its second step, a comparison with samples of the population,
//! orders samples in the same way and is left out.

use std::sync::Arc;

use qtl_data::Reader;
use qtl_model::parts::Parts;
use qtl_model::weights::Stream as Numbers;

use super::{Attack, Case, Found, Stream, unfit};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::finding::Finding;
use crate::reference::{Chosen, losses, trained};

/// Reference runs; each sample is in half of them.
const REFERENCES: usize = 4;
/// Steps from which the time of all is told.
const TIMED: u64 = 5;
/// False positives that are allowed, as a share.
const FALSE_POSITIVES: f64 = 0.01;

/// See the module.
pub struct Member;

impl Attack for Member {
    fn name(&self) -> &'static str {
        "member"
    }
    fn stream(&self) -> Stream {
        Stream::Members
    }
    fn needs(&self) -> &'static str {
        "the trained model, the public base, and samples of which half were in training (--members) and half were not (--data); \
         trains four models by the recipe and compares the losses of all"
    }
    fn is_blind(&self) -> bool {
        true
    }
    fn needs_members(&self) -> bool {
        true
    }
    fn weight(&self) -> f64 {
        16.0
    }

    fn run(&self, case: &Case<'_>, clock: &Clock<'_>) -> Result<Found, LeakageError> {
        let world = case.world;
        let (Some(members), Some(base)) = (world.members, world.base) else {
            return unfit(
                "give --members, samples that the model was trained on, and --base, the model that training started from",
            );
        };
        if world.recipe.split.top_at_client() {
            return unfit("the losses are the client's; an attack without them is not built");
        }
        let count = members.entries().len().min(case.seen.entries.len());
        if count < REFERENCES {
            return unfit(format!("{count} members and as many others are too few"));
        }
        let of = |reader: &Arc<Reader>| -> Vec<(Arc<Reader>, usize)> {
            (0..count).map(|i| (Arc::clone(reader), i)).collect()
        };
        let all = [of(members), of(world.victims)].concat();
        let target = losses(world.victim, world.recipe, &all)?;
        let mut known: Vec<Vec<Option<f64>>> = Vec::new();
        let inside = halves(all.len(), world.seed);
        for (run, inside) in inside.iter().enumerate() {
            let chosen = all.iter().zip(inside).filter(|(_, inside)| **inside);
            let mut samples: Vec<_> = chosen.map(|(sample, _)| sample.clone()).collect();
            // As many as the model was trained on, the others of the attacker's own.
            let more = members.entries().len().saturating_sub(samples.len());
            let others = (0..world.auxiliary.entries().len()).take(more);
            samples.extend(others.map(|sample| (Arc::clone(world.auxiliary), sample)));
            let mut recipe = world.recipe.clone();
            recipe.seed = world.recipe.seed.wrapping_add(1 + run as u64);
            let dir = tempfile::tempdir().map_err(LeakageError::file(&std::env::temp_dir()))?;
            let (own, mut minutes) = (clock.share(1.0), 0.0);
            let left = (REFERENCES - run) as f64;
            let place = (dir.path(), world.victim.server.device());
            let halves = trained(base, &recipe, Chosen::new(samples), place, |step| {
                if step == TIMED {
                    minutes =
                        left * own.seconds() / TIMED as f64 * recipe.train.steps as f64 / 60.0;
                }
                let fits = own
                    .left()
                    .is_none_or(|left| 60.0 * minutes <= left + own.seconds());
                fits && !clock.stopped()
            })?;
            let Some(halves) = halves else {
                return Err(LeakageError::Untrained(format!(
                    "{} reference runs of {} steps take about {minutes:.0} minutes, and its share of the time are {:.0}",
                    REFERENCES - run,
                    recipe.train.steps,
                    clock.left().map_or(0.0, |left| left / 60.0)
                )));
            };
            known.push(losses(&halves, world.recipe, &all)?);
        }
        let mut scores: [Vec<[f64; 2]>; 2] = [Vec::new(), Vec::new()];
        for (sample, own) in target.iter().enumerate() {
            let others: Option<Vec<f64>> = known.iter().map(|losses| losses[sample]).collect();
            if let (Some(own), Some(others)) = (own, others) {
                let likely = others.iter().map(|loss| (-loss).exp()).sum::<f64>();
                let mean = (likely / others.len() as f64).max(f64::MIN_POSITIVE);
                scores[usize::from(sample >= count)].push([-own - mean.ln(), -own]);
            }
        }
        let measured = |which: usize| {
            let [inside, outside] = &scores;
            let of = |scores: &[[f64; 2]]| scores.iter().map(|s| s[which]).collect::<Vec<_>>();
            told_apart(&of(inside), &of(outside))
        };
        let ([ratio, found], [loss, _], n) = (measured(0), measured(1), scores[0].len());
        Ok(Found::numbers(vec![
            Finding::new("AUC %", 100.0 * ratio, n),
            Finding::new("found at 1 % false alarms %", 100.0 * found, n),
            Finding::new("AUC by loss alone %", 100.0 * loss, n),
        ]))
    }
}

/// Which of so many samples are in which run: each in half of the runs.
fn halves(count: usize, seed: u64) -> Vec<Vec<bool>> {
    let mut numbers = Numbers::new(seed, "member");
    let half = |_| {
        let mut runs: Vec<usize> = (0..REFERENCES).collect();
        for chosen in 0..REFERENCES / 2 {
            let other = chosen + (numbers.bits() % (REFERENCES - chosen) as u64) as usize;
            runs.swap(chosen, other);
        }
        runs.truncate(REFERENCES / 2);
        runs
    };
    let of_samples: Vec<Vec<usize>> = (0..count).map(half).collect();
    let inside = |run| of_samples.iter().map(|runs| runs.contains(&run)).collect();
    (0..REFERENCES).map(inside).collect()
}

/// The share of pairs that scores order rightly, and the share of `inside` above all but one in a hundred of `outside`.
fn told_apart(inside: &[f64], outside: &[f64]) -> [f64; 2] {
    let mut falling = outside.to_vec();
    falling.sort_by(|a, b| b.total_cmp(a));
    let least = falling.get((FALSE_POSITIVES * outside.len() as f64) as usize);
    let found = inside
        .iter()
        .filter(|score| least.is_none_or(|least| *score > least));
    let pairs = inside
        .iter()
        .flat_map(|a| outside.iter().map(move |b| (a, b)));
    let right: f64 = pairs
        .map(|(a, b)| 0.5 * (f64::from(u8::from(a > b)) + f64::from(u8::from(a >= b))))
        .sum();
    let all = (inside.len() * outside.len()).max(1) as f64;
    [
        right / all,
        found.count() as f64 / inside.len().max(1) as f64,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_told_apart_as_defined() {
        let outside: Vec<f64> = (0..200).map(f64::from).collect();
        let [auc, found] = told_apart(&[197.0, 197.5, 300.0, 0.5], &outside);
        // One in a hundred of 200 may be above: 199 and 198.
        assert_eq!(found, 0.5);
        let by_hand = [197.5, 198.0, 200.0, 1.0].iter().sum::<f64>() / 800.0;
        assert!((auc - by_hand).abs() < 1e-9, "{auc} {by_hand}");
        assert_eq!(told_apart(&[1.0], &[1.0])[0], 0.5);
    }

    #[test]
    fn every_sample_is_in_half_of_the_runs() {
        let inside = halves(50, 1);
        for sample in 0..50 {
            let runs = inside.iter().filter(|run| run[sample]).count();
            assert_eq!(runs, REFERENCES / 2);
        }
        assert!(inside.iter().all(|run| run.iter().any(|inside| *inside)));
    }
}
