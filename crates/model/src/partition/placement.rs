//! Which side has which stage of the chain: the recipe's `[split]` section.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::parts::Part;

/// Where the model is cut. The client has the bottom, the server the trunk; whose the top is follows from whose the labels
/// are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// How many of the language model's blocks the client runs, before what crosses; with none, text rows are functions of
    /// their tokens.
    #[serde(skip_serializing_if = "is_zero")]
    pub bottom_blocks: usize,
    /// How many of its last blocks the client runs, behind what comes back. Only where it has the labels.
    #[serde(skip_serializing_if = "is_zero")]
    pub top_blocks: usize,
    /// Who has the targets, and with them final norm, head and loss.
    #[serde(skip_serializing_if = "Labels::is_default")]
    pub labels: Labels,
    /// Who has the connector; at the server, image rows cross as the tower's features.
    #[serde(skip_serializing_if = "Holder::is_default")]
    pub connector: Holder,
    /// What crosses of the text.
    #[serde(skip_serializing_if = "Text::is_default")]
    pub text: Text,
}

/// Who has a part that either side can have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// The side of the data.
    #[default]
    Client,
    /// The side of the language model.
    Server,
}

impl Holder {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What the server gets of the text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Text {
    /// Quantized rows, and their gradient comes back where the client learns from it.
    #[default]
    Rows,
    /// Token ids, whose rows it reads in a table of its own.
    Ids,
}

impl Text {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A side that has the targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Labels {
    /// They travel to the server, which computes the loss.
    #[default]
    Server,
    /// They stay, and hidden states come back for them.
    Client,
}

impl Labels {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Placement {
    /// Whether nothing is said of it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether final norm, head and loss are the client's.
    pub fn top_at_client(&self) -> bool {
        self.labels == Labels::Client
    }

    /// Whether the server reads text rows in a token embedding of its own.
    pub fn table_at_server(&self) -> bool {
        self.text == Text::Ids
    }

    /// Whether image rows cross in front of the connector.
    pub fn connector_at_server(&self) -> bool {
        self.connector == Holder::Server
    }

    /// The parts that are tuned at the client, but for the quantizers. Blocks and head of the language model are the server's to
    /// answer for, wherever they are.
    pub fn client_parts(&self) -> Vec<Part> {
        match self.connector {
            Holder::Client => vec![Part::VisionTower, Part::Connector, Part::EmbedTokens],
            Holder::Server => vec![Part::VisionTower, Part::EmbedTokens],
        }
    }

    /// The same of the server.
    pub fn server_parts(&self) -> Vec<Part> {
        match self.connector {
            Holder::Client => vec![Part::Llm],
            Holder::Server => vec![Part::Connector, Part::Llm],
        }
    }

    /// Of a language model of so many blocks, the client's first ones.
    pub fn bottom(&self) -> Range<usize> {
        0..self.bottom_blocks
    }

    /// The server's.
    pub fn trunk(&self, blocks: usize) -> Range<usize> {
        self.bottom_blocks..blocks - self.top_blocks
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}
