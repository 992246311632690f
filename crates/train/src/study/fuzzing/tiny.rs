//! Models so small that a step takes a millisecond, one for every kind of code that crosses, and legal messages to them.

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use qtl_codec::Options;
use qtl_data::example::{IGNORED, PLACEHOLDER, Pixels, TokenSpan};
use qtl_data::{Example, Processor};
use qtl_model::Device;
use qtl_model::config::{Fields, TinyLlavaConfig};
use qtl_model::pretrained::Blueprint;
use qtl_model::quant::{Accumulator, Encoder, gradient};
use qtl_model::targets;
use qtl_model::weights::Stream;
use qtl_wire::{Calibration, Next};

use super::Legal;
use crate::client::{batch, container};
use crate::deltas::Sent;
use crate::message::{encode_cut, encode_gradient, forward};
use crate::recipe::Recipe;

/// Quantizers of image and text rows, the gradient's codec, and what the recipe has besides.
const CODES: [[&str; 4]; 9] = [
    [
        "kind='fsq', levels=4",
        "kind='ecsq', bits=2, statistics='calibrated'",
        "{ kind='tiled', bits=4 }",
        "",
    ],
    ["kind='none'", "kind='none'", "'f32'", ""],
    [
        "kind='topk', keep=0.4",
        "kind='normal_float', bits=2",
        "'int8'",
        "",
    ],
    [
        "kind='splitfc', bits=4",
        "kind='fedbat'",
        "'f16'",
        "split.connector='server'",
    ],
    [
        "kind='fsq_tanh', levels=3, code_dim=5",
        "kind='fsq', levels=200, statistics='batch'",
        "'int8'",
        "",
    ],
    [
        "kind='fsq', levels=4",
        "kind='none'",
        "'int8'",
        "split.labels='client'\nquantizer.hidden={ kind='fsq', levels=4, statistics='channel' }\n\
         gradient.hidden={ kind='tiled', bits=4 }",
    ],
    [
        "kind='pca', dims=4, bits=8",
        "kind='vq', dims=4, codes=8, learned=true",
        "{ kind='rows', keep=0.5, tiled={ bits=4 } }",
        "quantizer.calibration_batches=2",
    ],
    [
        "kind='rvq', dims=4, stages=2, codes=4",
        "kind='pq', dims=4, groups=2, codes=4",
        "'int8'",
        "split.labels='client'\nquantizer.hidden={ kind='pca', dims=4, bits=8 }\n\
         gradient.hidden={ kind='rows', keep=0.7, tiled={ bits=4 } }",
    ],
    [
        "kind='fsq', levels=4",
        "kind='normal_float', bits=2",
        "'int8'",
        "quantizer.text_deltas=true",
    ],
];

/// Number of tiny models.
pub const KINDS: usize = CODES.len();

/// Longest sequence, and samples of a batch.
const MAX_LENGTH: usize = 24;
const BATCH: usize = 3;
const SIDE: usize = 8;

/// A recipe and its model.
pub(super) fn model(kind: usize) -> Result<(Recipe, Blueprint), String> {
    let [image, text, gradient, more] = CODES[kind % KINDS];
    // Every other one adds up micro-batches.
    let accumulate = 1 + kind % 2;
    let recipe = format!(
        "name = 'tiny'\nseed = 5\n[quantizer]\nimage = {{ {image} }}\ntext = {{ {text} }}\n\
         [gradient]\ncodec = {gradient}\n[data]\ntemplate = 'qa'\nmax_length = {MAX_LENGTH}\n\
         [train]\nsteps = 100\nbatch = {BATCH}\naccumulate = {accumulate}\nlr = 1e-2\n"
    );
    let place = Path::new("tiny.toml");
    let more: Vec<String> = more.lines().map(str::to_owned).collect();
    let recipe = Recipe::parse(&recipe, &more, place).map_err(|error| error.to_string())?;
    let config = r#"{"model_type": "tinyllava", "connector_type": "mlp2x_gelu",
        "vision_feature_layer": -1, "vision_feature_select_strategy": "cls_patch",
        "text_config": {"model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 24, "initializer_range": 0.3,
            "max_position_embeddings": 64},
        "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 8, "intermediate_size": 12,
            "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 8, "patch_size": 4}}"#;
    let fields = Fields::parse(Path::new("tiny.json"), config).map_err(|e| e.to_string())?;
    let blueprint = Blueprint {
        dir: PathBuf::new(),
        config: TinyLlavaConfig::from_fields(&fields).map_err(|error| error.to_string())?,
        processor: Processor::siglip(SIDE),
        image: recipe.quantizer.image.clone(),
        text: recipe.quantizer.text.clone(),
        seed: recipe.seed,
        fresh: true,
        hidden: recipe.quantizer.hidden.clone(),
        placement: recipe.split,
    };
    Ok((recipe, blueprint))
}

