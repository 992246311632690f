//! Whole model directories as other programs write them: every stored number, and each half from its own files alone.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use qtl_model::llm::Supervision;
use qtl_model::partition::{ClientPartition, ServerPartition};
use qtl_model::parts::Parts;
use qtl_model::pretrained::Blueprint;
use qtl_model::quant::{FsqSpec, Phase, QuantizerSpec};
use qtl_model::splice::{Grid, PADDING, Spliced};
use qtl_model::weights::{Checkpoint, NamedTensor, SaveType, save};

use crate::golden::{each, floats};
use crate::partition::{quantizer, spliced};

fn blueprint(dir: &Path, spec: &QuantizerSpec) -> Blueprint {
    Blueprint::read(dir, spec.clone(), spec.clone(), 0).unwrap()
}

/// What the language model reads, and the penalty. Without quantizers the features do not go through 16 bits here.
fn inputs(
    client: &ClientPartition,
    server: &ServerPartition,
    pixels: Tensor<4>,
    spliced: &Spliced,
) -> (Tensor<3>, Grid, f32) {
    let device = client.device();
    let features = client
        .bottom
        .connector
        .forward(client.bottom.vision_tower.forward(pixels));
    let [pictures, tokens, width] = features.dims();
    let image = features.reshape([pictures * tokens, width]);
    let shown: Vec<i64> = spliced.text_ids.iter().map(|id| (*id).max(0)).collect();
    let real = |id: &i64| if *id == PADDING { 0.0 } else { 1.0 };
    let real: Vec<f32> = spliced.text_ids.iter().map(real).collect();
    let text = client.bottom.embed_tokens.embed(&shown)
        * Tensor::<2>::from_data(TensorData::new(real, [shown.len(), 1]), &device);
    // All rows of all pictures count in the quantizer's statistics, also those that nobody sees.
    let through = |x: Tensor<2>, image: bool| {
        let (encoder, decoder) = if image {
            (&client.uplink.image, &server.uplink.image)
        } else {
            (&client.uplink.text, &server.uplink.text)
        };
        let z = encoder.bound(encoder.input(x));
        let penalty = encoder.penalty(z.clone());
        let penalty = penalty.map_or(0.0, |p| p.into_scalar::<f32>());
        let y = match &**encoder {
            qtl_model::quant::Encoder::None(_) => z,
            _ => decoder.expand(
                decoder
                    .dequantize(&encoder.quantize(z, Phase::Evaluate), &device)
                    .unwrap(),
            ),
        };
        (y, penalty)
    };
    let (image, of_image) = through(image, true);
    let (text, of_text) = through(text, false);
    let rows: Vec<i64> = spliced.image_rows.iter().map(|row| *row as i64).collect();
    let rows = Tensor::<1, Int>::from_data(TensorData::from(rows.as_slice()), &device);
    let grid = Grid::new(&spliced.layout);
    let source: Vec<i64> = grid.source.iter().map(|row| *row as i64).collect();
    let source = Tensor::<1, Int>::from_data(TensorData::from(source.as_slice()), &device);
    let all = Tensor::cat(
        vec![
            image.select(0, rows),
            text,
            Tensor::zeros([1, width], &device),
        ],
        0,
    );
    let input = all
        .select(0, source)
        .reshape([grid.height, grid.width, width]);
    (input, grid, of_image + of_text)
}

#[test]
fn golden_checkpoints_of_whole_models() {
    let device = Device::default();
    each(&["ckpt_tinyllava_"], |case| {
        let spec = quantizer(case);
        let blueprint = blueprint(&case.dir, &spec);
        let client = blueprint.client(&device).unwrap();
        let server = blueprint.server(&device).unwrap();
        assert!(client.quantizers_found && server.quantizers_found);
        let (client, server) = (client.partition, server.partition);
        let tokens = client.tokens_per_picture();
        let mut spliced = spliced(case, tokens, blueprint.config.max_length);
        let real = Grid::new(&spliced.layout).branches;
        if spec != QuantizerSpec::NONE {
            spliced.pad_like_the_reference();
        }
        let pixels = case.tensor("in.images", &device);
        let (input, grid, penalty) = inputs(&client, &server, pixels, &spliced);

        let mask: Vec<i64> = real.iter().map(|b| i64::from(b.is_some())).collect();
        assert_eq!(mask, case.ints("out.attention_mask"));
        let mut labels = vec![-100; grid.height * grid.width];
        for (cell, label) in grid.text_cells.iter().zip(&spliced.labels) {
            labels[*cell] = *label;
        }
        assert_eq!(labels, case.ints("out.labels"));
        let mut worst = case.check("out.inputs_embeds", input.clone());
        if spec != QuantizerSpec::NONE {
            worst = worst.max(case.check_loss("out.vq_loss", penalty));
        }

        let model = server.language_model().unwrap();
        let context = model.blocks.causal_context(grid.width, &device);
        let hidden = model.blocks.forward(input, &context);
        let logits = floats(model.head.forward(hidden.clone()));
        let vocab = server.vocab_size();
        worst = worst.max(case.check_where("out.logits", &logits, |i| mask[i / vocab] == 1));
        let labels: Vec<Vec<i64>> = labels.chunks(grid.width).map(<[i64]>::to_vec).collect();
        let supervision = Supervision::shifted(&labels, grid.width);
        let loss = model.head.loss(hidden, &supervision).into_scalar::<f32>();
        worst = worst.max(case.check_loss("out.loss", loss));
        Ok(format!("within {worst:.1e}"))
    });
}

