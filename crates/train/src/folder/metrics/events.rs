//! TensorBoard's event files: what TensorFlow's own writer makes of scalars.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

/// Appends to an event file.
pub(super) struct Events {
    file: BufWriter<File>,
}

impl Events {
    /// A new file in `dir`.
    pub(super) fn create(dir: &Path) -> std::io::Result<Self> {
        let mut events = Self {
            file: BufWriter::new(create(dir)?),
        };
        events.event(Event {
            wall_time: now(),
            step: 0,
            file_version: Some("brain.Event:2".into()),
            summary: None,
        })?;
        Ok(events)
    }

    /// Writes named numbers.
    pub(super) fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> std::io::Result<()> {
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
    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }

    fn event(&mut self, event: Event) -> std::io::Result<()> {
        self.file.write_all(&record(&event.encode_to_vec()))
    }
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
fn create(dir: &Path) -> std::io::Result<File> {
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
    fn a_tfrecord_carries_tensorflows_masked_checksums() {
        // CRC-32C of "123456789" is 0xe3069283 by its specification; the mask is a rotation and a constant.
        let bytes = record(b"123456789");
        let masked = 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(bytes[..8], 9u64.to_le_bytes());
        assert_eq!(bytes[12..21], *b"123456789");
        assert_eq!(bytes[21..], masked.to_le_bytes());
    }
}
