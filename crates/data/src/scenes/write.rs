//! Scenes into data set folders: LLaVA layout for training, POPE, VQAv2, MME and captions for tests.

use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use image::ImageFormat;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::ser::PrettyFormatter;

use super::share::share;
use super::stage::Stage;
use super::{Draw, NOTICE, SceneError, Style, Styles, Turn, render, testset};

/// The file that says how a data set was made; also the mark of a folder that may be overwritten.
pub(super) const RECORD: &str = "generated.json";

/// How many relations a training conversation asks about at most; practice asks about all.
const RELATIONS: usize = 2;

/// Which scenes to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Seed of all scenes.
    pub seed: u64,
    /// Number of scenes, from index 0.
    pub count: u64,
    /// Drawing styles.
    pub styles: Styles,
    /// Also ask how objects stand to each other ([`Draw::relation_turns`]): at the end of a conversation, at most two in
    /// one for training, or in test files of GQA's layout. The rest stays as it is.
    pub relations: bool,
    /// Every picture in inverted colours, questions and answers as they are: what a model of the usual pictures has to learn
    /// anew.
    pub inverted: bool,
    /// Training scenes only: so many more files `site-1.json` and on, each with the scenes of one of several sites, which has
    /// none with a third of the objects; 0 for none.
    pub sites: usize,
    /// Replace a data set that was written before. Anything else that is not empty is left alone all the same.
    pub overwrite: bool,
}

impl Plan {
    /// `count` scenes of `seed` in both styles, into a folder that is new or empty.
    pub fn new(seed: u64, count: u64) -> Plan {
        Plan {
            seed,
            count,
            styles: Styles::Both,
            relations: false,
            inverted: false,
            sites: 0,
            overwrite: false,
        }
    }
}

/// What a data set is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Conversations of 9 turns.
    Train,
    /// Conversations for training a base from nothing: every form, and where each object is.
    Practice,
    /// 21 questions a scene.
    Test,
}

/// How a data set was made: the content of its `generated.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Always `emoji-vqa`.
    pub generator: String,
    /// What it is for.
    pub split: Split,
    /// Seed of all scenes.
    pub seed: u64,
    /// Number of scenes.
    pub count: u64,
    /// Drawing styles.
    pub styles: Vec<Style>,
    /// Whether relations are asked as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relations: bool,
    /// Whether the pictures are in inverted colours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inverted: bool,
    /// How many sites the scenes are shared out to.
    #[serde(default, skip_serializing_if = "none")]
    pub sites: usize,
}

fn none(sites: &usize) -> bool {
    *sites == 0
}

impl Made {
    /// The record that writing `plan` leaves.
    pub fn by(split: Split, plan: &Plan) -> Made {
        let styles = plan.styles.list().to_vec();
        Made {
            generator: "emoji-vqa".to_owned(),
            split,
            seed: plan.seed,
            count: plan.count,
            styles,
            relations: plan.relations,
            inverted: plan.inverted,
            sites: plan.sites,
        }
    }

    /// Reads the record of a data set folder; `None` when there is none.
    ///
    /// A folder whose record equals [`Made::by`] of a plan is complete: it needs no second writing.
    pub fn read(dir: &Path) -> Result<Option<Made>, SceneError> {
        let path = dir.join(RECORD);
        match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(made) => Ok(Some(made)),
                Err(source) => Err(SceneError::Record { path, source }),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(SceneError::io("read", &path)(e)),
        }
    }
}

/// Writes training scenes in LLaVA layout: `llava.json`, `images/train_000000.png` and on, the licence notice
/// `LICENSES.md`, and `generated.json`.
///
/// Runs on all cores. `progress(done, total)` is called after each scene, from any thread, at times out of order.
/// Everything is written to a folder beside `dir` and renamed at the end, so `dir` is either complete or untouched.
///
/// # Errors
/// [`SceneError::Exists`] when `dir` is not empty and [`Plan::overwrite`] is off; [`SceneError::NotGenerated`] when it
/// is on and `dir` was not written by this module; otherwise what the file system refuses.
pub fn write_train(
    dir: &Path,
    plan: &Plan,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), SceneError> {
    conversations(dir, Split::Train, plan, progress, Draw::train_turns)
}

/// Writes the scenes of [`write_train`] with the conversations that a base practises ([`Draw::practice_turns`]).
///
/// Files, progress, atomicity and errors are those of [`write_train`].
pub fn write_practice(
    dir: &Path,
    plan: &Plan,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), SceneError> {
    conversations(dir, Split::Practice, plan, progress, Draw::practice_turns)
}

