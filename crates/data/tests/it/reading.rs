//! Files into batches, as a run does it.

use std::path::Path;
use std::sync::Arc;

use qtl_data::scenes;
use qtl_data::template;
use qtl_data::{
    DataError, Dataset, Fault, IGNORED, Loader, LoaderOptions, Order, PLACEHOLDER, Processor,
    Reader, ReaderOptions, Source, Strictness, Tokenizer, Turns,
};
use serde_json::{Value, json};

fn words() -> Tokenizer {
    let files = scenes::TokenizerFiles::new();
    let bytes = |text: &String| text.clone().into_bytes();
    let (config, map) = (bytes(&files.config), bytes(&files.special_tokens_map));
    Tokenizer::from_json(
        "scenes",
        files.tokenizer.as_bytes(),
        Some(&config),
        Some(&map),
    )
    .unwrap()
}

fn reader(file: &Path, images: &Path, options: ReaderOptions) -> Result<Reader, DataError> {
    let dataset = Dataset::open(file, images, options.strictness)?;
    Reader::new(
        dataset,
        Arc::new(template::named("qa")?),
        words(),
        Processor::siglip(32),
        options,
    )
}

/// Two good entries and one of each fault, in a folder of their own.
fn mixed(folder: &Path) -> std::path::PathBuf {
    let talk = |first: &str, second: &str| {
        json!([
            {"from": "human", "value": first}, {"from": "gpt", "value": "yes"},
            {"from": "human", "value": second}, {"from": "gpt", "value": "no"},
        ])
    };
    let (one, two) = (
        "<image>\nIs there a dog in the image?",
        "Is there a cat in the image?",
    );
    let entry = |id: &str, image: &str, talk: Value| json!({"id": id, "image": image, "conversations": talk});
    let entries = json!([
        entry("good 1", "good.png", talk(one, two)),
        entry("missing", "nowhere.png", talk(one, two)),
        entry("corrupt", "corrupt.png", talk(one, two)),
        {"id": "silent", "image": "good.png"},
        entry("two tags", "good.png", talk(one, one)),
        entry("outside", "../good.png", talk(one, two)),
        entry("foreign", "good.png", talk(one, "Is there a zeppelin in the image?")),
        entry("good 2", "./sub/good.png", talk(one, two)),
    ]);
    let images = folder.join("images");
    std::fs::create_dir_all(images.join("sub")).unwrap();
    let picture =
        image::RgbImage::from_fn(20, 10, |x, y| image::Rgb([x as u8 * 10, y as u8 * 20, 7]));
    picture.save(images.join("good.png")).unwrap();
    picture.save(images.join("sub/good.png")).unwrap();
    std::fs::write(
        images.join("corrupt.png"),
        b"\x89PNG\r\n\x1a\n and then nonsense",
    )
    .unwrap();
    let file = folder.join("mixed.json");
    std::fs::write(&file, entries.to_string()).unwrap();
    file
}

#[test]
fn bad_samples_are_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = mixed(folder.path());
    let reader = reader(
        &file,
        &folder.path().join("images"),
        ReaderOptions::default(),
    )
    .unwrap();
    let mut skipped = reader.skipped();
    let ids: Vec<_> = reader
        .refused()
        .iter()
        .map(|e| (e.id.as_str(), e.fault))
        .collect();
    assert_eq!(
        ids,
        [
            ("silent", Fault::NoConversations),
            ("outside", Fault::ImageOutside),
            ("two tags", Fault::TooManyTags)
        ]
    );
    assert_eq!(
        skipped.counts.keys().copied().collect::<Vec<_>>(),
        [
            Fault::NoConversations,
            Fault::ImageOutside,
            Fault::TooManyTags
        ]
    );
    let order = Order::Sequential;
    let options = LoaderOptions {
        batch_size: 2,
        order,
        steps: Some(1),
        ..LoaderOptions::default()
    };
    let batch = Loader::new(Arc::new(reader), options)
        .unwrap()
        .next_batch()
        .unwrap()
        .unwrap();
    assert_eq!(
        batch
            .examples
            .iter()
            .map(|e| e.id.as_str())
            .collect::<Vec<_>>(),
        ["good 1", "good 2"]
    );
    skipped.merge(&batch.skipped);
    assert_eq!(skipped.total(), 6);
    for (fault, id) in [
        (Fault::MissingImage, "missing"),
        (Fault::CorruptImage, "corrupt"),
        (Fault::NoConversations, "silent"),
        (Fault::TooManyTags, "two tags"),
        (Fault::ImageOutside, "outside"),
        (Fault::UnknownWord, "foreign"),
    ] {
        assert_eq!(skipped.counts[&fault], 1, "{fault}");
        let message = &skipped.first[&fault];
        assert!(
            message.contains("mixed.json") && message.contains(&format!("`{id}`")),
            "{message}"
        );
    }
}

