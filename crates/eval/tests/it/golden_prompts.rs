//! How each benchmark asks: the texts of the readers, and the ids of the templates.

use qtl_data::example::{Turns, ask};
use qtl_data::{Tokenizer, Turn, template};
use qtl_eval::benchmark::Suite;

use crate::{golden, set};

#[test]
fn golden_prompts() {
    let Some(file) = set::file("data/prompts/cases.jsonl") else {
        return;
    };
    let cases = golden::json_lines(file);
    for case in &cases {
        let sent = case["text_sent"].as_str().unwrap();
        let pictured = sent.starts_with("<image>\n");
        let text = sent.trim_start_matches("<image>\n");
        asked_so(case["benchmark"].as_str().unwrap(), text);
        for encoding in case["encodings"].as_array().unwrap() {
            let name = |key: &str| encoding[key].as_str().unwrap();
            let Some(dir) = set::file(format!("data/tokenizers/{}", name("tokenizer"))) else {
                continue;
            };
            let tokenizer = Tokenizer::open(&dir).unwrap();
            let template = template::open(name("template"), &dir).unwrap();
            let turn = Turn {
                question: text.to_owned(),
                answer: None,
            };
            let spans = ask(
                &*template,
                &tokenizer,
                &[turn],
                pictured,
                &Turns::Conversation,
            )
            .unwrap();
            let ids: Vec<i64> = spans.into_iter().flat_map(|span| span.ids).collect();
            let theirs: Vec<i64> = serde_json::from_value(encoding["input_ids"].clone()).unwrap();
            assert_eq!(
                ids,
                theirs,
                "{} {}: {text}",
                name("template"),
                name("tokenizer")
            );
        }
    }
    set::ran(cases.len(), "prompts");
}

/// The set's own folder of a benchmark asks in these words. (VQAv2's has no pictures, and a folder of pictures is needed
/// to know their names.)
fn asked_so(benchmark: &str, text: &str) {
    if benchmark == "vqav2" {
        return;
    }
    let cases = golden::cases(benchmark);
    let asks = |case: &std::path::PathBuf| {
        let suite = Suite::load(case).unwrap();
        suite
            .questions()
            .iter()
            .any(|question| question.text == text)
    };
    assert!(
        cases.is_empty() || cases.iter().any(asks),
        "{benchmark}: {text:?}"
    );
}
