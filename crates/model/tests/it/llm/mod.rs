//! The decoder: against the reference ([`golden`]), against itself for every family ([`conformance`]), and what its
//! configurations say ([`config`]).

mod config;
mod conformance;
mod golden;

use std::path::Path;

use burn::tensor::{Device, Tensor};
use qtl_model::config::Fields;
use qtl_model::llm::{Decoder, DecoderSpec, Supervision, TokenEmbedding};
use qtl_model::weights::{Checkpoint, load_into};

fn spec(file: &Path) -> DecoderSpec {
    DecoderSpec::from_config(&Fields::read(file).unwrap()).unwrap()
}

fn load(dir: &Path, spec: &DecoderSpec, device: &Device) -> (TokenEmbedding, Decoder) {
    let file = Checkpoint::open(dir).unwrap();
    let embedding = TokenEmbedding::new(spec, device);
    let embedding = load_into(embedding, &file, &spec.embedding_keys()).unwrap();
    let decoder = Decoder::new(spec.clone(), device);
    let decoder = load_into(decoder, &file, &spec.decoder_keys()).unwrap();
    (embedding, decoder)
}

/// Embeds rows of equal length.
fn embed(embedding: &TokenEmbedding, rows: &[Vec<i64>]) -> Tensor<3> {
    let flat = embedding.embed(&rows.concat());
    flat.reshape([rows.len(), rows[0].len(), embedding.hidden_size()])
}

fn argmax(logits: Tensor<2>) -> Vec<i64> {
    logits.argmax(1).into_data().iter::<i64>().collect()
}

/// Greedy decoding of right-padded prompts with the cache.
fn generate(
    embedding: &TokenEmbedding,
    decoder: &Decoder,
    prompts: &[Vec<i64>],
    new: usize,
) -> Vec<Vec<i64>> {
    let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
    let longest = *lengths.iter().max().unwrap();
    let padded: Vec<Vec<i64>> = prompts
        .iter()
        .map(|row| {
            row.iter()
                .copied()
                .chain(std::iter::repeat(0))
                .take(longest)
                .collect()
        })
        .collect();
    let (logits, mut cache) = decoder.prefill(embed(embedding, &padded), &lengths);
    let mut out = vec![Vec::new(); prompts.len()];
    let mut next = argmax(logits);
    for round in 0..new {
        for (row, token) in out.iter_mut().zip(&next) {
            row.push(*token);
        }
        if round + 1 < new {
            next = argmax(decoder.step(embedding.embed(&next), &mut cache));
        }
    }
    out
}

fn logits(decoder: &Decoder, x: Tensor<3>) -> Tensor<3> {
    let context = decoder.blocks.causal_context(x.dims()[1], &x.device());
    decoder.head.forward(decoder.blocks.forward(x, &context))
}

fn loss(decoder: &Decoder, x: Tensor<3>, labels: &[Vec<i64>]) -> Tensor<1> {
    let length = x.dims()[1];
    let context = decoder.blocks.causal_context(length, &x.device());
    decoder.head.loss(
        decoder.blocks.forward(x, &context),
        &Supervision::shifted(labels, length),
    )
}
