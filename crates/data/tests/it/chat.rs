//! Chat templates as checkpoints carry them. `fixtures/chat.py` wrote the expected texts with transformers 5.24.

use std::path::Path;

use qtl_data::ChatTemplate;
use qtl_data::chat::{Message, Role};
use serde_json::{Value, json};

fn cases() -> Vec<Value> {
    let cases = crate::golden::json(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat.json"),
    );
    cases.as_array().unwrap().clone()
}

fn messages(case: &Value) -> Vec<Message> {
    let list = case["messages"].as_array().unwrap();
    let message = |message: &Value| Message {
        role: match message["role"].as_str().unwrap() {
            "system" => Role::System,
            "user" => Role::User,
            _ => Role::Assistant,
        },
        content: message["content"].as_str().unwrap().to_owned(),
    };
    list.iter().map(message).collect()
}

/// A folder whose configuration holds `config`, and beside it the template in a file of its own.
fn folder(config: &Value, template: Option<&str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("tokenizer_config.json"),
        config.to_string(),
    )
    .unwrap();
    if let Some(template) = template {
        std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    }
    folder
}

#[test]
fn templates_of_checkpoints_render_as_in_transformers() {
    for case in cases() {
        let template = case["template"].as_str().unwrap();
        let special = json!({"bos_token": "<s>", "eos_token": {"content": "</s>", "special": true},
                             "pad_token": "<pad>", "unk_token": "<unk>", "sp_model_kwargs": {}});
        let with = |chat: Value| {
            let mut config = special.clone();
            config["chat_template"] = chat;
            config
        };
        let folders = [
            folder(&special, Some(template)),
            folder(&with(template.into()), None),
            folder(
                &with(
                    json!([{"name": "tools", "template": "no"}, {"name": "default", "template": template}]),
                ),
                None,
            ),
        ];
        for folder in folders {
            let chat = ChatTemplate::open(folder.path()).unwrap().unwrap();
            let got = chat.prompt(&messages(&case));
            match case["prompt"]["error"].as_str() {
                None => assert_eq!(got.unwrap(), case["prompt"], "{}", case["name"]),
                Some(problem) => {
                    let error = got.unwrap_err().to_string();
                    assert!(
                        error.contains(problem) && error.contains("chat_template"),
                        "{error}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_ends_an_answer_is_found_in_the_template() {
    let ends = [
        ("chatml", "<|im_end|>\n"),
        ("lines", "</s>\n"),
        ("strict", "</turn>\n"),
        ("folded", " </s>"),
    ];
    for (name, end) in ends {
        let cases = cases();
        let case = cases.iter().find(|case| case["name"] == name).unwrap();
        let special = json!({"bos_token": "<s>", "eos_token": "</s>"});
        let folder = folder(&special, case["template"].as_str());
        let chat = ChatTemplate::open(folder.path()).unwrap().unwrap();
        let after = chat.after_answer().unwrap();
        assert!(after.starts_with(end), "{name}: {after:?}");
    }
    // One that never shows what the assistant said.
    let folder = folder(&json!({}), Some("{{ messages[0].content }}"));
    let chat = ChatTemplate::open(folder.path()).unwrap().unwrap();
    assert_eq!(chat.after_answer().unwrap(), "");
}

#[test]
fn a_checkpoint_may_have_no_template_or_a_broken_one() {
    assert!(
        ChatTemplate::open(folder(&json!({}), None).path())
            .unwrap()
            .is_none()
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(ChatTemplate::open(empty.path()).unwrap().is_none());
    let broken = folder(&json!({}), Some("{% for %}"));
    let error = ChatTemplate::open(broken.path()).unwrap_err().to_string();
    assert!(error.contains("chat_template.jinja"), "{error}");
    std::fs::write(broken.path().join("tokenizer_config.json"), "{").unwrap();
    let error = ChatTemplate::open(broken.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json"), "{error}");
}

#[test]
fn what_is_not_supported_is_refused_or_seen_to_be_absent() {
    let dated =
        "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}no date{% endif %}";
    let dated = folder(&json!({}), Some(dated));
    let chat = ChatTemplate::open(dated.path()).unwrap().unwrap();
    assert_eq!(chat.prompt(&[]).unwrap(), "no date");
    let marked = folder(&json!({}), Some("{% generation %}x{% endgeneration %}"));
    let error = ChatTemplate::open(marked.path()).unwrap_err().to_string();
    assert!(
        error.contains("chat_template.jinja") && error.contains("generation"),
        "{error}"
    );
}

/// It comes with a model, and the model may come from anywhere.
#[test]
fn a_template_that_does_not_end_is_ended() {
    let endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
    let folder = folder(&json!({}), Some(endless));
    let template = ChatTemplate::open(folder.path()).unwrap().unwrap();
    let error = template.prompt(&[]).unwrap_err().to_string();
    assert!(error.contains("fuel"), "{error}");
}