#[test]
fn golden_checkpoints_survive_saving_and_loading() {
    let device = Device::default();
    each(&["ckpt_tinyllava_"], |case| {
        let spec = quantizer(case);
        let read = |dir: &Path| {
            let blueprint = blueprint(dir, &spec);
            let mut all = blueprint.client(&device).unwrap().partition.tensors();
            all.extend(blueprint.server(&device).unwrap().partition.tensors());
            all
        };
        let before = read(&case.dir);
        let folder = tempfile::tempdir().unwrap();
        fs::copy(
            case.dir.join("config.json"),
            folder.path().join("config.json"),
        )
        .unwrap();
        save(
            &folder.path().join("model.safetensors"),
            &before,
            SaveType::F32,
        )
        .unwrap();
        assert_eq!(read(folder.path()), before);
        Ok(format!("{} tensors", before.len()))
    });
}

/// A copy of a case's directory in which files can be spoiled.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::write(target, fs::read(&path).unwrap()).unwrap();
        }
    }
}

fn recipe_folder(folder: &Path) -> PathBuf {
    let from = crate::set::fixture("model/ckpt_tinyllava_recipe");
    let to = folder.join("model");
    copy(&from, &to);
    to
}

#[test]
fn each_half_reads_its_own_folders_only() {
    let device = Device::default();
    let folder = tempfile::tempdir().unwrap();
    let dir = recipe_folder(folder.path());
    let none = QuantizerSpec::NONE;
    fs::write(dir.join("vision_tower/pytorch_model.bin"), "rubbish").unwrap();
    fs::remove_dir_all(dir.join("connector")).unwrap();
    blueprint(&dir, &none).server(&device).unwrap();
    let error = blueprint(&dir, &none)
        .client(&device)
        .unwrap_err()
        .to_string();
    assert!(error.contains("vision_tower/pytorch_model.bin"), "{error}");

    let dir = recipe_folder(folder.path());
    // The client's one tensor of the language model stays; all others go.
    let bin = dir.join("language_model/pytorch_model.bin");
    let file = Checkpoint::open(&bin).unwrap();
    let name = "model.embed_tokens.weight";
    let table = NamedTensor {
        name: name.to_owned(),
        shape: file.entry(name).unwrap().shape.clone(),
        data: file.read(name).unwrap(),
    };
    fs::remove_file(&bin).unwrap();
    save(
        &bin.with_file_name("model.safetensors"),
        &[table],
        SaveType::F32,
    )
    .unwrap();
    blueprint(&dir, &none).client(&device).unwrap();
    let error = blueprint(&dir, &none)
        .server(&device)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("model.layers.0.mlp.up_proj.weight"),
        "{error}"
    );
}

#[test]
fn shards_of_the_other_half_may_be_missing() {
    let device = Device::default();
    let folder = tempfile::tempdir().unwrap();
    let case = crate::set::fixture("model/ckpt_tinyllava_merged");
    let file = Checkpoint::open(&case).unwrap();
    let write = |shard: &str, mine: &dyn Fn(&str) -> bool| {
        let names: Vec<&str> = file.names().filter(|name| mine(name)).collect();
        let tensors: Vec<NamedTensor> = names
            .iter()
            .map(|name| NamedTensor {
                name: (*name).to_owned(),
                shape: file.entry(name).unwrap().shape.clone(),
                data: file.read(name).unwrap(),
            })
            .collect();
        save(&folder.path().join(shard), &tensors, SaveType::F32).unwrap();
        names
            .iter()
            .map(|name| format!("\"{name}\": \"{shard}\""))
            .collect::<Vec<_>>()
    };
    let server = |name: &str| name.starts_with("language_model.") && !name.contains("embed_tokens");
    let mut map = write("client.safetensors", &|name| !server(name));
    map.extend(write("server.safetensors", &server));
    let index = format!("{{\"weight_map\": {{{}}}}}", map.join(", "));
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    fs::copy(case.join("config.json"), folder.path().join("config.json")).unwrap();
    let blueprint = blueprint(folder.path(), &QuantizerSpec::NONE);
    blueprint.client(&device).unwrap();
    blueprint.server(&device).unwrap();

    fs::write(folder.path().join("client.safetensors"), "rubbish").unwrap();
    blueprint.server(&device).unwrap();
    let error = blueprint.client(&device).unwrap_err().to_string();
    assert!(
        error.contains("client.safetensors is not a valid"),
        "{error}"
    );
    fs::remove_file(folder.path().join("client.safetensors")).unwrap();
    blueprint.server(&device).unwrap();
    let error = blueprint.client(&device).unwrap_err().to_string();
    assert!(
        error.contains("index.json") && error.contains("client.safetensors"),
        "{error}"
    );
}

#[test]
fn a_quantizer_of_another_shape_is_not_replaced_in_silence() {
    let device = Device::default();
    let dir = crate::set::fixture("model/ckpt_tinyllava_recipe");
    let narrow = QuantizerSpec::Fsq(FsqSpec {
        code_dim: 8,
        ..FsqSpec::paper(4)
    });
    let error = blueprint(&dir, &narrow)
        .client(&device)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(
            "quantizer_image.quantizer.in_proj.0.weight: [32, 32] in the file, [8, 32] in the model"
        ),
        "{error}"
    );
}
