//! The files of a test set, in the layouts of the benchmarks they stand in for.

use serde::Serialize;
use serde_json::{Map, json};

use super::stage::Stage;
use super::{Draw, Kind, Object, Scene, SceneError, Turn};

/// A test scene: its picture's name, what it shows, what is asked.
pub(super) struct Tested {
    image: String,
    scene: Scene,
    turns: Vec<Turn>,
}

impl Tested {
    pub(super) fn new(image: String, draw: Draw, relations: bool) -> Tested {
        let mut turns = draw.test_turns();
        if relations {
            turns.extend(draw.relation_turns());
        }
        Tested {
            image,
            turns,
            scene: draw.into_scene(),
        }
    }
}

pub(super) fn write(stage: &Stage, scenes: &[Tested]) -> Result<(), SceneError> {
    for kind in [Kind::PopeRandom, Kind::PopePopular, Kind::PopeAdversarial] {
        stage.write(
            &format!("{}.json", kind.name()),
            pope(scenes, kind).as_bytes(),
        )?;
    }
    let (questions, annotations) = vqa(scenes);
    stage.write("vqav2_questions.json", &bytes(&questions))?;
    stage.write("vqav2_annotations.json", &bytes(&annotations))?;
    stage.folder("mme")?;
    for kind in [
        Kind::MmeExistence,
        Kind::MmePosition,
        Kind::MmeCount,
        Kind::MmeColor,
    ] {
        let category = kind.name().trim_start_matches("mme_");
        stage.write(&format!("mme/{category}.txt"), mme(scenes, kind).as_bytes())?;
    }
    stage.write("captions.json", &bytes(&captions(scenes)))?;
    stage.write("scenes.json", &bytes(&places(scenes)))
}

/// Relations in GQA's layout: questions with their answers, and the list, as LLaVA has one, of what is asked about which picture.
pub(super) fn write_relations(stage: &Stage, scenes: &[Tested]) -> Result<(), SceneError> {
    let (mut questions, mut list) = (Map::new(), String::new());
    for (place, (_, tested, turn)) in asked(scenes, &[Kind::Relation]).enumerate() {
        let id = place.to_string();
        list += &format!(
            "{}\n",
            json!({ "question_id": id, "image": tested.image, "text": turn.question, "category": "default" })
        );
        let question = json!({
            "question": turn.question,
            "imageId": tested.image.trim_end_matches(".png"),
            "answer": turn.answer,
            "fullAnswer": format!("the {}", turn.answer),
            "isBalanced": true,
            "types": { "structural": "choose", "semantic": "rel", "detailed": "relChooser" },
            "groups": { "global": null, "local": null },
            "entailed": [],
            "equivalent": [id],
            "semantic": [],
        });
        questions.insert(id, question);
    }
    stage.write("testdev_balanced_questions.json", &bytes(&questions))?;
    stage.write("llava_gqa_testdev_balanced.jsonl", list.as_bytes())
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("structs of strings and numbers have a JSON form")
}

/// The turns of the given kinds with the scene they belong to, in order.
fn asked<'a, 'k>(
    scenes: &'a [Tested],
    kinds: &'k [Kind],
) -> impl Iterator<Item = (usize, &'a Tested, &'a Turn)> {
    let of = move |(id, tested): (usize, &'a Tested)| {
        tested
            .turns
            .iter()
            .filter(|turn| kinds.contains(&turn.kind))
            .map(move |turn| (id, tested, turn))
    };
    scenes.iter().enumerate().flat_map(of)
}

#[derive(Serialize)]
struct Pope<'a> {
    question_id: usize,
    image: &'a str,
    text: &'a str,
    label: &'a str,
}

/// JSON lines; questions are numbered from 1.
fn pope(scenes: &[Tested], kind: Kind) -> String {
    let mut lines = String::new();
    for (place, (_, tested, turn)) in asked(scenes, &[kind]).enumerate() {
        let line = Pope {
            question_id: place + 1,
            image: &tested.image,
            text: &turn.question,
            label: &turn.answer,
        };
        lines += &String::from_utf8_lossy(&bytes(&line));
        lines.push('\n');
    }
    lines
}

