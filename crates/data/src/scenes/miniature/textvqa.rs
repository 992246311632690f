//! TextVQA. Scenes have no writing, so the words that a reader would have found are the names of what they show.

use serde_json::json;

use super::super::SceneError;
use super::{Folder, Shown, short};

/// `TextVQA_0.5.1_val.json`, `llava_textvqa_val_v051_ocr.jsonl`, `train_images/`.
pub(super) fn write(folder: &Folder, scenes: &[Shown]) -> Result<(), SceneError> {
    folder.folder("train_images")?;
    let (mut data, mut lines) = (Vec::new(), Vec::new());
    for (place, shown) in scenes.iter().enumerate() {
        let image = format!("{place:016x}");
        folder.picture(&format!("train_images/{image}.jpg"), shown)?;
        let question = "What is in the picture?";
        let names = shown.names();
        let answers: Vec<&str> = names.iter().copied().cycle().take(10).collect();
        data.push(json!({
            "question": question, "image_id": image, "image_classes": [], "image_width": 64, "image_height": 64,
            "answers": answers, "question_id": 34_602 + place, "set_name": "val",
        }));
        let text = format!("{question}\nReference OCR token: {}", names.join(", "));
        lines.push(json!({"question_id": image, "image": format!("{image}.jpg"), "text": short(&text), "category": "default"}));
    }
    let file = json!({"dataset_type": "val", "dataset_name": "textvqa", "dataset_version": "0.5.1", "data": data});
    folder.json("TextVQA_0.5.1_val.json", &file)?;
    folder.lines("llava_textvqa_val_v051_ocr.jsonl", &lines)
}
