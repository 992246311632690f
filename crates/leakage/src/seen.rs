//! What a server has of a set of samples: the very messages of training, encoded and decoded by the protocol, and beside it
//! what the samples really are, which only scores may look at.

use std::collections::HashSet;
use std::sync::Arc;

use qtl_codec::Code;
use qtl_data::example::IGNORED;
use qtl_data::example::Pixels;
use qtl_data::loader::Source;
use qtl_data::{DataError, Example, Reader};
use qtl_model::edge::{Cut, repeats};
use qtl_model::partition::ServerPartition;
use qtl_model::parts::Parts;
use qtl_model::splice::Kind;
use qtl_model::stage::Batch;
use qtl_model::targets;
use qtl_train::Recipe;
use qtl_train::deltas::Received;
use qtl_train::message::{Channels, decode, encode_cut};
use qtl_wire::message::{ClientMessage, On, decode_client, encode_client};
use qtl_wire::verb::{ForwardHidden, Request};
use qtl_wire::{Forward, Limits};
use rayon::prelude::*;

use crate::error::LeakageError;
use crate::halves::Halves;
use crate::matrix::Matrix;
use crate::pictures::Pictures;

/// A stretch of text rows that lie together in a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSpan {
    /// Which of the samples it belongs to.
    pub sample: usize,
    /// Which stretch of the sequence it is.
    pub place: usize,
    /// Its first text row of all.
    pub start: usize,
    /// Its length.
    pub len: usize,
}

/// A message as the server has it.
#[derive(Clone, Debug)]
pub struct Crossed {
    /// The cut.
    pub cut: Cut,
    /// Per text row its target, where the labels travel.
    pub targets: Option<Vec<Option<usize>>>,
    /// Bytes of the message.
    pub bytes: usize,
}

/// What crossed of a set of samples, and the truth.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Dequantized image rows: `tokens` rows per picture.
    pub image: Matrix,
    /// Rows of a picture.
    pub tokens: usize,
    /// Dequantized text rows, one per text row of the layout.
    pub text: Matrix,
    /// How they lie in the sequences, as the layout says.
    pub spans: Vec<TextSpan>,
    /// Per text row the target that crossed in clear.
    pub told: Vec<Option<i64>>,
    /// The messages' cuts.
    pub cuts: Vec<Cut>,
    /// Bytes of all messages.
    pub bytes: usize,
    /// Truth: the pictures.
    pub pictures: Pictures,
    /// Truth: which sample each picture is of.
    pub shown_by: Vec<usize>,
    /// Truth: the token of each text row.
    pub ids: Vec<i64>,
    /// Truth: which text rows are padding.
    pub padding: Vec<bool>,
    /// Truth: its label, [`IGNORED`] where nothing is learned from it.
    pub labels: Vec<i64>,
    /// Truth: the entry of the data set that each sample is.
    pub entries: Vec<usize>,
    /// Truth: what tells the pictures from others.
    pub digests: Digests,
    /// Samples that were left out because they cannot be read.
    pub unread: usize,
    /// Samples that were left out because they show somebody else's picture.
    pub shared: usize,
}

/// Pictures by the digests of their numbers.
pub type Digests = HashSet<String>;

/// What tells a picture from others.
fn digest(pixels: &Pixels) -> String {
    let bytes = pixels.data.iter().flat_map(|value| value.to_le_bytes());
    qtl_train::digest::of(&bytes.collect::<Vec<u8>>())
}

impl Seen {
    pub(crate) fn of(halves: &Halves, source: &Reader) -> Self {
        Self {
            tokens: halves.client.tokens_per_picture(),
            pictures: Pictures::new(source.processor().side()),
            ..Self::default()
        }
    }

    /// The rows of each picture as one row.
    pub fn whole(&self) -> Matrix {
        self.image.clone().folded(self.tokens.max(1))
    }

    /// Whether a text row is of an answer: what is learned from.
    pub fn answers(&self, row: usize) -> bool {
        self.labels[row] != IGNORED
    }
}

/// Has the client send these samples of `source` and reads what comes. Samples that cannot be read are left out.
///
/// # Errors
///
/// [`LeakageError`]
pub fn capture(
    halves: &Halves,
    recipe: &Recipe,
    source: &Arc<Reader>,
    samples: &[usize],
) -> Result<Seen, LeakageError> {
    capture_without(halves, recipe, source, samples, &Digests::new())
}

/// The same; left out are also samples with a picture of `others`.
///
/// # Errors
///
/// [`LeakageError`]
pub fn capture_without(
    halves: &Halves,
    recipe: &Recipe,
    source: &Arc<Reader>,
    samples: &[usize],
    others: &Digests,
) -> Result<Seen, LeakageError> {
    let mut seen = Seen::of(halves, source);
    for (step, samples) in samples.chunks(recipe.train.batch).enumerate() {
        let read = |i: &usize| match source.read(*i, 0) {
            Ok(example) => Ok(Some((*i, example))),
            Err(DataError::Entry(_)) => Ok(None),
            Err(error) => Err(error),
        };
        let read = samples
            .par_iter()
            .map(read)
            .collect::<Result<Vec<_>, _>>()?;
        let mut read: Vec<(usize, Example)> = read.into_iter().flatten().collect();
        seen.unread += samples.len() - read.len();
        if !others.is_empty() {
            let all = read.len();
            read.retain(|(_, example)| {
                let picture = example.pixels.as_ref().map(digest);
                picture.is_none_or(|picture| !others.contains(&picture))
            });
            seen.shared += all - read.len();
        }
        let (entries, examples): (Vec<usize>, Vec<Example>) = read.into_iter().unzip();
        if examples.is_empty() {
            continue;
        }
        let batch = halves.batch(&examples, recipe)?;
        let sent = send(halves, &batch, step as u64)?;
        seen.take(&halves.server, sent, &batch, (&entries, &examples), source)?;
    }
    Ok(seen)
}

