//! How long an attack may take.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The time of one attack.
#[derive(Clone, Debug)]
pub struct Clock<'a> {
    started: Instant,
    length: Duration,
    stop: Option<&'a AtomicBool>,
}

impl<'a> Clock<'a> {
    /// Starts now.
    pub fn new(length: Duration) -> Self {
        Self {
            started: Instant::now(),
            length,
            stop: None,
        }
    }

    /// One that is also over when `stop` is set.
    #[must_use]
    pub fn stopped_by(self, stop: &'a AtomicBool) -> Self {
        Self {
            stop: Some(stop),
            ..self
        }
    }

    /// A part of what is left.
    #[must_use]
    pub fn share(&self, part: f64) -> Self {
        let left = self.length.saturating_sub(self.started.elapsed());
        Self {
            started: Instant::now(),
            length: left.mul_f64(part.clamp(0.0, 1.0)),
            stop: self.stop,
        }
    }

    /// Whether it was asked to stop.
    pub fn stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Which share of the time is over; `None` when all is.
    pub fn at(&self) -> Option<f64> {
        let over = self.started.elapsed().as_secs_f64() / self.length.as_secs_f64().max(1e-9);
        (over < 1.0 && !self.stopped()).then_some(over)
    }

    /// Seconds since it started.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}
