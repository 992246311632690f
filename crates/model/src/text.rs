//! A language model in one process, without pictures and without a cut: for talking to a checkpoint as it came from the
//! hub.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::Fields;
use crate::device::as_stored;
use crate::llm::{Cache, Decoder, DecoderSpec, TokenEmbedding};
use crate::nn::Named;
use crate::parts::{BLOCKS, Parts};
use crate::pretrained::{PretrainedError, part_of, types};
use crate::sampling::Sampling;
use crate::weights::{Dtype, Tensors, load_keeping, parameters, visit_tensors};

/// Tokens read at once: it bounds the memory that the attention scores of a long text take.
const CHUNK: usize = 512;

/// Token embedding and decoder of one checkpoint.
#[derive(Module, Debug)]
pub struct TextModel {
    embedding: Named<TokenEmbedding>,
    decoder: Named<Decoder>,
}

/// Why a text cannot be continued.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TextError {
    /// A token that the model has no row for.
    #[error(
        "token {id} is outside the model's {vocab} tokens; use the tokenizer that came with the model"
    )]
    Token {
        /// The token.
        id: i64,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// Nothing to continue, or more than leaves room for an answer.
    #[error(
        "the conversation has {length} tokens and the model takes 1 to {longest}; shorten it or begin a new one"
    )]
    Length {
        /// Its length.
        length: usize,
        /// The longest that leaves room for an answer.
        longest: usize,
    },
}

/// When an answer ends and how its tokens are chosen.
#[derive(Debug, Clone)]
pub struct Answering {
    /// Tokens that end it and do not belong to it.
    pub end: Vec<u32>,
    /// The most tokens it may have.
    pub longest: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

impl Answering {
    /// The most likely token each time.
    pub fn greedy(end: Vec<u32>, longest: usize) -> Self {
        Self {
            end,
            longest,
            sampling: Sampling::GREEDY,
        }
    }
}

impl TextModel {
    /// Reads a Hugging Face directory of a language model, or the language model of a TinyLLaVA directory.
    ///
    /// # Errors
    ///
    /// [`PretrainedError`] naming the file and the field or tensors.
    pub fn open(dir: &Path, device: &Device) -> Result<Self, PretrainedError> {
        let Self { embedding, decoder } = Self::without_values(dir, device)?;
        let spec = decoder.spec();
        let (embedding_keys, keys) = (spec.embedding_keys(), spec.decoder_keys());
        let file = part_of(dir, BLOCKS.folder)?;
        let keep = |_: &str, _| as_stored(device);
        let embedding = load_keeping(embedding, &file, &embedding_keys, &keep)?;
        let decoder = load_keeping(decoder, &file, &keys, &keep)?;
        Ok(Self { embedding, decoder })
    }

    /// The language model that the configuration in `dir` describes.
    ///
    /// # Errors
    ///
    /// [`PretrainedError::Config`] naming the field.
    pub fn without_values(dir: &Path, device: &Device) -> Result<Self, PretrainedError> {
        let fields = Fields::read(dir)?;
        let text = match fields.get("text_config") {
            Some(_) => fields.child("text_config")?,
            None => fields,
        };
        let spec = DecoderSpec::from_config(&text)?;
        Ok(Self {
            embedding: Named::flat(TokenEmbedding::new(&spec, device)),
            decoder: Named::flat(Decoder::new(spec, device)),
        })
    }

    /// The types that the files in `dir` have its parameters in, by the names of a whole model.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn stored(&self, dir: &Path) -> Result<BTreeMap<String, Dtype>, PretrainedError> {
        let file = part_of(dir, BLOCKS.folder)?;
        let (spec, prefix) = (self.spec(), Self::PREFIX);
        let embedding = types(&self.embedding, prefix, &file, &spec.embedding_keys())?;
        let decoder = types(&self.decoder, prefix, &file, &spec.decoder_keys())?;
        Ok(embedding.into_iter().chain(decoder).collect())
    }

    /// Those of its parameters whose names are `wanted`, for writing, under the names that a language model's own files give
    /// them.
    pub fn own<'a>(&'a self, wanted: &'a dyn Fn(&str) -> bool) -> Tensors<'a> {
        let all = parameters(self, "");
        Tensors::chosen(all, wanted, move |take| {
            visit_tensors(self, "", wanted, take);
        })
    }

    /// What the model is made of.
    pub fn spec(&self) -> &DecoderSpec {
        self.decoder.spec()
    }
}

/// By the names that they have in a whole model.
impl Parts for TextModel {
    const PREFIX: &'static str = BLOCKS.prefix;
}

/// A conversation with a model. What it has read stays in the cache; of the next prompt only what is new is read.
#[derive(Debug)]
pub struct Session<'a> {
    model: &'a TextModel,
    read: Vec<i64>,
    cache: Option<Cache>,
}

impl<'a> Session<'a> {
    /// Nothing read yet.
    pub fn new(model: &'a TextModel) -> Self {
        Self {
            model,
            read: Vec::new(),
            cache: None,
        }
    }

    /// Continues `prompt`, the whole conversation so far. Ends before an end token, after the longest answer, at the length
    /// that the model was made for, or when `seen`, which is told of every token as it comes, says so by `false`.
    ///
    /// # Errors
    ///
    /// [`TextError`] if the prompt does not suit the model.
    pub fn answer(
        &mut self,
        prompt: &[i64],
        how: &Answering,
        seen: &mut dyn FnMut(u32) -> bool,
    ) -> Result<(), TextError> {
        let (length, limit) = (prompt.len(), self.model.spec().max_positions);
        if length == 0 || length >= limit {
            let longest = limit - 1;
            return Err(TextError::Length { length, longest });
        }
        let vocab = self.model.embedding.vocab_size();
        if let Some(id) = prompt.iter().find(|id| !(0..vocab as i64).contains(*id)) {
            return Err(TextError::Token { id: *id, vocab });
        }
        let mut logits = self.read(prompt);
        let last = how.longest.min(limit - length);
        for count in 1..=last {
            let values = logits.into_data().iter::<f32>().collect::<Vec<_>>();
            let token = how.sampling.choose(&values, self.read.len());
            if how.end.contains(&token) || !seen(token) || count == last {
                break;
            }
            logits = self.feed(&[i64::from(token)]);
        }
        Ok(())
    }

    /// Reads `prompt` as far as it differs from what has been read: the logits after its last token, `[1, vocab]`.
    fn read(&mut self, prompt: &[i64]) -> Tensor<2> {
        let same = self.read.iter().zip(prompt);
        let same = same.take_while(|(old, new)| old == new).count();
        // Logits come with reading, so the last token is read in any case.
        let kept = same.min(prompt.len() - 1);
        self.read.truncate(kept);
        match &mut self.cache {
            Some(cache) if kept > 0 => cache.truncate(kept),
            cache => *cache = None,
        }
        let last = kept + (prompt.len() - 1 - kept) / CHUNK * CHUNK;
        for chunk in prompt[kept..last].chunks(CHUNK) {
            self.feed(chunk);
        }
        self.feed(&prompt[last..])
    }

    fn feed(&mut self, ids: &[i64]) -> Tensor<2> {
        self.read.extend(ids);
        let rows = self.model.embedding.embed(ids).unsqueeze_dim(0);
        match &mut self.cache {
            Some(cache) => self.model.decoder.extend(rows, cache),
            None => {
                let (logits, cache) = self.model.decoder.prefill(rows, &[ids.len()]);
                self.cache = Some(cache);
                logits
            }
        }
    }
}