/// `image TAB question TAB Yes|No`.
fn mme(scenes: &[Tested], kind: Kind) -> String {
    asked(scenes, &[kind])
        .map(|(_, tested, turn)| {
            let answer = if turn.answer == "yes" { "Yes" } else { "No" };
            format!("{}\t{}\t{answer}\n", tested.image, turn.question)
        })
        .collect()
}

#[derive(Serialize)]
struct Questions<'a> {
    info: Info,
    task_type: &'static str,
    data_type: &'static str,
    data_subtype: &'static str,
    questions: Vec<Question<'a>>,
}

#[derive(Serialize)]
struct Info {
    description: &'static str,
}

#[derive(Serialize)]
struct Question<'a> {
    image_id: usize,
    question: &'a str,
    question_id: usize,
}

#[derive(Serialize)]
struct Annotations<'a> {
    info: Empty,
    data_type: &'static str,
    data_subtype: &'static str,
    annotations: Vec<Annotation<'a>>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Annotation<'a> {
    question_type: &'static str,
    multiple_choice_answer: &'a str,
    answers: Vec<Answer<'a>>,
    image_id: usize,
    answer_type: &'static str,
    question_id: usize,
}

#[derive(Serialize)]
struct Answer<'a> {
    answer: &'a str,
    answer_confidence: &'static str,
    answer_id: usize,
}

/// VQAv2 has ten people's answers to a question; here all ten agree.
fn vqa(scenes: &[Tested]) -> (Questions<'_>, Annotations<'_>) {
    let (mut questions, mut annotations) = (Vec::new(), Vec::new());
    let kinds = [Kind::What, Kind::WhatEmpty, Kind::Count, Kind::Colour];
    for (question_id, (image_id, _, turn)) in asked(scenes, &kinds).enumerate() {
        let (question_type, answer_type) = match turn.kind {
            Kind::Count => ("how many", "number"),
            Kind::Colour => ("what color is the", "other"),
            _ => ("what is in the", "other"),
        };
        let answer = turn.answer.as_str();
        let answers = (1..=10)
            .map(|answer_id| Answer {
                answer,
                answer_confidence: "yes",
                answer_id,
            })
            .collect();
        questions.push(Question {
            image_id,
            question: &turn.question,
            question_id,
        });
        annotations.push(Annotation {
            question_type,
            multiple_choice_answer: answer,
            answers,
            image_id,
            answer_type,
            question_id,
        });
    }
    let (data_type, data_subtype) = ("emoji-vqa", "test");
    let info = Info {
        description: "emoji-vqa, VQAv2 layout",
    };
    (
        Questions {
            info,
            task_type: "Open-Ended",
            data_type,
            data_subtype,
            questions,
        },
        Annotations {
            info: Empty {},
            data_type,
            data_subtype,
            annotations,
        },
    )
}

#[derive(Serialize)]
struct Caption<'a> {
    id: usize,
    image: &'a str,
    caption: &'a str,
}

fn captions(scenes: &[Tested]) -> Vec<Caption<'_>> {
    asked(scenes, &[Kind::Caption])
        .map(|(id, tested, turn)| Caption {
            id,
            image: &tested.image,
            caption: &turn.answer,
        })
        .collect()
}

#[derive(Serialize)]
struct Place<'a> {
    image: &'a str,
    colour: &'static str,
    objects: Vec<Placed>,
}

#[derive(Serialize)]
struct Placed {
    cell: &'static str,
    name: &'static str,
    x: u32,
    y: u32,
    size: u32,
}

fn places(scenes: &[Tested]) -> Vec<Place<'_>> {
    scenes.iter().map(Place::new).collect()
}

impl<'a> Place<'a> {
    fn new(Tested { image, scene, .. }: &'a Tested) -> Place<'a> {
        let placed = |o: &Object| Placed {
            cell: o.cell.name(),
            name: o.concept.name,
            x: o.x,
            y: o.y,
            size: o.size,
        };
        Place {
            image,
            colour: scene.colour.name(),
            objects: scene.objects.iter().map(placed).collect(),
        }
    }
}
