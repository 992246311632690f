//! Scorers: answers and truths into numbers, as each benchmark's official program computes them.
//!
//! A scorer knows no files: it is given truths with an id each and [`Answers`] by id. One file per scorer:
//!
//! | scorer | truth | headline |
//! |---|---|---|
//! | [`pope`] | yes or no, in categories | mean accuracy of the categories |
//! | [`vqav2`] | ten people's answers | leave-one-out accuracy |
//! | [`mme`] | yes or no, two per picture, in tasks | accuracy, accuracy+, perception, cognition |
//! | [`gqa`] | a word, with the kind of question | exact match, distribution |
//! | [`scienceqa`] | a letter | accuracy, pictured questions |
//! | [`textvqa`] | ten people's answers | leave-one-out accuracy |
//! | [`mmmu`] | a letter, or an open answer | accuracy by subject and discipline |
//! | [`mmvet`] | a judge's grades | mean grade |
//! | [`seedbench`] | a letter | accuracy |
//! | [`caption`] | a sentence | exact match, word F1 |
//!
//! Where programs in use read the same answer differently, a scorer names its conventions: `official` is the benchmark's
//! own program, `factory` is what TinyLLaVA Factory does before or instead of it, `lmms-eval` is that harness.

pub mod answers;
pub mod caption;
pub mod confusion;
pub mod gqa;
pub mod mmbench;
pub mod mme;
pub mod mmmu;
pub mod mmmu_parse;
pub mod mmvet;
pub mod normalise;
pub mod pope;
mod python;
pub mod scienceqa;
pub mod seedbench;
pub mod textvqa;
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
