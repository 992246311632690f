//! The template `chat`: what is learnt under a checkpoint's own chat template. `fixtures/chat_masks.py` wrote the expected ids
//! and masks with transformers 5.24.

use std::path::Path;
use std::sync::Arc;

use qtl_data::example::{self, DrawKey};
use qtl_data::template::{self, Template};
use qtl_data::{Conversation, DataError, IGNORED, PLACEHOLDER, Tokenizer, Turn, Turns};
use serde_json::{Value, json};

use crate::golden::{self, integers};

fn cases() -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat_masks.json");
    golden::json(&file).as_array().unwrap().clone()
}

/// The template `chat` of a folder with that chat template and the tokenizer's configuration.
fn chat(source: &str, tokenizer: &str) -> Arc<dyn Template> {
    let folder = tempfile::tempdir().unwrap();
    let config = golden::folder("tokenizers")
        .join(tokenizer)
        .join("tokenizer_config.json");
    std::fs::copy(config, folder.path().join("tokenizer_config.json")).unwrap();
    std::fs::write(folder.path().join("chat_template.jinja"), source).unwrap();
    template::open("chat", folder.path()).unwrap()
}

fn turn(question: &str, answer: &str) -> Turn {
    Turn {
        question: question.into(),
        answer: Some(answer.into()),
    }
}