#[test]
fn strictness_stops_at_each_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = mixed(folder.path());
    let entries: Vec<Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for entry in entries {
        let id = entry["id"].as_str().unwrap().to_owned();
        let alone = folder.path().join("alone.json");
        std::fs::write(&alone, Value::from(vec![entry]).to_string()).unwrap();
        let strict = ReaderOptions {
            strictness: Strictness::Stop,
            ..ReaderOptions::default()
        };
        let done = reader(&alone, &folder.path().join("images"), strict).and_then(|reader| {
            let options = LoaderOptions {
                strictness: Strictness::Stop,
                ..LoaderOptions::default()
            };
            Loader::new(Arc::new(reader), options)?.next_batch()
        });
        match done {
            Ok(batch) => assert!(batch.is_some() && id.starts_with("good"), "{id}"),
            Err(DataError::Entry(error)) => assert_eq!(error.id, id),
            Err(other) => panic!("{id}: {other}"),
        }
    }
}

#[test]
fn a_linked_picture_is_followed_but_a_path_may_not_climb() {
    let folder = tempfile::tempdir().unwrap();
    mixed(folder.path());
    let turns = json!([{"from": "human", "value": "<image>\nIs there a dog in the image?"}, {"from": "gpt", "value": "yes"}]);
    let file = folder.path().join("paths.json");
    for (path, fine) in [
        ("good.png", true),
        ("sub/../good.png", false),
        ("/etc/hostname", false),
        ("..", false),
    ] {
        let entries = json!([{"id": "x", "image": path, "conversations": turns}]);
        std::fs::write(&file, entries.to_string()).unwrap();
        let opened = Dataset::open(&file, &folder.path().join("images"), Strictness::Stop);
        assert_eq!(opened.is_ok(), fine, "{path}");
    }
}

/// The generated scenes through the whole way, with turns on branches of their own.
#[test]
fn scenes_become_independent_turns() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/emoji-vqa/sample");
    let turns = Turns::Independent {
        per_sample: 3,
        only: Vec::new(),
    };
    let options = ReaderOptions {
        turns,
        strictness: Strictness::Stop,
        ..ReaderOptions::default()
    };
    let reader = reader(&sample.join("llava.json"), &sample.join("images"), options).unwrap();
    let tokenizer = words();
    let mut questions = std::collections::BTreeSet::new();
    for epoch in 0..4 {
        for i in 0..reader.entries().len() {
            let entry = reader.entries().nth(i).unwrap().clone();
            let example = reader.read(i, epoch).unwrap();
            assert_eq!(example, reader.read(i, epoch).unwrap());
            let pixels = example.pixels.unwrap();
            assert_eq!((pixels.side, pixels.data.len()), (32, 3 * 32 * 32));
            assert!(pixels.data.iter().all(|v| (-1.0..=1.0).contains(v)));
            let (prefix, branches) = example.spans.split_first().unwrap();
            assert_eq!((prefix.branch, prefix.ids.last()), (0, Some(&PLACEHOLDER)));
            assert_eq!(
                branches.iter().map(|s| s.branch).collect::<Vec<_>>(),
                [1, 2, 3]
            );
            for span in branches {
                let (asked, answered): (Vec<_>, Vec<_>) = span
                    .ids
                    .iter()
                    .zip(&span.labels)
                    .partition(|(_, l)| **l == IGNORED);
                let text = |part: Vec<(&i64, &i64)>| {
                    tokenizer
                        .answer(
                            &part
                                .into_iter()
                                .map(|(id, _)| *id as u32)
                                .collect::<Vec<_>>(),
                        )
                        .unwrap()
                };
                assert_eq!(span.ids.last(), tokenizer.eos().as_ref());
                let (asked, answered) = (text(asked), text(answered));
                let plain = |text: &str| text.replace("<image>\n", "");
                assert!(
                    entry
                        .talk
                        .turns
                        .iter()
                        .any(|t| plain(&t.question) == asked
                            && t.answer.as_deref() == Some(&answered)),
                    "{asked} {answered}: {:?}",
                    entry.talk.turns
                );
                questions.insert((i, asked));
            }
        }
    }
    // Other epochs draw other turns.
    assert!(questions.len() > 3 * reader.entries().len());
}

