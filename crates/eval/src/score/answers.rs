//! What a model answered, by question id.

use std::collections::HashMap;

use serde::Deserialize;

/// Answers by question id. A repeated id keeps the last answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers(HashMap<String, String>);

impl Answers {
    /// The answer to a question, if there is one.
    pub fn get(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(String::as_str)
    }

    /// Number of answered questions.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was answered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Answers {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(id, text)| (id.into(), text.into()))
                .collect(),
        )
    }
}

/// One line of an answers file in LLaVA's layout.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Record {
    /// A number or a text in the file, a text here.
    #[serde(deserialize_with = "number_or_text")]
    pub question_id: String,
    /// The question as it was asked; empty where the file leaves it out.
    #[serde(default)]
    pub prompt: String,
    /// The answer.
    pub text: String,
}

/// Reads an answers file (one JSON object per line) into its records and the numbers, counted from 1, of
/// the lines that cannot be read. Such lines are reported and not an error: a file whose writer was
/// interrupted ends in half a line, and the official conversion skips it too.
pub fn read_jsonl(text: &str) -> (Vec<Record>, Vec<usize>) {
    let (mut records, mut unreadable) = (Vec::new(), Vec::new());
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(_) => unreadable.push(index + 1),
        }
    }
    (records, unreadable)
}

/// Ids are numbers in most benchmarks and texts in some.
pub(crate) fn number_or_text<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(u64),
        Text(String),
    }
    Ok(match Id::deserialize(deserializer)? {
        Id::Number(number) => number.to_string(),
        Id::Text(text) => text,
    })
}

/// A number, which some files write as a text.
pub(crate) fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = number_or_text(deserializer)?;
    text.parse()
        .map_err(|_| serde::de::Error::custom(format!("`{text}` is not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_is_reported_and_the_last_answer_wins() {
        let text = "{\"question_id\": 1, \"text\": \"a\"}\n\n{\"question_id\": 2, \"te\n{\"question_id\": \"1\", \"text\": \"b\"}\n";
        let (records, unreadable) = read_jsonl(text);
        assert_eq!(unreadable, [3]);
        let answers: Answers = records
            .into_iter()
            .map(|r| (r.question_id, r.text))
            .collect();
        assert_eq!(
            (answers.len(), answers.get("1"), answers.get("2")),
            (1, Some("b"), None)
        );
    }
}
