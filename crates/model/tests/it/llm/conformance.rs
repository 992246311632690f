//! What holds for every family of language models: a new one takes part by being in the list of families.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use qtl_data::{Processor, TokenSpan};
use qtl_model::config::{Fields, TinyLlavaConfig};
use qtl_model::llm::{Decoder, DecoderSpec, FAMILIES, TokenEmbedding};
use qtl_model::params::{self, Named};
use qtl_model::partition::Placement;
use qtl_model::parts::{BLOCKS, CONNECTOR, Parts, VISION_TOWER};
use qtl_model::pretrained::Blueprint;
use qtl_model::quant::QuantizerSpec;
use qtl_model::splice::{IGNORE, IMAGE_TOKEN, Sample, splice};
use qtl_model::stage::{Batch, Pictures};
use qtl_model::targets;
use qtl_model::weights::{SaveType, Stream, parameters, save, tensors_of};

use super::{argmax, embed, generate, load, logits, loss};
use crate::golden::floats;

/// Runs `test` on a small model of every family, with random weights, norms and biases included.
fn each(test: impl Fn(&str, &TokenEmbedding, &Decoder)) {
    assert!(!FAMILIES.is_empty());
    for (name, family) in FAMILIES {
        let fields = Fields::parse(Path::new(name), family.example).unwrap();
        let spec = DecoderSpec::from_config(&fields).unwrap();
        let device = Device::default();
        let embedding = TokenEmbedding::init(&spec, 3, &device);
        let decoder = Decoder::init(spec, 3, &device);
        test(name, &shaken(embedding), &shaken(decoder));
    }
}

/// Norms and biases start at one and zero, where leaving one out would not show.
fn shaken<M: Module>(module: M) -> M {
    params::replace(module, "", &mut |name, value| {
        (name.contains("norm") || name.ends_with("bias"))
            .then(|| value.clone() + noise(name, value.dims()[0], 0.2))
    })
}

fn noise(name: &str, count: usize, deviation: f64) -> Tensor<1> {
    let mut stream = Stream::new(5, name);
    let values: Vec<f32> = (0..count)
        .map(|_| (deviation * stream.normal()) as f32)
        .collect();
    Tensor::from_data(TensorData::new(values, [count]), &Device::default())
}

fn prompts() -> Vec<Vec<i64>> {
    vec![vec![1, 7, 4, 9, 3], vec![2, 8], vec![5], vec![6, 6, 6, 11]]
}

fn close(name: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{name}");
    let top = want.iter().fold(1.0f32, |top, v| top.max(v.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            (got - want).abs() <= tolerance * top,
            "{name}: entry {i} is {got}, not {want}"
        );
    }
}

#[test]
fn cached_decoding_of_uneven_prompts_equals_full_forward() {
    each(|name, embedding, decoder| {
        // Enough tokens for the buffers to grow more than once.
        let batched = generate(embedding, decoder, &prompts(), 70);
        for (prompt, got) in prompts().into_iter().zip(&batched) {
            let mut row = prompt;
            for token in got {
                let all = logits(decoder, embed(embedding, std::slice::from_ref(&row)));
                let [_, length, vocab] = all.dims();
                let last = all.narrow(1, length - 1, 1).reshape([1, vocab]);
                assert_eq!(argmax(last), [*token], "{name} after {row:?}");
                row.push(*token);
            }
        }
    });
}

#[test]
fn reading_in_pieces_equals_reading_at_once() {
    each(|name, embedding, decoder| {
        let piece = |from: usize, to: usize| {
            let rows = |row: &[i64; 7]| row[from..to].to_vec();
            let ids = [[1, 7, 4, 9, 3, 2, 8], [6, 6, 11, 5, 1, 0, 2]];
            embed(embedding, &ids.each_ref().map(rows))
        };
        let (whole, _) = decoder.prefill(piece(0, 7), &[7, 7]);
        let (_, mut cache) = decoder.prefill(piece(0, 2), &[2, 2]);
        decoder.extend(piece(2, 6), &mut cache);
        assert_eq!(cache.positions(), [5, 5]);
        let got = decoder.extend(piece(6, 7), &mut cache);
        close(name, &floats(got), &floats(whole), 1e-5);
    });
}

