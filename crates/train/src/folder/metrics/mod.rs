//! What is written down while training: one JSON line per micro-batch, and TensorBoard event files.

mod events;
mod lines;

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use events::Events;
pub(crate) use lines::changed;
pub use lines::{of_run, read, settle};

/// Everything measured in one micro-batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step that it belongs to, from 0.
    pub step: u64,
    /// Its own number in the run, from 0; the same where steps are single micro-batches, which older files do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<u64>,
    /// Mean cross-entropy over the supervised tokens; none where no token of the batch was supervised.
    pub loss: Option<f64>,
    /// Distortion penalty, weighted.
    pub penalty: f64,
    /// Learning-rate factor times the peak rate.
    pub lr: f64,
    /// Gradient norm of the client's half before clipping; zero between optimizer steps.
    pub gradient_norm: f64,
    /// Samples in the batch.
    pub samples: u64,
    /// Supervised tokens.
    pub tokens: u64,
    /// Bytes of the messages to the server.
    pub bytes_up: u64,
    /// Bytes of the messages from it.
    pub bytes_down: u64,
    /// Of the forward message: the image container.
    pub bytes_image: u64,
    /// The text container.
    pub bytes_text: u64,
    /// The container of the text's row numbers; 0 where every row crossed.
    #[serde(default)]
    pub bytes_index: u64,
    /// The container of the targets.
    #[serde(default)]
    pub bytes_targets: u64,
    /// Text rows of the batch.
    #[serde(default)]
    pub rows_text: u64,
    /// Text rows that crossed, one per different token if those are fewer.
    #[serde(default)]
    pub rows_distinct: u64,
    /// Elements of the image code and of the text code that crossed.
    pub elements_image: u64,
    /// See `elements_image`.
    pub elements_text: u64,
    /// What other ways of sending the same would have cost, where that was measured.
    #[serde(flatten)]
    pub alternatives: Option<Alternatives>,
    /// Bytes of the returned gradient's containers and their elements.
    pub bytes_gradient: u64,
    /// Of them: the text's container.
    #[serde(default)]
    pub bytes_gradient_text: u64,
    /// See `bytes_gradient`.
    pub elements_gradient: u64,
    /// Of the second edge, where the labels are the client's.
    #[serde(flatten)]
    pub hidden: Option<HiddenRecord>,
    /// Seconds the two halves computed.
    pub compute: f64,
    /// Seconds both sides coded and decoded.
    pub coding: f64,
    /// Seconds the client waited beyond the server's own work: the wire and its queues.
    pub waiting: f64,
    /// Different image rows per 1,000 image rows: 1,000 means no two are alike, near 0 a collapsed code.
    pub distinct_per_1000: f64,
    /// Channels of the image code that show one symbol only in this batch.
    pub constant_channels: u64,
}

/// What crossed between trunk and top in one micro-batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenRecord {
    /// Hidden states that came.
    pub rows_hidden: u64,
    /// Their container.
    pub bytes_hidden: u64,
    /// Its elements.
    pub elements_hidden: u64,
    /// The container of their gradient.
    pub bytes_hidden_gradient: u64,
    /// Its elements.
    pub elements_hidden_gradient: u64,
    /// The container that says which text rows are supervised.
    pub bytes_wanted: u64,
}

/// Bytes that other ways of sending a step's tensors would have taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternatives {
    /// The same codes packed without entropy coding: image, text.
    pub packed_image: u64,
    /// See `packed_image`.
    pub packed_text: u64,
    /// The whole message with the features of all rows as 16-bit floats.
    pub up_16bit: u64,
    /// The whole message with the gradient of all rows as 32-bit floats.
    pub down_32bit: u64,
}

impl StepRecord {
    /// Number of the micro-batch in the run, from 0.
    pub fn number(&self) -> u64 {
        self.micro_batch.unwrap_or(self.step)
    }
}

/// The lines of `metrics.jsonl` that a checkpoint was written with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Those of the micro-batches below this.
    pub below: u64,
    /// Their BLAKE3 digest.
    pub digest: String,
}

/// Appends to `metrics.jsonl` and the TensorBoard event file of a run.
pub struct Writer {
    lines: BufWriter<File>,
    /// Over all lines.
    hasher: blake3::Hasher,
    /// Number of the next micro-batch.
    next: u64,
    events: Events,
}

impl Writer {
    /// Opens the files of the run in `dir`. Lines of micro-batches from `from` on, left by an earlier life of the run that went back
    /// to `from`, are set aside until [`settle`].
    ///
    /// # Errors
    ///
    /// What the file system refuses.
    pub fn open(dir: &Path, from: u64) -> std::io::Result<Self> {
        let hasher = lines::divide(dir, from)?;
        let path = dir.join(lines::LIVE);
        let lines = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Self {
            lines: BufWriter::new(lines),
            hasher,
            next: from,
            events: Events::create(&dir.join("tensorboard"))?,
        })
    }

    /// Writes one step.
    ///
    /// # Errors
    ///
    /// What the file system refuses.
    pub fn step(&mut self, record: &StepRecord) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.lines.write_all(&line)?;
        self.hasher.update(&line);
        self.next = record.number() + 1;
        let per_sample = |bytes: u64| bytes as f64 / record.samples.max(1) as f64;
        let loss = record.loss.map(|loss| ("train/loss", loss));
        let mut scalars = Vec::from_iter(loss);
        scalars.extend([
            ("train/penalty", record.penalty),
            ("train/lr", record.lr),
            ("train/gradient_norm", record.gradient_norm),
            ("wire/bytes_up_per_sample", per_sample(record.bytes_up)),
            ("wire/bytes_down_per_sample", per_sample(record.bytes_down)),
            ("code/distinct_per_1000", record.distinct_per_1000),
            ("code/constant_channels", record.constant_channels as f64),
            ("seconds/compute", record.compute),
            ("seconds/coding", record.coding),
            ("seconds/waiting", record.waiting),
        ]);
        self.events.scalars(record.step, &scalars)
    }

    /// All lines so far, for the checkpoint that is written with them.
    pub fn written(&self) -> Written {
        Written {
            below: self.next,
            digest: self.hasher.finalize().to_hex().to_string(),
        }
    }

    /// Puts all lines so far on disk.
    ///
    /// # Errors
    ///
    /// What the file system refuses.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.lines.flush()?;
        self.lines.get_ref().sync_data()?;
        self.events.flush()
    }
}

/// Writes a JSON file at once.
///
/// # Errors
///
/// What the file system refuses.
pub fn write_json(path: &Path, value: &serde_json::Value) -> std::io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    crate::files::replace(path, &text)
}
