//! The decoder against the reference, and against itself.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use qtl_model::config::Fields;
use qtl_model::llm::{Decoder, DecoderSpec, FAMILIES, Supervision, TokenEmbedding};
use qtl_model::weights::{Checkpoint, KeyMap, load_into};

use crate::golden::{Case, each, floats};

fn spec(file: &Path) -> DecoderSpec {
    DecoderSpec::from_config(&Fields::read(file).unwrap()).unwrap()
}

fn load(dir: &Path, spec: &DecoderSpec, device: &Device) -> (TokenEmbedding, Decoder) {
    let file = Checkpoint::open(dir).unwrap();
    let embedding = TokenEmbedding::new(spec, device);
    let embedding = load_into(embedding, &file, &KeyMap::token_embedding()).unwrap();
    let decoder = Decoder::new(spec.clone(), device);
    let decoder = load_into(decoder, &file, &KeyMap::decoder()).unwrap();
    (embedding, decoder)
}

fn supported(case: &Case) -> Result<(), String> {
    let known = FAMILIES.iter().any(|(name, _)| *name == case.family());
    let unsupported = || format!("family {} is not supported", case.family());
    known.then_some(()).ok_or_else(unsupported)
}

/// Embeds rows of equal length.
fn embed(embedding: &TokenEmbedding, rows: &[Vec<i64>]) -> Tensor<3> {
    let flat = embedding.lookup(&rows.concat());
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
            next = argmax(decoder.step(embedding.lookup(&next), &mut cache));
        }
    }
    out
}

fn logits(decoder: &Decoder, x: Tensor<3>) -> Tensor<3> {
    let context = decoder.causal_context(x.dims()[1], &x.device());
    decoder.head(decoder.forward(x, &context))
}

fn loss(decoder: &Decoder, x: Tensor<3>, labels: &[Vec<i64>]) -> Tensor<1> {
    let length = x.dims()[1];
    let context = decoder.causal_context(length, &x.device());
    decoder.loss(
        decoder.forward(x, &context),
        &Supervision::shifted(labels, length),
    )
}

