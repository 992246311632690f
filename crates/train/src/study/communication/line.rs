//! Lines between client and server.

use serde::Serialize;

/// A line: bits a second each way, and the time from question to answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Line {
    /// 10^6 bits a second.
    pub mbit: f64,
    /// Milliseconds from an empty message to its answer.
    pub round_trip_ms: f64,
}

/// 10, 100 and 1,000 Mbit/s with round trips of 1, 20 and 100 ms.
pub const LINES: [Line; 9] = {
    let mut lines = [Line {
        mbit: 10.0,
        round_trip_ms: 1.0,
    }; 9];
    let (mbit, round_trip) = ([10.0, 100.0, 1000.0], [1.0, 20.0, 100.0]);
    let mut at = 0;
    while at < 9 {
        lines[at] = Line {
            mbit: mbit[at / 3],
            round_trip_ms: round_trip[at % 3],
        };
        at += 1;
    }
    lines
};

impl Line {
    /// Seconds of a step's communication: both messages over the line, one round trip, coding. Computed, for a connection
    /// that is warm and that nothing else uses; nothing overlaps.
    pub fn seconds(&self, bytes: f64, coding: f64) -> f64 {
        8.0 * bytes / (1e6 * self.mbit) + self.round_trip_ms / 1e3 + coding
    }
}
