//! What one training step costs on the wire, per quantizer and per gradient codec.
//!
//! Features are coded and gradients come back as in training: the same messages, through the same two state machines, over
//! a link within one process, whose meter counts the bytes. Only the tower is left out (the features are given), and the
//! language model too where there is none of that size ([`Workload::synthetic`]). Then the same messages go over a socket,
//! to count what the network carries.

mod client;
mod distortion;
mod line;
mod peer;
mod reference;
mod socket;
mod steps;
mod sums;
mod workload;

pub use line::{LINES, Line};
pub use reference::{Reference, reference};
pub use workload::{Shape, Workload};

use burn::tensor::Tensor;
use cpu_time::ThreadTime;
use qtl_model::edge::{StepError, TextRows};
use qtl_model::quant::QuantizerSpec;
use qtl_model::quant::gradient::GradientCodec;
use qtl_model::{Device, targets};
use qtl_wire::{Exchange, Forward, LocalLink, Reply, WireError};
use serde::Serialize;

use self::client::Client;
use self::peer::Peer;
use self::steps::OnlySteps;
use self::sums::Sums;
use crate::client::container;
use crate::deltas::{self, Received};
use crate::error::AnswerError;
use crate::message::{self, ContainerError};
use crate::recipe::Recipe;

/// Seeds whatever is drawn.
const SEED: u64 = 1;

/// One direction of a step, mean over the steps that were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sent {
    /// Bytes of the whole message.
    pub bytes: f64,
    /// Of these: the container of image rows or their gradient.
    pub image: f64,
    /// The container of text rows or their gradient.
    pub text: f64,
    /// The container of the text's row numbers.
    pub index: f64,
    /// The container of the targets.
    pub targets: f64,
    /// Bytes that passed the socket: the message, TLS and HTTP/2 framing, and the flow control of the other direction. No
    /// handshake.
    pub socket_bytes: f64,
    /// Bits of the message per element of *all* rows, also of those that did not cross.
    pub bits_per_element: f64,
    /// The same of what passed the socket.
    pub socket_bits_per_element: f64,
    /// Bits of the image container per element of the image rows.
    pub image_bits: f64,
    /// Bits of the containers of rows or their gradients per element that these stand for: rows that cross once count once.
    pub crossing_bits: f64,
    /// Per cent of the message without the targets that is not the elements' own numbers: scales, masks, tables, headers,
    /// row numbers, layout.
    pub side_percent: f64,
    /// Mean squared error relative to the variance. Up: after the best gain of each stream, which the server's output
    /// projection learns, around the channels' means. Down: as it is, around zero.
    pub error: f64,
    /// Cosine of what was sent and what was read. Up: mean over rows, around the channels' means. Down: of the whole.
    pub cosine: f64,
    /// Processor seconds of coding on both sides, one thread, of the fastest step: rounding, containers, and back.
    pub seconds: f64,
}

/// Both directions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// Features.
    pub up: Sent,
    /// Gradients.
    pub down: Sent,
}

/// What can go wrong in a measurement.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The link, or what the other side says of a message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A gradient that cannot be read.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// A container that cannot be read.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// Row numbers that do not fit.
    #[error(transparent)]
    Step(#[from] StepError),
    /// Bytes of a second handshake would count as those of a step.
    #[error("the connection on this machine was lost while its bytes were counted; measure again")]
    Interrupted,
}

/// Which text rows cross, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextSent {
    /// Whether rows of one token cross once in a message.
    pub rows: TextRows,
    /// Whether they are told by the last ones of their tokens. Nothing is trained here, so that no row ever changes.
    pub deltas: bool,
}

impl TextSent {
    /// Every row, whole.
    pub const ALL: Self = Self {
        rows: TextRows::All,
        deltas: false,
    };

    /// As training sends them under this recipe: behind a block a row is no function of its token, and each crosses.
    pub fn of(recipe: &Recipe) -> Self {
        Self {
            rows: match recipe.split.bottom_blocks {
                0 => recipe.quantizer.text_rows,
                _ => TextRows::All,
            },
            deltas: recipe.quantizer.text_deltas,
        }
    }
}

