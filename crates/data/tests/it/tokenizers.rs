//! Ids and answers of the reference's tokenizers.

use qtl_data::Tokenizer;
use serde_json::json;

use crate::golden::{self, integers};
use crate::set;

#[test]
fn golden_tokenizers_encode_and_decode() {
    let (mut texts, mut answers) = (0, 0);
    for (name, folder) in golden::cases("tokenizers") {
        let tokenizer = Tokenizer::open(&folder).unwrap();
        let cases = golden::json(&folder.join("cases.json"));
        for case in golden::list(&cases, "encode") {
            let text = case["text"].as_str().unwrap();
            assert_eq!(
                tokenizer.encode(text).unwrap(),
                integers(&case["ids"]),
                "{name}: {text:?}"
            );
            texts += 1;
        }
        for case in golden::list(&cases, "decode_generated") {
            let ids: Vec<u32> = integers(&case["new_ids"])
                .into_iter()
                .map(|id| id as u32)
                .collect();
            assert_eq!(
                tokenizer.answer(&ids).unwrap(),
                case["answer"].as_str().unwrap(),
                "{name}: {ids:?}"
            );
            answers += 1;
        }
        println!("ran {name}");
    }
    set::ran(texts, "texts into ids");
    set::ran(answers, "ids into answers");
}

/// Newer writers of `tokenizer.json` use another layout; with `legacy: false` both must come to the same.
#[test]
fn golden_tokenizers_written_without_legacy_agree() {
    let mut ran = 0;
    for (name, folder) in golden::cases("tokenizers") {
        let Ok(other) = std::fs::read(folder.join("tokenizer.nonlegacy.json")) else {
            continue;
        };
        let config = std::fs::read(folder.join("tokenizer_config.json")).unwrap();
        // transformers 5 leaves the switch out, and may call the class by another name.
        let mut newer: serde_json::Value = serde_json::from_slice(&config).unwrap();
        newer.as_object_mut().unwrap().remove("legacy");
        let mut newest = newer.clone();
        newest["tokenizer_class"] = "TokenizersBackend".into();
        let tokenizer = Tokenizer::from_json(&name, &other, Some(&config), None).unwrap();
        for config in [newer, newest] {
            let config = serde_json::to_vec(&config).unwrap();
            let again = Tokenizer::from_json(&name, &other, Some(&config), None).unwrap();
            assert_eq!(again.legacy(), Some(false), "{name}");
            let text = "one two</s>three  four";
            assert_eq!(again.encode(text).unwrap(), tokenizer.encode(text).unwrap());
        }
        for case in golden::json(&folder.join("cases.json"))["encode"]
            .as_array()
            .unwrap()
        {
            let text = case["text"].as_str().unwrap();
            assert_eq!(
                tokenizer.encode(text).unwrap(),
                integers(&case["ids"]),
                "{name}: {text:?}"
            );
        }
        ran += 1;
    }
    set::ran(ran, "tokenizers in a newer layout");
}

#[test]
fn a_tokenizer_of_bytes_is_none_of_llamas_whatever_its_class() {
    let folder = golden::folder("tokenizers").join("bpe_gpt2");
    let definition = std::fs::read(folder.join("tokenizer.json")).unwrap();
    let config = |class: &str| json!({"tokenizer_class": class, "legacy": false}).to_string();
    let open = |class| {
        let config = config(class).into_bytes();
        Tokenizer::from_json("bytes", &definition, Some(&config), None).unwrap()
    };
    let (llama, own) = (open("LlamaTokenizerFast"), open("GPT2Tokenizer"));
    assert_eq!(llama.legacy(), None);
    let text = "two  words\nand more";
    assert_eq!(llama.encode(text).unwrap(), own.encode(text).unwrap());
}

fn words(special: serde_json::Value) -> Vec<u8> {
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null, "decoder": null,
        "added_tokens": special,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<pad>": 0, "<eos>": 1, "red": 2, "what": 3, "?": 4}},
    });
    serde_json::to_vec(&tokenizer).unwrap()
}

#[test]
fn a_word_level_tokenizer_works_without_configuration() {
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let bytes = words(json!([special(0, "<pad>"), special(1, "<eos>")]));
    let tokenizer = Tokenizer::from_json("words", &bytes, None, None).unwrap();
    assert_eq!(
        (
            tokenizer.pad(),
            tokenizer.eos(),
            tokenizer.bos(),
            tokenizer.leading_bos()
        ),
        (Some(0), Some(1), None, None)
    );
    assert_eq!(tokenizer.encode("what red ?").unwrap(), [3, 2, 4]);
    assert_eq!(tokenizer.answer(&[2, 2, 1]).unwrap(), "red red");
    assert_eq!(tokenizer.vocabulary(), 5);
    let error = tokenizer.encode("what is red ?").unwrap_err().to_string();
    assert!(
        error.contains("words")
            && error.contains("what is red ?")
            && error.contains("unknown token"),
        "{error}"
    );
}

#[test]
fn a_damaged_tokenizer_is_an_error_that_names_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Tokenizer::open(folder.path()).unwrap_err().to_string();
    assert!(missing.contains("tokenizer.json"), "{missing}");
    std::fs::write(folder.path().join("tokenizer.json"), "{\"model\": 3}").unwrap();
    let damaged = Tokenizer::open(folder.path()).unwrap_err().to_string();
    assert!(
        damaged.contains(folder.path().to_str().unwrap())
            && damaged.contains("use a tokenizer.json"),
        "{damaged}"
    );
}
