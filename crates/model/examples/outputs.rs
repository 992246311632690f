//! What a model computes, for comparing with other programs: the vision tower's features of a picture, and the language
//! model's logits of a row of tokens, into a safetensors file. `runs/merged_in_python.py` reads it.
//!
//!     cargo run --release -p qtl-model --example outputs -- DIR OUT.safetensors

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use qtl_model::pretrained::Blueprint;
use qtl_model::quant::QuantizerSpec;
use qtl_model::weights::{NamedTensor, SaveType, save};

/// Tokens 0 to 11.
const TOKENS: i64 = 12;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(dir), Some(out)) = (args.next(), args.next()) else {
        return Err("give a model directory and a file to write".into());
    };
    let none = QuantizerSpec::NONE;
    let blueprint = Blueprint::read(&dir, none.clone(), none, 0)?;
    let device = Device::default();

    let client = blueprint.client(&device)?.partition;
    let (channels, side) = (3, blueprint.config.vision.image_size);
    let value = |i: usize| {
        let (c, y, x) = (i / (side * side), i / side % side, i % side);
        ((7 * c + 3 * y + x) % 11) as f32 / 5.0 - 1.0
    };
    let pixels: Vec<f32> = (0..channels * side * side).map(value).collect();
    let pixels = TensorData::new(pixels, [1, channels, side, side]);
    let features = client
        .bottom
        .vision_tower
        .forward(Tensor::from_data(pixels, &device));
    let ids: Vec<i64> = (0..TOKENS).collect();
    let rows = client.bottom.embed_tokens.embed(&ids);
    drop(client);

    let server = blueprint.server(&device)?.partition;
    let decoder = server.language_model().ok_or("the top is at the client")?;
    let context = decoder.blocks.causal_context(ids.len(), &device);
    let logits = decoder
        .head
        .forward(decoder.blocks.forward(rows.unsqueeze_dim(0), &context));
    let named = |name: &str, tensor: Tensor<3>| {
        let [_, rows, columns] = tensor.dims();
        NamedTensor {
            name: name.to_owned(),
            shape: vec![rows, columns],
            data: tensor.into_data().iter::<f32>().collect(),
        }
    };
    let outputs = [named("features", features), named("logits", logits)];
    save(&out, &outputs, SaveType::F32)?;
    Ok(())
}
