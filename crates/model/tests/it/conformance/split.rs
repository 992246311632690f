//! The model in two halves against the same model in one graph, for every tower and every connector.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use qtl_codec::Plane;
use qtl_data::TokenSpan;
use qtl_model::connector::FAMILIES;
use qtl_model::llm::Supervision;
use qtl_model::params::{Named, collect, track};
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::parts::{BLOCKS, CONNECTOR, VISION_TOWER};
use qtl_model::pretrained::Blueprint;
use qtl_model::quant::{FsqSpec, QuantizerSpec};
use qtl_model::splice::{IMAGE_TOKEN, Sample, splice};
use qtl_model::stage::{Batch, Pictures};
use qtl_model::targets;

use super::{noise, vision_config};
use crate::golden::floats;
use crate::partition::over_the_wire;

/// Text before and after the picture, with labels; one sequence per row.
const TEXT: [[i64; 4]; 2] = [[1, 5, 6, 2], [1, 9, 7, 3]];

/// A model with random weights in a directory of its own.
fn model(
    dir: &Path,
    tower: &str,
    connector: &str,
    quantizer: &QuantizerSpec,
) -> (ClientPartition, ServerPartition) {
    let config = serde_json::json!({
        "model_type": "tinyllava",
        "text_config": {
            "model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 2, "vocab_size": 11, "initializer_range": 0.4,
        },
        "vision_config": vision_config(tower),
        "connector_type": connector, "num_queries": 3, "num_resampler_layers": 2,
        "qformer": {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 10, "num_hidden_layers": 3},
    });
    // Whatever does not resize its table takes 6 pixels.
    let side = if tower == "dinov2" { 8 } else { 6 };
    let processor = serde_json::json!({
        "size": {"height": side, "width": side}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let file = dir.join("preprocessor_config.json");
    std::fs::write(file, processor.to_string()).unwrap();
    let (image, text) = (quantizer.clone(), quantizer.clone());
    let mut blueprint = Blueprint::read(dir, image, text, 7).unwrap();
    blueprint.fresh = true;
    let device = Device::default();
    let client = blueprint.client(&device).unwrap().partition;
    (client, blueprint.server(&device).unwrap().partition)
}

/// Loss and gradients of tower, connector and token embedding in one graph, features rounded to 16 bits as on the wire.
fn whole(client: &ClientPartition, server: &ServerPartition, pixels: Tensor<4>) -> (f32, Named) {
    let device = Device::default();
    let tower = track(&*client.bottom.vision_tower, VISION_TOWER.prefix, &|_| true);
    let connector = track(&*client.bottom.connector, CONNECTOR.prefix, &|_| true);
    let table = track(&*client.bottom.embed_tokens, BLOCKS.prefix, &|_| true);
    let sent = |x: Tensor<3>| {
        let rounded = x.clone().inner().cast(DType::F16).cast(DType::F32);
        x.clone() + (Tensor::from_inner(rounded) - x.detach())
    };
    let pictures = sent(connector.forward(tower.forward(pixels)));
    let text = |range: std::ops::Range<usize>| {
        let ids: Vec<i64> = TEXT
            .iter()
            .flat_map(|row| row[range.clone()].to_vec())
            .collect();
        let rows = table.embed(&ids);
        let width = rows.dims()[1];
        sent(rows.reshape([2, range.len(), width]))
    };
    let tokens = pictures.dims()[1];
    let input = Tensor::cat(vec![text(0..1), pictures, text(1..4)], 1);
    let length = input.dims()[1];
    let labels = TEXT.map(|row| {
        let mut labels = vec![-100; 1 + tokens];
        labels.extend(&row[1..]);
        labels
    });
    let model = server.language_model().unwrap();
    let hidden = model
        .blocks
        .forward(input, &model.blocks.causal_context(length, &device));
    let loss = model
        .head
        .loss(hidden, &Supervision::shifted(&labels, length));
    let value = loss.clone().inner().into_scalar::<f32>();
    let mut grads = loss.backward();
    let mut named = Named::new();
    collect(&tower, VISION_TOWER.prefix, &mut grads, &mut named);
    collect(&connector, CONNECTOR.prefix, &mut grads, &mut named);
    collect(&table, BLOCKS.prefix, &mut grads, &mut named);
    (value, named)
}

/// The batch of [`TEXT`] with a picture each, and its labels.
fn batch(client: &ClientPartition, pixels: Tensor<4>) -> (Batch, Vec<i64>) {
    let spans = TEXT.map(|row| {
        let mut ids = vec![row[0], IMAGE_TOKEN];
        ids.extend(&row[1..]);
        let labels = ids.iter().enumerate();
        let labels = labels.map(|(i, id)| if i < 2 { -100 } else { *id });
        [TokenSpan {
            branch: 0,
            labels: labels.collect(),
            ids,
        }]
    });
    let samples: Vec<Sample<'_>> = spans
        .iter()
        .enumerate()
        .map(|(i, spans)| Sample {
            spans,
            pictures: i..i + 1,
        })
        .collect();
    let spliced = splice(&samples, client.tokens_per_picture(), 100).unwrap();
    let labels = spliced.labels.clone();
    let pictures = Some(Pictures::Pixels(pixels));
    (Batch { pictures, spliced }, labels)
}

/// The same over the wire, with recomputed blocks.
fn split(
    client: &mut ClientPartition,
    server: &ServerPartition,
    pixels: Tensor<4>,
    trained: &dyn Fn(&str) -> bool,
) -> (f32, Named) {
    let (batch, labels) = batch(client, pixels);
    let (cut, pending) = client.forward(&batch, 0, trained);
    let targets = targets::encode(&labels, server.vocab_size());
    let step = server.step(
        &over_the_wire(&cut),
        &targets,
        &|_| false,
        &Device::default(),
    );
    let step = step.unwrap();
    (step.loss as f32, pending.backward(step.returned.rows))
}

fn pictures(client: &ClientPartition) -> Tensor<4> {
    let side = client.bottom.vision_tower.vits()[0].spec().image_size;
    noise([2, 3, side, side], "pixels")
}

fn halves_equal_the_whole(tower: &str, connector: &str) {
    let what = format!("{tower} with {connector}");
    let folder = tempfile::tempdir().unwrap();
    let (mut client, server) = model(folder.path(), tower, connector, &QuantizerSpec::NONE);
    let pixels = pictures(&client);
    let (want_loss, want) = whole(&client, &server, pixels.clone());
    let (loss, got) = split(&mut client, &server, pixels.clone(), &|_| true);
    assert!(
        (loss - want_loss).abs() < 1e-5,
        "{what}: {loss}, not {want_loss}"
    );
    assert_eq!(
        got.keys().collect::<Vec<_>>(),
        want.keys().collect::<Vec<_>>(),
        "{what}"
    );
    for (name, want) in want {
        let (got, want) = (floats(got[&name].clone()), floats(want));
        let top = want.iter().fold(0.0f32, |top, x| top.max(x.abs()));
        for (got, want) in got.iter().zip(&want) {
            let error = (got - want).abs();
            assert!(
                error <= 1e-3 * top + 1e-6,
                "{what}: {name} is off by {error} of {top}"
            );
        }
    }
    // Freezing is by name, on this side of the cut as well.
    let connector_only = |name: &str| name.starts_with(CONNECTOR.prefix);
    let (_, got) = split(&mut client, &server, pixels, &connector_only);
    assert!(got.keys().all(|name| connector_only(name)), "{what}");
}

#[test]
fn every_tower_trains_split_as_in_one_graph() {
    for (tower, spec) in super::towers() {
        let towers = 1 + usize::from(spec.partner.is_some());
        let fits = FAMILIES.iter().rev().find(|family| family.towers == towers);
        halves_equal_the_whole(tower, fits.unwrap().example);
    }
}

#[test]
fn every_connector_trains_split_as_in_one_graph() {
    for family in FAMILIES {
        let tower = if family.towers == 2 { "mof" } else { "dinov2" };
        halves_equal_the_whole(tower, family.example);
    }
}

#[test]
fn codes_lie_on_a_grid_only_where_the_connector_leaves_every_token_in_its_place() {
    let quantizer = QuantizerSpec::Fsq(FsqSpec::paper(4));
    for family in FAMILIES {
        let tower = if family.towers == 2 { "mof" } else { "dinov2" };
        let folder = tempfile::tempdir().unwrap();
        let (client, _) = model(folder.path(), tower, family.example, &quantizer);
        let cut = client.encode(&batch(&client, pictures(&client)).0);
        let [Plane::Symbols(plane)] = &cut.image.unwrap().planes[..] else {
            panic!("not a plane of symbols");
        };
        let pictures = 2 * client.tokens_per_picture();
        assert_eq!(plane.rows, pictures, "{}", family.name);
        assert_eq!(
            plane.grid.is_some(),
            client.bottom.connector.on_grid(),
            "{}",
            family.name
        );
    }
}
