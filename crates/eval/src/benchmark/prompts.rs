//! What is added to questions so that answers are short enough to be scored: LLaVA's sentences, on which models of its
//! family are trained. Question files in LLaVA's layout have them already.

/// For an answer of a word or two.
pub const SHORT: &str = "Answer the question using a single word or phrase.";

/// For the letter of a choice.
pub const LETTER: &str = "Answer with the option's letter from the given choices directly.";

/// A question with a sentence in the line below it.
pub fn with(question: &str, sentence: &str) -> String {
    format!("{question}\n{sentence}")
}

/// What is on the lines of a text without the sentence that asks for a word or phrase.
pub fn without_short(text: &str) -> &str {
    text.strip_suffix(SHORT)
        .map_or(text, |rest| rest.trim_end_matches('\n'))
}

/// Tokens of an answer at most, as the reference's scripts have it: a word or phrase.
pub const WORDS: usize = 128;

/// Tokens of an answer at most where sentences may be said.
pub const SENTENCES: usize = 1024;

/// Tokens of an answer at most in the forms that generated scenes are asked in.
pub const SCENES: usize = 32;
