//! The server of a measurement: reads the features of a step as in training, has gradients made of them, and sends those
//! back as in training.

use burn::tensor::{Tensor, TensorData};
use qtl_codec::Code;
use qtl_model::Device;
use qtl_model::edge::{Cut, StepError, repeats};
use qtl_model::params::{self, Named};
use qtl_model::partition::{Returned, ServerPartition, Step};
use qtl_model::quant::Decoder;
use qtl_model::quant::gradient::{Draw, GradientCodec};
use qtl_model::recompute::{leaf, pull, take};
use qtl_model::splice::Kind;
use qtl_wire::{Backward, Forward, WorkError};

use super::steps::Steps;
use super::{SEED, timed};
use crate::deltas::Received;
use crate::message::{Channels, decode, encode_gradient};

/// Where the gradients come from.
#[derive(Clone)]
pub(super) enum Network {
    /// They are given: of every image and text row of each step in turn, before any quantizer.
    Given(Vec<[Tensor<2>; 2]>),
    /// A language model's.
    Model(Box<ServerPartition>),
}

/// What the server had in its hands in the last step.
pub(super) struct Seen {
    /// Image rows as the language model reads them.
    pub(super) image: Tensor<2>,
    /// Text rows likewise, one per row that crossed.
    pub(super) text: Tensor<2>,
    /// The gradients before they were coded.
    pub(super) image_gradient: Tensor<2>,
    pub(super) text_gradient: Tensor<2>,
    /// Seconds from containers to features.
    pub(super) decoding: f64,
    /// Seconds from gradients to containers.
    pub(super) encoding: f64,
}

/// A message, read.
struct Decoded {
    cut: Cut,
    targets: Code,
    /// Dequantized rows.
    image: Tensor<2>,
    text: Tensor<2>,
}

pub(super) struct Peer {
    image: Decoder,
    text: Decoder,
    codec: GradientCodec,
    network: Network,
    device: Device,
    received: Received,
    seen: Option<Seen>,
}

impl Peer {
    pub(super) fn new(
        (image, text): (Decoder, Decoder),
        codec: GradientCodec,
        mut network: Network,
        device: Device,
        received: Received,
    ) -> Self {
        if let Network::Model(server) = &mut network {
            *server.uplink.image = image.clone();
            *server.uplink.text = text.clone();
        }
        Self {
            image,
            text,
            codec,
            network,
            device,
            received,
            seen: None,
        }
    }

    /// The last step.
    pub(super) fn seen(&self) -> &Seen {
        let seen = self.seen.as_ref();
        seen.expect("a step that was answered was seen")
    }

    /// From containers to features.
    fn decode(&mut self, f: &Forward) -> Result<Decoded, WorkError> {
        let channels = Channels {
            image: self.image.code_dim(),
            text: self.text.code_dim(),
        };
        let cut = self.received.decode(0, &f.cut, channels);
        let (cut, lesson) = cut.map_err(invalid)?;
        self.received.learn(0, lesson);
        let Some(code) = &cut.image else {
            return Err(invalid("a measurement sends pictures in every step"));
        };
        let image = self.image.dequantize(code, &self.device).map_err(invalid)?;
        let text = self.text.dequantize(&cut.text, &self.device);
        Ok(Decoded {
            targets: decode("targets", &f.targets, cut.layout.rows(Kind::Text), 1)
                .map_err(invalid)?,
            image,
            text: text.map_err(invalid)?,
            cut,
        })
    }

    /// Gradients of the rows that crossed, and what else the server finds.
    fn step(
        &self,
        step: u64,
        cut: &Cut,
        image: &Tensor<2>,
        text: &Tensor<2>,
        targets: &Code,
    ) -> Result<Step, StepError> {
        match &self.network {
            Network::Model(server) => server.step(cut, targets, &|_| false, &self.device),
            Network::Given(steps) => {
                let [g_image, g_text] = &steps[step as usize % steps.len()];
                let g_text = match &cut.index {
                    Some(index) => {
                        let all = cut.layout.rows(Kind::Text);
                        let index = repeats::decode(index, text.dims()[0], all)?;
                        summed(g_text, &index, text.dims()[0])
                    }
                    None => g_text.clone(),
                };
                let code = cut.image.as_ref();
                Ok(Step {
                    // Nobody has computed one; this takes as much room in a message, where nothing would take none.
                    loss: 1.0,
                    tokens: cut.layout.rows(Kind::Text),
                    returned: Returned {
                        rows: [
                            Some(pulled(&self.image, code, image, g_image.clone())),
                            Some(pulled(&self.text, Some(&cut.text), text, g_text)),
                        ],
                        parameters: Named::new(),
                    },
                })
            }
        }
    }
}

/// The gradient of the leaf `x`, given that of the features that are made of it; what of it travels back.
fn pulled(decoder: &Decoder, code: Option<&Code>, x: &Tensor<2>, g: Tensor<2>) -> Tensor<2> {
    let constant = params::track(decoder, "", &|_| false);
    let x = leaf(x.clone());
    let y = constant.expand(x.clone());
    let g = take(&x, &mut pull(y, g.autodiff()));
    match code.and_then(|code| decoder.kept(code)) {
        Some(kept) => kept.take(g),
        None => g,
    }
}

/// The sums of the rows of `g` with the same number, of which there are `rows`.
fn summed(g: &Tensor<2>, index: &[usize], rows: usize) -> Tensor<2> {
    let cols = g.dims()[1];
    let values: Vec<f32> = g.to_data().iter::<f32>().collect();
    let mut sums = vec![0.0; rows * cols];
    for (row, number) in values.chunks_exact(cols.max(1)).zip(index) {
        for (sum, value) in sums[number * cols..].iter_mut().zip(row) {
            *sum += value;
        }
    }
    Tensor::from_data(TensorData::new(sums, [rows, cols]), &g.device())
}

fn invalid(error: impl std::fmt::Display) -> WorkError {
    WorkError::Invalid(error.to_string())
}

impl Steps for Peer {
    fn answer(&mut self, step: u64, f: &Forward) -> Result<Backward, WorkError> {
        let (decoded, decoding) = timed(|| self.decode(f));
        let Decoded {
            cut,
            targets,
            image,
            text,
        } = decoded?;
        let (found, computing) = timed(|| self.step(step, &cut, &image, &text, &targets));
        let found = found.map_err(invalid)?;
        let loss = found.loss;
        let [of_image, of_text] = found.returned.rows;
        let image_gradient = of_image.unwrap_or_else(|| image.zeros_like());
        let text_gradient = of_text.unwrap_or_else(|| text.zeros_like());
        let encode = |tensor, g: &Tensor<2>| {
            let draw = Draw {
                seed: SEED,
                step,
                tensor,
            };
            encode_gradient(&self.codec, g.clone(), draw).map_err(invalid)
        };
        let (containers, encoding) = timed(|| {
            let image = encode("image", &image_gradient)?;
            Ok((image, encode("text", &text_gradient)?))
        });
        let (image_container, text_container) = containers?;
        self.seen = Some(Seen {
            image: self.image.expand(image),
            text: self.text.expand(text),
            image_gradient,
            text_gradient,
            decoding,
            encoding,
        });
        Ok(Backward {
            loss,
            image: image_container,
            text: text_container,
            compute_seconds: computing,
            coding_seconds: decoding + encoding,
        })
    }
}
