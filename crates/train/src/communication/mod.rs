//! What one training step costs on the wire, per quantizer and per gradient codec.
//!
//! Features are coded and gradients come back as in training: the same messages, through the same two state machines, over
//! a link within one process, whose meter counts the bytes. Only the tower is left out (the features are given), and the
//! language model too where there is none of that size ([`Workload::synthetic`]).

mod distortion;
mod line;
mod peer;
mod reference;
mod workload;

pub use line::{LINES, Line};
pub use reference::{Reference, reference};
pub use workload::{Shape, Workload};

use std::time::Instant;

use burn::tensor::Tensor;
use qtl_codec::{Code, Grid, Options, Plane};
use qtl_model::partition::repeats::{self, Distinct};
use qtl_model::partition::{Cut, StepError, TextRows};
use qtl_model::quant::gradient::{Draw, GradientCodec};
use qtl_model::quant::{Accumulator, Decoder, Encoder, Phase, QuantizerSpec};
use qtl_model::{Device, targets};
use qtl_wire::meter::Tally;
use qtl_wire::{Exchange, LocalLink, Purpose, Reply, Standing, Terms, WireError};
use serde::Serialize;

use self::distortion::Distortion;
use self::peer::Peer;
use crate::error::AnswerError;
use crate::message::{self, ContainerError};

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
    /// Bits of the message per element of *all* rows, also of those that did not cross.
    pub bits_per_element: f64,
    /// Bits of the image container per element of the image rows.
    pub image_bits: f64,
    /// Per cent of the message without the targets that is not the elements' own numbers: scales, masks, tables, headers,
    /// row numbers, layout.
    pub side_percent: f64,
    /// Mean squared error relative to the variance. Up: after the best gain of each stream, which the server's output
    /// projection learns, around the channels' means. Down: as it is, around zero.
    pub error: f64,
    /// Cosine of what was sent and what was read. Up: mean over rows, around the channels' means. Down: of the whole.
    pub cosine: f64,
    /// Seconds of coding on both sides, one core: rounding, containers, and back.
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
}

/// A quantizer of one stream, calibrated on all its rows.
pub(crate) struct Halves {
    encoder: Encoder,
    decoder: Decoder,
}

impl Halves {
    fn new<'a>(
        spec: &QuantizerSpec,
        rows: impl Iterator<Item = &'a Tensor<2>> + Clone,
        device: &Device,
    ) -> Self {
        let dim = rows.clone().next().map_or(0, |x| x.dims()[1]);
        let mut encoder = Encoder::init(spec, dim, SEED, device);
        let mut decoder = Decoder::init(spec, dim, SEED, device);
        let mut sums = Accumulator::default();
        rows.for_each(|x| sums.add(encoder.input(x.clone())));
        if let Some(moments) = sums.moments() {
            encoder.calibrate(&moments);
            decoder.calibrate(&moments);
        }
        Self { encoder, decoder }
    }

    fn bounded(&self, x: &Tensor<2>) -> Tensor<2> {
        self.encoder.bound(self.encoder.input(x.clone()))
    }
}

