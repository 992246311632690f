//! The client of a measurement: the quantizers of both streams, and what training's client does with them.

use burn::tensor::Tensor;
use qtl_codec::{Code, Limits, Options, Plane};
use qtl_model::Device;
use qtl_model::edge::repeats::{self, Distinct};
use qtl_model::edge::{Cut, TextRows};
use qtl_model::quant::gradient::{Draw, GradientCodec};
use qtl_model::quant::{Decoder, Encoder, Phase, QuantizerSpec};
use qtl_wire::Backward;

use super::peer::Seen;
use super::workload::Tensors;
use super::{SEED, Workload};
use crate::error::AnswerError;
use crate::message::{self, ContainerError};

/// Both halves of the quantizers, calibrated on all rows of their stream.
pub(super) struct Client {
    image: (Encoder, Decoder),
    text: (Encoder, Decoder),
    codec: GradientCodec,
    rows: TextRows,
    device: Device,
}

impl Client {
    pub(super) fn new(
        work: &Workload,
        spec: &QuantizerSpec,
        codec: GradientCodec,
        rows: TextRows,
        device: &Device,
    ) -> Self {
        let halves = |stream: fn(&Tensors) -> &Tensor<2>| {
            let dim = work.steps.first().map_or(0, |step| stream(step).dims()[1]);
            let mut encoder = Encoder::init(spec, dim, SEED, device);
            let mut decoder = Decoder::init(spec, dim, SEED, device);
            let mut seen = encoder.accumulator();
            for step in &work.steps {
                seen.add(encoder.seen(stream(step).clone()));
            }
            if let Some(told) = encoder.start(&seen) {
                decoder
                    .start(&told)
                    .expect("a quantizer's halves start from the same calibration");
            }
            (encoder, decoder)
        };
        Self {
            image: halves(|step| &step.image),
            text: halves(|step| &step.text),
            codec,
            rows,
            device: device.clone(),
        }
    }

    /// The server's halves.
    pub(super) fn decoders(&self) -> (Decoder, Decoder) {
        (self.image.1.clone(), self.text.1.clone())
    }

    /// Features ready to be rounded, image and text. This is the network's share of the work, not the coder's.
    pub(super) fn bounded(&self, tensors: &Tensors) -> [Tensor<2>; 2] {
        let both = [
            (&self.image.0, &tensors.image),
            (&self.text.0, &tensors.text),
        ];
        both.map(|(encoder, x)| encoder.bound(encoder.input(x.clone())))
    }

    /// The codes of a step.
    pub(super) fn code(&self, step: u64, [image, text]: [Tensor<2>; 2], tensors: &Tensors) -> Cut {
        let phase = Phase::Train(step);
        let code = self.image.0.quantize(image, phase);
        let ids = &tensors.spliced.text_ids;
        let (text, distinct) = repeats::encode(&self.text.0, text, ids, self.rows, phase);
        Cut {
            image: Some(match tensors.grid {
                Some(grid) => code.on_grid(grid),
                None => code,
            }),
            text,
            index: distinct.as_ref().map(Distinct::code),
            layout: tensors.spliced.layout.clone(),
        }
    }

    /// The gradients of an answer, image and text.
    pub(super) fn read(
        &self,
        step: u64,
        answer: &Backward,
        seen: &Seen,
    ) -> Result<[Tensor<2>; 2], AnswerError> {
        let read = |tensor, bytes: &[u8], shape| {
            let draw = Draw {
                seed: SEED,
                step,
                tensor,
            };
            message::decode_gradient(&self.codec, bytes, shape, draw, &self.device)
        };
        Ok([
            read("image", &answer.image, seen.image_gradient.dims())?,
            read("text", &answer.text, seen.text_gradient.dims())?,
        ])
    }

    /// Bytes of the elements' own numbers in the containers of a step.
    pub(super) fn payload(&self, cut: &Cut) -> f64 {
        let of = |encoder: &Encoder, code: &Code| {
            let plane = encoder.payload();
            payload_bytes(code.planes.get(plane))
        };
        let image = cut
            .image
            .as_ref()
            .map_or(0.0, |code| of(&self.image.0, code));
        image + of(&self.text.0, &cut.text)
    }

    /// The same of an answer.
    pub(super) fn payload_of_gradients(&self, answer: &Backward) -> Result<f64, ContainerError> {
        let mut sum = 0.0;
        for (part, bytes) in [("image", &answer.image), ("text", &answer.text)] {
            let code = qtl_codec::decode(bytes, &Limits::default());
            let (code, _) = code.map_err(|source| ContainerError { part, source })?;
            sum += payload_bytes(code.planes.get(self.codec.payload()..));
        }
        Ok(sum)
    }
}

/// Bytes of the coded numbers of some planes, without tables and headers.
fn payload_bytes(planes: Option<&[Plane]>) -> f64 {
    let code = Code::new(planes.unwrap_or_default().to_vec());
    let (_, account) = qtl_codec::encode_accounted(&code, &Options::default());
    (account.symbols + account.scalars) as f64
}
