//! A language model alone: its conversations against decoding without memory.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use qtl_model::config::Fields;
use qtl_model::llm::{Decoder, DecoderSpec, FAMILIES, TokenEmbedding};
use qtl_model::sampling::Sampling;
use qtl_model::text::{Answering, Session, TextError, TextModel};
use qtl_model::weights::{SaveType, save, tensors_of};
use serde_json::Value;

/// A directory as the hub has it, of a family's small example, with room for long texts.
fn model(name: &str, example: &str, positions: usize) -> (tempfile::TempDir, TextModel) {
    let mut config: Value = serde_json::from_str(example).unwrap();
    config["model_type"] = name.into();
    for key in ["max_position_embeddings", "max_context_length"] {
        config[key] = positions.into();
    }
    let dir = tempfile::tempdir().unwrap();
    let text = config.to_string();
    fs::write(dir.path().join("config.json"), &text).unwrap();
    let spec = DecoderSpec::from_config(&Fields::parse(Path::new(name), &text).unwrap()).unwrap();
    let device = Device::default();
    let mut tensors = tensors_of(&TokenEmbedding::init(&spec, 3, &device), "");
    tensors.extend(tensors_of(&Decoder::init(spec, 3, &device), ""));
    save(
        &dir.path().join("model.safetensors"),
        &tensors,
        SaveType::F32,
    )
    .unwrap();
    let model = TextModel::open(dir.path(), &device).unwrap();
    (dir, model)
}

fn how(longest: usize) -> Answering {
    Answering {
        end: Vec::new(),
        longest,
        sampling: Sampling::GREEDY,
    }
}

fn answer(session: &mut Session<'_>, prompt: &[i64], how: &Answering) -> Vec<i64> {
    let mut answer = Vec::new();
    let mut seen = |id| {
        answer.push(i64::from(id));
        true
    };
    session.answer(prompt, how, &mut seen).unwrap();
    answer
}

#[test]
fn what_a_session_remembers_changes_no_answer() {
    for (name, family) in FAMILIES {
        let (_dir, model) = model(name, family.example, 256);
        let fresh = |prompt: &[i64]| answer(&mut Session::new(&model), prompt, &how(6));
        let mut session = Session::new(&model);
        let mut talk = vec![1, 7, 4, 9];
        for question in [[3, 2, 8], [5, 5, 11]] {
            talk.extend(question);
            let said = answer(&mut session, &talk, &how(6));
            assert_eq!(said, fresh(&talk), "{name}");
            // Token by token, with no memory at all.
            let mut slowly = talk.clone();
            for token in &said {
                let next = answer(&mut Session::new(&model), &slowly, &how(1));
                assert_eq!(next, [*token], "{name} after {slowly:?}");
                slowly.push(*token);
            }
            talk.extend(said);
        }
        // Another conversation that begins like the last one, then the last one again, then one of its own.
        for other in [&[1, 7, 4, 2][..], &talk, &talk[..5], &[8, 8]] {
            assert_eq!(answer(&mut session, other, &how(6)), fresh(other), "{name}");
        }
    }
}

#[test]
fn long_prompts_are_read_in_pieces() {
    let (name, family) = &FAMILIES[0];
    let (_dir, model) = model(name, family.example, 2048);
    let prompt: Vec<i64> = (0..1200).map(|i| (i * i * 7 + 3) % 17).collect();
    let whole = answer(&mut Session::new(&model), &prompt, &how(4));
    // Read from the cache but for the last token.
    let mut session = Session::new(&model);
    for end in [1, 511, 512, 513, 1199] {
        answer(&mut session, &prompt[..end], &how(1));
    }
    assert_eq!(answer(&mut session, &prompt, &how(4)), whole);
}

#[test]
fn an_answer_ends_where_it_should() {
    let (name, family) = &FAMILIES[0];
    let (_dir, model) = model(name, family.example, 32);
    let prompt = [1, 7, 4, 9];
    let long = answer(&mut Session::new(&model), &prompt, &how(100));
    assert_eq!(long.len(), 32 - 4, "the model's length");
    assert_eq!(
        answer(&mut Session::new(&model), &prompt, &how(3)),
        long[..3]
    );
    let first_of = |id: i64| long.iter().position(|other| *other == id).unwrap();
    let end = long[5];
    let ended = Answering {
        end: vec![999, end as u32],
        ..how(100)
    };
    let said = answer(&mut Session::new(&model), &prompt, &ended);
    assert_eq!(said, long[..first_of(end)]);
    let mut count = 0;
    Session::new(&model)
        .answer(&prompt, &how(100), &mut |_| {
            count += 1;
            count < 2
        })
        .unwrap();
    assert_eq!(count, 2);
}

#[test]
fn what_does_not_suit_the_model_is_refused() {
    let (name, family) = &FAMILIES[0];
    let (_dir, model) = model(name, family.example, 32);
    let vocab = model.spec().vocab_size;
    let refused = |prompt: &[i64]| {
        let mut session = Session::new(&model);
        session.answer(prompt, &how(1), &mut |_| true).unwrap_err()
    };
    for length in [0, 32, 100] {
        assert_eq!(
            refused(&vec![1; length]),
            TextError::Length {
                length,
                longest: 31
            }
        );
    }
    for id in [-200, vocab as i64] {
        assert_eq!(refused(&[1, id]), TextError::Token { id, vocab });
    }
}
