//! How fast answers came.

use std::time::{Duration, Instant};

/// When the tokens of one answer came.
pub struct Clock {
    start: Instant,
    first: Option<Instant>,
    last: Instant,
    tokens: u32,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        let start = Instant::now();
        Self {
            start,
            first: None,
            last: start,
            tokens: 0,
        }
    }

    /// One more.
    pub fn token(&mut self) {
        self.last = Instant::now();
        self.first.get_or_insert(self.last);
        self.tokens += 1;
    }
}

/// Tokens and seconds of all answers.
#[derive(Default)]
pub struct Tally {
    answers: u32,
    tokens: u32,
    reading: Duration,
    /// Of the tokens after the first of each answer.
    writing: Duration,
}

impl Tally {
    /// Adds an answer; one without a token says nothing about speed.
    pub fn add(&mut self, clock: &Clock) {
        if let Some(first) = clock.first {
            self.answers += 1;
            self.tokens += clock.tokens;
            self.reading += first - clock.start;
            self.writing += clock.last - first;
        }
    }

    /// Says it on standard error.
    pub fn show(&self) {
        if self.answers == 0 {
            return;
        }
        let count = |n: u32, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut text = format!(
            "{}, {}: {:.2} s to the first token",
            count(self.answers, "answer"),
            count(self.tokens, "token"),
            self.reading.as_secs_f64() / f64::from(self.answers)
        );
        if self.tokens > self.answers {
            let rate = f64::from(self.tokens - self.answers) / self.writing.as_secs_f64().max(1e-9);
            text += &format!(", then {rate:.1} tokens/s");
        }
        eprintln!("{text}");
    }
}
