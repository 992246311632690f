//! LLaVA files, good and broken, against the reference.

use std::path::Path;
use std::sync::Arc;

use qtl_data::template;
use qtl_data::{
    Aspect, DataError, Dataset, Example, Fault, Processor, Reader, ReaderOptions, Skipped, Source,
    Strictness,
};
use serde_json::Value;

use crate::golden::{self, integers};
use crate::set;

fn reader(file: &Path, settings: &Value, strictness: Strictness) -> Result<Reader, DataError> {
    let text = |key: &str| settings[key].as_str().unwrap();
    let dataset = Dataset::open(file, &golden::folder("dataset").join("images"), strictness)?;
    let processor = golden::folder("images")
        .join("processors")
        .join(format!("{}.json", text("processor")));
    let aspect: Aspect = serde_json::from_value(settings["image_aspect_ratio"].clone()).unwrap();
    let options = ReaderOptions {
        aspect,
        strictness,
        ..ReaderOptions::default()
    };
    let tokenizer = golden::tokenizer(text("tokenizer"))?;
    Reader::new(
        dataset,
        Arc::new(template::named(text("template"))?),
        tokenizer,
        Processor::open(&processor)?,
        options,
    )
}

fn compare(at: &str, ours: &Example, expected: &Value, exact: bool, pictured: bool) {
    if let Some(ids) = expected.get("input_ids") {
        assert_eq!(ours.spans.len(), 1, "{at}");
        assert_eq!(ours.spans[0].ids, integers(ids), "{at}");
        assert_eq!(ours.spans[0].labels, integers(&expected["labels"]), "{at}");
    }
    assert_eq!(ours.pixels.is_some(), pictured, "{at}");
    let Some(pixels) = &ours.pixels else { return };
    let numbers = |v: &Value| {
        v.as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap())
            .collect::<Vec<_>>()
    };
    let tolerance = if exact { 1e-4 } else { 0.02 };
    let (mean, std) = (
        numbers(&expected["image"]["mean"]),
        numbers(&expected["image"]["std"]),
    );
    let area = pixels.side * pixels.side;
    for channel in 0..3 {
        let plane = &pixels.data[channel * area..][..area];
        let average = |values: &mut dyn Iterator<Item = f64>| {
            let values: Vec<f64> = values.collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        let ours = average(&mut plane.iter().map(|&v| f64::from(v)));
        let spread = average(&mut plane.iter().map(|&v| (f64::from(v) - ours).powi(2))).sqrt();
        assert!(
            (ours - mean[channel]).abs() < tolerance,
            "{at}: mean {ours} {mean:?}"
        );
        assert!(
            (spread - std[channel]).abs() < tolerance,
            "{at}: deviation {spread} {std:?}"
        );
        let block = pixels.side / 4;
        for (y, row) in expected["image"]["block_means_4x4"][channel]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            for (x, wanted) in numbers(row).into_iter().enumerate() {
                let places = (0..block * block)
                    .map(|i| (y * block + i / block) * pixels.side + x * block + i % block);
                let ours = average(&mut places.map(|i| f64::from(plane[i])));
                assert!(
                    (ours - wanted).abs() < tolerance,
                    "{at}: block {channel} {y} {x}: {ours} {wanted}"
                );
            }
        }
    }
}

fn is_png(reader: &Reader, index: usize) -> bool {
    let image = reader.entries().nth(index).unwrap().image.clone();
    image.is_some_and(|path| path.extension().is_some_and(|e| e == "png"))
}

#[test]
fn golden_dataset_good_files() {
    let folder = golden::folder("dataset");
    let Some(expected) = golden::part("dataset/expected.json") else {
        return;
    };
    let mut ran = 0;
    for (name, part) in expected.as_object().unwrap() {
        if part.get("file").is_none() {
            continue;
        }
        let reader = reader(
            &folder.join(part["file"].as_str().unwrap()),
            part,
            Strictness::Stop,
        )
        .unwrap();
        assert_eq!(reader.skipped(), Skipped::default(), "{name}");
        assert_eq!(
            reader.entries().len() as u64,
            part["length"].as_u64().unwrap(),
            "{name}"
        );
        let lengths: Vec<i64> = reader
            .entries()
            .map(|e| i64::try_from(e.length()).unwrap())
            .collect();
        assert_eq!(lengths, integers(&part["lengths"]), "{name}");
        assert_eq!(
            reader.lengths(),
            integers(&part["modality_lengths"]),
            "{name}"
        );
        for (i, item) in part["items"].as_array().unwrap().iter().enumerate() {
            let at = format!("{name}: {}", item["id"]);
            let example = reader.read(i, 0).unwrap();
            assert_eq!(item["id"], example.id, "{at}");
            let pictured = reader.entries().nth(i).unwrap().image.is_some();
            compare(&at, &example, item, is_png(&reader, i), pictured);
            ran += 1;
        }
    }
    set::ran(ran, "entries");
}

/// The whole way of one entry that stands alone in a file.
fn read_alone(
    entry: &Value,
    settings: &Value,
    strictness: Strictness,
) -> Result<Example, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.json");
    std::fs::write(&file, Value::from(vec![entry.clone()]).to_string()).unwrap();
    reader(&file, settings, strictness)?.read(0, 0)
}

