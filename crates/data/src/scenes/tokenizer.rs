//! The closed word vocabulary of the scenes as Hugging Face tokenizer files.
//!
//! A token is a run of ASCII letters or one of `. , ?`; everything else separates tokens and is dropped. Ids are the
//! line numbers of the vocabulary from 0: `<pad>` 0, `<image>` 1, `<bos>` 2, `<eos>` 3, then the marks and words in
//! byte order. There is no unknown token: encoding a word outside the vocabulary is an error, since no answer to it
//! could mean anything. No special token is added while encoding; an answer ends with `<eos>` by the template's doing.
//!
//! Decoding joins tokens with one blank and then removes the blank before `.`, `,` and `?`, which gives back every
//! question and answer exactly.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::SceneError;
use super::stage::{sync_folder, write_synced};
use super::write::indented;

static VOCABULARY: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    include_str!("../../assets/emoji-vqa/vocab.txt")
        .lines()
        .collect()
});

/// How many entries at the start of the vocabulary are special tokens.
const SPECIAL: usize = 4;

/// The vocabulary: the token of id `i` stands at place `i`.
pub fn vocabulary() -> &'static [&'static str] {
    &VOCABULARY
}

/// The three files of a Hugging Face tokenizer folder, as text.
#[derive(Clone, Debug)]
pub struct TokenizerFiles {
    /// `tokenizer.json`: a WordLevel model.
    pub tokenizer: String,
    /// `tokenizer_config.json`.
    pub config: String,
    /// `special_tokens_map.json`.
    pub special_tokens_map: String,
}

impl TokenizerFiles {
    /// Makes the files from the vocabulary.
    pub fn new() -> TokenizerFiles {
        Self::filled(0)
    }

    /// The same with at least `tokens` entries: those beyond the vocabulary are never met in a text. For a model with a
    /// larger embedding.
    pub fn filled(tokens: usize) -> TokenizerFiles {
        let text = |value| String::from_utf8_lossy(&indented(&value)).into_owned();
        let (tokenizer, config, special_tokens_map) =
            (tokenizer(tokens), config(), special_tokens());
        TokenizerFiles {
            tokenizer: text(tokenizer),
            config: text(config),
            special_tokens_map: text(special_tokens_map.into()),
        }
    }
}

impl Default for TokenizerFiles {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes `tokenizer.json` with at least so many tokens (see [`TokenizerFiles::filled`]), `tokenizer_config.json` and
/// `special_tokens_map.json` into `dir`, which is made if it does not exist. Each file is written beside its place and renamed; files of these names are replaced.
///
/// # Errors
/// [`SceneError::Io`] naming the file that could not be written.
pub fn write_tokenizer(dir: &Path, tokens: usize) -> Result<(), SceneError> {
    fs::create_dir_all(dir).map_err(SceneError::io("create", dir))?;
    let files = TokenizerFiles::filled(tokens);
    for (name, text) in [
        ("tokenizer.json", files.tokenizer),
        ("tokenizer_config.json", files.config),
        ("special_tokens_map.json", files.special_tokens_map),
    ] {
        let (beside, path) = (dir.join(format!(".{name}.partial")), dir.join(name));
        write_synced(&beside, text.as_bytes())?;
        fs::rename(&beside, &path).map_err(SceneError::io("rename to", &path))?;
    }
    sync_folder(dir)
}

fn tokenizer(tokens: usize) -> Value {
    let words = vocabulary().iter().map(ToString::to_string);
    let unused = (vocabulary().len()..tokens).map(|id| format!("<unused{id}>"));
    let vocabulary: Map<_, _> = (0_u32..)
        .zip(words.chain(unused))
        .map(|(id, word)| (word, id.into()))
        .collect();
    let special: Vec<_> = (0..SPECIAL)
        .map(|id| {
            let mut token = flags(id);
            token.insert("id".to_owned(), id.into());
            token
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special,
        "normalizer": null,
        // Inverted: what the pattern does not match is the separator, and is removed.
        "pre_tokenizer": {
            "type": "Split",
            "pattern": { "Regex": "[A-Za-z]+|[.,?]" },
            "behavior": "Removed",
            "invert": true,
        },
        "post_processor": null,
        // Its clean-up is what removes the blank before a mark; no word starts with the prefix.
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        // The model's format needs a name here; it is not in the vocabulary, so unknown words are errors.
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" },
    })
}

fn config() -> Value {
    let added: Map<_, _> = (0..SPECIAL)
        .map(|id| (id.to_string(), flags(id).into()))
        .collect();
    let mut config = special_tokens();
    config.insert("added_tokens_decoder".to_owned(), added.into());
    config.insert("clean_up_tokenization_spaces".to_owned(), false.into());
    config.insert("padding_side".to_owned(), "right".into());
    config.insert(
        "tokenizer_class".to_owned(),
        "PreTrainedTokenizerFast".into(),
    );
    config.into()
}

fn special_tokens() -> Map<String, Value> {
    let [pad, image, bos, eos] = [0, 1, 2, 3].map(|id| vocabulary()[id]);
    let map = json!({ "additional_special_tokens": [image], "bos_token": bos, "eos_token": eos, "pad_token": pad });
    map.as_object().cloned().unwrap_or_default()
}

/// A special token matches its exact text anywhere.
fn flags(id: usize) -> Map<String, Value> {
    let flags = json!({
        "content": vocabulary()[id],
        "lstrip": false,
        "normalized": false,
        "rstrip": false,
        "single_word": false,
        "special": true,
    });
    flags.as_object().cloned().unwrap_or_default()
}