#[test]
fn sequences_that_end_early_leave_the_others_alone() {
    each(|name, embedding, decoder| {
        let whole = generate(embedding, decoder, &prompts(), 6);
        let pad = |row: Vec<i64>| row.into_iter().chain([0; 5]).take(5).collect();
        let padded: Vec<Vec<i64>> = prompts().into_iter().map(pad).collect();
        let (logits, mut cache) = decoder.prefill(embed(embedding, &padded), &[5, 2, 1, 4]);
        let mut next = argmax(logits);
        let mut running = vec![0, 1, 2, 3];
        for (round, end) in [1usize, 0, 3].into_iter().enumerate() {
            let want: Vec<i64> = running.iter().map(|row| whole[*row][round]).collect();
            assert_eq!(next, want, "{name}");
            let keep: Vec<usize> = (0..running.len()).filter(|i| running[*i] != end).collect();
            cache.retain(&keep);
            running = keep.iter().map(|i| running[*i]).collect();
            let ids: Vec<i64> = keep.iter().map(|i| next[*i]).collect();
            next = argmax(decoder.step(embedding.embed(&ids), &mut cache));
        }
        assert_eq!(next, [whole[2][3]], "{name}");
    });
}

#[test]
fn padding_on_the_right_changes_nothing() {
    each(|name, embedding, decoder| {
        let short = vec![vec![4, 9, 2]];
        let long = vec![vec![4, 9, 2, 0, 0, 17]];
        let want = floats(logits(decoder, embed(embedding, &short)));
        let got = floats(logits(decoder, embed(embedding, &long)));
        close(name, &got[..want.len()], &want, 1e-6);
        let labels = vec![vec![-100, 9, 2]];
        let padded = vec![vec![-100, 9, 2, -100, -100, -100]];
        let want = floats(loss(decoder, embed(embedding, &short), &labels));
        let got = floats(loss(decoder, embed(embedding, &long), &padded));
        close(name, &got, &want, 1e-6);
    });
}

#[test]
fn half_precision_activations_stay_near_full_ones() {
    each(|name, embedding, decoder| {
        let x = embed(embedding, &[vec![1, 2, 3, 4, 5, 6, 7]]);
        let half = logits(decoder, x.clone().cast(DType::BF16));
        // The blocks follow the type of their input; logits are 32 bits wide in any case.
        assert_eq!(half.dtype(), DType::F32);
        let full = floats(logits(decoder, x));
        // bfloat16 keeps eight bits.
        close(name, &floats(half), &full, 0.05);
    });
}

#[test]
fn tracked_and_plain_forward_agree() {
    each(|name, embedding, decoder| {
        let x = embed(embedding, &[vec![1, 2, 3, 4, 5, 6, 7]]);
        let plain = floats(logits(decoder, x.clone()));
        let tracked = floats(logits(&params::track(decoder, "", &|_| true), x));
        close(name, &tracked, &plain, 1e-5);
    });
}

/// Along a random direction of every parameter, and of the embeddings that arrive.
#[test]
fn gradients_agree_with_finite_differences() {
    let ids = vec![vec![1, 2, 3, 4, 5, 6, 7], vec![9, 8, 7, 6, 5, 4, 3]];
    each(|family, embedding, decoder| {
        let x = embed(embedding, &ids);
        let tracked = params::track(decoder, "", &|_| true);
        let leaf = x.clone().autodiff().require_grad();
        let mut grads = loss(&tracked, leaf.clone(), &ids).backward();
        let mut named = Named::new();
        params::collect(&tracked, "", &mut grads, &mut named);
        let at = |module: &Decoder, x: Tensor<3>| f64::from(floats(loss(module, x, &ids))[0]);
        let check = |name: &str, gradient: Tensor<1>, value: &dyn Fn(Tensor<1>, f32) -> f64| {
            let direction = noise(name, gradient.dims()[0], 1.0);
            let length = floats(direction.clone().square().sum().sqrt())[0];
            let direction = direction / length;
            let slope = f64::from(floats((gradient.clone() * direction.clone()).sum())[0]);
            // Fourth-order central difference: the step may be large enough for 32-bit losses.
            let step = 0.02f32;
            let d =
                |k: f32| value(direction.clone(), k * step) - value(direction.clone(), -k * step);
            let estimate = (8.0 * d(1.0) - d(2.0)) / (12.0 * f64::from(step));
            let error = (slope - estimate).abs();
            assert!(
                error <= 1e-4 + 0.01 * slope.abs(),
                "{family}: {name} has slope {slope}, differences say {estimate}"
            );
        };
        for parameter in parameters(decoder, "") {
            let name = parameter.name.as_str();
            check(name, named[name].clone(), &|direction, step| {
                let moved = params::replace(decoder.clone(), "", &mut |other, value| {
                    (other == name).then(|| value + direction.clone() * step)
                });
                at(&moved, x.clone())
            });
        }
        let gradient = leaf.grad(&grads).unwrap();
        let dims = x.dims();
        check(
            "inputs_embeds",
            gradient.reshape([dims.iter().product::<usize>()]),
            &|direction, step| at(decoder, x.clone() + direction.reshape(dims) * step),
        );
    });
}

