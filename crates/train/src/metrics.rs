//! What is written down while training: one JSON line per step, and TensorBoard event files.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use serde::{Deserialize, Serialize};

/// Everything measured in one step (one micro-batch).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Number of the micro-batch, from 0.
    pub step: u64,
    /// Mean cross-entropy over the supervised tokens.
    pub loss: f64,
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
    /// Bytes of the forward message.
    pub bytes_up: u64,
    /// Bytes of the backward message.
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
    /// The same codes packed without entropy coding: image, text.
    pub packed_image: u64,
    /// See `packed_image`.
    pub packed_text: u64,
    /// The whole message with the features of all rows as 16-bit floats.
    pub up_16bit: u64,
    /// The whole message with the gradient of all rows as 32-bit floats.
    pub down_32bit: u64,
    /// Bytes of the returned gradient's containers and their elements.
    pub bytes_gradient: u64,
    /// Of them: the text's container.
    #[serde(default)]
    pub bytes_gradient_text: u64,
    /// See `bytes_gradient`.
    pub elements_gradient: u64,
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

/// Appends to `metrics.jsonl` and the TensorBoard event file of a run.
pub struct Writer {
    lines: BufWriter<File>,
    events: BufWriter<File>,
}

impl Writer {
    /// Opens the files of the run in `dir`; records of steps from `from` on, left by an earlier life of the run that
    /// went back to `from`, are dropped.
    pub fn open(dir: &Path, from: u64) -> std::io::Result<Self> {
        let path = dir.join("metrics.jsonl");
        if path.exists() {
            let kept: String = read(&path)?
                .iter()
                .filter(|record| record.step < from)
                .map(line)
                .collect();
            crate::files::replace(&path, kept.as_bytes())?;
        }
        let lines = OpenOptions::new().create(true).append(true).open(&path)?;
        let events = create_events(&dir.join("tensorboard"))?;
        let mut writer = Self {
            lines: BufWriter::new(lines),
            events: BufWriter::new(events),
        };
        writer.event(Event {
            wall_time: now(),
            step: 0,
            file_version: Some("brain.Event:2".into()),
            summary: None,
        })?;
        Ok(writer)
    }

    /// Writes one step.
    pub fn step(&mut self, record: &StepRecord) -> std::io::Result<()> {
        self.lines.write_all(line(record).as_bytes())?;
        let per_sample = |bytes: u64| bytes as f64 / record.samples.max(1) as f64;
        self.scalars(
            record.step,
            &[
                ("train/loss", record.loss),
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
            ],
        )
    }

    /// Writes named numbers to the event file.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> std::io::Result<()> {
        let value = values
            .iter()
            .map(|(tag, value)| Value {
                tag: (*tag).to_owned(),
                simple_value: Some(*value as f32),
            })
            .collect();
        self.event(Event {
            wall_time: now(),
            step: step as i64,
            file_version: None,
            summary: Some(Summary { value }),
        })
    }

    /// Hands everything to the operating system.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.lines.flush()?;
        self.events.flush()
    }

    fn event(&mut self, event: Event) -> std::io::Result<()> {
        self.events.write_all(&record(&event.encode_to_vec()))
    }
}

/// The records of a `metrics.jsonl`; a last line that a crash cut short is left out.
pub fn read(path: &Path) -> std::io::Result<Vec<StepRecord>> {
    let text = std::fs::read_to_string(path)?;
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
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

fn line(record: &StepRecord) -> String {
    let mut line = serde_json::to_string(record).expect("a record is numbers only");
    line.push('\n');
    line
}

/// A TFRecord: length, masked CRC of the length, data, masked CRC of the data.
fn record(data: &[u8]) -> Vec<u8> {
    let masked = |bytes: &[u8]| {
        crc32c::crc32c(bytes)
            .rotate_right(15)
            .wrapping_add(0xa282_ead8)
            .to_le_bytes()
    };
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(masked(&length));
    out.extend(data);
    out.extend(masked(data));
    out
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}

/// TensorBoard finds files by this name; the process id keeps two lives of a run within one second apart.
fn create_events(dir: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(dir)?;
    let name: PathBuf = dir.join(format!(
        "events.out.tfevents.{:010}.{}",
        now() as u64,
        std::process::id()
    ));
    OpenOptions::new().create(true).append(true).open(name)
}

/// TensorFlow's `Event` message, the fields that scalars need.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_back_drops_the_steps_that_will_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path(), 0).unwrap();
        for step in 0..5 {
            writer
                .step(&StepRecord {
                    step,
                    ..StepRecord::default()
                })
                .unwrap();
        }
        writer.flush().unwrap();
        drop(writer);
        Writer::open(dir.path(), 3).unwrap();
        let steps: Vec<u64> = read(&dir.path().join("metrics.jsonl"))
            .unwrap()
            .iter()
            .map(|r| r.step)
            .collect();
        assert_eq!(steps, [0, 1, 2]);
    }

    #[test]
    fn a_tfrecord_carries_tensorflows_masked_checksums() {
        // CRC-32C of "123456789" is 0xe3069283 by its specification; the mask is a rotation and a constant.
        let bytes = record(b"123456789");
        let masked = 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(bytes[..8], 9u64.to_le_bytes());
        assert_eq!(bytes[12..21], *b"123456789");
        assert_eq!(bytes[21..], masked.to_le_bytes());
    }
}
