//! Hugging Face tokenizers, encoding as the reference's slow (SentencePiece) tokenizers do.

use std::borrow::Cow;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::DataError;
use crate::example::PLACEHOLDER;
use crate::template::IMAGE_TAG;
use crate::text::without_mark;

/// SentencePiece's stand-in for a blank.
const BLANK: char = '\u{2581}';

/// What a literal of a special token is called where no configuration names it.
const CUSTOMARY: [(&str, &[&str]); 4] = [
    ("bos_token", &["<bos>", "<s>"]),
    ("eos_token", &["<eos>", "</s>"]),
    ("pad_token", &["<pad>"]),
    ("unk_token", &["<unk>", "[UNK]"]),
];

/// A tokenizer with its special ids.
#[derive(Debug)]
pub struct Tokenizer {
    name: String,
    inner: tokenizers::Tokenizer,
    bos: Option<i64>,
    eos: Option<i64>,
    pad: Option<i64>,
    unk: Option<i64>,
    legacy: Option<bool>,
    puts_bos: bool,
    cleans_up: bool,
    /// The texts of the special tokens.
    special: Vec<String>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, where they exist, `tokenizer_config.json` and `special_tokens_map.json` of a folder;
    /// or a `tokenizer.json` with its neighbours.
    ///
    /// # Errors
    /// A file cannot be read or understood.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = if path.is_dir() {
            path.join("tokenizer.json")
        } else {
            path.to_path_buf()
        };
        let bytes = std::fs::read(&file).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => DataError::Tokenizer {
                name: path.display().to_string(),
                problem: format!("there is no {}", file.display()),
                cure: "put the tokenizer.json that belongs to the model there; AutoTokenizer's save_pretrained writes it",
            },
            _ => DataError::Read {
                path: file.clone(),
                source,
            },
        })?;
        let beside = |name: &str| {
            let path = file.with_file_name(name);
            match std::fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(DataError::Read { path, source }),
            }
        };
        let (config, map) = (
            beside("tokenizer_config.json")?,
            beside("special_tokens_map.json")?,
        );
        Self::from_json(
            &file.display().to_string(),
            &bytes,
            config.as_deref(),
            map.as_deref(),
        )
    }

    /// The same from memory: `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`. `name` is what errors
    /// call it.
    ///
    /// Special ids are the ones the configuration names; without one, the customary literals (`<bos>`, `<eos>`, ...).
    /// As in the reference, padding is the unknown token wherever there is one.
    ///
    /// With `legacy: false` in a Llama configuration, SentencePiece puts its leading blank once, at the very start, while
    /// `tokenizer.json` does so after every special token; its normaliser is then replaced. See [`Self::encode`].
    ///
    /// # Errors
    /// Not JSON, or not a tokenizer.
    pub fn from_json(
        name: &str,
        tokenizer: &[u8],
        config: Option<&[u8]>,
        special_tokens_map: Option<&[u8]>,
    ) -> Result<Self, DataError> {
        let parse = |bytes: &[u8]| {
            serde_json::from_slice::<Value>(without_mark(bytes)).map_err(|e| DataError::Tokenizer {
                name: name.to_owned(),
                problem: format!("a file is not JSON: {e}"),
                cure: "fetch the tokenizer's files again",
            })
        };
        let mut definition = parse(tokenizer)?;
        let config = config.map(parse).transpose()?;
        let map = special_tokens_map.map(parse).transpose()?;

        let legacy = legacy(&definition, config.as_ref());
        if legacy == Some(false) {
            drop_leading_blank(&mut definition);
        }
        let mut inner: tokenizers::Tokenizer =
            serde_json::from_value(definition).map_err(|e| DataError::Tokenizer {
                name: name.to_owned(),
                problem: format!("tokenizer.json: {e}"),
                cure: "use a tokenizer.json written by the tokenizers library",
            })?;
        inner.with_padding(None);
        // Removing truncation cannot fail; the result only exists for settings that contradict each other.
        let _ = inner.with_truncation(None);

        let special = |key: &str| {
            let named = [config.as_ref(), map.as_ref()]
                .into_iter()
                .flatten()
                .find_map(|v| literal(v.get(key)?));
            match named {
                Some(text) => inner.token_to_id(text),
                None if config.is_some() || map.is_some() => None,
                None => CUSTOMARY
                    .iter()
                    .find(|(k, _)| *k == key)?
                    .1
                    .iter()
                    .find_map(|t| inner.token_to_id(t)),
            }
            .map(i64::from)
        };
        let (bos, eos, pad, unk) = (
            special("bos_token"),
            special("eos_token"),
            special("pad_token"),
            special("unk_token"),
        );
        let flag = |key: &str| {
            config
                .as_ref()
                .and_then(|c| c.get(key))
                .and_then(Value::as_bool)
        };
        let begins = inner
            .encode("", true)
            .ok()
            .and_then(|e| e.get_ids().first().copied())
            .map(i64::from);
        // It only puts BOS and the like, which is done here, and some shift what `encode_places` gives.
        inner.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        let puts_bos = bos.is_some() && flag("add_bos_token").unwrap_or(begins == bos);
        let added = inner.get_added_tokens_decoder();
        let special = added.values().filter(|token| token.special);
        let mut special: Vec<String> = special.map(|token| token.content.clone()).collect();
        special.sort();
        Ok(Self {
            name: name.to_owned(),
            special,
            inner,
            bos,
            eos,
            pad: unk.or(pad),
            unk: unk.or(pad),
            legacy,
            puts_bos,
            cleans_up: flag("clean_up_tokenization_spaces").unwrap_or(false),
        })
    }

    /// Ids of a text, with BOS in front if this tokenizer puts one. Special tokens written out in the text are recognised.
    ///
    /// # Errors
    /// The text holds something the vocabulary has no token for (only word-level models without an unknown token).
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, DataError> {
        let mut ids: Vec<i64> = self.leading_bos().into_iter().collect();
        ids.extend(self.encode_bare(text)?);
        Ok(ids)
    }

    /// Ids of a text, without BOS.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_bare(&self, text: &str) -> Result<Vec<i64>, DataError> {
        if self.legacy != Some(false) {
            return self.ids(text);
        }
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut ids = self.ids(&marked(text))?;
        if self.lone_blank(&ids) {
            ids.remove(0);
        }
        Ok(ids)
    }

    /// A text that begins with a special token gets no blank in front of it.
    fn lone_blank(&self, ids: &[i64]) -> bool {
        let blank = self.inner.token_to_id("\u{2581}").map(i64::from);
        matches!(ids, [first, second, ..] if blank == Some(*first) && self.is_special(*second))
    }

    /// As [`Self::encode_bare`], with the place in `text` where each token begins, in bytes.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub(crate) fn encode_places(&self, text: &str) -> Result<Vec<(i64, usize)>, DataError> {
        let (marks, from) = if self.legacy == Some(false) && !text.is_empty() {
            (Cow::Owned(marked(text)), BLANK.len_utf8())
        } else {
            (Cow::Borrowed(text), 0)
        };
        let encoding = self.inner.encode(&*marks, false);
        let encoding = encoding.map_err(|error| self.cannot_encode(text, &error))?;
        // The marked text is shorter wherever the stand-in for a blank has become one.
        let mut stands = text.match_indices(BLANK).map(|(at, _)| at).peekable();
        let mut shorter = 0;
        let places = encoding.get_offsets().iter().map(|&(start, _)| {
            let start = start.saturating_sub(from);
            while from > 0 && stands.next_if(|&at| at - shorter < start).is_some() {
                shorter += BLANK.len_utf8() - 1;
            }
            start + shorter
        });
        let ids: Vec<i64> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        let skip = usize::from(from > 0 && self.lone_blank(&ids));
        Ok(ids.into_iter().zip(places).skip(skip).collect())
    }

    /// The first special token that is written out in a text, the tag of a picture aside.
    pub(crate) fn special_in(&self, text: &str) -> Option<&str> {
        let marks = self.special.iter().map(String::as_str);
        let mut marks = marks.filter(|mark| !mark.is_empty() && *mark != IMAGE_TAG);
        marks.find(|mark| text.contains(mark))
    }

    fn cannot_encode(&self, text: &str, error: &tokenizers::Error) -> DataError {
        let start: String = text.chars().take(60).collect();
        DataError::Tokenizer {
            name: self.name.clone(),
            problem: format!("cannot encode {start:?}: {error}"),
            cure: "give the tokenizer an unknown token, or keep to its vocabulary",
        }
    }

    fn ids(&self, text: &str) -> Result<Vec<i64>, DataError> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| self.cannot_encode(text, &error))?;
        Ok(encoding.get_ids().iter().copied().map(i64::from).collect())
    }

    /// Ids of a prompt whose `<image>` tags become [`PLACEHOLDER`]. The pieces between the tags are encoded alone, so
    /// each has its own leading blank with SentencePiece; one BOS stays, at the start.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<i64>, DataError> {
        let mut pieces = prompt.split(IMAGE_TAG);
        let mut ids = self.encode(pieces.next().unwrap_or_default())?;
        // The reference cuts as many ids off later pieces as the first has BOS, also a BOS that was written out.
        let cut = usize::from(self.bos.is_some() && ids.first().copied() == self.bos);
        for piece in pieces {
            ids.push(PLACEHOLDER);
            ids.extend(self.encode(piece)?.into_iter().skip(cut));
        }
        Ok(ids)
    }

    /// What ids say, special tokens included.
    ///
    /// # Errors
    /// The tokenizer's decoder refuses.
    pub fn text(&self, ids: &[u32]) -> Result<String, DataError> {
        self.decode(ids, false)
    }

    /// What generated ids say: special tokens left out, white space trimmed at both ends.
    ///
    /// # Errors
    /// The tokenizer's decoder refuses.
    pub fn answer(&self, ids: &[u32]) -> Result<String, DataError> {
        let text = self.decode(ids, true)?;
        let text = if self.cleans_up { clean_up(text) } else { text };
        Ok(text.trim().to_owned())
    }

    fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, DataError> {
        let text = self.inner.decode(ids, skip_special);
        text.map_err(|e| DataError::Tokenizer {
            name: self.name.clone(),
            problem: format!("cannot decode: {e}"),
            cure: "check that model and tokenizer belong together",
        })
    }

    /// Where it came from.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Id of the begin-of-text token.
    #[must_use]
    pub fn bos(&self) -> Option<i64> {
        self.bos
    }

    /// The id that every encoding begins with.
    #[must_use]
    pub fn leading_bos(&self) -> Option<i64> {
        self.bos.filter(|_| self.puts_bos)
    }

    /// Id of the end-of-text token.
    #[must_use]
    pub fn eos(&self) -> Option<i64> {
        self.eos
    }

    /// Id used for padding: the unknown token where there is one.
    #[must_use]
    pub fn pad(&self) -> Option<i64> {
        self.pad
    }

    /// Id of the unknown token.
    #[must_use]
    pub fn unk(&self) -> Option<i64> {
        self.unk
    }

    /// Llama's `legacy` switch; `None` for tokenizers of other families.
    #[must_use]
    pub fn legacy(&self) -> Option<bool> {
        self.legacy
    }

    /// Rows that an embedding needs: one more than the highest id, added tokens included.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        let ids = self.inner.get_vocab(true).into_values();
        ids.max().map_or(0, |id| id as usize + 1)
    }

    /// The special token that a text begins with, blanks and line breaks aside.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn leading_special(&self, text: &str) -> Result<Option<i64>, DataError> {
        let first = self.encode_bare(text.trim_start())?.first().copied();
        Ok(first.filter(|id| self.is_special(*id)))
    }

    /// Whether what generated ids say may still change in its last word when more come.
    pub(crate) fn cleans_up(&self) -> bool {
        self.cleans_up
    }

    pub(crate) fn is_special(&self, id: i64) -> bool {
        let token = u32::try_from(id)
            .ok()
            .and_then(|id| self.inner.get_added_tokens_decoder().get(&id).cloned());
        token.is_some_and(|token| token.special)
    }
}