#[test]
fn saved_and_loaded_is_the_same_model() {
    each(|name, embedding, decoder| {
        for prefix in ["", BLOCKS.prefix] {
            let folder = tempfile::tempdir().unwrap();
            let mut stored = tensors_of(embedding, prefix);
            stored.extend(tensors_of(decoder, prefix));
            let file = folder.path().join("model.safetensors");
            save(&file, &stored, SaveType::F32).unwrap();
            let again = load(folder.path(), decoder.spec(), &Device::default());
            assert_eq!(
                tensors_of(&again.0, ""),
                tensors_of(embedding, ""),
                "{name}"
            );
            assert_eq!(tensors_of(&again.1, ""), tensors_of(decoder, ""), "{name}");
        }
    });
}

/// A whole model of a family in two halves, with random weights.
fn blueprint(family: &str, example: &str) -> Blueprint {
    let text = format!(
        r#"{{"model_type": "tinyllava", "connector_type": "mlp2x_gelu", "tokenizer_model_max_length": 40,
        "text_config": {example},
        "vision_config": {{"model_type": "siglip_vision_model", "hidden_size": 12, "intermediate_size": 20,
            "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 12, "patch_size": 4}}}}"#
    );
    let fields = Fields::parse(Path::new(family), &text).unwrap();
    Blueprint {
        dir: PathBuf::new(),
        processor: Processor::siglip(12),
        config: TinyLlavaConfig::from_fields(&fields).unwrap(),
        image: QuantizerSpec::NONE,
        text: QuantizerSpec::NONE,
        seed: 7,
        fresh: true,
        hidden: QuantizerSpec::NONE,
        placement: Placement::default(),
    }
}

fn batch(tokens: usize) -> Batch {
    let span = |branch: u32, ids: &[i64], prompt: usize| TokenSpan {
        branch,
        ids: ids.to_vec(),
        labels: ids
            .iter()
            .enumerate()
            .map(|(i, id)| if i < prompt { IGNORE } else { *id })
            .collect(),
    };
    let first = [span(0, &[1, IMAGE_TOKEN, 4, 9, 3, 2], 3)];
    let second = [span(0, &[1, 12, 13, IMAGE_TOKEN, 8], 4)];
    let sample = |spans, picture| Sample {
        spans,
        pictures: picture..picture + 1,
    };
    let pixels = noise("pixels", 2 * 3 * 12 * 12, 1.0).reshape([2, 3, 12, 12]);
    Batch {
        pictures: Some(Pictures::Pixels(pixels)),
        spliced: splice(&[sample(&first, 0), sample(&second, 1)], tokens, 40).unwrap(),
    }
}

/// Rounded to 16 bits, as it crosses the cut, with the gradient of the identity.
fn crossed(x: Tensor<2>) -> Tensor<2> {
    let rounded = x.clone().inner().cast(DType::F16).cast(DType::F32);
    Tensor::from_inner(rounded - x.clone().inner()) + x
}

/// The two halves, with blocks recomputed in backward, against the parts put together in one graph.
#[test]
fn monolith_equals_split() {
    let device = Device::default();
    for (family, entry) in FAMILIES {
        let blueprint = blueprint(family, entry.example);
        let mut client = blueprint.client(&device).unwrap().partition;
        let mut server = blueprint.server(&device).unwrap().partition;
        server = shaken(server);
        let batch = batch(client.tokens_per_picture());

        let (cut, pending) = client.forward(&batch, 0, &|_| true);
        let targets = targets::encode(&batch.spliced.labels, server.vocab_size());
        let step = server.step(&cut, &targets, &|_| true, &device).unwrap();
        let mut split = pending.backward(step.returned.rows);
        split.extend(step.returned.parameters);

        let all = |name: &str| !name.is_empty();
        let tower = params::track(&*client.bottom.vision_tower, VISION_TOWER.prefix, &all);
        let connector = params::track(&*client.bottom.connector, CONNECTOR.prefix, &all);
        let table = params::track(&*client.bottom.embed_tokens, BLOCKS.prefix, &all);
        let decoder = params::track(&server.language_model().unwrap(), BLOCKS.prefix, &all);
        let Some(Pictures::Pixels(pixels)) = batch.pictures.clone() else {
            panic!("the batch has pictures");
        };
        let features = connector.forward(tower.forward(pixels));
        let [pictures, tokens, width] = features.dims();
        let image = crossed(features.reshape([pictures * tokens, width]));
        let text = crossed(table.embed(&batch.spliced.text_ids));
        // 1 <image> 4 9 3 2 and, padded, 1 12 13 <image> 8.
        let rows = |from, count| text.clone().narrow(0, from, count);
        let shown = |picture| image.clone().narrow(0, picture * tokens, tokens);
        let x = Tensor::stack(
            vec![
                Tensor::cat(vec![rows(0, 1), shown(0), rows(1, 4)], 0),
                Tensor::cat(vec![rows(5, 3), shown(1), rows(8, 1), rows(8, 1)], 0),
            ],
            0,
        );
        let hidden = vec![IGNORE; tokens];
        let labels = [
            [&[IGNORE][..], &hidden, &[IGNORE, 9, 3, 2]].concat(),
            [&[IGNORE; 3][..], &hidden, &[8, IGNORE]].concat(),
        ];
        let value = loss(&decoder, x, &labels);
        close(family, &[step.loss as f32], &floats(value.clone()), 1e-6);
        let mut grads = value.backward();
        let mut whole = Named::new();
        params::collect(&tower, VISION_TOWER.prefix, &mut grads, &mut whole);
        params::collect(&connector, CONNECTOR.prefix, &mut grads, &mut whole);
        params::collect(&table, BLOCKS.prefix, &mut grads, &mut whole);
        params::collect(&decoder, BLOCKS.prefix, &mut grads, &mut whole);
        let keys = |named: &Named| named.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(&split), keys(&whole), "{family}");
        for (name, want) in whole {
            let (got, want) = (floats(split[&name].clone()), floats(want));
            let top = want.iter().fold(0.0f32, |top, v| top.max(v.abs()));
            let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs());
            let worst = worst.fold(0.0f32, f32::max);
            assert!(
                worst <= 1e-4 * top + 1e-7,
                "{family}: {name} is off by {worst}, largest {top}"
            );
        }
    }
}

