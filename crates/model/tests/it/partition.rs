//! Whole models in two partitions against the reference's numbers.

use burn::tensor::{Device, Int, Tensor, TensorData};
use qtl_codec::{Code, Limits, Options, Plane, pack::pack};
use qtl_data::TokenSpan;
use qtl_model::edge::{Cut, TextRows};
use qtl_model::partition::ClientPartition;
use qtl_model::parts::Parts;
use qtl_model::pretrained::{Blueprint, PretrainedError};
use qtl_model::quant::{Encoder, FsqSpec, QuantizerSpec, Statistics};
use qtl_model::splice::{IGNORE, IMAGE_TOKEN, Sample, Spliced, splice};
use qtl_model::stage::{Batch, Pictures};
use qtl_model::targets;

use crate::golden::{Case, each, each_fixture, floats};

/// The quantizers of a case.
pub fn quantizer(case: &Case) -> QuantizerSpec {
    match case.json["vq_type"].as_str() {
        Some("FSQ") => {
            let levels = case.json["levels"].as_u64().unwrap() as u32;
            let code_dim = case.json["code_dim"].as_u64().unwrap_or(0) as usize;
            QuantizerSpec::Fsq(FsqSpec {
                code_dim,
                ..FsqSpec::paper(levels)
            })
        }
        _ => QuantizerSpec::NONE,
    }
}

pub fn blueprint(case: &Case, spec: &QuantizerSpec) -> Blueprint {
    Blueprint::read(&case.dir, spec.clone(), spec.clone(), 0).unwrap()
}

/// The case's batch, spliced; a sample without a picture is given one that it does not show.
pub fn spliced(case: &Case, tokens: usize, max_length: usize) -> Spliced {
    let (ids, labels) = unpadded(case);
    splice_rows(ids, labels, tokens, max_length, 1)
}

/// The case's batch as a split client takes it: without the pictures that no sample shows. The reference's statistics are
/// those of the rows that are left after cutting, ours those of whole pictures: a case that cuts one is refused.
fn shown(case: &Case, client: &ClientPartition, max_length: usize) -> Result<Batch, String> {
    let tokens = client.tokens_per_picture();
    let (ids, labels) = unpadded(case);
    let mut first = 0;
    let mut kept = Vec::new();
    for row in &ids {
        let pictures = row.iter().filter(|id| **id == IMAGE_TOKEN).count();
        kept.extend(first..first + pictures as i64);
        first += pictures.max(1) as i64;
    }
    let spliced = splice_rows(ids, labels, tokens, max_length, 0);
    if spliced.image_rows.len() < kept.len() * tokens {
        return Err("a picture is cut at max_length".to_owned());
    }
    let pixels: Tensor<4> = case.tensor("in.images", &client.device());
    let kept = TensorData::from(kept.as_slice());
    let pixels = pixels.select(0, Tensor::<1, Int>::from_data(kept, &client.device()));
    Ok(Batch {
        pictures: Some(Pictures::Pixels(pixels)),
        spliced,
    })
}

/// Ids and labels without padding.
fn unpadded(case: &Case) -> (Vec<Vec<i64>>, Vec<Vec<i64>>) {
    let mask = case.rows("in.attention_mask");
    let keep = |name: &str| -> Vec<Vec<i64>> {
        let rows = case.rows(name);
        let kept = rows.iter().zip(&mask).map(|(row, mask)| {
            let both = row.iter().zip(mask);
            both.filter(|(_, m)| **m == 1).map(|(id, _)| *id).collect()
        });
        kept.collect()
    };
    (keep("in.input_ids"), keep("in.labels"))
}

/// Prompts without labels. The reference cuts them like everything else.
pub fn spliced_prompt(ids: &[Vec<i64>], tokens: usize, max_length: usize) -> Spliced {
    let labels = ids.iter().map(|row| vec![IGNORE; row.len()]).collect();
    splice_rows(ids.to_vec(), labels, tokens, max_length, 1)
}

fn splice_rows(
    ids: Vec<Vec<i64>>,
    labels: Vec<Vec<i64>>,
    tokens: usize,
    max_length: usize,
    at_least: usize,
) -> Spliced {
    let spans: Vec<[TokenSpan; 1]> = ids
        .into_iter()
        .zip(labels)
        .map(|(ids, labels)| {
            [TokenSpan {
                branch: 0,
                ids,
                labels,
            }]
        })
        .collect();
    let mut next = 0;
    let samples: Vec<Sample<'_>> = spans
        .iter()
        .map(|spans| {
            let shown = spans[0].ids.iter().filter(|id| **id == IMAGE_TOKEN).count();
            let first = next;
            next += shown.max(at_least);
            Sample {
                spans,
                pictures: first..next,
            }
        })
        .collect();
    splice(&samples, tokens, max_length).unwrap()
}