/// A picture of so many rows leaves no room for the answers; the first turn's answer fits once the picture is smaller.
#[test]
fn labels_are_counted_behind_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    let file = mixed(folder.path());
    let look = |picture_rows, max_length| {
        let options = ReaderOptions {
            picture_rows,
            max_length,
            turns: Turns::Conversation,
            ..ReaderOptions::default()
        };
        let reader = reader(&file, &folder.path().join("images"), options).unwrap();
        qtl_data::check::check(&reader, None, &mut |_, _| {}).unwrap()
    };
    let whole = look(1, 100);
    let ids = |report: &qtl_data::check::Report| -> Vec<String> {
        report
            .refused
            .iter()
            .map(|error| error.id.clone())
            .collect()
    };
    let broken = [
        "missing", "corrupt", "silent", "two tags", "outside", "foreign",
    ];
    assert_eq!(ids(&whole), broken);
    assert_eq!(
        (whole.entries, whole.samples, whole.text_only, whole.decoded),
        (8, 2, 0, 2)
    );
    assert_eq!((whole.cut, whole.turns), (0, 4));
    assert_eq!(whole.tokens, whole.tokens_left);
    assert!(whole.supervised > 0 && whole.supervised == whole.supervised_left);
    let sizes = whole.pictures["PNG"];
    assert_eq!(
        (sizes.count, sizes.least, sizes.most),
        (2, (20, 10), (20, 10))
    );

    // 784 rows, as of a large tower, where 100 are allowed.
    let cut = look(784, 100);
    assert_eq!(cut.samples, 0);
    let empty: Vec<&str> = cut.empty().map(|error| error.id.as_str()).collect();
    // Those without a picture file are found by their texts first.
    assert_eq!(empty, ["good 1", "missing", "corrupt", "good 2"]);
    assert!(
        cut.empty()
            .all(|error| error.fault == Fault::CutAway && error.problem.contains("784"))
    );

    // Room for the first answer only.
    let first = whole.tokens.most as usize - 2;
    let part = look(1, first);
    assert_eq!((part.samples, part.cut), (2, 2));
    assert!(part.supervised_left < part.supervised && part.supervised == whole.supervised);
}

/// Names that people know to be the same, and names that only look as if they could be found.
#[test]
fn pictures_are_found_by_their_names_in_either_form() {
    let folder = tempfile::tempdir().unwrap();
    mixed(folder.path());
    let images = folder.path().join("images");
    let (composed, parted) = ("b\u{e4}r.png", "ba\u{308}r.png");
    std::fs::rename(images.join("good.png"), images.join(parted)).unwrap();
    let file = folder.path().join("names.json");
    let read = |name: &str| {
        let turns = json!([{"from": "human", "value": "<image>\nIs there a dog in the image?"}, {"from": "gpt", "value": "yes"}]);
        let entries = json!([{"id": "x", "image": name, "conversations": turns}]);
        std::fs::write(&file, entries.to_string()).unwrap();
        reader(&file, &images, ReaderOptions::default())
            .and_then(|reader| reader.read(0, 0))
            .map_err(|error| error.to_string())
    };
    assert!(read(parted).is_ok());
    if !images.join(composed).exists() {
        // Here the two are different files.
        assert!(read(composed).is_ok());
        let rules = qtl_data::PictureRules::default();
        assert!(qtl_data::image::open(&images.join(composed), &rules).is_ok());
        std::fs::rename(images.join(parted), images.join(composed)).unwrap();
        assert!(read(parted).is_ok());
    }
    for (name, hint) in [
        ("sub\\good.png", "`sub/good.png`, which is there"),
        ("images/sub/good.png", "`sub/good.png` is there"),
        ("sub/other.png", "no file"),
    ] {
        let error = read(name).unwrap_err();
        assert!(error.contains(hint) && error.contains(name), "{error}");
    }
}