#[test]
fn what_is_trained_gets_a_gradient_and_nothing_else_does() {
    let device = Device::default();
    for (family, entry) in FAMILIES {
        let blueprint = blueprint(family, entry.example);
        let mut client = blueprint.client(&device).unwrap().partition;
        let server = blueprint.server(&device).unwrap().partition;
        let batch = batch(client.tokens_per_picture());
        let targets = targets::encode(&batch.spliced.labels, server.vocab_size());
        let rules: [&dyn Fn(&str) -> bool; 4] = [
            &|name| name.starts_with(BLOCKS.prefix),
            &|name| name.contains("layers.1."),
            &|name| name.contains("norm"),
            &|name| name.starts_with(CONNECTOR.prefix) || name.contains("embed"),
        ];
        for trained in rules {
            let (cut, pending) = client.forward(&batch, 0, trained);
            let step = server.step(&cut, &targets, trained, &device).unwrap();
            let mut got = pending.backward(step.returned.rows);
            got.extend(step.returned.parameters);
            let last = VISION_TOWER.prefix.to_owned() + "vision_model.encoder.layers.2.";
            let all = client.tensors().into_iter().chain(server.tensors());
            // The selected features leave the tower before its last block.
            let want: BTreeSet<String> = all
                .map(|t| t.name)
                .filter(|name| trained(name) && !name.starts_with(&last))
                .collect();
            assert!(!want.is_empty());
            assert_eq!(
                got.keys().cloned().collect::<BTreeSet<_>>(),
                want,
                "{family}"
            );
            for (name, gradient) in got {
                let size = floats(gradient.abs().sum())[0];
                assert!(
                    size > 0.0 && size.is_finite(),
                    "{family}: {name} has {size}"
                );
            }
        }
    }
}
