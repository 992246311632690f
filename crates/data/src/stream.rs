//! Generated ids into text while they come.

use crate::error::DataError;
use crate::tokenizer::Tokenizer;

/// The answer so far. What has been given out never changes again: a character that takes several tokens waits until it is
/// whole, white space until something follows it.
#[derive(Debug)]
pub struct AnswerStream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    given: String,
}

impl<'a> AnswerStream<'a> {
    /// An answer without a token yet.
    #[must_use]
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            ids: Vec::new(),
            given: String::new(),
        }
    }

    /// One token more: the text that has become certain with it, often one word, sometimes none.
    ///
    /// # Errors
    /// As [`Tokenizer::answer`].
    pub fn push(&mut self, id: u32) -> Result<String, DataError> {
        self.ids.push(id);
        let text = self.tokenizer.answer(&self.ids)?;
        // A byte-level decoder writes the replacement character for the bytes of a character that is not whole.
        let mut certain = text.trim_end_matches('\u{fffd}').trim_end();
        if self.tokenizer.cleans_up() {
            // The blank in front of the last word may yet be taken out.
            certain = certain.rsplit_once(' ').map_or("", |(whole, _)| whole);
        }
        Ok(self.give(certain))
    }

    /// The rest of the text, when no more tokens come.
    ///
    /// # Errors
    /// As [`Tokenizer::answer`].
    pub fn end(&mut self) -> Result<String, DataError> {
        let text = self.tokenizer.answer(&self.ids)?;
        if !text.starts_with(&self.given) {
            // Byte tokens were decoded otherwise once more followed that make no characters. What has been given out stays;
            // the rest begins where the two part.
            let same = self.given.chars().zip(text.chars());
            let same = same.take_while(|(given, new)| given == new);
            let rest: String = text.chars().skip(same.count()).collect();
            self.given.push_str(&rest);
            return Ok(rest);
        }
        Ok(self.give(&text))
    }

    /// All that has been given out.
    #[must_use]
    pub fn given(&self) -> &str {
        &self.given
    }

    fn give(&mut self, certain: &str) -> String {
        let new = certain.strip_prefix(self.given.as_str());
        let new = new.unwrap_or_default().to_owned();
        self.given.push_str(&new);
        new
    }
}
