//! The forms that data sets come in: what is read, and what is refused by name.

use std::path::Path;

use qtl_data::{Dataset, EntryError, Fault, Strictness, Turn};
use serde_json::{Value, json};

fn open(text: &[u8]) -> Result<Dataset, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("d.json");
    std::fs::write(&file, text).unwrap();
    Dataset::open(&file, Path::new("images"), Strictness::Skip).map_err(|e| e.to_string())
}

/// The entry beside one that is good.
fn with_good(entry: &Value) -> Dataset {
    let good = json!({"id": "good", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]});
    open(json!([good, entry]).to_string().as_bytes()).unwrap()
}

fn refusal(entry: &Value) -> EntryError {
    let dataset = with_good(entry);
    assert_eq!(dataset.entries().len(), 1, "{entry}");
    dataset.refused()[0].clone()
}

fn turn(question: &str, answer: &str) -> Turn {
    Turn {
        question: question.into(),
        answer: Some(answer.into()),
    }
}

fn talk(roles: &[&str]) -> Value {
    let said = ["one", "two", "three", "four", "five"];
    let messages = roles.iter().zip(said);
    Value::from(
        messages
            .map(|(role, said)| json!({"from": role, "value": said}))
            .collect::<Vec<_>>(),
    )
}

/// Roles as written, and what they are read as: the system's words and the turns.
type Good<'a> = (&'a [&'a str], Option<&'a str>, &'a [(&'a str, &'a str)]);

#[test]
fn roles_say_who_asks_and_who_answers() {
    let good: [Good<'_>; 4] = [
        (&["human", "gpt"], None, &[("one", "two")]),
        (
            &["user", "assistant", "human", "gpt"],
            None,
            &[("one", "two"), ("three", "four")],
        ),
        (
            &["system", "user", "assistant"],
            Some("one"),
            &[("two", "three")],
        ),
        // It answers what is not there; LLaVA drops it too.
        (&["gpt", "human", "gpt"], None, &[("two", "three")]),
    ];
    for (roles, system, turns) in good {
        let dataset = with_good(&json!({"id": "x", "conversations": talk(roles)}));
        let read = &dataset.entries()[1].talk;
        assert_eq!(read.system.as_deref(), system, "{roles:?}");
        let turns: Vec<Turn> = turns.iter().map(|(q, a)| turn(q, a)).collect();
        assert_eq!(read.turns, turns, "{roles:?}");
    }
    let bad: [(&[&str], Fault, &str); 9] = [
        (
            &["user", "assistant", "user"],
            Fault::UnevenTurns,
            "conversations[2]",
        ),
        (
            &["system", "gpt", "human"],
            Fault::UnevenTurns,
            "conversations[1]",
        ),
        (
            &["human", "human", "gpt", "gpt"],
            Fault::UnevenTurns,
            "conversations[1]",
        ),
        (
            &["human", "gpt", "gpt", "human"],
            Fault::UnevenTurns,
            "conversations[2]",
        ),
        (
            &["human", "gpt", "system", "human", "gpt"],
            Fault::UnevenTurns,
            "conversations[2]",
        ),
        (&["human"], Fault::UnevenTurns, "conversations[0]"),
        (&["gpt"], Fault::UnevenTurns, "conversations"),
        (
            &["human", "function_call", "observation", "gpt"],
            Fault::UnknownRole,
            "`function_call`",
        ),
        (
            &["human", "gpt", "tool", "gpt"],
            Fault::UnknownRole,
            "`tool`",
        ),
    ];
    for (roles, fault, place) in bad {
        let error = refusal(&json!({"id": "the entry", "conversations": talk(roles)}));
        assert_eq!(error.fault, fault, "{roles:?}: {error}");
        let text = error.to_string();
        assert!(
            text.contains(place) && text.contains("`the entry`"),
            "{roles:?}: {text}"
        );
    }
}

#[test]
fn the_form_of_openai_is_read() {
    let text = |text: &str| json!({"type": "text", "text": text});
    let ask = |content: Value| {
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": content},
                                      {"role": "assistant", "content": [text("A dog.")]}])
    };
    for (image, parts) in [
        (json!("a.png"), json!([{"type": "image"}, text("What?")])),
        (json!(["a.png"]), json!("<image>\nWhat?")),
        (
            json!([{"path": "a.png", "bytes": null}]),
            json!([{"type": "image"}, text("What?")]),
        ),
        (
            Value::Null,
            json!([{"type": "image", "image": "a.png"}, text("What?")]),
        ),
        (
            json!([]),
            json!([{"type": "image_url", "image_url": {"url": "a.png"}}, text("What?")]),
        ),
        (
            json!("a.png"),
            json!([{"type": "image_url", "image_url": "a.png"}, text("What?")]),
        ),
    ] {
        let entry = json!({"id": "x", "images": image, "messages": ask(parts)});
        let dataset = with_good(&entry);
        let read = &dataset
            .entries()
            .get(1)
            .unwrap_or_else(|| panic!("{entry}: {:?}", dataset.refused()));
        assert_eq!(read.image.as_deref(), Some(Path::new("a.png")), "{entry}");
        assert_eq!(read.talk.system.as_deref(), Some("Be brief."));
        assert_eq!(
            read.talk.turns,
            [turn("<image>\nWhat?", "A dog.")],
            "{entry}"
        );
    }
    for (message, named) in [
        (
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": 1}]}),
            "tool_calls",
        ),
        (
            json!({"role": "assistant", "content": [{"type": "input_audio"}]}),
            "`input_audio`",
        ),
        (
            json!({"role": "assistant", "content": "b", "weight": 0}),
            "weight",
        ),
        (
            json!({"role": "assistant", "content": {"text": "b"}}),
            "messages[1].content",
        ),
        (json!({"role": "assistant"}), "messages[1].value"),
        (json!({"role": "assistant", "content": null}), "null"),
    ] {
        let error =
            refusal(&json!({"id": "x", "messages": [{"role": "user", "content": "a"}, message]}))
                .to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn an_entry_has_one_picture_or_none() {
    let entry = |key: &str, image: Value| json!({"id": "x", key: image, "conversations": talk(&["human", "gpt"])});
    for (image, wanted) in [
        (json!("a.png"), Some("a.png")),
        (json!(["a.png"]), Some("a.png")),
        (json!(null), None),
        (json!(""), None),
        (json!([]), None),
        (json!([null]), None),
    ] {
        for key in ["image", "images"] {
            let dataset = with_good(&entry(key, image.clone()));
            let read = &dataset.entries()[1];
            assert_eq!(
                read.image.as_deref(),
                wanted.map(Path::new),
                "{key}: {image}"
            );
        }
    }
    for (image, fault, named) in [
        (
            json!(["a.png", "a.png"]),
            Fault::SeveralImages,
            "2 pictures",
        ),
        (json!(7), Fault::Malformed, "a number"),
        (json!([{"bytes": "iVBO"}]), Fault::Malformed, "`bytes`"),
        (json!("../a.png"), Fault::ImageOutside, "../a.png"),
        (json!("file:///data/a.png"), Fault::MissingImage, "a URL"),
        (
            json!("HTTPS://example.org/a.png"),
            Fault::MissingImage,
            "not downloaded",
        ),
        (
            json!("data:image/png;base64,iVBO"),
            Fault::MissingImage,
            "inside the text",
        ),
        (json!("C:\\data\\a.png"), Fault::MissingImage, "Windows"),
    ] {
        for key in ["image", "images"] {
            let error = refusal(&entry(key, image.clone()));
            assert_eq!(error.fault, fault, "{error}");
            assert!(error.to_string().contains(named), "{error}");
        }
    }
    let error = refusal(
        &json!({"image": "a.png", "images": ["b.png"], "conversations": talk(&["human", "gpt"])}),
    );
    assert_eq!(error.fault, Fault::SeveralImages, "{error}");
    let error = refusal(&entry("video", json!("a.mp4")));
    assert!(error.to_string().contains("field `video`"), "{error}");
}

#[test]
fn files_are_lists_or_lines_whatever_their_name() {
    let entry = json!({"id": 1, "conversations": talk(&["human", "gpt"])}).to_string();
    let pretty = format!("{}\r\n", entry.replace(',', ",\r\n"));
    for (text, count) in [
        (format!("[{entry},{entry}]"), 2),
        (format!("\u{feff}[{entry}]"), 1),
        (format!("\u{feff}{entry}\r\n\r\n{entry}\r\n"), 2),
        (entry.clone(), 1),
        (format!("{pretty}{pretty}"), 2),
    ] {
        assert_eq!(
            open(text.as_bytes()).unwrap().entries().len(),
            count,
            "{text}"
        );
    }
    let utf16: Vec<u8> = entry.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, named) in [
        (format!("{{\"data\": [{entry}]}}").into_bytes(), "`data`"),
        (b"\"text\"".to_vec(), "a list of entries"),
        (
            format!("{entry}\n{{\"id\": NaN}}").into_bytes(),
            "line 2 column 8",
        ),
        (
            format!("[{entry},\n{{\"id\": NaN}}]").into_bytes(),
            "line 2 column 8",
        ),
        (format!("[{entry}").into_bytes(), "cut off"),
        (utf16, "UTF-16"),
        (b"[{\"id\": \"\xb0\xa1\"}]".to_vec(), "GBK"),
    ] {
        let error = open(&bytes).unwrap_err();
        assert!(error.contains(named) && error.contains("d.json"), "{error}");
    }
    // Half a character costs its own entry only.
    let lone = entry.replace("\"one\"", "\"\\ud83d\"");
    let dataset = open(format!("{lone}\n{entry}").as_bytes()).unwrap();
    assert_eq!((dataset.entries().len(), dataset.refused().len()), (1, 1));
    assert!(dataset.refused()[0].to_string().contains("entry 0"));
}
