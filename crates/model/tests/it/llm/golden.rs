//! The decoder against the reference's numbers.

use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use qtl_data::Tokenizer;
use qtl_model::config::Fields;
use qtl_model::llm::{DecoderSpec, FAMILIES};
use qtl_model::params::{self, Named};

use serde_json::{Value, json};

use super::{embed, generate, load, logits, loss, spec};
use crate::golden::{Case, each, floats};

fn supported(case: &Case) -> Result<(), String> {
    let known = FAMILIES.iter().any(|(name, _)| *name == case.family());
    let unsupported = || format!("family {} is not supported", case.family());
    known.then_some(()).ok_or_else(unsupported)
}

#[test]
fn golden_llm() {
    let device = Device::default();
    each(&["llm_"], |case| {
        supported(case)?;
        let spec = spec(&case.dir);
        if case.dir.join("config.v5.json").exists() {
            assert_eq!(spec, self::spec(&case.dir.join("config.v5.json")));
        }
        let (embedding, decoder) = load(&case.dir, &spec, &device);
        let ids = case.rows("in.input_ids");
        let labels = case.rows("in.labels");
        let mask = case.ints("in.attention_mask");
        let real = |entry: usize| mask[entry / spec.vocab_size] == 1;
        let mut worst = 0.0f32;
        let mut check = |kind: &str, x: Tensor<3>| {
            let got = floats(logits(&decoder, x.clone()));
            worst = worst.max(case.check_where(&format!("out.{kind}.logits"), &got, real));
            let value = loss(&decoder, x, &labels).into_scalar::<f32>();
            worst = worst.max(case.check_loss(&format!("out.{kind}.loss"), value));
        };
        check("ids", embed(&embedding, &ids));
        let embeds: Tensor<3> = case.tensor("in.inputs_embeds", &device);
        check("embeds", embeds.clone());

        let table = embedding.clone().train();
        let tracked = decoder.clone().train();
        let mut grads = loss(&tracked, embed(&table, &ids), &labels).backward();
        let mut named = Named::new();
        params::collect(&table, "", &mut grads, &mut named);
        let name = spec.embedding_name();
        let mut grad = named.remove(&name).unwrap();
        if spec.tied_head {
            // There the table is also the head; here the head is the server's own copy with its own part of the gradient.
            params::collect(&tracked, "", &mut grads, &mut named);
            grad = grad + named.remove("lm_head.weight").unwrap();
        }
        let mut backward = case.check_flat_grad(&format!("grad.ids.weight:{name}"), grad);
        let embeds = embeds.autodiff().require_grad();
        let value = loss(&tracked, embeds.clone(), &labels);
        case.check_loss("out.embeds.loss", value.clone().into_scalar());
        let grads = value.backward();
        backward = backward.max(case.check_grad("grad.embeds.inputs_embeds", embeds.grad(&grads)));
        backward = backward.max(case.check_parameters("grad.embeds.weight:", &tracked, &grads));

        let prompt = case.ints("in.prompt_ids").to_vec();
        let want = case.ints("out.greedy_ids");
        let got = generate(&embedding, &decoder, &[prompt], want.len());
        assert_eq!(got[0], want, "{}: greedy tokens", case.name);
        Ok(format!(
            "outputs within {worst:.1e}, gradients within {backward:.1e}"
        ))
    });
}

#[test]
fn golden_sharded_checkpoint() {
    let device = Device::default();
    each(&["ckpt_hf_sharded"], |case| {
        supported(case)?;
        let (embedding, decoder) = load(&case.dir, &spec(&case.dir), &device);
        let ids = case.rows("in.input_ids");
        let x = embed(&embedding, &ids);
        let error = case.check("out.logits", logits(&decoder, x.clone()));
        let value = loss(&decoder, x, &ids).into_scalar();
        Ok(format!(
            "within {:.1e}",
            error.max(case.check_loss("out.loss", value))
        ))
    });
}

#[test]
fn golden_merged_checkpoint_language_half() {
    let device = Device::default();
    each(&["ckpt_tinyllava_merged"], |case| {
        let fields = Fields::read(&case.dir)
            .unwrap()
            .child("text_config")
            .unwrap();
        let spec = DecoderSpec::from_config(&fields).unwrap();
        load(&case.dir, &spec, &device);
        Ok("all names found".to_owned())
    });
}

#[test]
fn golden_smollm2() {
    let device = Device::default();
    let folder = crate::set::root().join("model/smollm2");
    let weights = std::env::var_os("QTL_SMOLLM2").map_or(folder, PathBuf::from);
    if !weights.join("model.safetensors").exists() {
        println!(
            "skipped smollm2: no weights in {}; set QTL_SMOLLM2",
            weights.display()
        );
        return;
    }
    let (embedding, decoder) = load(&weights, &spec(&weights), &device);
    let tokenizer = Tokenizer::open(&weights).unwrap();
    each(&["smollm2"], |case| {
        let encode = |entry: &Value| {
            let text = entry["text"].as_str().unwrap();
            tokenizer.encode_bare(text).unwrap()
        };
        for entry in case.json["tokenize"].as_array().unwrap() {
            assert_eq!(json!(encode(entry)), entry["ids"], "{}", entry["text"]);
        }
        let mut worst = 0.0f32;
        let prompts = case.json["prompts"].as_array().unwrap().len();
        for prompt in 0..prompts {
            let ids = case.ints(&format!("in.prompt{prompt}.ids")).to_vec();
            assert_eq!(encode(&case.json["prompts"][prompt]), ids);
            let x = embed(&embedding, std::slice::from_ref(&ids));
            let (last, _) = decoder.prefill(x, &[ids.len()]);
            let last = floats(last);
            let best = case.ints(&format!("out.prompt{prompt}.top20_ids"));
            let want: Tensor<1> = case.tensor(&format!("out.prompt{prompt}.top20_logits"), &device);
            for (id, want) in best.iter().zip(floats(want)) {
                let error = (last[*id as usize] - want).abs();
                assert!(error <= 2e-3, "prompt {prompt}, token {id}: off by {error}");
                worst = worst.max(error);
            }
            let want = case.ints(&format!("out.prompt{prompt}.greedy_ids"));
            let got = generate(&embedding, &decoder, &[ids], want.len());
            assert_eq!(got[0], want, "prompt {prompt}");
        }
        let ids = vec![case.ints("in.sentence.ids").to_vec()];
        let vocab = decoder.spec().vocab_size;
        let rows = floats(log_softmax(logits(&decoder, embed(&embedding, &ids)), 2));
        let want: Tensor<1> = case.tensor("out.sentence.token_logprobs", &device);
        for (i, want) in floats(want).into_iter().enumerate() {
            let error = (rows[i * vocab + ids[0][i + 1] as usize] - want).abs();
            assert!(error <= 2e-3, "token {}: off by {error}", i + 1);
        }
        let value = loss(&decoder, embed(&embedding, &ids), &ids).into_scalar::<f32>();
        let error = (value - case.scalar("out.sentence.loss")).abs();
        assert!(error <= 1e-4, "loss off by {error}");
        Ok(format!(
            "logits within {worst:.1e}, loss within {error:.1e}"
        ))
    });
}
