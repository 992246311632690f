//! A tokenizer with a token for the picture, which plain programs have in place of TinyLLaVA's -200.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::TrainError;
use crate::merge::read_json;

/// The text of that token.
pub(super) const IMAGE: &str = "<image>";

/// A model's tokenizer files with the token.
pub(super) struct WithImage {
    /// `tokenizer.json`.
    pub definition: Value,
    /// `tokenizer_config.json`.
    pub config: Value,
    /// The token's id.
    pub id: usize,
}

/// Reads the tokenizer in `dir` and gives it the token, unless it has one.
///
/// # Errors
///
/// [`TrainError`] naming the file.
pub(super) fn with_image(dir: &Path) -> Result<WithImage, TrainError> {
    let file = dir.join("tokenizer.json");
    if !file.is_file() {
        return Err(TrainError::Halves(format!(
            "{} has no tokenizer.json, which is needed for the picture's token; write one with \
             transformers.AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
            dir.display()
        )));
    }
    let mut definition = read_json(&file)?;
    let config = dir.join("tokenizer_config.json");
    let mut config = if config.is_file() {
        read_json(&config)?
    } else {
        json!({})
    };
    let damaged = || TrainError::Halves(format!("{} is no tokenizer", file.display()));
    let id = |token: &Value| token["id"].as_u64();
    let added = definition["added_tokens"].as_array().cloned();
    let mut added = added.unwrap_or_default();
    let known = added.iter().find(|token| token["content"] == IMAGE);
    let number = match known {
        Some(token) => id(token).ok_or_else(damaged)?,
        None => {
            // A word of that name stays what it is; a token that stands alone takes its id.
            let vocabulary = &definition["model"]["vocab"];
            let word = vocabulary[IMAGE].as_u64();
            let words = vocabulary.as_object().map(|words| {
                let ids = words.values().filter_map(Value::as_u64);
                ids.max()
            });
            // Unigram models list their pieces.
            let pieces = vocabulary.as_array().map(|pieces| pieces.len() as u64);
            let last = words
                .flatten()
                .or(pieces.map(|count| count.saturating_sub(1)));
            let last = added.iter().filter_map(id).chain(last).max();
            let number = word.or(last.map(|last| last + 1)).ok_or_else(damaged)?;
            let mut token = json!({
                "content": IMAGE, "lstrip": false, "normalized": false, "rstrip": false,
                "single_word": false, "special": true,
            });
            if let Some(Value::Object(decoder)) = config.get_mut("added_tokens_decoder") {
                decoder.insert(number.to_string(), token.clone());
            }
            token["id"] = json!(number);
            added.push(token);
            number
        }
    };
    definition["added_tokens"] = Value::Array(added);
    config["image_token"] = json!(IMAGE);
    config["processor_class"] = json!("LlavaProcessor");
    Ok(WithImage {
        definition,
        config,
        id: usize::try_from(number).map_err(|_| damaged())?,
    })
}