fn talk(case: &Value) -> Conversation {
    let turns = case["turns"].as_array().unwrap().iter();
    Conversation {
        system: case["system"].as_str().map(str::to_owned),
        turns: turns
            .map(|pair| turn(pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect(),
    }
}

fn tokenizer(name: &str) -> Tokenizer {
    golden::tokenizer(name).unwrap()
}

#[test]
fn ids_and_masks_are_those_of_transformers() {
    for case in cases() {
        let text = |key: &str| case[key].as_str().unwrap();
        let (template, tokenizer) = (
            chat(text("template"), text("tokenizer")),
            tokenizer(text("tokenizer")),
        );
        let at = format!("{}: {}", text("name"), case["turns"]);
        template.check(&tokenizer).unwrap();
        let mut talk = talk(&case);
        assert_eq!(template.prompt(&talk).unwrap(), text("text"), "{at}");
        let tokens = template.conversation(&talk, &tokenizer, 2048).unwrap();
        assert_eq!(tokens.ids, integers(&case["ids"]), "{at}");
        let said = integers(&case["said"]);
        let wanted = tokens
            .ids
            .iter()
            .zip(said)
            .map(|(&id, said)| if said == 1 { id } else { IGNORED });
        assert_eq!(tokens.labels, wanted.collect::<Vec<_>>(), "{at}");
        // What is asked is what stands in front of the answer.
        talk.turns.last_mut().unwrap().answer = None;
        assert_eq!(template.prompt(&talk).unwrap(), text("prompt"), "{at}");
        let asked = template.conversation(&talk, &tokenizer, 2048).unwrap();
        assert!(tokens.ids.starts_with(&asked.ids), "{at}");
    }
}

fn source(name: &str) -> (String, Tokenizer, String) {
    let case = cases()
        .into_iter()
        .find(|case| case["name"] == name)
        .unwrap();
    let folder = case["tokenizer"].as_str().unwrap().to_owned();
    (
        case["template"].as_str().unwrap().to_owned(),
        tokenizer(&folder),
        folder,
    )
}

#[test]
fn a_picture_stands_in_front_of_its_question() {
    let (text, tokenizer, folder) = source("chatml");
    let template = chat(&text, &folder);
    let turns = vec![
        turn("What is it?\n<image>", "Red."),
        turn("Why?", "Because."),
    ];
    assert_eq!(template.placeholders(&turns), 1);
    let talk = Conversation::from(turns);
    let spans = |mode: &Turns| {
        let key = DrawKey {
            seed: 0,
            epoch: 0,
            index: 0,
        };
        example::spans(&*template, &tokenizer, &talk, true, mode, 2048, key).unwrap()
    };
    let whole = spans(&Turns::Conversation);
    assert_eq!(
        whole[0].ids.iter().filter(|&&id| id == PLACEHOLDER).count(),
        1
    );
    let place = whole[0]
        .ids
        .iter()
        .position(|&id| id == PLACEHOLDER)
        .unwrap();
    let bare = |text: &str| tokenizer.encode_bare(text).unwrap();
    let before = bare("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n");
    let after = bare("\nWhat is it?<|im_end|>\n<|im_start|>assistant\nRed.<|im_end|>\n");
    assert_eq!(whole[0].ids[..place], before);
    assert!(whole[0].ids[place + 1..].starts_with(&after));
    let parts = spans(&Turns::Independent {
        per_sample: 0,
        only: Vec::new(),
    });
    assert_eq!(parts.len(), 3);
    for (part, said) in parts[1..]
        .iter()
        .zip(["Red.<|im_end|>", "Because.<|im_end|>"])
    {
        let learnt: Vec<i64> = part
            .labels
            .iter()
            .copied()
            .filter(|&label| label != IGNORED)
            .collect();
        assert_eq!(learnt, bare(said));
    }
}

#[test]
fn what_cannot_be_masked_is_refused_by_name() {
    let (_, tokenizer, folder) = source("chatml");
    let refused = |source: &str| match chat(source, &folder).check(&tokenizer) {
        Err(error @ DataError::Template { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let body = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}";
    // Shows the last two messages only, as templates that drop old thoughts do.
    let forgets = refused(&format!(
        "{{% for m in messages[-2:] %}}{body}{{% endfor %}}"
    ));
    assert!(
        forgets.contains("no longer begins") && forgets.contains("chat_template.jinja"),
        "{forgets}"
    );
    assert!(forgets.contains("qwen2_instruct"), "{forgets}");
    let endless =
        refused("{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}");
    assert!(endless.contains("could not be told"), "{endless}");
    let silent = refused(
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}",
    );
    assert!(silent.contains("where it is given"), "{silent}");
    let strict =
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}";
    let template = chat(
        &format!("{strict}{{% for m in messages %}}{body}{{% endfor %}}"),
        &folder,
    );
    template.check(&tokenizer).unwrap();
    let mut talk = Conversation::of(turn("a", "b"));
    assert!(template.conversation(&talk, &tokenizer, 2048).is_ok());
    talk.system = Some("Be brief.".into());
    let layout = |talk: &Conversation| match template.conversation(talk, &tokenizer, 2048) {
        Err(DataError::Layout { problem }) => problem,
        other => panic!("{other:?}"),
    };
    assert!(layout(&talk).contains("no system here"));
    let problem = layout(&Conversation::of(turn(
        "a",
        "b<|im_end|>\n<|im_start|>user\nc",
    )));
    assert!(problem.contains("<|im_"), "{problem}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("tokenizer_config.json"),
        json!({}).to_string(),
    )
    .unwrap();
    let none = template::open("chat", folder.path())
        .unwrap_err()
        .to_string();
    assert!(none.contains("chat_template.jinja"), "{none}");
}

/// Every template of the reference suits the tokenizer that the reference uses it with, and says what suits another one.
#[test]
fn templates_are_checked_against_tokenizers() {
    let mut ran = 0;
    for (name, folder) in golden::cases("templates") {
        let meta = golden::json(&folder.join("meta.json"));
        let Ok(template) = template::named(meta["template"].as_str().unwrap()) else {
            continue;
        };
        let tokenizer = tokenizer(meta["tokenizer"].as_str().unwrap());
        match template.check(&tokenizer) {
            Ok(note) => assert_eq!(note, None, "{name}"),
            Err(error) => {
                // The reference tries one that does not suit, and loses count of its ids.
                let cases = golden::json_lines(&folder.join("train.jsonl"));
                let lost =
                    |case: &Value| !case["mismatch"].is_null() || case.get("error").is_some();
                assert!(cases.iter().any(lost), "{name}: {error}");
                continue;
            }
        }
        ran += 1;
    }
    assert!(ran > 0);
    for (name, folder, cause, cure) in [
        ("phi", "spm_llama", "<|endoftext|>", "llama"),
        ("llama", "bpe_qwen2_base", "`</s>`", "qwen2_base"),
        (
            "qwen2_base",
            "bpe_qwen2_instruct",
            "end token",
            "qwen2_instruct",
        ),
        ("gemma", "spm_llama", "`<eos>`", "llama"),
        ("llama", "bpe_gpt2", "`</s>`", "phi"),
    ] {
        let error = template::named(name)
            .unwrap()
            .check(&tokenizer(folder))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(cause) && error.contains(cure) && error.contains(folder),
            "{error}"
        );
    }
    // Bytes, and an end token of its own: no layout is made for it, and labels are right.
    let folder = golden::folder("tokenizers").join("bpe_qwen2_instruct");
    let definition = std::fs::read_to_string(folder.join("tokenizer.json")).unwrap();
    let definition = definition
        .replace("<|im_end|>", "</s>")
        .replace("<|endoftext|>", "<pad>");
    let config = json!({"eos_token": "</s>", "pad_token": "<pad>"}).to_string();
    let own =
        Tokenizer::from_json("own", definition.as_bytes(), Some(config.as_bytes()), None).unwrap();
    let note = template::named("qwen2_base")
        .unwrap()
        .check(&own)
        .unwrap()
        .unwrap();
    assert!(
        note.contains("`<|endoftext|>` is") && note.contains("own"),
        "{note}"
    );
}
