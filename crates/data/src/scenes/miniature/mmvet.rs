//! MM-Vet.

use serde_json::{Map, json};

use super::super::SceneError;
use super::{Folder, Shown};

/// `mm-vet.json`, `llava-mm-vet.jsonl`, `images/`.
pub(super) fn write(folder: &Folder, scenes: &[Shown]) -> Result<(), SceneError> {
    folder.folder("images")?;
    let (mut entries, mut lines) = (Map::new(), Vec::new());
    for (place, shown) in scenes.iter().enumerate() {
        let image = format!("v1_{place}.png");
        folder.picture(&format!("images/{image}"), shown)?;
        let question = "What is in the picture?";
        let capability = match place % 2 {
            0 => vec!["rec"],
            _ => vec!["rec", "spat"],
        };
        lines.push(
            json!({"image": image, "text": question, "category": "conv", "question_id": place}),
        );
        let entry = json!({
            "imagename": image, "question": question, "answer": shown.names().join("<AND>"),
            "imagesource": "generated", "capability": capability,
        });
        entries.insert(format!("v1_{place}"), entry);
    }
    folder.json("mm-vet.json", &entries)?;
    folder.lines("llava-mm-vet.jsonl", &lines)
}
