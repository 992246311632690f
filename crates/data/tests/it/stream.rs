//! Answers while they come.

use qtl_data::{AnswerStream, Tokenizer};
use serde_json::json;

use crate::golden;

const TEXTS: [&str; 5] = [
    "Grüß Gott: 您好, мир! 🙂🏳️‍🌈 done.",
    "  It 's what I do n't know , is n't it ?  No !  ",
    "def f(x):\n    return x  # twice\n\n\n",
    "\u{fffd} stands for itself \u{fffd}",
    "",
];

/// What the pieces say before the end, and all of them.
fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> (String, String) {
    let mut stream = AnswerStream::new(tokenizer);
    let mut shown = String::new();
    for id in ids {
        shown.push_str(&stream.push(*id).unwrap());
    }
    let all = shown.clone() + &stream.end().unwrap();
    assert_eq!(stream.given(), all);
    (shown, all)
}

#[test]
fn golden_pieces_of_every_tokenizer_add_up_to_the_answer() {
    for (name, _) in golden::cases("tokenizers") {
        let tokenizer = golden::tokenizer(&name).unwrap();
        for text in TEXTS {
            // A word-level tokenizer may know none of this.
            let Ok(ids) = tokenizer.encode_bare(text) else {
                continue;
            };
            let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
            let whole = tokenizer.answer(&ids).unwrap();
            for end in 0..=ids.len() {
                // No half character, and nothing that is taken back.
                let (shown, all) = pieces(&tokenizer, &ids[..end]);
                assert!(whole.starts_with(&shown), "{name}: {shown:?}, {whole:?}");
                let cut = tokenizer.answer(&ids[..end]).unwrap();
                assert!(
                    all == cut || cut.contains('\u{fffd}'),
                    "{name}: {all:?}, {cut:?}"
                );
            }
            assert_eq!(pieces(&tokenizer, &ids).1, whole, "{name}");
        }
        // What a model may say: any token after any other. Nothing gets lost.
        let count = tokenizer.vocabulary() as u64;
        for start in 0..50u64 {
            let ids: Vec<u32> = (0..40u64)
                .map(|i| ((start * 40_507 + i * i * 7919 + i * 104_729) % count) as u32)
                .collect();
            let whole = tokenizer.answer(&ids).unwrap();
            let all = pieces(&tokenizer, &ids).1;
            assert!(
                all == whole || whole.contains('\u{fffd}'),
                "{name}: {all:?}, {whole:?}"
            );
        }
    }
}

#[test]
fn what_follows_bytes_that_make_no_characters_is_not_lost() {
    let tokenizer = golden::fixture_tokenizer("spm_gemma");
    let ids = |text: &str| -> Vec<u32> {
        let ids = tokenizer.encode_bare(text).unwrap();
        ids.into_iter().map(|id| id as u32).collect()
    };
    // A whole character and a piece of another: together they decode to neither.
    let (whole, half) = (ids("您"), ids("好"));
    let said = [whole.as_slice(), &half[..1], &ids("red fox")].concat();
    assert!(said.len() > 5, "{said:?} holds no bytes");
    let (_, all) = pieces(&tokenizer, &said);
    assert!(all.ends_with("red fox"), "{all:?}");
}

#[test]
fn a_character_of_several_tokens_comes_at_once_and_a_blank_with_the_next_word() {
    let bytes = |text: &str| -> Vec<String> {
        text.bytes().map(|byte| format!("<0x{byte:02X}>")).collect()
    };
    let mut words: Vec<String> = vec!["a".into(), " ".into(), "b".into()];
    words.extend(bytes("🙂"));
    let vocabulary: serde_json::Map<_, _> = words
        .iter()
        .cloned()
        .zip((0..).map(|id: u32| id.into()))
        .collect();
    let definition = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "added_tokens": [],
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "WordLevel", "unk_token": "a", "vocab": vocabulary},
    });
    let tokenizer =
        Tokenizer::from_json("bytes", definition.to_string().as_bytes(), None, None).unwrap();
    let mut stream = AnswerStream::new(&tokenizer);
    let pieces: Vec<String> = [0, 1, 3, 4, 5, 6, 1, 1, 2]
        .into_iter()
        .map(|id| stream.push(id).unwrap())
        .collect();
    assert_eq!(pieces, ["a", "", "", "", "", " 🙂", "", "", "  b"]);
    // What never becomes whole is shown for what it is at the end.
    stream.push(3).unwrap();
    assert_eq!(stream.end().unwrap(), "\u{fffd}");
}
