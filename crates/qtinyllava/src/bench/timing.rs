//! How long something takes when nothing else gets in its way.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Repetitions, even of what takes longer than it should.
const AT_LEAST: u32 = 2;

/// For how long things are repeated.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    /// Long enough for one repetition to be undisturbed.
    pub each: Duration,
}

impl Timer {
    /// Seconds of the fastest repetition, and what it made. Other processes and the first touch of memory can only make
    /// a repetition slower, so that the fastest is the one that measures the code.
    pub fn fastest<T>(self, mut run: impl FnMut() -> T) -> (f64, T) {
        let start = Instant::now();
        let (mut best, mut count) = (f64::INFINITY, 0);
        loop {
            let lap = Instant::now();
            let made = black_box(run());
            best = best.min(lap.elapsed().as_secs_f64());
            count += 1;
            if count >= AT_LEAST && start.elapsed() >= self.each {
                return (best, made);
            }
        }
    }
}
