//! Prompts, ids and labels of the reference's templates.

use qtl_data::example::{self, DrawKey};
use qtl_data::template::{self, Template};
use qtl_data::{Conversation, Fault, IGNORED, Tokenizer, Turn, Turns};
use serde_json::Value;

use crate::golden::{self, integers};
use crate::set;

/// Each case of the template folders that a template here exists for.
fn for_each(
    mut check: impl FnMut(&str, &'static dyn Template, &Tokenizer, &std::path::Path, usize),
) {
    let (mut ran, mut skipped) = (Vec::new(), Vec::new());
    for (name, folder) in golden::cases("templates") {
        let meta = golden::json(&folder.join("meta.json"));
        let limit = usize::try_from(meta["model_max_length"].as_u64().unwrap()).unwrap();
        match template::named(meta["template"].as_str().unwrap()) {
            Ok(template) => {
                let tokenizer = golden::tokenizer(meta["tokenizer"].as_str().unwrap()).unwrap();
                for (key, ours) in [
                    ("bos_token_id", tokenizer.bos()),
                    ("eos_token_id", tokenizer.eos()),
                    ("pad_token_id", tokenizer.pad()),
                    ("unk_token_id", tokenizer.unk()),
                ] {
                    assert_eq!(ours, meta[key].as_i64(), "{name}: {key}");
                }
                assert_eq!(
                    tokenizer.legacy(),
                    meta["legacy"].as_bool(),
                    "{name}: legacy"
                );
                check(&name, template, &tokenizer, &folder, limit);
                ran.push(name);
            }
            Err(_) => skipped.push(name),
        }
    }
    println!("ran {ran:?}, skipped (no such template) {skipped:?}");
    set::ran(ran.len(), "templates");
}

#[test]
fn golden_templates_train() {
    for_each(|name, template, tokenizer, folder, limit| {
        for case in golden::json_lines(&folder.join("train.jsonl")) {
            let at = format!("{name}: {}", case["name"]);
            let max = case["model_max_length"]
                .as_u64()
                .map_or(limit, |n| usize::try_from(n).unwrap());
            let read = golden::turns(&case["conversations"]);
            if case["name"] == "roles_swapped_same_speaker" {
                // The reference takes the second message for an answer, whoever it is from.
                assert_eq!(read, Err(Fault::UnevenTurns), "{at}");
                continue;
            }
            let done = read.map_err(|fault| fault.to_string()).and_then(|turns| {
                template
                    .conversation(&turns, tokenizer, max)
                    .map_err(|e| e.to_string())
                    .map(|t| (turns, t))
            });
            if case.get("error").is_some() {
                assert!(
                    done.is_err(),
                    "{at}: the reference refuses this: {}",
                    case["error"]
                );
                continue;
            }
            let (turns, tokens) = done.unwrap_or_else(|e| panic!("{at}: {e}"));
            assert_eq!(
                template.prompt(&turns).unwrap(),
                case["prompt"].as_str().unwrap(),
                "{at}"
            );
            assert_eq!(tokens.ids, integers(&case["input_ids"]), "{at}");
            assert_eq!(tokens.labels, integers(&case["labels"]), "{at}");
            assert_eq!(
                tokens.placeholders() as u64,
                case["image_placeholders"].as_u64().unwrap(),
                "{at}"
            );
            assert_eq!(
                template.placeholders(&turns.turns),
                tokens.placeholders(),
                "{at}"
            );
            match &case["mismatch"] {
                Value::Null => assert_eq!(tokens.mismatch, None, "{at}"),
                expected => {
                    let mismatch = tokens
                        .mismatch
                        .unwrap_or_else(|| panic!("{at}: no mismatch"));
                    let counts = (mismatch.counted as u64, mismatch.actual as u64);
                    let wanted = (
                        expected["counted"].as_u64().unwrap(),
                        expected["actual"].as_u64().unwrap(),
                    );
                    assert_eq!(counts, wanted, "{at}");
                    assert_eq!(tokens.supervised(), 0, "{at}");
                }
            }
        }
    });
}

#[test]
fn golden_templates_eval() {
    for_each(|name, template, tokenizer, folder, _| {
        for case in golden::json_lines(&folder.join("eval.jsonl")) {
            let at = format!("{name}: {}", case["name"]);
            let turns = golden::turns(&case["conversations"]).unwrap();
            let prompt = template.prompt(&turns).unwrap();
            assert_eq!(prompt, case["prompt"].as_str().unwrap(), "{at}");
            assert_eq!(
                tokenizer.encode_prompt(&prompt).unwrap(),
                integers(&case["input_ids"]),
                "{at}"
            );
        }
    });
}

#[test]
fn an_unknown_template_names_the_known_ones() {
    let error = template::named("vicuna").unwrap_err().to_string();
    assert!(
        template::ALL.iter().all(|t| error.contains(t.name())) && error.contains("vicuna"),
        "{error}"
    );
}

fn turn(question: &str, answer: &str) -> Turn {
    Turn {
        question: question.into(),
        answer: Some(answer.into()),
    }
}

/// A branch must read like the same turn in a conversation of its own, whatever the template.
#[test]
fn an_independent_turn_is_the_turn_alone_behind_the_shared_prefix() {
    let talk = Conversation::from(vec![
        turn("<image>\nWhat color is it?", "Red."),
        turn("How many?", "7"),
        turn("Is it wet?", "Yes"),
    ]);
    let mode = Turns::Independent {
        per_sample: 0,
        only: Vec::new(),
    };
    let key = DrawKey {
        seed: 1,
        epoch: 0,
        index: 0,
    };
    for &template in template::ALL {
        let tokenizer = golden::fixture_tokenizer(match template.name() {
            "phi" => "bpe_gpt2",
            "gemma" => "spm_gemma",
            "qwen2_base" => "bpe_qwen2_base",
            "qwen2_instruct" => "bpe_qwen2_instruct",
            _ => "spm_llama",
        });
        let prefix: Vec<i64> = tokenizer.leading_bos().into_iter().chain([-200]).collect();
        let spans = example::spans(template, &tokenizer, &talk, true, &mode, 2048, key).unwrap();
        let name = template.name();
        assert_eq!(spans.len(), 4, "{name}");
        assert_eq!(
            (spans[0].branch, &spans[0].ids[..], &spans[0].labels[..]),
            (0, &prefix[..], &vec![IGNORED; prefix.len()][..]),
            "{name}"
        );
        for (branch, (span, turn)) in spans[1..].iter().zip(&talk.turns).enumerate() {
            assert_eq!(span.branch as usize, branch + 1, "{name}");
            assert_eq!(span.ids.len(), span.labels.len(), "{name}");
            assert!(!span.ids.contains(&-200), "{name}");
            let alone = Turn {
                question: turn.question.replace("<image>\n", ""),
                answer: turn.answer.clone(),
            };
            let whole = template
                .conversation(&Conversation::of(alone), &tokenizer, 2048)
                .unwrap();
            assert!(
                whole.ids.ends_with(&span.ids) && whole.labels.ends_with(&span.labels),
                "{name}"
            );
            let supervised: Vec<u32> = span
                .labels
                .iter()
                .filter(|&&l| l != IGNORED)
                .map(|&l| u32::try_from(l).unwrap())
                .collect();
            assert_eq!(
                tokenizer.answer(&supervised).unwrap(),
                turn.answer.as_deref().unwrap(),
                "{name}"
            );
        }
    }
}

#[test]
fn qa_lays_out_turns_without_roles() {
    let tokenizer = golden::fixture_tokenizer("spm_llama");
    let qa = template::named("qa").unwrap();
    let talk = Conversation::from(vec![
        turn("<image>\nWhat color is it?", "Red."),
        turn("How many?", "Two cats."),
    ]);
    let tokens = qa.conversation(&talk, &tokenizer, 2048).unwrap();
    let bare = |text: &str| tokenizer.encode_bare(text).unwrap();
    let (q1, a1, q2, a2) = (
        bare("What color is it?"),
        bare("Red."),
        bare("How many?"),
        bare("Two cats."),
    );
    let expected = [&[1, -200][..], &q1, &a1, &[2], &q2, &a2, &[2]].concat();
    assert_eq!(tokens.ids, expected);
    let none = |n: usize| vec![IGNORED; n];
    assert_eq!(
        tokens.labels,
        [
            &none(2 + q1.len())[..],
            &a1,
            &[2],
            &none(q2.len()),
            &a2,
            &[2]
        ]
        .concat()
    );
}

/// What is asked in evaluation must be what stands before the answer in training.
#[test]
fn asking_gives_the_ids_that_precede_the_answer_in_training() {
    let tokenizer = golden::fixture_tokenizer("spm_llama");
    let key = DrawKey {
        seed: 1,
        epoch: 0,
        index: 0,
    };
    for name in ["llama", "qa"] {
        let template = template::named(name).unwrap();
        for mode in [
            Turns::Conversation,
            Turns::Independent {
                per_sample: 1,
                only: vec!["nothing".into()],
            },
        ] {
            let open = |question: &str| Turn {
                question: question.to_owned(),
                answer: None,
            };
            let ask =
                |turns: &[Turn]| example::ask(template, &tokenizer, turns, true, &mode).unwrap();
            let asked = ask(&[open("Is it wet?")]);
            let turns = Conversation::of(turn("<image>\nIs it wet?", "Yes"));
            let trained =
                example::spans(template, &tokenizer, &turns, true, &mode, 2048, key).unwrap();
            assert_eq!(asked.len(), trained.len(), "{name}");
            for (asked, trained) in asked.iter().zip(&trained) {
                assert_eq!(asked.branch, trained.branch);
                assert!(
                    trained.ids.starts_with(&asked.ids),
                    "{name} {mode:?}: {:?} {:?}",
                    asked.ids,
                    trained.ids
                );
                let answer = trained
                    .labels
                    .iter()
                    .position(|&l| l != IGNORED)
                    .unwrap_or(trained.ids.len());
                assert_eq!(asked.ids.len(), answer, "{name} {mode:?}");
            }
            // The second question has the first and its answer before it, or stands alone.
            let second = ask(&[turn("Is it red?", "No"), open("Is it wet?")]);
            match mode {
                Turns::Conversation => {
                    let turns = Conversation::from(vec![
                        turn("<image>\nIs it red?", "No"),
                        turn("Is it wet?", "Yes"),
                    ]);
                    let trained =
                        example::spans(template, &tokenizer, &turns, true, &mode, 2048, key);
                    let (asked, trained) = (&second[0].ids, &trained.unwrap()[0]);
                    assert!(trained.ids.starts_with(asked), "{name}");
                    let last = trained.labels[asked.len()..].iter();
                    assert!(last.clone().all(|&l| l != IGNORED), "{name}");
                    assert_eq!(trained.labels[asked.len() - 1], IGNORED, "{name}");
                }
                Turns::Independent { .. } => assert_eq!(second, asked, "{name}"),
            }
        }
    }
}

/// What transformers renders for a plain export is what we train and ask with.
#[test]
fn a_template_as_jinja_gives_its_own_prompt() {
    use qtl_data::ChatTemplate;
    use qtl_data::chat::{Message, Role};

    let said = |role, content: &str| Message {
        role,
        content: content.to_owned(),
    };
    let turn = |question: &str, answer: Option<&str>| Turn {
        question: question.to_owned(),
        answer: answer.map(str::to_owned),
    };
    for name in ["llama", "phi", "gemma", "qwen2_base", "qwen2_instruct"] {
        let folder = tempfile::tempdir().unwrap();
        let template = template::open(name, folder.path()).unwrap();
        let text = template.chat_template(false).unwrap();
        std::fs::write(folder.path().join("chat_template.jinja"), text).unwrap();
        let rendered = ChatTemplate::open(folder.path()).unwrap().unwrap();
        for first in ["<image>\nWhat is \"it\"?", "What is there?"] {
            let talk = Conversation::from(vec![turn(first, Some("A dog.")), turn("Where?", None)]);
            let messages = [
                said(Role::User, first),
                said(Role::Assistant, "A dog."),
                said(Role::User, "Where?"),
            ];
            let got = rendered.prompt(&messages).unwrap();
            assert_eq!(got, template.prompt(&talk).unwrap(), "{name}");
        }
        let refused = rendered.prompt(&[said(Role::System, "Be brief."), said(Role::User, "?")]);
        assert!(refused.is_err(), "{name}");
    }
}
