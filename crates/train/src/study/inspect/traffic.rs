//! How many bytes a sample sends and receives: not computed but encoded, on normally distributed features.

use burn::tensor::{Device, Tensor, TensorData};
use qtl_codec::{Code, Options};
use qtl_model::edge::{Returns, ids};
use qtl_model::quant::gradient::{Draw, GradientCodec, GradientError};
use qtl_model::quant::{Encoder, Phase, QuantizerSpec, to_f16};
use qtl_model::weights::Stream;
use serde::Serialize;

use super::shapes::Shapes;
use crate::deltas;
use crate::recipe::Recipe;
use crate::run::returns::returns;

/// Bytes per sample with one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Rows of one picture, containers included.
    pub up_image: u64,
    /// Rows of the text, or its token ids.
    pub up_text: u64,
    /// The same rows as 16-bit floats.
    pub up_16bit: u64,
    /// Gradients of the rows that the client has something to learn from.
    pub down: u64,
    /// Gradients of all rows as 32-bit floats.
    pub down_32bit: u64,
    /// Bytes that either side keeps at most of one client's text rows, where these are coded against the last ones.
    pub kept: u64,
    /// Of the second edge, where the labels are the client's.
    pub hidden: Option<Hidden>,
}

/// Bytes per sample between trunk and top, with as many supervised rows as there are rows of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Hidden {
    /// Hidden states.
    pub down: u64,
    /// The same as 16-bit floats.
    pub down_16bit: u64,
    /// Their gradients.
    pub up: u64,
    /// The same as 32-bit floats.
    pub up_32bit: u64,
}

impl Traffic {
    /// What the recipe's quantizers and gradient codec make of one sample's rows. Real features are not normally
    /// distributed; on trained ones the entropy coder usually saves more.
    ///
    /// # Errors
    ///
    /// [`GradientError`] for a gradient codec that cannot be.
    pub fn of(recipe: &Recipe, shapes: &Shapes, device: &Device) -> Result<Self, GradientError> {
        let [image, text] = [
            (shapes.picture_tokens, shapes.picture_width),
            (shapes.text_tokens, shapes.hidden),
        ]
        .map(|(rows, width)| normal(rows.max(1) as usize, width as usize, device));
        let code = |spec: &QuantizerSpec, x: &Tensor<2>| {
            let mut encoder = Encoder::init(spec, x.dims()[1], 0, device);
            let mut seen = encoder.accumulator();
            seen.add(encoder.seen(x.clone()));
            encoder.start(&seen);
            let z = encoder.bound(encoder.input(x.clone()));
            (z.dims(), encoder.quantize(z, Phase::Train(0)))
        };
        let size = |code: &Code| qtl_codec::encode(code, &Options::default()).len() as u64;
        let ((image_rows, up_image), (text_rows, mut up_text)) = (
            code(&recipe.quantizer.image, &image),
            code(&recipe.quantizer.text, &text),
        );
        let kept = match recipe.quantizer.text_deltas {
            true => deltas::most_bytes(&up_text, text_rows[0], shapes.vocabulary),
            false => 0,
        };
        if recipe.split.table_at_server() {
            up_text = drawn(text_rows[0], shapes.vocabulary);
        }
        let down = |codec: GradientCodec, Returns { image, text }| {
            let streams = [(image, image_rows, "image"), (text, text_rows, "text")];
            let streams = streams.into_iter().filter(|(returned, ..)| *returned);
            let sizes = streams.map(|(_, rows, tensor)| {
                let gradient = normal(rows[0], rows[1], device);
                let draw = Draw {
                    seed: recipe.seed,
                    step: 0,
                    tensor,
                };
                codec.encode(gradient, draw).map(|code| size(&code))
            });
            sizes.sum::<Result<u64, _>>()
        };
        let hidden = recipe.split.top_at_client().then(|| {
            let rows = shapes.hidden_rows(&recipe.split).max(1) as usize;
            let states = normal(rows, shapes.hidden as usize, device);
            let (shape, down) = code(&recipe.quantizer.hidden, &states);
            let up = |codec: GradientCodec| {
                let gradient = normal(shape[0], shape[1], device);
                let draw = Draw {
                    seed: recipe.seed,
                    step: 0,
                    tensor: "hidden",
                };
                codec.encode(gradient, draw).map(|code| size(&code))
            };
            Ok(Hidden {
                down: size(&down),
                down_16bit: size(&to_f16(states)),
                up: up(recipe.gradient.hidden)?,
                up_32bit: up(GradientCodec::F32)?,
            })
        });
        Ok(Self {
            kept,
            hidden: hidden.transpose()?,
            up_image: size(&up_image),
            up_text: size(&up_text),
            up_16bit: size(&to_f16(image)) + size(&to_f16(text)),
            down: down(recipe.gradient.codec, returns(recipe, device))?,
            down_32bit: down(GradientCodec::F32, Returns::default())?,
        })
    }
}

/// The code of token ids, every token as likely as another.
fn drawn(rows: usize, vocabulary: u64) -> Code {
    let mut stream = Stream::new(0, "tokens");
    let ids: Vec<i64> = (0..rows)
        .map(|_| (stream.bits() % vocabulary.max(1)) as i64)
        .collect();
    ids::code(&ids, vocabulary as usize)
}

fn normal(rows: usize, cols: usize, device: &Device) -> Tensor<2> {
    let mut stream = Stream::new(0, "traffic");
    let values: Vec<f32> = (0..rows * cols).map(|_| stream.normal() as f32).collect();
    Tensor::from_data(TensorData::new(values, [rows, cols]), device)
}
