//! Files into examples: LLaVA JSON, pictures, tokenizers, templates, samplers, generated scenes.
//!
//! In reading order: a [`llava::Dataset`] lists the entries of a JSON file; a [`reader::Reader`] turns one entry
//! into an [`example::Example`] with the help of an [`image`] decoder, a [`preprocess::Processor`], a
//! [`tokenizer::Tokenizer`] and a [`template::Template`]; a [`loader::Loader`] hands out batches of examples in the
//! order that a [`sampler`] draws, the same batches after every restart.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod error;
pub mod llava;
pub mod text;

pub mod image;
mod names;
pub mod preprocess;

pub mod chat;
pub mod stream;
pub mod template;
pub mod tokenizer;

pub mod collate;
pub mod example;

pub mod check;
pub mod loader;
pub mod reader;
pub mod render;
pub mod sampler;

pub mod scenes;

pub use chat::ChatTemplate;
pub use error::{DataError, EntryError, Fault, Skipped, Strictness};
pub use example::{Example, IGNORED, PLACEHOLDER, Pixels, TokenSpan, Turns};
pub use image::PictureRules;
pub use llava::{Conversation, Dataset, Turn};
pub use loader::{Batch, Loader, LoaderOptions, Source};
pub use preprocess::{Aspect, Processor};
pub use reader::{Reader, ReaderOptions};
pub use sampler::{Order, Position};
pub use stream::AnswerStream;
pub use template::Template;
pub use tokenizer::Tokenizer;
