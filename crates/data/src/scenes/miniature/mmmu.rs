//! MMMU, as TinyLLaVA Factory takes it.

use serde_json::{Map, json};

use super::super::SceneError;
use super::{Folder, Shown};

/// `anns_for_eval.json`, `answer_dict_val.json`, `all_images/`. Every other question is open; some show two pictures.
pub(super) fn write(folder: &Folder, scenes: &[Shown]) -> Result<(), SceneError> {
    const SUBJECTS: [&str; 4] = ["Art", "Biology", "Computer_Science", "Finance"];
    folder.folder("all_images")?;
    let (mut asked, mut answers) = (Vec::new(), Map::new());
    for (place, shown) in scenes.iter().enumerate() {
        let id = format!(
            "validation_{}_{}",
            SUBJECTS[place % SUBJECTS.len()],
            1 + place / SUBJECTS.len()
        );
        let count = 1 + usize::from(place % 3 == 0);
        let images: Vec<String> = (1..=count)
            .map(|number| format!("{id}_{number}.png"))
            .collect();
        for image in &images {
            folder.picture(&format!("all_images/{image}"), shown)?;
        }
        let image = match &images[..] {
            [one] => json!(one),
            all => json!(all),
        };
        let (kind, truth, entry) = match place % 2 {
            0 => {
                let mut choices: Vec<&str> = shown
                    .absent(place, 3)
                    .iter()
                    .map(|concept| concept.name)
                    .collect();
                let right = place % 4;
                choices.insert(right.min(choices.len()), shown.first());
                let letters = ["A", "B", "C", "D"];
                let listed: Vec<String> = letters
                    .iter()
                    .zip(&choices)
                    .map(|(letter, choice)| format!("({letter}) {choice}"))
                    .collect();
                let texts: Map<_, _> = letters
                    .iter()
                    .zip(&choices)
                    .map(|(letter, choice)| ((*letter).to_owned(), json!(choice)))
                    .collect();
                let prompt = format!(
                    "<image 1> What is in the picture?\n\n{}\n\n\nAnswer with the option's letter from the given choices directly.",
                    listed.join("\n")
                );
                let entry = json!({"prompt": prompt, "all_choices": letters, "index2ans": texts});
                ("multiple-choice", letters[right].to_owned(), entry)
            }
            _ => {
                let prompt = "<image 1> How many things are in the picture?\n\nAnswer the question using a single word or phrase.";
                (
                    "short-answer",
                    shown.scene.objects.len().to_string(),
                    json!({"prompt": prompt}),
                )
            }
        };
        let mut entry = entry;
        entry["id"] = id.as_str().into();
        entry["question_type"] = kind.into();
        entry["image"] = image;
        asked.push(entry);
        answers.insert(id, json!({"question_type": kind, "ground_truth": truth}));
    }
    folder.json("anns_for_eval.json", &asked)?;
    folder.json("answer_dict_val.json", &answers)
}