pub fn symbols(code: &Code) -> Vec<f32> {
    match code.planes.as_slice() {
        [Plane::Symbols(plane)] => plane.data.iter().map(|s| s as f32).collect(),
        other => panic!("{other:?}"),
    }
}

/// The one plane's symbols as the reference packs them: fixed-width, the first in the lowest bits, their number rounded up
/// to whole groups with zeros.
fn check_packed(case: &Case, name: &str, code: &Code) {
    let [Plane::Symbols(plane)] = code.planes.as_slice() else {
        panic!("{code:?}");
    };
    let mut ours: Vec<f32> = pack(plane).into_iter().map(f32::from).collect();
    let theirs = case.bytes(name);
    assert!(theirs.len() - ours.len() < 4, "{}: {name}", case.name);
    ours.resize(theirs.len(), 0.0);
    assert_eq!(ours, theirs, "{}: {name}", case.name);
}

/// The distortion of bounded features without its weight.
pub fn distortion(quantizer: &Encoder, z: Tensor<2>) -> f32 {
    floats(quantizer.penalty(z).unwrap())[0] / 0.25
}

pub fn over_the_wire(cut: &Cut) -> Cut {
    let carry = |code: &Code| {
        let bytes = qtl_codec::encode(code, &Options::default());
        qtl_codec::decode(&bytes, &Limits::default()).unwrap().0
    };
    Cut {
        image: cut.image.as_ref().map(carry),
        text: carry(&cut.text),
        index: cut.index.as_ref().map(carry),
        layout: cut.layout.clone(),
    }
}

/// Checks every `{prefix}NAME` of the case against a set of named gradients.
pub fn check_named(case: &Case, prefix: &str, grads: &qtl_model::params::Named) -> usize {
    let names: Vec<String> = case
        .names()
        .filter(|n| n.starts_with(prefix))
        .map(str::to_owned)
        .collect();
    for full in &names {
        let name = full[prefix.len()..].replace("in_proj.0.", "in_proj.");
        let want = case.count(full);
        let got = grads
            .get(&name)
            .unwrap_or_else(|| panic!("no gradient for {name}"));
        assert_eq!(got.dims()[0], want, "{name}");
        case.check_flat_grad(full, got.clone());
    }
    names.len()
}

/// The reference records no statistics; other ones would give other symbols without a word.
#[test]
fn a_quantizer_without_the_record_its_recipe_asks_for_is_refused() {
    each_fixture(&["split_"], |case| {
        let spec = QuantizerSpec::Fsq(FsqSpec {
            statistics: Statistics::Channel,
            ..FsqSpec::paper(4)
        });
        let blueprint = blueprint(case, &spec);
        let error = blueprint.client(&Device::default()).unwrap_err();
        assert!(matches!(error, PretrainedError::Unrecorded { .. }));
        let text = error.to_string();
        for part in ["quantizer_image", "running_mean", "statistics = \"batch\""] {
            assert!(text.contains(part), "{text}");
        }
        Ok("refused".into())
    });
}

#[test]
fn golden_split_step_follows_the_fixed_rule() {
    let device = Device::default();
    each(&["split_"], |case| {
        let blueprint = blueprint(case, &quantizer(case));
        let client = blueprint.client(&device).unwrap();
        let server = blueprint.server(&device).unwrap();
        assert!(client.quantizers_found && server.quantizers_found);
        let (mut client, server) = (client.partition, server.partition);
        client.uplink.text_rows = TextRows::All;
        let mut batch = shown(case, &client, blueprint.config.max_length)?;
        batch.spliced.pad_like_the_reference();
        let labels = batch.spliced.labels.clone();
        let (cut, pending) = client.forward(&batch, 0, &|_| true);
        let features = pending.features();
        case.check("fixed.encoded.image", features.image.clone().unwrap());
        case.check("fixed.encoded.text", features.text.clone());
        case.check_loss("fixed.vq_loss", pending.penalty() as f32);
        for (name, quantizer, z) in [
            (
                "image",
                &client.uplink.image,
                features.image.clone().unwrap(),
            ),
            ("text", &client.uplink.text, features.text.clone()),
        ] {
            let got = distortion(quantizer, z);
            case.check_loss(&format!("fixed.L_comm.{name}"), got);
        }

        let cut = over_the_wire(&cut);
        let indices = |name: &str| case.bytes(name);
        assert_eq!(
            symbols(cut.image.as_ref().unwrap()),
            indices("fixed.up.image.indices")
        );
        assert_eq!(symbols(&cut.text), indices("fixed.up.text.indices"));
        check_packed(case, "fixed.up.image.packed", cut.image.as_ref().unwrap());
        check_packed(case, "fixed.up.text.packed", &cut.text);
        case.check(
            "fixed.server.inputs_embeds",
            server.input(&cut, &device).unwrap().0,
        );

        let targets = targets::encode(&labels, server.vocab_size());
        let step = server.step(&cut, &targets, &|_| true, &device).unwrap();
        case.check_loss("fixed.loss", step.loss as f32);
        let [image, text] = step.returned.rows;
        case.check_grad("fixed.img_grad", image.clone());
        case.check_grad("fixed.txt_grad", text.clone());
        let served = check_named(case, "fixed.grad.server.weight:", &step.returned.parameters);
        let gradients = pending.backward([image, text]);
        let held = check_named(case, "fixed.grad.client.weight:", &gradients);
        assert!(served > 0 && held > 0);
        Ok(format!("{held} client and {served} server gradients"))
    });
}