/// Sends the steps of `work` up with one quantizer for both streams, and their gradients back.
///
/// # Errors
///
/// [`MeasureError`]; a quantizer that reads what it writes gives none.
pub fn measure(
    work: &Workload,
    quantizer: &QuantizerSpec,
    codec: &GradientCodec,
    rows: TextRows,
    device: &Device,
) -> Result<Measured, MeasureError> {
    let image = Halves::new(quantizer, work.steps.iter().map(|s| &s.image), device);
    let text = Halves::new(quantizer, work.steps.iter().map(|s| &s.text), device);
    let decoders = (image.decoder.clone(), text.decoder.clone());
    let peer = Peer::new(decoders, *codec, work.network.clone(), device.clone());
    let mut link = LocalLink::local(peer);
    let standing = Standing {
        run: "measurement".into(),
        ..Standing::default()
    };
    link.greet(&Terms::default(), &standing, Purpose::Train)?;

    let mut sums = Sums::default();
    let mut step = 0;
    for pass in 0..work.passes.max(1) {
        let mut seconds = [0.0; 2];
        for tensors in &work.steps {
            let phase = Phase::Train(step);
            let (z_image, z_text) = (image.bounded(&tensors.image), text.bounded(&tensors.text));
            let ids = &tensors.spliced.text_ids;
            let targets = targets::encode(&tensors.spliced.labels, work.vocab);

            let start = Instant::now();
            let image_code = on_grid(image.encoder.quantize(z_image, phase), tensors.grid);
            let (text_code, distinct) = repeats::encode(&text.encoder, z_text, ids, rows, phase);
            let cut = Cut {
                image: Some(image_code),
                text: text_code,
                index: distinct.as_ref().map(Distinct::code),
                layout: tensors.spliced.layout.clone(),
            };
            let (message, _) = message::forward(step, &cut, &targets);
            seconds[0] += start.elapsed().as_secs_f64();

            let answer = match link.step(message)? {
                Reply::Done(answer) => answer,
                Reply::Rewind { .. } => unreachable!("a server in this process does not restart"),
            };
            let seen = link.work().seen();
            seconds[0] += seen.decoding;
            seconds[1] += seen.encoding;

            let start = Instant::now();
            let read = |tensor, bytes: &[u8], true_gradient: &Tensor<2>| {
                let draw = Draw {
                    seed: SEED,
                    step,
                    tensor,
                };
                message::decode_gradient(codec, bytes, true_gradient.dims(), draw, device)
            };
            let image_gradient = read("image", &answer.image, &seen.image_gradient)?;
            let text_gradient = read("text", &answer.text, &seen.text_gradient)?;
            seconds[1] += start.elapsed().as_secs_f64();

            if pass == 0 {
                let payload = image.encoder.payload();
                if let Some(code) = &cut.image {
                    sums.payload[0] += payload_bytes(code, payload..payload + 1);
                }
                sums.payload[0] += payload_bytes(&cut.text, payload..payload + 1);
                for (part, bytes) in [("image", &answer.image), ("text", &answer.text)] {
                    let code = message::decode(part, bytes)?;
                    sums.payload[1] += payload_bytes(&code, codec.payload()..code.planes.len());
                }
                sums.image.add_features(&tensors.image, &seen.image, None);
                let index = match &cut.index {
                    Some(index) => {
                        let rows = repeats::decode(index, seen.text.dims()[0], ids.len());
                        Some(rows.map_err(StepError::from)?)
                    }
                    None => None,
                };
                sums.text.add_features(&tensors.text, &seen.text, index);
                sums.down
                    .add_gradient(&seen.image_gradient, &image_gradient);
                sums.down.add_gradient(&seen.text_gradient, &text_gradient);
                let [rows, cols] = tensors.image.dims();
                sums.image_elements += (rows * cols) as f64;
                sums.elements += ((rows + ids.len()) * cols) as f64;
            }
            step += 1;
        }
        for (best, seconds) in sums.seconds.iter_mut().zip(seconds) {
            *best = if pass == 0 {
                seconds
            } else {
                best.min(seconds)
            };
        }
    }
    let meter = link.meter();
    Ok(Measured {
        up: sums.sent(0, meter.up.step, work.steps.len()),
        down: sums.sent(1, meter.down.step, work.steps.len()),
    })
}

/// Sums over the steps of one pass; what is up comes first.
#[derive(Default)]
struct Sums {
    payload: [f64; 2],
    /// Of the fastest pass.
    seconds: [f64; 2],
    elements: f64,
    image_elements: f64,
    image: Distortion,
    text: Distortion,
    down: Distortion,
}

impl Sums {
    fn sent(&self, direction: usize, tally: Tally, steps: usize) -> Sent {
        // The meter has counted every pass.
        let mean = |bytes: u64| bytes as f64 / tally.messages.max(1) as f64;
        let steps = steps.max(1) as f64;
        let (bytes, targets) = (mean(tally.bytes), mean(tally.targets));
        let (error, cosine) = if direction == 0 {
            Distortion::of_streams(&[&self.image, &self.text])
        } else {
            (self.down.relative_error(), self.down.cosine())
        };
        Sent {
            bytes,
            image: mean(tally.image),
            text: mean(tally.text),
            index: mean(tally.index),
            targets,
            bits_per_element: 8.0 * bytes * steps / self.elements,
            image_bits: 8.0 * mean(tally.image) * steps / self.image_elements,
            side_percent: 100.0 * (1.0 - self.payload[direction] / steps / (bytes - targets)),
            error,
            cosine,
            seconds: self.seconds[direction] / steps,
        }
    }
}

fn on_grid(code: Code, grid: Option<Grid>) -> Code {
    match grid {
        Some(grid) => code.on_grid(grid),
        None => code,
    }
}

/// Bytes of the coded numbers of some planes, without tables and headers.
fn payload_bytes(code: &Code, planes: std::ops::Range<usize>) -> f64 {
    let planes: Vec<Plane> = code.planes.get(planes).unwrap_or_default().to_vec();
    let (_, account) = qtl_codec::encode_accounted(&Code::new(planes), &Options::default());
    (account.symbols + account.scalars) as f64
}
