//! Captions: exact match and word F1 against one true sentence.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Answers, percent};

/// The true caption of one picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// Question id.
    pub id: String,
    /// The sentence.
    pub caption: String,
}

/// The result over all captions, in per cent. A missing answer counts as an empty one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaptionScore {
    /// Captions that are the true one; see [`is_exact`].
    pub exact: f64,
    /// Mean of [`word_f1`].
    pub f1: f64,
    /// Captions asked for.
    pub captions: usize,
    /// Captions without an answer.
    pub missing: usize,
}

/// Whether two sentences have the same words and marks in the same order. Upper or lower case and the
/// blanks around marks do not count: a word-level tokenizer decodes "a key ." where the truth is "a key.".
pub fn is_exact(answer: &str, truth: &str) -> bool {
    tokens(answer) == tokens(truth)
}

/// Harmonic mean, in 0..=1, of the share of the answer's words found in the truth and of the truth's words
/// found in the answer, as multisets (the F1 of SQuAD); marks are not words.
pub fn word_f1(answer: &str, truth: &str) -> f64 {
    let words = |text: &str| {
        let mut words = tokens(text);
        words.retain(|token| token.starts_with(char::is_alphanumeric));
        words
    };
    let (answer, truth) = (words(answer), words(truth));
    if answer.is_empty() || truth.is_empty() {
        return f64::from(u8::from(answer.is_empty() && truth.is_empty()));
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in &truth {
        *left.entry(word).or_default() += 1;
    }
    let mut common = 0usize;
    for word in &answer {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    // 2PR/(P+R) with P = common/answer and R = common/truth.
    2.0 * common as f64 / (answer.len() + truth.len()) as f64
}

/// Scores the answers to some captions.
pub fn score(truths: &[Truth], answers: &Answers) -> CaptionScore {
    let (mut exact, mut f1, mut missing) = (0usize, 0.0, 0usize);
    for truth in truths {
        let answer = answers.get(&truth.id).unwrap_or_else(|| {
            missing += 1;
            ""
        });
        exact += usize::from(is_exact(answer, &truth.caption));
        f1 += word_f1(answer, &truth.caption);
    }
    let captions = truths.len();
    CaptionScore {
        exact: percent(exact as f64, captions as f64),
        f1: percent(f1, captions as f64),
        captions,
        missing,
    }
}

/// Runs of letters and digits, and single other marks, in lower case.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in text.to_lowercase().chars() {
        let word = c.is_alphanumeric();
        match tokens.last_mut() {
            Some(last) if word && in_word => last.push(c),
            _ if !c.is_whitespace() => tokens.push(c.to_string()),
            _ => {}
        }
        in_word = word;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stand_apart_and_order_counts() {
        assert!(is_exact("A lemon and a crab .", "a lemon and a crab."));
        assert!(!is_exact("a crab and a lemon.", "a lemon and a crab."));
        assert!(!is_exact("a lemon and a crab", "a lemon and a crab."));
        assert_eq!(word_f1("a crab and a lemon", "a lemon and a crab."), 1.0);
    }

    #[test]
    fn repeated_words_count_as_often_as_both_have_them() {
        // Common: a, rose. 2 * 2 / (4 + 2).
        assert!((word_f1("a a a rose", "a rose.") - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(word_f1("", "a rose."), 0.0);
        assert_eq!(word_f1("", "."), 1.0);
    }

    #[test]
    fn a_missing_answer_is_counted_and_wrong() {
        let truths = ["1", "2"].map(|id| Truth {
            id: id.into(),
            caption: "an egg.".into(),
        });
        let score = score(&truths, &[("1", "an egg.")].into_iter().collect());
        assert_eq!(
            score,
            CaptionScore {
                exact: 50.0,
                f1: 50.0,
                captions: 2,
                missing: 1
            }
        );
    }
}