/// Sends the steps of `work` up with one quantizer for both streams, and their gradients back. Blocks; not to be called from
/// within an async runtime.
///
/// # Errors
///
/// [`MeasureError`]; a quantizer that reads what it writes gives none, where a port of the loopback can be had.
pub fn measure(
    work: &Workload,
    quantizer: &QuantizerSpec,
    codec: &GradientCodec,
    text: TextSent,
    device: &Device,
) -> Result<Measured, MeasureError> {
    let client = Client::new(work, quantizer, *codec, text.rows, device);
    let mut link = linked(work, &client, *codec, device, text)?;
    let mut told = text.deltas.then(deltas::Sent::default);
    let mut sums = Sums::default();
    let mut sent = Vec::with_capacity(work.steps.len());
    for (step, tensors) in (0..).zip(&work.steps) {
        let bounded = client.bounded(tensors);
        let targets = targets::encode(&tensors.spliced.labels, work.vocab);
        let (cut, coding) = timed(|| client.code(step, bounded, tensors));
        let (message, packing) = timed(|| {
            let Some(told) = &mut told else {
                return message::forward(&cut, &targets).0;
            };
            Forward {
                cut: told.encode(&cut, &tensors.spliced.text_ids).0,
                targets: container(&targets),
                step: None,
            }
        });
        let answer = match link.step(message.clone())? {
            Reply::Done(answer) => answer,
            Reply::Rewind { .. } | Reply::Moved { .. } => {
                unreachable!("a server in this process does not restart, and there is one client")
            }
        };
        let seen = link.work().steps.seen();
        let (read, reading) = timed(|| client.read(step, &answer, seen));
        sums.add_seconds([coding + packing + seen.decoding, seen.encoding + reading]);
        sums.payload[0] += client.payload(&cut);
        sums.payload[1] += client.payload_of_gradients(&answer)?;
        sums.add_features(tensors, &cut, seen)?;
        sums.add_gradients(seen, &read?);
        sent.push((message, answer));
    }
    let meter = link.meter();
    let [up, down] = socket::bytes(sent)?;
    Ok(Measured {
        up: sums.up(meter.up.step, up),
        down: sums.down(meter.down.step, down),
    })
}

/// The gradients that the steps of `work` get without a quantizer: of the image rows and of every text row.
///
/// # Errors
///
/// [`MeasureError`], as [`measure`].
pub fn gradients(work: &Workload, device: &Device) -> Result<Vec<[Tensor<2>; 2]>, MeasureError> {
    let (none, codec) = (QuantizerSpec::NONE, GradientCodec::F32);
    let client = Client::new(work, &none, codec, TextRows::All, device);
    let mut link = linked(work, &client, codec, device, TextSent::ALL)?;
    let mut gradients = Vec::with_capacity(work.steps.len());
    for (step, tensors) in (0..).zip(&work.steps) {
        let cut = client.code(step, client.bounded(tensors), tensors);
        let targets = targets::encode(&tensors.spliced.labels, work.vocab);
        link.step(message::forward(&cut, &targets).0)?;
        let seen = link.work().steps.seen();
        gradients.push([seen.image_gradient.clone(), seen.text_gradient.clone()]);
    }
    Ok(gradients)
}

/// A client's link to a server in this process.
fn linked(
    work: &Workload,
    client: &Client,
    codec: GradientCodec,
    device: &Device,
    text: TextSent,
) -> Result<LocalLink<OnlySteps<Peer>>, WireError> {
    let network = work.network.clone();
    let received = match text.deltas {
        true => Received::of_vocabulary(work.vocab),
        false => Received::default(),
    };
    let peer = Peer::new(client.decoders(), codec, network, device.clone(), received);
    let mut link = LocalLink::local(OnlySteps::new(peer));
    steps::greet(&mut link)?;
    Ok(link)
}

/// What `run` makes, and the seconds of this thread's processor that it took: other work on the machine does not count.
fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let start = ThreadTime::now();
    let made = run();
    (made, start.elapsed().as_secs_f64())
}
