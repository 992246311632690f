//! VQAv2: the validation split with its annotations, and LLaVA's question files of the test splits beside it.

use serde_json::json;

use super::super::{Kind, SceneError};
use super::{Folder, Shown, short};

/// `v2_OpenEnded_mscoco_val2014_questions.json`, `v2_mscoco_val2014_annotations.json`, `val2014/`; and
/// `llava_vqav2_mscoco_test-dev2015.jsonl`, `llava_vqav2_mscoco_test2015.jsonl`, `test2015/`.
pub(super) fn write(folder: &Folder, scenes: &[Shown]) -> Result<(), SceneError> {
    folder.folder("val2014")?;
    folder.folder("test2015")?;
    let (mut questions, mut annotations, mut test) = (Vec::new(), Vec::new(), Vec::new());
    for (place, shown) in scenes.iter().enumerate() {
        let image = place + 1;
        folder.picture(&format!("val2014/COCO_val2014_{image:012}.jpg"), shown)?;
        let tested = format!("COCO_test2015_{image:012}.jpg");
        folder.picture(&format!("test2015/{tested}"), shown)?;
        for turn in &shown.turns {
            let (question_type, answer_type) = match turn.kind {
                Kind::Count => ("how many", "number"),
                Kind::Colour => ("what color is the", "other"),
                Kind::What => ("what is in the", "other"),
                _ => continue,
            };
            let id = 1000 * image + questions.len();
            // Nine of ten agree: where all do, the official program normalises nothing.
            let person = |number: usize| {
                let answer = if number == 10 {
                    "unsure"
                } else {
                    turn.answer.as_str()
                };
                json!({"answer": answer, "answer_confidence": "yes", "answer_id": number})
            };
            questions
                .push(json!({"image_id": image, "question": turn.question, "question_id": id}));
            annotations.push(json!({
                "question_type": question_type, "multiple_choice_answer": turn.answer, "image_id": image,
                "answer_type": answer_type, "question_id": id, "answers": (1..=10).map(person).collect::<Vec<_>>(),
            }));
            test.push(json!({"question_id": id, "image": tested, "text": short(&turn.question), "category": "default"}));
        }
    }
    let about =
        json!({"info": {}, "license": {}, "data_type": "mscoco", "data_subtype": "val2014"});
    let with = |key: &str, list: Vec<serde_json::Value>| {
        let mut file = about.clone();
        file[key] = list.into();
        file
    };
    folder.json(
        "v2_OpenEnded_mscoco_val2014_questions.json",
        &with("questions", questions),
    )?;
    folder.json(
        "v2_mscoco_val2014_annotations.json",
        &with("annotations", annotations),
    )?;
    folder.lines(
        "llava_vqav2_mscoco_test-dev2015.jsonl",
        &test[..test.len().div_ceil(2)],
    )?;
    folder.lines("llava_vqav2_mscoco_test2015.jsonl", &test)
}