/// Kinds of faults in the entries known by name; other names are only held against the reference's behaviour.
fn known_fault(id: &str) -> Option<Fault> {
    Some(match id {
        "missing_image_file" | "image_is_directory" => Fault::MissingImage,
        "corrupt_image" | "empty_image_file" => Fault::CorruptImage,
        // Text alone, but for the tag in the question.
        "image_is_null" | "image_is_empty_string" => Fault::TagWithoutImage,
        "image_is_list" => Fault::SeveralImages,
        "image_path_absolute_missing" | "image_path_climbs_out" => Fault::ImageOutside,
        "no_conversations_key" | "conversations_empty" | "conversations_null" => {
            Fault::NoConversations
        }
        "conversations_is_text" | "value_is_number" | "answer_is_number" | "answer_is_null" => {
            Fault::Malformed
        }
        "message_without_from" | "message_without_value" => Fault::Malformed,
        "gpt_speaks_first_odd" | "two_humans_in_a_row" | "last_answer_missing" => {
            Fault::UnevenTurns
        }
        "order_swapped_pair" => Fault::UnevenTurns,
        "two_tags_one_image_two_turns" | "tag_in_answer" => Fault::TooManyTags,
        "tag_without_image" => Fault::TagWithoutImage,
        "image_without_tag" => Fault::ImageWithoutTag,
        "separator_in_question" => Fault::NoLabels,
        _ => return None,
    })
}

#[test]
fn golden_dataset_broken_entries() {
    let folder = golden::folder("dataset");
    let Some(expected) = golden::part("dataset/expected.json") else {
        return;
    };
    if expected["broken"].is_null() {
        return set::lacks("broken entries");
    }
    let settings = &expected["broken"]["settings"];
    let entries = golden::json(&folder.join(settings["file"].as_str().unwrap()));
    let items = expected["broken"]["items"].as_array().unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for (entry, item) in entries.as_array().unwrap().iter().zip(items) {
        let (reference, about) = (&item["tinyllava_factory"], item["about"].as_str().unwrap());
        let at = format!("{}: {about}", item["id"]);
        // It reads no roles: the ones it does not know it counts wrong.
        let roles = item["id"] == "role_names_user_assistant";
        let refusal = reference.get("error").filter(|_| !roles);
        match read_alone(entry, settings, Strictness::Stop) {
            Ok(example) => {
                // The reference guesses a one-pixel picture's channel axis wrong; its other errors are real ones.
                assert!(
                    refusal.is_none() || about.contains("channel axis"),
                    "{at}: accepted, but {refusal:?}"
                );
                assert_eq!(
                    known_fault(item["id"].as_str().unwrap_or_default()),
                    None,
                    "{at}"
                );
                if refusal.is_none() && !roles && !about.contains("cut at") {
                    compare(
                        &at,
                        &example,
                        reference,
                        false,
                        entry.get("image").is_some(),
                    );
                }
                accepted += 1;
            }
            Err(DataError::Entry(error)) => {
                let text = error.to_string();
                assert!(
                    text.contains("one.json: entry 0") && text.contains(error.fault.cure()),
                    "{at}: {text}"
                );
                let id = item["id"].as_str().unwrap_or_default();
                assert!(text.contains(id), "{at}: {text}");
                let known = known_fault(id);
                let nonsense = refusal.is_some() || known.is_some() || about.contains("cut at");
                assert!(nonsense, "{at}: the reference takes it, we say {text}");
                if known.is_some() {
                    assert_eq!(Some(error.fault), known, "{at}: {text}");
                }
                refused += 1;
            }
            Err(other) => panic!("{at}: {other}"),
        }
    }
    set::ran(accepted, "broken entries that are accepted");
    set::ran(refused, "broken entries that are refused");
}

/// The same file as a whole: bad entries are counted, the good ones remain.
#[test]
fn golden_dataset_broken_file_is_read_around() {
    let folder = golden::folder("dataset");
    let Some(expected) = golden::part("dataset/expected.json") else {
        return;
    };
    if expected["broken"].is_null() {
        return set::lacks("a broken file");
    }
    let settings = &expected["broken"]["settings"];
    let reader = reader(
        &folder.join(settings["file"].as_str().unwrap()),
        settings,
        Strictness::Skip,
    )
    .unwrap();
    let mut skipped = reader.skipped();
    let mut good = 0;
    for i in 0..reader.entries().len() {
        match reader.read(i, 0) {
            Ok(_) => good += 1,
            Err(DataError::Entry(error)) => skipped.add(&error),
            Err(other) => panic!("{other}"),
        }
    }
    println!("{good} good, {skipped}");
    assert_eq!(good + skipped.total(), settings["length"].as_u64().unwrap());
    assert!(
        skipped
            .counts
            .keys()
            .all(|fault| skipped.first[fault].contains(fault.cure()))
    );
}

#[test]
fn golden_dataset_bad_files() {
    let Some(folder) = set::file("data/dataset/bad_files") else {
        return;
    };
    let mut ran = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap();
        // Python refuses the mark; there is no doubt about what is meant. Nor is there with one entry on each line.
        let marked = std::fs::read(&file).unwrap().starts_with(b"\xef\xbb\xbf");
        let marked = marked || name == "lines.jsonl";
        match Dataset::open(&file, &folder, Strictness::Skip) {
            Ok(_) => assert!(marked, "{name} was accepted"),
            Err(error) => {
                println!("{error}");
                assert!(!marked && error.to_string().contains(name), "{error}");
            }
        }
        ran += 1;
    }
    set::ran(ran, "bad files");
}
