//! A trial run that leaves nothing but its messages: every one that would have crossed, as it would have, and an account of
//! what is in it for people.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use qtl_data::loader::{Loader, Source};
use qtl_data::{Example, Position};
use qtl_wire::link::Listener;
use qtl_wire::message::{ClientMessage, ServerMessage, decode_client, decode_server};
use qtl_wire::meter::Parts;
use qtl_wire::verb::Request;
use qtl_wire::{Cut, Limits, SpanKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::client::loader_options;
use crate::error::TrainError;
use crate::files;
use crate::recipe::Recipe;
use crate::stamp::Stamp;

/// The account, for programs.
pub const ACCOUNT: &str = "account.json";
/// The same for people.
const TABLE: &str = "account.txt";
const MESSAGES: &str = "messages";
/// What they were made of.
const ORIGIN: &str = "made-of.json";
/// The recipe that they were made with.
pub const RECIPE: &str = "recipe.toml";

/// What tells the messages of one model and data set from those of others. The recipe lies beside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Digest of the model's files.
    pub model: String,
    /// Of the adapter's on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The samples and their pictures.
    pub data: Stamp,
}

/// What is known of a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Its bytes, in this file below the directory.
    pub file: PathBuf,
    /// Whether the client said it.
    pub up: bool,
    /// What it is.
    pub kind: String,
    /// All its bytes.
    pub bytes: usize,
    /// Bytes of the container of image rows.
    pub image: usize,
    /// Of text rows.
    pub text: usize,
    /// Of the text's row numbers.
    pub index: usize,
    /// Of targets.
    pub targets: usize,
    /// Of the second edge, where the labels are the client's.
    #[serde(default)]
    pub hidden: usize,
    /// Image rows and text rows that its layout counts.
    pub rows: [u64; 2],
    /// The samples that its sequences are of. No message has their names: they are the client's own account.
    pub samples: Vec<String>,
}

/// Messages on their way into a directory.
#[derive(Clone, Debug)]
pub struct Messages {
    dir: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    failed: Option<io::Error>,
}

impl Messages {
    /// Into a directory that is new or empty.
    ///
    /// # Errors
    ///
    /// [`TrainError::Halves`] if there is something in it; [`TrainError::Io`].
    pub fn into_dir(dir: &Path) -> Result<Self, TrainError> {
        let failed = |e| TrainError::io(dir, e);
        if dir.exists() && fs::read_dir(dir).map_err(failed)?.next().is_some() {
            return Err(TrainError::Halves(format!(
                "{} is not empty; give --out a new directory for the messages",
                dir.display()
            )));
        }
        fs::create_dir_all(dir.join(MESSAGES)).map_err(failed)?;
        Ok(Self {
            dir: dir.to_owned(),
            state: Arc::default(),
        })
    }

    /// Notes what the messages are made of.
    ///
    /// # Errors
    ///
    /// [`TrainError::Io`]
    pub fn are_of(&self, origin: &Origin) -> Result<(), TrainError> {
        let path = self.dir.join(ORIGIN);
        let json = serde_json::to_vec_pretty(origin).unwrap_or_default();
        files::replace(&path, &json).map_err(|e| TrainError::io(&path, e))
    }

    /// What a link is to tell of every message.
    pub fn listener(&self) -> Listener {
        let own = self.clone();
        Box::new(move |up, bytes| own.heard(up, bytes))
    }

    fn heard(&self, up: bool, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = if up { said(bytes) } else { answered(bytes) };
        let (number, way) = (state.lines.len(), if up { "up" } else { "down" });
        line.file = Path::new(MESSAGES).join(format!("{number:06}-{way}-{}.bin", line.kind));
        (line.up, line.bytes) = (up, bytes.len());
        if let Err(error) = fs::write(self.dir.join(&line.file), bytes) {
            state.failed.get_or_insert(error);
        }
        state.lines.push(line);
    }

    /// Writes the account, with the samples of each message. The `source` is that of the run.
    ///
    /// # Errors
    ///
    /// [`TrainError`]
    pub fn close(self, recipe: &Recipe, source: &Arc<dyn Source>) -> Result<Vec<Line>, TrainError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.failed.take() {
            return Err(TrainError::io(&self.dir, error));
        }
        let mut lines = std::mem::take(&mut state.lines);
        // What is measured before the first step is of the run's first batches, as the steps after it.
        for carries in [Line::is_measured, Line::is_step] {
            let mut batches = batches(recipe, source)?;
            for line in lines.iter_mut().filter(|line| carries(line)) {
                let examples = batches.next().transpose()?.unwrap_or_default();
                line.samples = examples.into_iter().map(|example| example.id).collect();
            }
        }
        let json = serde_json::to_vec_pretty(&lines).unwrap_or_default();
        let put = |name: &str, bytes: &[u8]| {
            let path = self.dir.join(name);
            files::replace(&path, bytes).map_err(|e| TrainError::io(&path, e))
        };
        put(ACCOUNT, &json)?;
        put(TABLE, table(&lines).as_bytes())?;
        put(RECIPE, recipe.to_toml().as_bytes())?;
        Ok(lines)
    }
}

