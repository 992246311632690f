//! SEED-Bench, VizWiz and MMBench.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::super::SceneError;
use super::{Folder, Shown};

/// `SEED-Bench.json`, `SEED-Bench-image/`; and a question about a video, which is not there.
pub(super) fn seedbench(folder: &Folder, scenes: &[Shown]) -> Result<(), SceneError> {
    folder.folder("SEED-Bench-image")?;
    let mut questions = Vec::new();
    for (place, shown) in scenes.iter().enumerate() {
        let image = format!("{place}_{}.png", 100 + place);
        folder.picture(&format!("SEED-Bench-image/{image}"), shown)?;
        let mut choices: Vec<&str> = shown
            .absent(place, 3)
            .iter()
            .map(|concept| concept.name)
            .collect();
        let right = place % 4;
        choices.insert(right.min(choices.len()), shown.first());
        let letter = ["A", "B", "C", "D"][right];
        questions.push(json!({
            "question": "What is in the picture?", "answer": letter, "data_id": image, "data_type": "image",
            "choice_a": choices[0], "choice_b": choices[1], "choice_c": choices[2], "choice_d": choices[3],
            "question_id": format!("{}", 100 + place), "question_type_id": 1 + place % 2,
        }));
    }
    questions.push(json!({
        "question": "What happens?", "answer": "A", "data_id": "film.mp4", "data_type": "video", "question_id": "v1",
        "choice_a": "a", "choice_b": "b", "choice_c": "c", "choice_d": "d", "question_type_id": 10,
    }));
    let kinds = json!({"Scene Understanding": 1, "Instance Identity": 2, "Action Recognition": 10});
    folder.json(
        "SEED-Bench.json",
        &json!({"questions": questions, "question_type": kinds}),
    )
}

/// `val.json`, `val/`.
pub(super) fn vizwiz(folder: &Folder, scenes: &[Shown]) -> Result<(), SceneError> {
    folder.folder("val")?;
    let mut entries = Vec::new();
    for (place, shown) in scenes.iter().enumerate() {
        let image = format!("VizWiz_val_{place:08}.jpg");
        folder.picture(&format!("val/{image}"), shown)?;
        let person = json!({"answer": shown.first(), "answer_confidence": "yes"});
        entries.push(json!({
            "image": image, "question": "What is this?", "answers": vec![person; 10], "answer_type": "other", "answerable": 1,
        }));
    }
    folder.json("val.json", &entries)
}

/// `mmbench_dev_20230712.tsv`, with the rotations in it and pictures in base64.
pub(super) fn mmbench(folder: &Folder, scenes: &[Shown]) -> Result<(), SceneError> {
    const NAME: &str = "mmbench_dev_20230712.tsv";
    const ABILITIES: [(&str, &str); 2] = [
        ("image_scene", "coarse_perception"),
        (
            "object_localization",
            "finegrained_perception (instance-level)",
        ),
    ];
    let head = [
        "index",
        "question",
        "hint",
        "A",
        "B",
        "C",
        "D",
        "answer",
        "category",
        "image",
        "source",
        "l2-category",
        "comment",
        "split",
    ];
    let mut text = head.join("\t") + "\n";
    for round in 0..4 {
        for (place, shown) in scenes.iter().enumerate() {
            let others = shown.absent(place, 3);
            let mut choices: Vec<&str> = others.iter().map(|concept| concept.name).collect();
            let right = place % 4;
            choices.insert(right.min(choices.len()), shown.first());
            choices.rotate_left(round);
            let letter = ["A", "B", "C", "D"][(right + 4 - round) % 4];
            let picture = STANDARD.encode(folder.encoded("picture.jpg", shown)?);
            let (category, ability) = ABILITIES[place % 2];
            let index = (place + 1_000_000 * round).to_string();
            let [a, b, c, d] = [0, 1, 2, 3].map(|number| choices[number]);
            // A cell with a line break stands in quotes.
            let hint = if place % 2 == 0 {
                ""
            } else {
                "\"Look closely.\nThere is one answer.\""
            };
            let row = [
                &index,
                "What is in the picture?",
                hint,
                a,
                b,
                c,
                d,
                letter,
                category,
                &picture,
                "scenes",
                ability,
                "",
                "dev",
            ];
            text += &(row.join("\t") + "\n");
        }
    }
    folder.text(NAME, &text)
}
