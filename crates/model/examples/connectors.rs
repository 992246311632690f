//! Tokens and measured bytes per picture of every connector, at the sizes of SigLIP-so400m (384 pixels, 1152 wide) in
//! front of OpenELM-270M (1280 wide).
//!
//! Features and weights are random, so the bytes are those of symbols without the structure that trained features have;
//! the number of tokens is what this is about.
#![allow(clippy::unwrap_used)]

use burn::tensor::{Device, Tensor, TensorData};
use qtl_codec::{Options, encode};
use qtl_model::connector::{Connector, ConnectorSpec, FAMILIES};
use qtl_model::quant::{Encoder, FsqSpec, Phase, QuantizerSpec};
use qtl_model::weights::{Stream, initialize};

const TOKENS: usize = 728;
const VISION: usize = 1152;
const LLM: usize = 1280;

fn main() {
    let device = Device::default();
    let quantizer = QuantizerSpec::Fsq(FsqSpec::paper(4));
    println!(
        "{:<12} {:>7} {:>14} {:>14}",
        "connector", "tokens", "2-bit bytes", "16-bit bytes"
    );
    for family in FAMILIES {
        // The identity needs equal widths.
        let input = if family.example == "identity" {
            LLM
        } else {
            VISION * family.towers
        };
        let mut spec = ConnectorSpec::new(family.example, input, LLM);
        spec.towers = family.towers;
        let connector = Connector::new(&spec, &device).unwrap();
        let rule = connector.clone();
        let connector = initialize(connector, "", 1, |name, shape| rule.fill(name, shape));
        let mut stream = Stream::new(1, "features");
        let values: Vec<f32> = (0..TOKENS * input)
            .map(|_| stream.normal() as f32)
            .collect();
        let features = Tensor::from_data(TensorData::new(values, [1, TOKENS, input]), &device);
        let rows: Tensor<3> = connector.forward(features);
        let [_, tokens, width] = rows.dims();
        let encoder = Encoder::init(&quantizer, LLM, 1, &device);
        let z = encoder.bound(encoder.input(rows.reshape([tokens, width])));
        let bytes = encode(&encoder.quantize(z, Phase::Evaluate), &Options::default()).len();
        let raw = 2 * tokens * width;
        println!("{:<12} {tokens:>7} {bytes:>14} {raw:>14}", family.example);
    }
}
