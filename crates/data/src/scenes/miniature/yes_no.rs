//! POPE and MME.

use serde_json::json;

use super::super::{Kind, SceneError};
use super::{Folder, Shown, short};

/// `coco/coco_pope_<category>.json`, `llava_pope_test.jsonl`, `val2014/`.
pub(super) fn pope(folder: &Folder, scenes: &[Shown]) -> Result<(), SceneError> {
    folder.folder("coco")?;
    folder.folder("val2014")?;
    let name = |place: usize| format!("COCO_val2014_{:012}.jpg", place + 1);
    for (place, shown) in scenes.iter().enumerate() {
        folder.picture(&format!("val2014/{}", name(place)), shown)?;
    }
    let mut all = Vec::new();
    for (category, kind) in [
        ("adversarial", Kind::PopeAdversarial),
        ("popular", Kind::PopePopular),
        ("random", Kind::PopeRandom),
    ] {
        let mut lines = Vec::new();
        for (place, shown) in scenes.iter().enumerate() {
            for turn in shown.turns.iter().filter(|turn| turn.kind == kind) {
                let (image, text) = (name(place), &turn.question);
                all.push(json!({"question_id": all.len() + 1, "image": image, "text": short(text), "category": category}));
                lines.push(json!({"question_id": lines.len() + 1, "image": image, "text": text, "label": turn.answer}));
            }
        }
        folder.lines(&format!("coco/coco_pope_{category}.json"), &lines)?;
    }
    folder.lines("llava_pope_test.jsonl", &all)
}

/// `MME_Benchmark_release_version/<task>/<picture>.{jpg,txt}`; a task has folders of its own for pictures and texts, as some
/// of the release have.
pub(super) fn mme(folder: &Folder, scenes: &[Shown]) -> Result<(), SceneError> {
    for (task, kind, apart) in [
        ("existence", Kind::MmeExistence, false),
        ("count", Kind::MmeCount, false),
        ("position", Kind::MmePosition, true),
        ("color", Kind::MmeColor, false),
    ] {
        let task = format!("MME_Benchmark_release_version/{task}");
        let [pictures, texts] = match apart {
            true => ["images", "questions_answers_YN"].map(|name| format!("{task}/{name}")),
            false => [task.clone(), task],
        };
        folder.folder(&pictures)?;
        folder.folder(&texts)?;
        for (place, shown) in scenes.iter().enumerate() {
            let asked = shown.turns.iter().filter(|turn| turn.kind == kind);
            let lines: String = asked
                .map(|turn| {
                    let truth = if turn.answer == "yes" { "Yes" } else { "No" };
                    format!("{} Please answer yes or no.\t{truth}\n", turn.question)
                })
                .collect();
            folder.picture(&format!("{pictures}/{:012}.jpg", place + 1), shown)?;
            folder.text(&format!("{texts}/{:012}.txt", place + 1), &lines)?;
        }
    }
    Ok(())
}
