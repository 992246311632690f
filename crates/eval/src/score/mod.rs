//! Scorers: answers and truths into numbers, as each benchmark's official program computes them.
//!
//! A scorer knows no files: it is given truths with an id each and [`Answers`] by id. One file per scorer:
//!
//! | scorer | truth | headline |
//! |---|---|---|
//! | [`pope`] | yes or no, in categories | mean accuracy of the categories |
//! | [`vqav2`] | ten people's answers | leave-one-out accuracy |
//! | [`mme`] | yes or no, two per picture, in tasks | accuracy, accuracy+, perception, cognition |
//! | [`caption`] | a sentence | exact match, word F1 |

pub mod answers;
pub mod caption;
pub mod confusion;
pub mod mme;
pub mod normalise;
pub mod pope;
pub mod vqav2;

pub use answers::Answers;
pub use confusion::Confusion;

/// `part` of `whole` in per cent; 0 of 0 is 0.
pub(crate) fn percent(part: f64, whole: f64) -> f64 {
    if whole == 0.0 {
        0.0
    } else {
        100.0 * part / whole
    }
}

/// The mean of some per cents; 0 for none.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for value in values {
        sum += value;
        count += 1;
    }
    if count == 0 { 0.0 } else { sum / count as f64 }
}
