//! The quantizers out of a model: what they do to a token goes into the token embedding, what they do to a picture's row
//! without its rounding goes into the connector.

use burn::tensor::{Device, Tensor};
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::parts::{BLOCKS, Parts};
use qtl_model::quant::{Decoder, Encoder, Phase, QuantizerSpec, Unclipped};

use crate::error::TrainError;

/// Rows of the token embedding that go through the quantizer at a time.
const ROWS: usize = 4096;

/// A model without quantizers, and what has become of them.
#[derive(Debug)]
pub struct Folded {
    /// The client's half.
    pub client: ClientPartition,
    /// The server's half.
    pub server: ServerPartition,
    /// Whether the token embedding has changed; a tied head has not.
    pub table_changed: bool,
    /// What has become of the quantizer of image rows and that of text rows, for people.
    pub says: [String; 2],
}

/// Takes the quantizers out of a model whose connector ends in a linear map of this name.
///
/// # Errors
///
/// [`TrainError`] naming a quantizer that cannot be taken out.
pub fn fold(
    client: &ClientPartition,
    server: &ServerPartition,
    specs: [&QuantizerSpec; 2],
    last_map: &str,
    device: &Device,
) -> Result<Folded, TrainError> {
    let [image, text] = specs;
    let width = client.bottom.embed_tokens.hidden_size();
    let mut folded = client.clone();
    let (image_says, map) = match image {
        QuantizerSpec::None(_) => ("none: 16-bit rounding left out".to_owned(), None),
        spec => {
            let map = affine(&client.uplink.image, &server.uplink.image, width, device);
            let map = map.ok_or_else(|| {
                refused("image", spec, "it is no linear map but for its rounding")
            })?;
            (
                format!(
                    "{spec}: its maps are folded into the connector, its rounding and clipping are left out"
                ),
                Some(map),
            )
        }
    };
    if let Some(map) = map {
        folded = map.behind(folded, last_map);
    }
    let table_changed = *text != QuantizerSpec::NONE;
    let text_says = if table_changed {
        let encoder = &client.uplink.text;
        if !(encoder.is_rowwise() && encoder.codes_rows_alone()) {
            let why = "what it makes of a token depends on the tokens beside it";
            return Err(refused("text", text, why));
        }
        let table = quantized(
            client.bottom.embed_tokens.table(),
            encoder,
            &server.uplink.text,
            device,
        )?;
        let count = client.bottom.embed_tokens.vocab_size() * width;
        let table = table.reshape([count]);
        folded = folded.replace(&mut |name, _| is_table(name).then(|| table.clone()));
        format!("{text}: folded into the token embedding")
    } else {
        "none: 16-bit rounding left out".to_owned()
    };
    let none = QuantizerSpec::NONE;
    let encoder = || Encoder::init(&none, width, 0, device);
    let decoder = || Decoder::init(&none, width, 0, device);
    *folded.uplink.image = encoder();
    *folded.uplink.text = encoder();
    let mut served = server.clone();
    *served.uplink.image = decoder();
    *served.uplink.text = decoder();
    Ok(Folded {
        client: folded,
        server: served,
        table_changed,
        says: [image_says, text_says],
    })
}

fn refused(modality: &str, spec: &QuantizerSpec, why: &str) -> TrainError {
    TrainError::Halves(format!(
        "the {modality} quantizer {spec} cannot be taken out of the model: {why}. Use what `merge` writes, which Python \
         reads with the quantizers"
    ))
}

/// Whether this is the token embedding in the client's half.
pub(super) fn is_table(name: &str) -> bool {
    name.starts_with(BLOCKS.prefix)
}

/// The rows as the server reads them.
fn quantized(
    table: Tensor<2>,
    encoder: &Encoder,
    decoder: &Decoder,
    device: &Device,
) -> Result<Tensor<2>, TrainError> {
    let [count, _] = table.dims();
    let mut rows = Vec::new();
    for first in (0..count).step_by(ROWS) {
        let some = table.clone().narrow(0, first, ROWS.min(count - first));
        let code = encoder.quantize(encoder.bound(encoder.input(some)), Phase::Evaluate);
        let leaf = decoder.dequantize(&code, device);
        let leaf = leaf.map_err(|e| TrainError::Halves(format!("the text quantizer: {e}")))?;
        rows.push(decoder.expand(leaf));
    }
    Ok(Tensor::cat(rows, 0))
}

/// `y = x W + b`, W as `[in, out]`.
struct Affine {
    weight: Tensor<2>,
    bias: Tensor<2>,
}

/// What a quantizer does to rows that it neither rounds nor clips; `None` if that is no affine map. The maps on either side
/// of the rounding are affine, so what they do to zero and to the unit vectors is all there is to know.
fn affine(encoder: &Encoder, decoder: &Decoder, width: usize, device: &Device) -> Option<Affine> {
    let unit = |width| Tensor::<2>::eye(width, device);
    let zero = |width| Tensor::<2>::zeros([1, width], device);
    let offset = encoder.input(zero(width));
    let inner = encoder.input(unit(width)) - offset.clone();
    let (inner, offset) = match encoder.unclipped() {
        Unclipped::Same => (inner, offset),
        Unclipped::Scaled { shift, scale } => {
            let (shift, scale) = (shift.unsqueeze::<2>(), scale.unsqueeze::<2>());
            (inner / scale.clone(), (offset - shift) / scale)
        }
        Unclipped::Other => return None,
    };
    let code = inner.dims()[1];
    let end = decoder.expand(zero(code));
    let outer = decoder.expand(unit(code)) - end.clone();
    Some(Affine {
        weight: inner.matmul(outer.clone()),
        bias: offset.matmul(outer) + end,
    })
}

impl Affine {
    /// The half whose connector does this after its last map.
    fn behind(&self, client: ClientPartition, last_map: &str) -> ClientPartition {
        let width = self.weight.dims()[0];
        client.replace(&mut |name, value| match name.strip_prefix(last_map)? {
            "weight" => {
                let [count] = value.dims();
                let weight = value.reshape([width, count / width]);
                let changed = self.weight.clone().transpose().matmul(weight);
                Some(changed.reshape([count]))
            }
            "bias" => {
                let bias = value.reshape([1, width]).matmul(self.weight.clone());
                Some((bias + self.bias.clone()).reshape([width]))
            }
            _ => None,
        })
    }
}