fn conversations(
    dir: &Path,
    split: Split,
    plan: &Plan,
    progress: &(dyn Fn(u64, u64) + Sync),
    turns: impl Fn(&Draw) -> Vec<Turn> + Sync,
) -> Result<(), SceneError> {
    let stage = begin(dir, split, plan)?;
    let samples = each_scene(&stage, "train", plan, progress, |name, draw| {
        let mut turns = turns(&draw);
        if plan.relations {
            let mut relations = draw.relation_turns();
            if split == Split::Train {
                relations.truncate(RELATIONS);
            }
            turns.extend(relations);
        }
        (Sample::new(name, &turns), draw.into_scene())
    })?;
    let shares = share(samples.iter().map(|(_, scene)| scene), plan.sites);
    for (place, share) in shares.into_iter().enumerate() {
        let of: Vec<&Sample> = share.into_iter().map(|number| &samples[number].0).collect();
        stage.write(&format!("site-{}.json", place + 1), &indented(&of))?;
    }
    let all: Vec<&Sample> = samples.iter().map(|(sample, _)| sample).collect();
    stage.write("llava.json", &indented(&all))?;
    stage.commit()
}

/// Writes test scenes: `images/test_000000.png` and on, `pope_{random,popular,adversarial}.json`,
/// `vqav2_{questions,annotations}.json`, `mme/{existence,position,count,color}.txt`, `captions.json`, `scenes.json`
/// (where everything stands), `{testdev_balanced_questions.json,llava_gqa_testdev_balanced.jsonl}` with relations if the
/// plan has them, `LICENSES.md` and `generated.json`.
///
/// Progress, atomicity and errors are those of [`write_train`].
pub fn write_test(
    dir: &Path,
    plan: &Plan,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), SceneError> {
    let stage = begin(dir, Split::Test, plan)?;
    let scenes = each_scene(&stage, "test", plan, progress, |image, draw| {
        testset::Tested::new(image, draw, plan.relations)
    })?;
    testset::write(&stage, &scenes)?;
    if plan.relations {
        testset::write_relations(&stage, &scenes)?;
    }
    stage.commit()
}

fn begin(dir: &Path, split: Split, plan: &Plan) -> Result<Stage, SceneError> {
    if plan.count == 0 {
        return Err(SceneError::NoScenes);
    }
    let stage = Stage::begin(dir, plan.overwrite)?;
    stage.folder("images")?;
    stage.write("LICENSES.md", NOTICE.as_bytes())?;
    stage.write(RECORD, &indented(&Made::by(split, plan)))?;
    Ok(stage)
}

/// Draws every scene, writes its picture and keeps what `take` makes of it, in order.
fn each_scene<T: Send>(
    stage: &Stage,
    prefix: &str,
    plan: &Plan,
    progress: &(dyn Fn(u64, u64) + Sync),
    take: impl Fn(String, Draw) -> T + Sync,
) -> Result<Vec<T>, SceneError> {
    let done = AtomicU64::new(0);
    let one = |index| {
        let name = format!("{prefix}_{index:06}.png");
        let draw = Draw::new(plan.seed, index, plan.styles);
        let file = format!("images/{name}");
        let mut png = Cursor::new(Vec::new());
        let mut picture = render(draw.scene());
        if plan.inverted {
            image::imageops::invert(&mut picture);
        }
        let encoded = picture.write_to(&mut png, ImageFormat::Png);
        encoded.map_err(|source| SceneError::Png {
            path: stage.path(&file),
            source,
        })?;
        stage.write(&file, png.get_ref())?;
        let kept = take(name, draw);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, plan.count);
        Ok(kept)
    };
    (0..plan.count).into_par_iter().map(one).collect()
}

#[derive(Serialize)]
struct Sample {
    id: String,
    image: String,
    conversations: Vec<Message>,
}

#[derive(Serialize)]
struct Message {
    from: &'static str,
    value: String,
}

impl Sample {
    fn new(image: String, turns: &[Turn]) -> Sample {
        let mut conversations = Vec::with_capacity(2 * turns.len());
        for (place, turn) in turns.iter().enumerate() {
            let tag = if place == 0 { "<image>\n" } else { "" };
            conversations.push(Message {
                from: "human",
                value: format!("{tag}{}", turn.question),
            });
            conversations.push(Message {
                from: "gpt",
                value: turn.answer.clone(),
            });
        }
        Sample {
            id: image.trim_end_matches(".png").to_owned(),
            image,
            conversations,
        }
    }
}

/// JSON indented by one blank a level.
pub(super) fn indented(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut json =
        serde_json::Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b" "));
    value
        .serialize(&mut json)
        .expect("structs of strings and numbers have a JSON form");
    bytes
}
