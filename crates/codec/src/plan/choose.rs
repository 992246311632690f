//! Rules that pick one candidate.

use super::{Candidate, Model};

/// Levels of the quantizer that the paper measures first.
const TRIAL: u32 = 16;
/// Its width.
const TRIAL_WIDTH: f32 = 3.0;

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// The paper's: as many bits as the entropy of a 16-level quantizer at 3 deviations, rounded up to whole ones, and
    /// two levels to the power of them; the width stays at 3.
    Shannon,
    /// Least distortion at no more than so many bits per feature.
    Budget {
        /// Bits per feature, by the best model.
        bits: f64,
    },
    /// Fewest bits at no more than so much distortion.
    Tolerance {
        /// Mean squared error relative to the variance.
        mse: f64,
    },
}

/// The candidate that a rule picks; `None` if none fits it.
pub fn choose(candidates: &[Candidate], rule: Rule) -> Option<&Candidate> {
    let by = |value: fn(&Candidate) -> f64| {
        move |a: &&Candidate, b: &&Candidate| value(a).total_cmp(&value(b))
    };
    match rule {
        Rule::Shannon => {
            let closest = |levels: u32| {
                let of_levels = candidates
                    .iter()
                    .filter(move |c| c.levels == levels && c.centroids.is_none());
                of_levels.min_by(by(|c| f64::from((c.width - TRIAL_WIDTH).abs())))
            };
            let bits = closest(TRIAL)?.bits(Model::Order0)?.ceil().max(1.0);
            closest(1 << bits as u32)
        }
        Rule::Budget { bits } => candidates
            .iter()
            .filter(|c| c.best().1 <= bits)
            .min_by(by(|c| c.distortion.mse)),
        Rule::Tolerance { mse } => candidates
            .iter()
            .filter(|c| c.distortion.mse <= mse)
            .min_by(by(|c| c.best().1)),
    }
}

/// The candidates that no other one beats in both rate and distortion, by rising rate.
pub fn frontier(candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut sorted: Vec<&Candidate> = candidates.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |c: &Candidate| (c.best().1, c.distortion.mse);
        let ((ra, da), (rb, db)) = (key(a), key(b));
        ra.total_cmp(&rb).then(da.total_cmp(&db))
    });
    let mut least = f64::INFINITY;
    sorted.retain(|candidate| {
        let better = candidate.distortion.mse < least;
        least = least.min(candidate.distortion.mse);
        better
    });
    sorted
}