#[test]
fn golden_llm() {
    let device = Device::flex();
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
        let value = loss(&decoder, embed(&table, &ids), &labels);
        let grads = value.backward();
        let mut backward = case.check_parameters("grad.ids.weight:", &table, &grads);
        let tracked = decoder.clone().train();
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
    let device = Device::flex();
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
    let device = Device::flex();
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
    let device = Device::flex();
    let folder = crate::golden::root().join("model/smollm2");
    let weights = std::env::var_os("QTL_SMOLLM2").map_or(folder, PathBuf::from);
    if !weights.join("model.safetensors").exists() {
        println!(
            "skipped smollm2: no weights in {}; set QTL_SMOLLM2",
            weights.display()
        );
        return;
    }
    let (embedding, decoder) = load(&weights, &spec(&weights), &device);
    each(&["smollm2"], |case| {
        let mut worst = 0.0f32;
        for prompt in 0..4 {
            let ids = case.ints(&format!("in.prompt{prompt}.ids")).to_vec();
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
        let value = loss(&decoder, embed(&embedding, &ids), &ids).into_scalar::<f32>();
        let error = (value - case.scalar("out.sentence.loss")).abs();
        assert!(error <= 1e-4, "loss off by {error}");
        Ok(format!(
            "logits within {worst:.1e}, loss within {error:.1e}"
        ))
    });
}

fn tiny(kv_heads: usize) -> (TokenEmbedding, Decoder) {
    let text = format!(
        r#"{{"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": {kv_heads}, "vocab_size": 30, "initializer_range": 0.3}}"#
    );
    let spec = DecoderSpec::from_config(&Fields::parse(Path::new("tiny"), &text).unwrap()).unwrap();
    let device = Device::flex();
    (
        TokenEmbedding::init(&spec, 3, &device),
        Decoder::init(spec, 3, &device),
    )
}

fn prompts() -> Vec<Vec<i64>> {
    vec![vec![1, 7, 4, 9, 3], vec![2, 8], vec![5], vec![6, 6, 6, 11]]
}

#[test]
fn cached_decoding_of_uneven_prompts_equals_full_forward() {
    for kv_heads in [4, 2, 1] {
        let (embedding, decoder) = tiny(kv_heads);
        // Enough tokens for the buffers to grow more than once.
        let new = 70;
        let batched = generate(&embedding, &decoder, &prompts(), new);
        for (prompt, got) in prompts().into_iter().zip(&batched) {
            let mut row = prompt;
            for token in got {
                let all = logits(&decoder, embed(&embedding, std::slice::from_ref(&row)));
                let [_, length, vocab] = all.dims();
                let last = all.narrow(1, length - 1, 1).reshape([1, vocab]);
                assert_eq!(argmax(last), [*token], "after {row:?}");
                row.push(*token);
            }
        }
    }
}

#[test]
fn sequences_that_end_early_leave_the_others_alone() {
    let (embedding, decoder) = tiny(2);
    let whole = generate(&embedding, &decoder, &prompts(), 6);
    let padded: Vec<Vec<i64>> = prompts()
        .iter()
        .map(|row| {
            row.iter()
                .copied()
                .chain(std::iter::repeat(0))
                .take(5)
                .collect()
        })
        .collect();
    let (logits, mut cache) = decoder.prefill(embed(&embedding, &padded), &[5, 2, 1, 4]);
    let mut next = argmax(logits);
    let mut running = vec![0, 1, 2, 3];
    for (round, end) in [1usize, 0, 3].into_iter().enumerate() {
        let want: Vec<i64> = running
            .iter()
            .map(|row: &usize| whole[*row][round])
            .collect();
        assert_eq!(next, want);
        let keep: Vec<usize> = (0..running.len()).filter(|i| running[*i] != end).collect();
        cache.retain(&keep);
        running = keep.iter().map(|i| running[*i]).collect();
        let next_ids: Vec<i64> = keep.iter().map(|i| next[*i]).collect();
        next = argmax(decoder.step(embedding.lookup(&next_ids), &mut cache));
    }
    assert_eq!(next, [whole[2][3]]);
}

#[test]
fn padding_on_the_right_changes_nothing() {
    let (embedding, decoder) = tiny(2);
    let short = vec![vec![4, 9, 2]];
    let long = vec![vec![4, 9, 2, 0, 0, 17]];
    let want = floats(logits(&decoder, embed(&embedding, &short)));
    let got = floats(logits(&decoder, embed(&embedding, &long)));
    for (got, want) in got.iter().zip(&want) {
        assert!(
            (got - want).abs() <= 1e-6 * want.abs().max(1.0),
            "{got} {want}"
        );
    }
    let labels = vec![vec![-100, 9, 2]];
    let padded = vec![vec![-100, 9, 2, -100, -100, -100]];
    let want: f32 = loss(&decoder, embed(&embedding, &short), &labels).into_scalar();
    let got: f32 = loss(&decoder, embed(&embedding, &long), &padded).into_scalar();
    assert!((want - got).abs() < 1e-6);
}

#[test]
fn half_precision_activations_stay_near_full_ones() {
    let (embedding, decoder) = tiny(2);
    let x = embed(&embedding, &[vec![1, 2, 3, 4, 5, 6, 7]]);
    let half = logits(&decoder, x.clone().cast(DType::BF16));
    // The blocks follow the type of their input; logits are 32 bits wide in any case.
    assert_eq!(half.dtype(), DType::F32);
    let full = floats(logits(&decoder, x));
    let largest = full.iter().fold(0.0f32, |top, v| top.max(v.abs()));
    for (half, full) in floats(half).iter().zip(&full) {
        // bfloat16 keeps eight bits.
        assert!((half - full).abs() < 0.05 * largest, "{half} {full}");
    }
}

#[test]
fn tracked_and_plain_forward_agree() {
    for kv_heads in [4, 2] {
        let (embedding, decoder) = tiny(kv_heads);
        let x = embed(&embedding, &[vec![1, 2, 3, 4, 5, 6, 7]]);
        let plain = floats(logits(&decoder, x.clone()));
        let tracked = floats(logits(&decoder.train(), x));
        for (plain, tracked) in plain.iter().zip(&tracked) {
            assert!((plain - tracked).abs() < 1e-5, "{plain} {tracked}");
        }
    }
}

#[test]
fn a_tied_head_is_the_servers_copy_of_the_embedding() {
    let text = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 11, "tie_word_embeddings": true}"#;
    let spec = DecoderSpec::from_config(&Fields::parse(Path::new("tied"), text).unwrap()).unwrap();
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let (embedding, decoder) = (
        TokenEmbedding::init(&spec, 1, &device),
        Decoder::init(spec.clone(), 1, &device),
    );
    let values = |name: &str, all: &[qtl_model::weights::NamedTensor]| {
        all.iter().find(|t| t.name == name).unwrap().data.clone()
    };
    let table = qtl_model::weights::tensors_of(&embedding, "");
    let head = qtl_model::weights::tensors_of(&decoder, "");
    let table_values = values("model.embed_tokens.weight", &table);
    assert_eq!(table_values, values("lm_head.weight", &head));

    // A file without a head: the server reads the embedding instead.
    let mut stored: Vec<_> = head
        .into_iter()
        .filter(|t| t.name != "lm_head.weight")
        .collect();
    stored.extend(table);
    let file = folder.path().join("model.safetensors");
    qtl_model::weights::save(&file, &stored, qtl_model::weights::SaveType::F32).unwrap();
    let (_, decoder) = load(folder.path(), &spec, &device);
    let head = qtl_model::weights::tensors_of(&decoder, "");
    assert_eq!(table_values, values("lm_head.weight", &head));
}

#[test]
fn unsupported_configurations_say_what_would_do() {
    let read = |text: &str| {
        let fields = Fields::parse(Path::new("config.json"), text).unwrap();
        DecoderSpec::from_config(&fields).unwrap_err().to_string()
    };
    let error = read(r#"{"model_type": "mamba"}"#);
    assert!(
        error.contains("\"mamba\"") && error.contains("\"llama\""),
        "{error}"
    );
    let error = read(r#"{"hidden_size": 8}"#);
    assert!(error.contains("model_type is missing"), "{error}");
    let error =
        read(r#"{"model_type": "llama", "rope_scaling": {"rope_type": "yarn", "factor": 2.0}}"#);
    assert!(
        error.contains("rope_scaling.rope_type") && error.contains("yarn"),
        "{error}"
    );
    let error = read(r#"{"model_type": "llama", "num_key_value_heads": 5}"#);
    assert!(error.contains("num_key_value_heads = 5"), "{error}");
    let error = read(r#"{"model_type": "llama", "hidden_act": "mish"}"#);
    assert!(error.contains("mish") && error.contains("silu"), "{error}");
}

#[test]
fn what_a_configuration_leaves_out_has_the_class_default() {
    let file = crate::golden::root().join("model/hf_defaults.json");
    let all: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let pair = |family: &str| {
        let mut full = all[family].clone();
        full["model_type"] = family.into();
        let empty = format!(r#"{{"model_type": "{family}"}}"#);
        [full.to_string(), empty].map(|text| Fields::parse(&file, &text).unwrap())
    };
    for (family, _) in FAMILIES {
        let [full, empty] = pair(family).map(|fields| DecoderSpec::from_config(&fields).unwrap());
        assert_eq!(full, empty, "{family}");
    }
}
