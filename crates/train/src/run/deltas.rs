//! Text rows against the last ones that were sent for their tokens, where the recipe has `quantizer.text_deltas`: what the client
//! keeps of them, and what the server does. Neither keeps it on disk: after a restart both begin with nothing.
//!
//! The server is told slots, numbers of tokens in the order in which this client's process has first sent them, and no ids.

use std::collections::{BTreeMap, HashMap};

use qtl_codec::past::{self, Lesson, MOST_PLACES, MOST_REMEMBERED, MOST_SLOTS, Past, PastError};
use qtl_codec::{Account, Code, Symbols};
use qtl_model::edge::Cut;
use qtl_wire as wire;

use crate::bounds::features;
use crate::message::{self, Channels, ContainerError, decode_cut, encode_cut};
use crate::recipe::Recipe;

/// What a client keeps.
#[derive(Debug, Default)]
pub struct Sent {
    past: Past,
    /// By token id.
    slots: HashMap<i64, u32>,
}

impl Sent {
    /// Begins anew: with the next message the server does, too.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// As [`encode_cut`] of a cut whose text rows are of the tokens `ids`; where every row crosses, it is what that makes.
    /// Messages are to be sent in the order in which they are made; after one that came to nothing, everything is to be
    /// [forgotten](Self::forget).
    pub fn encode(&mut self, cut: &Cut, ids: &[i64]) -> (wire::Cut, [Account; 3]) {
        if cut.index.is_none() || ids.len() > MOST_PLACES {
            return encode_cut(cut);
        }
        let full = self.slots.len() + ids.len() > MOST_SLOTS as usize;
        if full || !self.past.fits(&cut.text, message::distinct_rows(cut)) {
            self.forget();
        }
        let slot = |id: &i64| {
            let next = self.slots.len() as u32;
            *self.slots.entry(*id).or_insert(next)
        };
        let places: Vec<u32> = ids.iter().map(slot).collect();
        let text = self.past.encode(&cut.text, &places);
        let (image, image_account) = message::encode_image(cut);
        let [of_rows, of_numbers] = text.accounts;
        let sent = wire::Cut {
            image,
            text: text.rows,
            text_index: text.numbers,
            layout: message::to_wire(&cut.layout),
            packed: false,
        };
        (sent, [image_account, of_rows, of_numbers])
    }
}

/// A cut that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// A container.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// Text rows against earlier ones.
    #[error("the text: {0}")]
    Past(#[from] PastError),
}

/// What a server keeps: by a site's place, 0 where there is one client.
#[derive(Debug, Default)]
pub struct Received {
    /// How many different tokens there are, padding included; none if the recipe has every row sent whole.
    most: Option<u32>,
    pasts: BTreeMap<usize, Past>,
}

impl Received {
    /// That of a recipe, and a vocabulary of so many tokens.
    pub fn of(recipe: &Recipe, vocab: usize) -> Self {
        match recipe.quantizer.text_deltas {
            true => Self::of_vocabulary(vocab),
            false => Self::default(),
        }
    }

    /// That of rows against earlier ones, and a vocabulary of so many tokens.
    pub(crate) fn of_vocabulary(vocab: usize) -> Self {
        Self {
            most: Some(u32::try_from(vocab + 1).unwrap_or(u32::MAX)),
            ..Self::default()
        }
    }

    /// Begins anew with everyone.
    pub fn forget(&mut self) {
        self.pasts.clear();
    }

    /// As [`decode_cut`], against what the client at this place has sent before. What comes of it is to be
    /// [learned](Self::learn) when the message is worked on, and not before.
    ///
    /// # Errors
    ///
    /// [`CutError`], also where the client goes on from other rows than those that are kept here.
    pub fn decode(
        &self,
        place: usize,
        cut: &wire::Cut,
        channels: Channels,
    ) -> Result<(Cut, Option<Lesson>), CutError> {
        let Some(most) = self.most.filter(|_| past::is_message(&cut.text)) else {
            return Ok((decode_cut(cut, channels)?, None));
        };
        let nothing = Past::default();
        let held = self.pasts.get(&place).unwrap_or(&nothing);
        let rows = cut.layout.rows(wire::SpanKind::Text) as usize;
        let limits = features(rows, channels.text);
        let text = held.decode([&cut.text, &cut.text_index], rows, most, &limits)?;
        let alphabet = text.index.iter().max().map_or(0, |row| row + 1).max(2);
        let index = Symbols::from_u32(alphabet, rows, 1, text.index)
            .expect("no message has more rows than a plane may number");
        let read = Cut {
            image: message::decode_image(cut, channels)?,
            text: text.code,
            index: Some(Code::new(vec![index.into()])),
            layout: message::from_wire(&cut.layout),
        };
        Ok((read, Some(text.lesson)))
    }

    /// Takes a message as seen.
    pub fn learn(&mut self, place: usize, lesson: Option<Lesson>) {
        if let Some(lesson) = lesson {
            self.pasts.entry(place).or_default().learn(lesson);
        }
    }
}

/// Bytes that either side keeps at most of one client's text, of a vocabulary of so many tokens, whose rows are like those of `code`.
pub fn most_bytes(code: &Code, rows: usize, vocab: u64) -> u64 {
    (past::row_bytes(code, rows) + past::SLOT_BYTES) as u64 * (vocab + 1) + MOST_REMEMBERED as u64
}