/// One message of training, there and back through the protocol.
///
/// # Errors
///
/// [`LeakageError`]
pub fn send(halves: &Halves, batch: &Batch, step: u64) -> Result<Crossed, LeakageError> {
    let vocab = halves.client.bottom.embed_tokens.vocab_size();
    // What a quantizer records in a step is of no use to the next: this run has one step many times.
    let mut client = halves.client.clone();
    let (cut, _) = client.forward(batch, step, &|_| false);
    let (cut, _) = encode_cut(&cut);
    let container = |code: &Code| qtl_codec::encode(code, &qtl_codec::Options::default());
    let request = match client.top.as_deref() {
        None => Request::Forward(Forward {
            cut,
            targets: container(&targets::encode(&batch.spliced.labels, vocab)),
            step: None,
        }),
        Some(top) => Request::ForwardHidden(ForwardHidden {
            cut,
            wanted: top
                .wanted(&batch.spliced)
                .as_ref()
                .map(container)
                .unwrap_or_default(),
            step: None,
        }),
    };
    let limits = Limits::default();
    let frame = encode_client(ClientMessage::Request(On::default(), request), &limits)?;
    receive(&frame.bytes, &halves.server, &mut Received::default())
}

/// What a server reads in the bytes of a message of training, and has `received` before.
///
/// # Errors
///
/// [`LeakageError`]
pub fn receive(
    bytes: &[u8],
    server: &ServerPartition,
    received: &mut Received,
) -> Result<Crossed, LeakageError> {
    let (cut, targets) = match decode_client(bytes, &Limits::default())? {
        ClientMessage::Request(_, Request::Forward(forward)) => {
            (forward.cut, Some(forward.targets))
        }
        ClientMessage::Request(_, Request::ForwardHidden(forward)) => (forward.cut, None),
        _ => {
            return Err(LeakageError::Unfit(
                "a message that carries no features".to_owned(),
            ));
        }
    };
    let channels = Channels {
        image: server.uplink.image.code_dim(),
        text: server.uplink.text.code_dim(),
    };
    let (cut, lesson) = received.decode(0, &cut, channels)?;
    received.learn(0, lesson);
    let rows = cut.layout.rows(Kind::Text);
    let targets = targets.map(|bytes| -> Result<_, LeakageError> {
        let code = decode("targets", &bytes, rows, 2)?;
        Ok(targets::decode(&code, rows, server.vocab_size())?)
    });
    Ok(Crossed {
        cut,
        targets: targets.transpose()?,
        bytes: bytes.len(),
    })
}

impl Seen {
    pub(crate) fn take(
        &mut self,
        server: &ServerPartition,
        sent: Crossed,
        batch: &Batch,
        (entries, examples): (&[usize], &[Example]),
        source: &Reader,
    ) -> Result<(), LeakageError> {
        let device = &server.device();
        let Crossed {
            cut,
            targets,
            bytes,
        } = sent;
        self.bytes += bytes;
        let (first, text_rows) = (self.entries.len(), cut.layout.rows(Kind::Text));
        let image = match &cut.image {
            Some(code) => Matrix::of(server.uplink.image.dequantize(code, device)?),
            None => Matrix::default(),
        };
        let (mut row, mut text) = (0, self.ids.len());
        for (number, spans) in cut.layout.sequences.iter().enumerate() {
            let mut shown = 0;
            for (place, span) in spans.iter().enumerate() {
                match span.kind {
                    Kind::Image => shown += span.len,
                    Kind::Text => {
                        self.spans.push(TextSpan {
                            sample: first + number,
                            place,
                            start: text,
                            len: span.len,
                        });
                        text += span.len;
                    }
                }
            }
            // A picture that was cut short is no picture to look for.
            let pixels = examples[number].pixels.as_ref();
            self.digests.extend(pixels.map(digest));
            if let (true, Some(pixels)) = (shown == self.tokens, pixels) {
                self.image.append(image.pick(row..row + shown));
                self.pictures.push(pixels, source.processor());
                self.shown_by.push(first + number);
            }
            row += shown;
        }
        let rows = Matrix::of(server.uplink.text.dequantize(&cut.text, device)?);
        let rows = match &cut.index {
            None => rows,
            Some(index) => {
                let numbers = repeats::decode(index, rows.rows, text_rows);
                rows.pick(numbers.map_err(qtl_model::edge::StepError::from)?)
            }
        };
        self.text.append(rows);
        let none = || vec![None; text_rows];
        let told = targets.unwrap_or_else(none).into_iter();
        self.told
            .extend(told.map(|target| target.map(|id| id as i64)));
        self.ids.extend(&batch.spliced.text_ids);
        let before = self.padding.len();
        self.padding.resize(before + text_rows, false);
        for row in &batch.spliced.pads {
            self.padding[before + row] = true;
        }
        self.labels.extend(&batch.spliced.labels);
        self.entries.extend(entries);
        self.cuts.push(cut);
        Ok(())
    }
}
