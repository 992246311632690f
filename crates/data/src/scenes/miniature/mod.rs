//! Miniatures of the benchmarks' official folders: the layout, file names and fields of the releases, with questions about
//! generated scenes. They try a whole evaluation before gigabytes are downloaded. Nothing in them is official but the form,
//! and scores on them compare with nothing.

mod beyond;
mod choices;
mod gqa;
mod mmmu;
mod mmvet;
mod textvqa;
mod vqa;
mod yes_no;

use std::io::Cursor;
use std::path::Path;

use image::ImageFormat;
use serde::Serialize;
use serde_json::Value;

use super::stage::Stage;
use super::write::{RECORD, indented};
use super::{Concept, Draw, NOTICE, Plan, Scene, SceneError, Turn, concepts, render};

/// Writes the files of one benchmark, without the licence notice.
type Write = fn(&Folder, &[Shown]) -> Result<(), SceneError>;

/// Every miniature, by its benchmark's name.
const MINIATURES: [(&str, Write); 11] = [
    ("pope", yes_no::pope),
    ("vqav2", vqa::write),
    ("mme", yes_no::mme),
    ("gqa", gqa::write),
    ("scienceqa", choices::write),
    ("textvqa", textvqa::write),
    ("mmvet", mmvet::write),
    ("mmmu", mmmu::write),
    ("seedbench", beyond::seedbench),
    ("vizwiz", beyond::vizwiz),
    ("mmbench", beyond::mmbench),
];

/// The names of the benchmarks that have a miniature.
pub fn miniatures() -> impl Iterator<Item = &'static str> {
    MINIATURES.iter().map(|(name, _)| *name)
}

/// A scene with what is asked about it in tests.
struct Shown {
    scene: Scene,
    turns: Vec<Turn>,
}

impl Shown {
    /// The names of what it shows.
    fn names(&self) -> Vec<&'static str> {
        self.scene
            .objects
            .iter()
            .map(|object| object.concept.name)
            .collect()
    }

    /// So many concepts that it does not show.
    fn absent(&self, from: usize, count: usize) -> Vec<&'static Concept> {
        let all = concepts();
        let others = (0..all.len()).map(|step| &all[(from + step) % all.len()]);
        others
            .filter(|concept| !self.scene.shows(concept))
            .take(count)
            .collect()
    }

    /// The first thing it shows; scenes show one at least.
    fn first(&self) -> &'static str {
        self.names().first().copied().unwrap_or_default()
    }
}

/// Writes the miniature of a benchmark's folder with `plan.count` scenes. `false`: no benchmark has this name.
///
/// # Errors
/// Those of [`write_train`](super::write_train).
pub fn write_miniature(name: &str, dir: &Path, plan: &Plan) -> Result<bool, SceneError> {
    let Some((_, write)) = MINIATURES.iter().find(|(known, _)| *known == name) else {
        return Ok(false);
    };
    if plan.count == 0 {
        return Err(SceneError::NoScenes);
    }
    let folder = Folder(Stage::begin(dir, plan.overwrite)?);
    folder.0.write("LICENSES.md", NOTICE.as_bytes())?;
    let record = serde_json::json!({"generator": "emoji-vqa", "miniature": name, "seed": plan.seed, "count": plan.count});
    folder.0.write(RECORD, &indented(&record))?;
    let shown = (0..plan.count).map(|index| {
        let draw = Draw::new(plan.seed, index, plan.styles);
        let turns = draw.test_turns();
        Shown {
            turns,
            scene: draw.into_scene(),
        }
    });
    write(&folder, &shown.collect::<Vec<_>>())?;
    folder.0.commit()?;
    Ok(true)
}

/// The folder being written.
struct Folder(Stage);

impl Folder {
    /// A folder within, with those above it.
    fn folder(&self, name: &str) -> Result<(), SceneError> {
        let path = self.0.path(name);
        std::fs::create_dir_all(&path).map_err(SceneError::io("create", &path))
    }

    /// A scene's picture, in the form that its name says.
    fn picture(&self, name: &str, shown: &Shown) -> Result<(), SceneError> {
        self.0.write(name, &self.encoded(name, shown)?)
    }

    /// The bytes of a scene's picture in a file of this name.
    fn encoded(&self, name: &str, shown: &Shown) -> Result<Vec<u8>, SceneError> {
        let mut bytes = Cursor::new(Vec::new());
        let form = match name.ends_with(".png") {
            true => ImageFormat::Png,
            false => ImageFormat::Jpeg,
        };
        let encoded = render(&shown.scene).write_to(&mut bytes, form);
        encoded.map_err(|source| SceneError::Png {
            path: self.0.path(name),
            source,
        })?;
        Ok(bytes.into_inner())
    }

    fn text(&self, name: &str, text: &str) -> Result<(), SceneError> {
        self.0.write(name, text.as_bytes())
    }

    fn json(&self, name: &str, value: &impl Serialize) -> Result<(), SceneError> {
        self.0.write(name, &indented(value))
    }

    /// An object per line.
    fn lines(&self, name: &str, lines: &[Value]) -> Result<(), SceneError> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.text(name, &text)
    }
}

/// A question with LLaVA's sentence below it.
fn short(question: &str) -> String {
    format!("{question}\nAnswer the question using a single word or phrase.")
}