/// The account in a directory of messages.
///
/// # Errors
///
/// [`TrainError`] naming the file.
pub fn read(dir: &Path) -> Result<Vec<Line>, TrainError> {
    parsed(&dir.join(ACCOUNT))
}

/// What the messages in a directory are of.
///
/// # Errors
///
/// [`TrainError`] naming the file, also where an earlier release has not noted it.
pub fn origin(dir: &Path) -> Result<Origin, TrainError> {
    parsed(&dir.join(ORIGIN))
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Result<T, TrainError> {
    let wrong = |problem: String| {
        TrainError::Halves(format!(
            "{}: {problem}; give a directory that `train --dry-run` of this release wrote to its end",
            path.display()
        ))
    };
    let bytes = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
}

/// The examples of a fresh run, batch by batch.
///
/// # Errors
///
/// [`TrainError`]
pub fn batches(
    recipe: &Recipe,
    source: &Arc<dyn Source>,
) -> Result<impl Iterator<Item = Result<Vec<Example>, TrainError>> + use<>, TrainError> {
    let options = loader_options(recipe, 0, Position::default());
    let mut loader = Loader::new(Arc::clone(source), options)?;
    Ok(std::iter::from_fn(move || {
        let next = loader.next_batch().map_err(TrainError::from).transpose()?;
        Some(next.map(|batch| batch.examples))
    }))
}

impl Line {
    /// Whether it carries the rows of a step.
    pub fn is_step(&self) -> bool {
        self.up && ["forward", "forward-hidden"].contains(&self.kind.as_str())
    }

    /// Whether it carries the ranges that quantizers start from.
    pub fn is_calibration(&self) -> bool {
        self.up && self.kind == "calibration"
    }

    /// Whether it carries rows of which only the ranges are wanted that they lead to.
    fn is_measured(&self) -> bool {
        self.up && self.kind == "measure-hidden"
    }

    /// With the sizes of its containers.
    fn of_parts(mut self, parts: Parts) -> Self {
        let Parts {
            image,
            text,
            index,
            targets,
            hidden,
        } = parts;
        let sizes = [image, text, index, targets, hidden].map(|size| size as usize);
        [self.image, self.text, self.index, self.targets, self.hidden] = sizes;
        self
    }

    fn of_cut(mut self, cut: &Cut) -> Self {
        self.rows = [SpanKind::Image, SpanKind::Text].map(|kind| cut.layout.rows(kind));
        self
    }
}

fn kind(kind: &str) -> Line {
    Line {
        kind: kind.to_owned(),
        ..Line::default()
    }
}

/// What a client says.
fn said(bytes: &[u8]) -> Line {
    let message = decode_client(bytes, &Limits::default());
    let Ok(ClientMessage::Request(_, request)) = message else {
        return kind(match message {
            Ok(ClientMessage::Greeting(_)) => "greeting",
            _ => "other",
        });
    };
    let line = match &request {
        Request::Forward(forward) => kind("forward").of_cut(&forward.cut),
        Request::ForwardHidden(forward) => kind("forward-hidden").of_cut(&forward.cut),
        Request::MeasureHidden(measure) => kind("measure-hidden").of_cut(&measure.cut),
        Request::BackwardHidden(_) => kind("backward-hidden"),
        Request::Calibration(_) => kind("calibration"),
        Request::Save(_) => kind("save"),
        Request::Finish(_) => kind("finish"),
        _ => kind("other"),
    };
    line.of_parts(request.parts())
}

/// What a server answers.
fn answered(bytes: &[u8]) -> Line {
    match decode_server(bytes, &Limits::default()) {
        Ok(ServerMessage::Answer(_, answer)) => kind("answer").of_parts(answer.parts()),
        Ok(ServerMessage::Welcome { .. }) => kind("welcome"),
        _ => kind("other"),
    }
}

/// The account as people read it.
pub fn table(lines: &[Line]) -> String {
    let mut text = format!(
        "{:<6} {:<5} {:<16} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>7} {:>7}  samples\n",
        "number",
        "way",
        "kind",
        "bytes",
        "image",
        "text",
        "numbers",
        "targets",
        "hidden",
        "rows i",
        "rows t"
    );
    for (number, line) in lines.iter().enumerate() {
        let way = if line.up { "up" } else { "down" };
        let [image, rows] = line.rows;
        text += &format!(
            "{number:<6} {way:<5} {:<16} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {image:>7} {rows:>7}  {}\n",
            line.kind,
            line.bytes,
            line.image,
            line.text,
            line.index,
            line.targets,
            line.hidden,
            line.samples.join(" ")
        );
    }
    text
}