/// The published code encodes text with the image quantizer and decodes it with the text quantizer. No recipe asks for
/// that; put together from our parts it gives the published numbers.
#[test]
fn golden_split_step_as_published() {
    let device = Device::default();
    each(&["split_"], |case| {
        let blueprint = blueprint(case, &quantizer(case));
        let mut client = blueprint.client(&device).unwrap().partition;
        let server = blueprint.server(&device).unwrap().partition;
        client.uplink.text_rows = TextRows::All;
        client.uplink.text = client.uplink.image.clone();
        let mut batch = shown(case, &client, blueprint.config.max_length)?;
        batch.spliced.pad_like_the_reference();
        let targets = targets::encode(&batch.spliced.labels, server.vocab_size());
        let (cut, pending) = client.forward(&batch, 0, &|_| true);
        case.check_loss("asis.vq_loss", pending.penalty() as f32);
        let text = pending.features().text.clone();
        case.check_loss("asis.L_comm.text", distortion(&client.uplink.text, text));
        let cut = over_the_wire(&cut);
        assert_eq!(symbols(&cut.text), case.bytes("asis.up.text.indices"));
        check_packed(case, "asis.up.text.packed", &cut.text);
        let step = server.step(&cut, &targets, &|_| true, &device).unwrap();
        case.check_loss("asis.loss", step.loss as f32);
        let mut gradients = pending.backward(step.returned.rows);
        // One projection with two uses is two projections here.
        let text: Vec<String> = gradients.keys().cloned().collect();
        for name in text.iter().filter(|n| n.contains("quantizer_text")) {
            let own = gradients.remove(name).unwrap();
            let shared = gradients.get_mut(&name.replace("quantizer_text", "quantizer_image"));
            let shared = shared.unwrap();
            *shared = shared.clone() + own;
        }
        let held = check_named(case, "asis.grad.client.weight:", &gradients);
        assert!(held > 0);
        Ok(format!("{held} gradients"))
    });
}

#[test]
fn recomputed_blocks_train_exactly_what_is_to_be_trained() {
    let device = Device::default();
    each_fixture(&["split_"], |case| {
        let blueprint = blueprint(case, &quantizer(case));
        let mut client = blueprint.client(&device).unwrap().partition;
        let server = blueprint.server(&device).unwrap().partition;
        let spliced = spliced(case, client.tokens_per_picture(), 64);
        let targets = targets::encode(&spliced.labels, server.vocab_size());
        let batch = Batch {
            pictures: Some(Pictures::Pixels(case.tensor("in.images", &device))),
            spliced,
        };
        let trained = |name: &str| name.contains("layers.0.") || name.contains("connector");
        let (cut, pending) = client.forward(&batch, 0, &trained);
        let step = server.step(&cut, &targets, &trained, &device).unwrap();
        let mut gradients = pending.backward(step.returned.rows);
        gradients.extend(step.returned.parameters);
        let all = client.tensors().into_iter().chain(server.tensors());
        let want: Vec<String> = all.map(|t| t.name).filter(|name| trained(name)).collect();
        for name in &want {
            assert!(gradients.contains_key(name), "{name} has no gradient");
        }
        assert!(gradients.keys().all(|name| trained(name)));
        let sum = |g: &Tensor<1>| g.clone().abs().sum().into_scalar::<f32>();
        assert!(gradients.values().all(|g| sum(g).is_finite()));
        let _: TensorData = gradients.into_values().next().unwrap().into_data();
        Ok(format!("{} parameters", want.len()))
    });
}
