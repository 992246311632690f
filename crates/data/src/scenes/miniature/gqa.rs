//! GQA.

use serde_json::{Map, Value, json};

use super::super::{Kind, SceneError};
use super::{Folder, Shown, short};

/// `testdev_balanced_questions.json`, `llava_gqa_testdev_balanced.jsonl`, `images/`.
pub(super) fn write(folder: &Folder, scenes: &[Shown]) -> Result<(), SceneError> {
    folder.folder("images")?;
    let (mut questions, mut lines) = (Map::new(), Vec::new());
    for (place, shown) in scenes.iter().enumerate() {
        let image = format!("n{}", 100_000 + place);
        folder.picture(&format!("images/{image}.jpg"), shown)?;
        for turn in &shown.turns {
            let (structural, semantic, global, steps) = match turn.kind {
                Kind::PopeRandom => ("verify", "obj", Value::Null, ["select", "exist"]),
                Kind::What => ("query", "obj", json!("object"), ["select", "query"]),
                Kind::Colour => ("query", "global", json!("color"), ["select", "query"]),
                _ => continue,
            };
            let program: Vec<Value> = steps
                .iter()
                .enumerate()
                .map(|(step, operation)| json!({"operation": operation, "argument": "scene", "dependencies": if step == 0 { vec![] } else { vec![0] }}))
                .collect();
            let id = (20_000_000 + questions.len()).to_string();
            lines.push(json!({"question_id": id, "image": format!("{image}.jpg"), "text": short(&turn.question), "category": "default"}));
            let question = json!({
                "question": turn.question, "imageId": image, "answer": turn.answer, "fullAnswer": turn.answer,
                "isBalanced": true, "semantic": program, "entailed": [], "equivalent": [id],
                "groups": {"global": global, "local": null},
                "types": {"structural": structural, "semantic": semantic, "detailed": structural},
            });
            questions.insert(id, question);
        }
    }
    folder.json("testdev_balanced_questions.json", &questions)?;
    folder.lines("llava_gqa_testdev_balanced.jsonl", &lines)
}