/// SentencePiece's text: a blank in front, and stand-ins for blanks only where blanks are.
fn marked(text: &str) -> String {
    let mut marked = String::with_capacity(text.len() + BLANK.len_utf8());
    marked.push(BLANK);
    marked.extend(text.chars().map(|c| if c == BLANK { ' ' } else { c }));
    marked
}

/// A special token is named by its text or by an object that holds it.
fn literal(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn legacy(definition: &Value, config: Option<&Value>) -> Option<bool> {
    let pre = &definition["pre_tokenizer"];
    let steps = pre["pretokenizers"].as_array();
    let mut steps = steps.into_iter().flatten().chain([pre]);
    if steps.any(|step| step["type"] == "ByteLevel") {
        // Some models give Llama's class to a tokenizer of bytes (DeepSeek), which joins no blanks to anything.
        return None;
    }
    let metaspace = pre["type"] == "Metaspace";
    let class = config
        .and_then(|c| c.get("tokenizer_class"))
        .and_then(Value::as_str)
        // The class of transformers 5 that says nothing.
        .filter(|class| *class != "TokenizersBackend");
    let llama = match class {
        Some(class) => {
            class.starts_with("LlamaTokenizer") || class.starts_with("CodeLlamaTokenizer")
        }
        // Without a configuration the normaliser gives the family away, or what transformers 5 writes in its place.
        None => {
            let normalizer = &definition["normalizer"];
            let list = normalizer["normalizers"].as_array();
            let list = list.into_iter().flatten().chain([normalizer]);
            let mut prepends = list.map(|n| n["type"] == "Prepend" && n["prepend"] == "\u{2581}");
            prepends.any(|prepends| prepends)
                || (metaspace && definition["model"]["byte_fallback"] == true)
        }
    };
    // The published default of the switch is the old behaviour. transformers 5 does not write the switch but what it did:
    // a blank in front of the first piece only.
    let first = metaspace && pre["prepend_scheme"] == "first";
    llama.then(|| {
        config
            .and_then(|c| c.get("legacy"))
            .and_then(Value::as_bool)
            .unwrap_or(!first)
    })
}

/// Takes out everything that puts a leading blank, and keeps blanks becoming the stand-in.
fn drop_leading_blank(definition: &mut Value) {
    let old = definition["normalizer"].take();
    let mut steps: Vec<Value> = match old["normalizers"].as_array() {
        Some(list) => list.clone(),
        None if old.is_null() => Vec::new(),
        None => vec![old],
    };
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    steps.retain(|step| step["type"] != "Prepend" && *step != replace);
    steps.push(replace);
    definition["normalizer"] = json!({"type": "Sequence", "normalizers": steps});
    if definition["pre_tokenizer"]["type"] == "Metaspace" {
        definition["pre_tokenizer"] = Value::Null;
    }
}

/// What `clean_up_tokenization_spaces` stands for.
fn clean_up(text: String) -> String {
    const RULES: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    RULES
        .iter()
        .fold(text, |text, (from, to)| text.replace(from, to))
}
