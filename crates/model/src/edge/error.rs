//! Why a message cannot be worked on.

use super::ids::IdsError;
use super::repeats::IndexError;
use crate::prompts::PromptError;
use crate::quant::QuantError;
use crate::targets::TargetError;

/// A message whose parts do not fit together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StepError {
    /// A code of the wrong kind or shape.
    #[error("{stream} features: {source}")]
    Code {
        /// `image` or `text`.
        stream: &'static str,
        /// What is wrong.
        source: QuantError,
    },
    /// The layout counts other rows than the codes hold.
    #[error("the layout counts {layout} {stream} rows, the code holds {code}")]
    Rows {
        /// `image` or `text`.
        stream: &'static str,
        /// Rows in the layout.
        layout: usize,
        /// Rows in the code.
        code: usize,
    },
    /// Row numbers of the text that do not fit.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Token ids that are none.
    #[error(transparent)]
    Ids(#[from] IdsError),
    /// A message without a sequence, or without a text row.
    #[error("there is no {what} in the message")]
    Empty {
        /// What is missing.
        what: &'static str,
    },
    /// A message with something that belongs to another placement.
    #[error("there is a {what}")]
    Surplus {
        /// What is too much.
        what: &'static str,
    },
    /// What only the side that has the labels does.
    #[error(
        "the labels of this run are the {here}'s, and so is the loss: this message belongs to another `split.labels`"
    )]
    Labels {
        /// Whose they are.
        here: &'static str,
    },
    /// A token that is to be drawn where the other side chooses.
    #[error(
        "the server's half chooses the tokens and takes the most likely ones; they are drawn with split.labels = \"client\" only"
    )]
    Drawn,
    /// A feature that is no finite number.
    #[error(
        "the {stream} features hold {value} at row {row}, channel {channel}: a picture, a weight or the scale of a row is no finite number at the client"
    )]
    Feature {
        /// `image` or `text`.
        stream: &'static str,
        /// Row of the code.
        row: usize,
        /// Channel of the code.
        channel: usize,
        /// What stands there.
        value: String,
    },
    /// The message is in order, but what it gives is no finite number.
    #[error("the {what} is {value}{}", of(*.sequence))]
    NotFinite {
        /// The loss, or the gradient of which rows.
        what: &'static str,
        /// In which sequence of the batch, from 0, as far as it is one's.
        sequence: Option<usize>,
        /// Its value.
        value: String,
    },
    /// A sequence without a token, or longer than the model takes.
    #[error(
        "sequence {sequence} of the batch has {length} tokens; the language model takes 1 to {longest}"
    )]
    Length {
        /// Which.
        sequence: usize,
        /// Its length.
        length: usize,
        /// The longest allowed.
        longest: usize,
    },
    /// A token was asked for before any prompt.
    #[error("no generation is open; send a prompt first")]
    NoPrompt,
    /// A batch that is no prompts.
    #[error(transparent)]
    Prompts(#[from] PromptError),
    /// Targets that do not fit.
    #[error(transparent)]
    Targets(#[from] TargetError),
}

/// Names a sequence of the batch.
fn of(sequence: Option<usize>) -> String {
    sequence.map_or_else(String::new, |n| format!(" in sequence {n} of the batch"))
}
