//! How long an attack may take.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The time of one attack.
#[derive(Clone, Debug)]
pub struct Clock<'a> {
    started: Instant,
    length: Duration,
    /// Instead of time: how many steps, and how many are taken.
    steps: Option<(u64, Cell<u64>)>,
    stop: Option<&'a AtomicBool>,
}

impl<'a> Clock<'a> {
    /// Starts now.
    pub fn new(length: Duration) -> Self {
        Self {
            started: Instant::now(),
            length,
            steps: None,
            stop: None,
        }
    }

    /// So many steps, however long they take: what comes of it is the same on every machine.
    pub fn counted(steps: u64) -> Self {
        Self {
            steps: Some((steps, Cell::new(0))),
            ..Self::new(Duration::ZERO)
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
        let part = part.clamp(0.0, 1.0);
        let left = self.length.saturating_sub(self.started.elapsed());
        let steps = self.steps.as_ref().map(|(steps, taken)| {
            let left = steps.saturating_sub(taken.get());
            ((left as f64 * part) as u64, Cell::new(0))
        });
        Self {
            started: Instant::now(),
            length: left.mul_f64(part),
            steps,
            stop: self.stop,
        }
    }

    /// Whether it was asked to stop.
    pub fn stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Which share of the time is over; `None` when all is. Each call is a step.
    pub fn at(&self) -> Option<f64> {
        if let Some((steps, taken)) = &self.steps {
            let step = taken.replace(taken.get() + 1);
            return (step < *steps && !self.stopped()).then(|| step as f64 / *steps as f64);
        }
        let over = self.started.elapsed().as_secs_f64() / self.length.as_secs_f64().max(1e-9);
        (over < 1.0 && !self.stopped()).then_some(over)
    }

    /// Seconds that are left; none where steps are counted.
    pub fn left(&self) -> Option<f64> {
        let left = self.length.saturating_sub(self.started.elapsed());
        self.steps.is_none().then_some(left.as_secs_f64())
    }

    /// Seconds since it started.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}