/// Messages of a client of the model that has not learned yet.
pub(super) fn legal(recipe: &Recipe, blueprint: &Blueprint) -> Result<Legal, String> {
    let device = Device::flex();
    let client = blueprint
        .client(&device)
        .map_err(|error| error.to_string())?;
    let mut client = client.partition;
    client.uplink.text_rows = recipe.quantizer.text_rows;
    let made = |lengths: &[usize]| {
        let examples: Vec<_> = lengths.iter().map(|length| example(*length)).collect();
        batch(&client, &examples, MAX_LENGTH, &device).map_err(|error| error.to_string())
    };
    // Where rows go on from earlier ones, those of the second step do.
    let second: &[usize] = match recipe.quantizer.text_deltas {
        true => &[20, 20],
        false => &[9, 6],
    };
    let batches = [made(&[MAX_LENGTH; BATCH])?, made(second)?];
    let uplink = &client.uplink;
    let (mut image, mut text) = (uplink.image.accumulator(), uplink.text.accumulator());
    for batch in &batches {
        client.calibrate(batch, &mut image, &mut text);
    }
    let prompts = made(&[9, 6])?;
    let mut legal = Legal::default();
    let start = |quantizer: &mut Encoder, seen: &Accumulator| {
        let told = quantizer.start(seen);
        told.as_ref().map(container).unwrap_or_default()
    };
    legal.calibration = Calibration {
        image: start(&mut client.uplink.image, &image),
        text: start(&mut client.uplink.text, &text),
    };
    let mut sent = recipe.quantizer.text_deltas.then(Sent::default);
    for (step, batch) in batches.iter().enumerate() {
        let step = step as u64;
        let (cut, _) = client.forward(batch, step, &|name| recipe.tune.trains(name));
        let vocab = client.bottom.embed_tokens.vocab_size();
        let targets = targets::encode(&batch.spliced.labels, vocab);
        let mut message = forward(&cut, &targets).0;
        if let Some(sent) = &mut sent {
            message.cut = sent.encode(&cut, &batch.spliced.text_ids).0;
        }
        legal.steps.push(message);
        if let Some(top) = client.top.as_deref() {
            let wanted = top.wanted(&batch.spliced);
            let rows = top.rows(&batch.spliced);
            let gradient = learned(recipe, step, [rows, top.downlink.hidden.code_dim()])?;
            let wanted = wanted.as_ref().map(container).unwrap_or_default();
            legal.second.push([wanted, gradient]);
        }
    }
    legal.prompt = encode_cut(&client.encode(&prompts)).0;
    legal.next = Next {
        text: qtl_codec::encode(
            &client.encode_tokens(&[3, 7], None, &[]),
            &Options::default(),
        ),
        keep: vec![0, 1],
    };
    Ok(legal)
}

/// A gradient of hidden states, as it is sent.
fn learned(recipe: &Recipe, step: u64, [rows, width]: [usize; 2]) -> Result<Vec<u8>, String> {
    let mut stream = Stream::new(step, "gradient");
    let values: Vec<f32> = (0..rows * width)
        .map(|_| (2.0 * stream.uniform() - 1.0) as f32 / 16.0)
        .collect();
    let data = TensorData::new(values, [rows, width]);
    let draw = gradient::Draw {
        seed: recipe.seed,
        step,
        tensor: "hidden",
    };
    let tensor = Tensor::<2>::from_data(data, &Device::flex());
    encode_gradient(&recipe.gradient.hidden, tensor, draw).map_err(|error| error.to_string())
}

/// A picture (four rows), a question and two independent answers: so many rows.
fn example(length: usize) -> Example {
    let mut stream = Stream::new(length as u64, "example");
    let data = (0..3 * SIDE * SIDE)
        .map(|_| (2.0 * stream.uniform() - 1.0) as f32)
        .collect();
    let mut ids = |count: usize| -> Vec<i64> {
        (0..count)
            .map(|_| 1 + (stream.bits() % 20) as i64)
            .collect()
    };
    let answer = ids(1);
    let rest = ids(length - 6);
    let span = |branch, ids: Vec<i64>, labels| TokenSpan {
        branch,
        ids,
        labels,
    };
    Example {
        id: length.to_string(),
        pixels: Some(Pixels { side: SIDE, data }),
        spans: vec![
            span(0, vec![2, PLACEHOLDER], vec![IGNORED; 2]),
            span(1, answer.clone(), answer),
            span(2, rest.clone(), rest),
        ],
    }
}
