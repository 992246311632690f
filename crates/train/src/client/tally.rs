//! `wire.json`: all that a run directory's client has sent and received, over all its processes.
//!
//! Counted is what crossed, also of steps that were repeated after going back. The file is written anew at most every tenth of
//! a second and at the end, so a process that is killed loses at most the step under way or that tenth from the count.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qtl_wire::Meter;
use qtl_wire::meter::{Direction, Kind, Tally as Count};
use serde_json::{Map, Value, json};

use crate::error::TrainError;
use crate::files;

/// The least time between two writes on the way.
const EVERY: Duration = Duration::from_millis(100);

/// The sums in a run's directory.
pub(super) struct Tally {
    path: PathBuf,
    /// Of the processes before this one.
    before: Meter,
    /// Batches that were sent again for another step: of a sample in one of them more has crossed than once a pass.
    again: u64,
    written: Option<Instant>,
}

impl Tally {
    /// Goes on from what the directory holds. A file that cannot be read is put by, and said.
    pub(super) fn open(run_dir: &Path) -> Result<Self, TrainError> {
        let path = run_dir.join("wire.json");
        let (before, again) = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(TrainError::io(&path, error)),
            Ok(bytes) => match serde_json::from_slice(&bytes).ok().as_ref().and_then(read) {
                Some(counts) => counts,
                None => {
                    let to = run_dir.join("wire.damaged.json");
                    fs::rename(&path, &to).map_err(|e| TrainError::io(&path, e))?;
                    tracing::warn!(
                        "{} cannot be read: counting begins anew, and it was moved to {}",
                        path.display(),
                        to.display()
                    );
                    Default::default()
                }
            },
        };
        Ok(Self {
            path,
            before,
            again,
            written: None,
        })
    }

    /// A batch is sent again.
    pub(super) fn sends_again(&mut self) {
        self.again += 1;
    }

    /// How many times one was, over all processes.
    pub(super) fn again(&self) -> u64 {
        self.again
    }

    /// Writes the sums with what this process has counted so far, unless that was done just now.
    pub(super) fn on_the_way(&mut self, meter: Meter) -> Result<(), TrainError> {
        if self.written.is_some_and(|then| then.elapsed() < EVERY) {
            return Ok(());
        }
        self.written = Some(Instant::now());
        files::replace_soon(&self.path, &self.text(meter))
            .map_err(|e| TrainError::io(&self.path, e))
    }

    /// Writes the sums, durably.
    pub(super) fn close(&mut self, meter: Meter) -> Result<(), TrainError> {
        files::replace(&self.path, &self.text(meter)).map_err(|e| TrainError::io(&self.path, e))
    }

    fn text(&self, meter: Meter) -> Vec<u8> {
        let meter = self.before + meter;
        let wire = json!({
            "up": direction(meter.up),
            "down": direction(meter.down),
            "socket_sent": meter.socket_sent,
            "socket_received": meter.socket_received,
            "connections": meter.connections,
            "waiting_seconds": meter.waiting_seconds,
            "batches_sent_again": self.again,
        });
        format!("{wire:#}\n").into_bytes()
    }
}

fn direction(mut counts: Direction) -> Map<String, Value> {
    let kinds = Kind::ALL.iter().map(|kind| {
        let t = *counts.of(*kind);
        let count = json!({
            "messages": t.messages, "bytes": t.bytes, "image": t.image, "text": t.text,
            "index": t.index, "targets": t.targets, "hidden": t.hidden, "framing": t.framing,
        });
        (name(*kind), count)
    });
    kinds.collect()
}

fn name(kind: Kind) -> String {
    format!("{kind:?}").to_lowercase()
}

/// The sums in such a file.
fn read(wire: &Value) -> Option<(Meter, u64)> {
    let number = |field: &str| wire.get(field)?.as_u64();
    let counts = |field: &str| {
        let kinds = wire.get(field)?;
        let mut counts = Direction::default();
        for kind in Kind::ALL {
            // A kind that an earlier release did not know has not crossed.
            let Some(count) = kinds.get(name(kind)) else {
                continue;
            };
            let number = |field: &str| count.get(field)?.as_u64();
            *counts.of(kind) = Count {
                messages: number("messages")?,
                bytes: number("bytes")?,
                image: number("image")?,
                text: number("text")?,
                index: number("index")?,
                targets: number("targets")?,
                // Counted as framing by earlier releases.
                hidden: number("hidden").unwrap_or(0),
                framing: number("framing")?,
            };
        }
        Some(counts)
    };
    let meter = Meter {
        up: counts("up")?,
        down: counts("down")?,
        socket_sent: number("socket_sent")?,
        socket_received: number("socket_received")?,
        connections: number("connections")?,
        waiting_seconds: wire.get("waiting_seconds")?.as_f64()?,
    };
    // Earlier releases did not count them.
    Some((meter, number("batches_sent_again").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use qtl_wire::meter::Parts;

    use super::*;

    fn meter(bytes: usize) -> Meter {
        let mut meter = Meter {
            socket_sent: 3 * bytes as u64,
            connections: 1,
            waiting_seconds: 0.5,
            ..Meter::default()
        };
        let parts = Parts::of(&[0; 5], &[0; 4], &[], &[0; 2]);
        for kind in Kind::ALL {
            *meter.up.of(kind) += Count::of(bytes, parts);
            *meter.down.of(kind) += Count::of(bytes + 1, parts);
        }
        meter
    }

    #[test]
    fn counts_of_several_processes_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Tally::open(dir.path()).unwrap();
        first.on_the_way(meter(50)).unwrap();
        // Killed here: what was written last counts.
        let mut second = Tally::open(dir.path()).unwrap();
        second.sends_again();
        second.on_the_way(meter(100)).unwrap();
        second.close(meter(200)).unwrap();
        let third = Tally::open(dir.path()).unwrap();
        assert_eq!(third.before, meter(50) + meter(200));
        assert_eq!(third.again(), 1);
    }

    #[test]
    fn a_damaged_file_is_put_by() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("wire.json"), "{\"up\": 3}").unwrap();
        let tally = Tally::open(dir.path()).unwrap();
        assert_eq!(tally.before, Meter::default());
        assert!(dir.path().join("wire.damaged.json").exists());
    }
}
