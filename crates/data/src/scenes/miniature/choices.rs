//! ScienceQA.

use serde_json::{Map, json};

use super::super::SceneError;
use super::{Folder, Shown};

/// `problems.json`, `pid_splits.json`, `llava_test_CQM-A.json`, `images/test/<problem>/image.png`.
pub(super) fn write(folder: &Folder, scenes: &[Shown]) -> Result<(), SceneError> {
    const SUBJECTS: [&str; 3] = ["natural science", "language science", "social science"];
    folder.folder("images/test")?;
    let (mut problems, mut talks) = (Map::new(), Vec::new());
    for (place, shown) in scenes.iter().enumerate() {
        let others = shown.absent(place, 2);
        let answer = place % 3;
        let mut choices: Vec<&str> = others.iter().map(|concept| concept.name).collect();
        choices.insert(answer.min(choices.len()), shown.first());
        let pictured = (2 * place).to_string();
        folder.folder(&format!("images/test/{pictured}"))?;
        folder.picture(&format!("images/test/{pictured}/image.png"), shown)?;
        let plain = (2 * place + 1).to_string();
        let hint = format!("A {} is in the picture that you do not see.", shown.first());
        for (id, image, hint) in [
            (pictured, Some("image.png"), String::new()),
            (plain, None, hint),
        ] {
            let question = "Which of these is in the picture?";
            let listed: Vec<String> = choices
                .iter()
                .zip("ABC".chars())
                .map(|(choice, letter)| format!("{letter}. {choice}"))
                .collect();
            let context = if hint.is_empty() {
                String::new()
            } else {
                format!("Context: {hint}\n")
            };
            let tag = if image.is_some() { "<image>\n" } else { "" };
            let letter = ["A", "B", "C"][answer];
            let mut talk = json!({"id": id, "conversations": [
                {"from": "human", "value": format!("{tag}{context}{question}\n{}", listed.join("\n"))},
                {"from": "gpt", "value": letter},
            ]});
            if let Some(image) = image {
                talk["image"] = format!("{id}/{image}").into();
            }
            talks.push(talk);
            problems.insert(id, json!({
                "question": question, "choices": choices, "answer": answer, "hint": hint, "image": image,
                "task": "closed choice", "grade": format!("grade{}", 1 + place % 12), "subject": SUBJECTS[place % 3],
                "topic": "scenes", "category": "Scenes", "skill": "Look", "lecture": "", "solution": "", "split": "test",
            }));
        }
    }
    let ids: Vec<&String> = problems.keys().collect();
    folder.json(
        "pid_splits.json",
        &json!({"train": [], "val": [], "test": ids}),
    )?;
    folder.json("problems.json", &problems)?;
    folder.json("llava_test_CQM-A.json", &talks)
}
