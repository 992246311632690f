//! What the log says about those who were not let in: the first ones one by one, the rest in sums, so that whoever knocks
//! ten thousand times does not fill a disk.

use std::fmt::Display;
use std::mem::take;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines within one period.
const LINES: u32 = 10;

/// After which the count begins again.
pub(super) const PERIOD: Duration = Duration::from_secs(60);

/// The log of those who were not let in.
pub(super) struct Strangers(Mutex<Count>);

struct Count {
    since: Instant,
    lines: u32,
    more: u64,
    last: String,
}

impl Strangers {
    pub fn new() -> Strangers {
        Strangers(Mutex::new(Count {
            since: Instant::now(),
            lines: 0,
            more: 0,
            last: String::new(),
        }))
    }

    /// One more.
    pub fn tell(&self, what: impl Display) {
        if let Some(line) = self.line(what) {
            tracing::warn!("{line}");
        }
    }

    fn line(&self, what: impl Display) -> Option<String> {
        let mut count = self.count();
        if count.lines < LINES {
            count.lines += 1;
            return Some(what.to_string());
        }
        count.more += 1;
        count.last = what.to_string();
        None
    }

    /// Says how many there were beyond those that had a line of their own. To be called every [`PERIOD`].
    pub fn sum_up(&self) {
        if let Some(line) = self.sum() {
            tracing::warn!("{line}");
        }
    }

    fn sum(&self) -> Option<String> {
        let mut count = self.count();
        let (more, last) = (take(&mut count.more), take(&mut count.last));
        let seconds = count.since.elapsed().as_secs();
        (count.since, count.lines) = (Instant::now(), 0);
        (more > 0).then(|| {
            format!(
                "{more} more connections were not let in within {seconds} s; the last one: {last}"
            )
        })
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Strangers {
    /// The end of the server ends the period.
    fn drop(&mut self) {
        self.sum_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_strangers_are_eleven_lines() {
        let strangers = Strangers::new();
        let lines = (0..10_000).filter_map(|i| strangers.line(i)).count();
        assert_eq!(lines, 10);
        let sum = strangers.sum().unwrap();
        assert!(sum.contains("9990 more") && sum.ends_with("9999"), "{sum}");
        assert_eq!(strangers.sum(), None);
        assert!(strangers.line("the next period").is_some());
    }
}
