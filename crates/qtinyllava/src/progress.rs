//! Progress for people: a bar on a terminal, now and then a line elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

/// A bar that turns into occasional lines where there is no terminal.
pub struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    length: u64,
    started: Instant,
    first: Option<u64>,
    said: Option<Instant>,
}

impl Progress {
    /// `length` steps of something.
    pub fn new(what: &'static str, length: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(length);
            let style = "{prefix:>10} {bar:28} {pos}/{len} {msg} {elapsed} left {eta}";
            bar.set_style(
                ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_prefix(what);
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Self {
            what,
            bar,
            length,
            started: Instant::now(),
            first: None,
            said: None,
        }
    }

    /// `done` steps are done; `message` says what else there is to say.
    pub fn at(&mut self, done: u64, message: &str) {
        let first = *self.first.get_or_insert(done);
        if let Some(bar) = &self.bar {
            if bar.position() == 0 && first > 0 {
                bar.reset_eta();
            }
            bar.set_position(done);
            bar.set_message(message.to_owned());
            return;
        }
        let due = self
            .said
            .is_none_or(|said| said.elapsed() > Duration::from_secs(5));
        if due || done == self.length {
            self.said = Some(Instant::now());
            let rate = (done - first) as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
            let left = match rate {
                rate if rate > 0.0 => {
                    let left = Duration::from_secs_f64((self.length - done) as f64 / rate);
                    format!(", left {}", HumanDuration(left))
                }
                _ => String::new(),
            };
            let message = match message {
                "" => String::new(),
                message => format!(" {message}"),
            };
            eprintln!("{:>10} {done}/{}{message}{left}", self.what, self.length);
        }
    }

    /// Says something without disturbing the bar.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}

/// Bytes as people read them.
pub fn bytes(count: f64) -> String {
    HumanBytes(count.max(0.0) as u64).to_string()
}
