//! Two models on the same questions: the difference with an interval, from a paired bootstrap over pictures.
//!
//! Questions about one picture are not independent, so whole pictures are drawn, with all their questions; both models are
//! judged on the same draws.

use std::collections::BTreeMap;

use qtl_data::scenes::SplitMix64;

use crate::EvalError;
use crate::benchmark::Suite;

/// Draws.
const DRAWS: usize = 10_000;

/// The seed of the draws: the same answers give the same interval.
const SEED: u64 = 20_231_123;

/// The difference of two models on one benchmark, in per cents of the questions' worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The benchmark's form.
    pub form: &'static str,
    /// Pictures with a question of it; a question without a picture counts as one.
    pub pictures: usize,
    /// Questions.
    pub questions: usize,
    /// Mean worth of the first model's answers.
    pub first: f64,
    /// Mean worth of the second's.
    pub second: f64,
    /// The middle 95 % of the differences, second less first, over the draws.
    pub interval: (f64, f64),
}

impl Difference {
    /// Second less first.
    pub fn difference(&self) -> f64 {
        self.second - self.first
    }

    /// Whether the interval has no zero in it.
    pub fn is_clear(&self) -> bool {
        self.interval.0 > 0.0 || self.interval.1 < 0.0
    }
}

/// What one picture's questions of a form are worth, by either model.
#[derive(Clone, Copy, Default)]
struct Worth {
    questions: f64,
    first: f64,
    second: f64,
}

/// Compares two lists of answers to a suite.
///
/// # Errors
/// Another number of answers than questions.
pub fn compare(
    suite: &Suite,
    first: &[Option<String>],
    second: &[Option<String>],
) -> Result<Vec<Difference>, EvalError> {
    let (first, second) = (suite.credits(first)?, suite.credits(second)?);
    let mut forms: BTreeMap<&'static str, Vec<Worth>> = BTreeMap::new();
    let mut at = 0;
    for questions in suite.pictures() {
        // Questions about nothing have nothing in common.
        let together = questions
            .first()
            .is_some_and(|question| !question.pictures.is_empty());
        let mut seen: BTreeMap<&'static str, Worth> = BTreeMap::new();
        for question in questions {
            let worth = seen.entry(question.form).or_default();
            worth.questions += 1.0;
            worth.first += first[at];
            worth.second += second[at];
            at += 1;
            if !together {
                forms
                    .entry(question.form)
                    .or_default()
                    .extend(seen.remove(question.form));
            }
        }
        for (form, worth) in seen {
            forms.entry(form).or_default().push(worth);
        }
    }
    Ok(forms
        .into_iter()
        .map(|(form, pictures)| difference(form, &pictures))
        .collect())
}

fn difference(form: &'static str, pictures: &[Worth]) -> Difference {
    let sum = |all: &mut dyn Iterator<Item = Worth>| {
        all.fold(Worth::default(), |a, b| Worth {
            questions: a.questions + b.questions,
            first: a.first + b.first,
            second: a.second + b.second,
        })
    };
    let all = sum(&mut pictures.iter().copied());
    let mut random = SplitMix64::new(SEED);
    let mut drawn: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let draw = |_| pictures[random.below(pictures.len() as u32) as usize];
            let drawn = sum(&mut (0..pictures.len()).map(draw));
            100.0 * (drawn.second - drawn.first) / drawn.questions
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn[((DRAWS - 1) as f64 * share).round() as usize];
    Difference {
        form,
        pictures: pictures.len(),
        questions: all.questions as usize,
        first: 100.0 * all.first / all.questions,
        second: 100.0 * all.second / all.questions,
        interval: (at(0.025), at(0.975)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pictures` pictures with `each` questions, of which the second model answers the first `better` pictures' rightly.
    fn worths(pictures: usize, each: f64, better: usize) -> Vec<Worth> {
        let worth = |picture| Worth {
            questions: each,
            first: 0.0,
            second: if picture < better { each } else { 0.0 },
        };
        (0..pictures).map(worth).collect()
    }

    #[test]
    fn the_interval_is_that_of_the_pictures_not_of_the_questions() {
        // 10 of 100 pictures: a binomial share of 0.1 +- 1.96 * 0.03.
        let few = difference("pope", &worths(100, 1.0, 10));
        assert_eq!((few.first, few.second, few.difference()), (0.0, 10.0, 10.0));
        assert!(
            (few.interval.0 - 5.0).abs() <= 1.0 && (few.interval.1 - 16.0).abs() <= 1.0,
            "{few:?}"
        );
        // Twelve questions a picture are no twelve times as much evidence.
        assert_eq!(
            difference("pope", &worths(100, 12.0, 10)).interval,
            few.interval
        );
        assert!(few.is_clear() && !difference("pope", &worths(100, 1.0, 1)).is_clear());
    }

    #[test]
    fn equal_models_differ_by_nothing() {
        let same = difference("mme", &worths(5, 2.0, 0));
        assert_eq!((same.difference(), same.interval), (0.0, (0.0, 0.0)));
    }
}
