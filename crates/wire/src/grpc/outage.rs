//! Trouble with a connection: how long it has lasted, and whether to try again.

use std::time::{Duration, Instant};

use super::RetryPolicy;
use crate::WireError;

/// The time since the connection was last good.
#[derive(Debug)]
pub(super) struct Outage {
    since: Instant,
    attempts: u32,
    delay: Duration,
}

impl Outage {
    /// One that begins now.
    pub fn new(policy: &RetryPolicy) -> Outage {
        Outage {
            since: Instant::now(),
            attempts: 0,
            delay: policy.first_delay,
        }
    }

    /// How much of `patience` is left.
    pub fn left(&self, patience: Duration) -> Duration {
        patience.saturating_sub(self.since.elapsed())
    }

    /// An attempt has failed: how long to wait before the next one, or the error to give up with. The last attempt begins
    /// when the patience ends, so that this is not given up any earlier than it says.
    pub fn failed(
        &mut self,
        error: WireError,
        address: &str,
        policy: &RetryPolicy,
        patience: Duration,
    ) -> Result<(Duration, WireError), WireError> {
        self.attempts += 1;
        if patience.is_zero() {
            return Err(error);
        }
        let left = self.left(patience);
        if left.is_zero() {
            return Err(WireError::GaveUp {
                address: address.to_owned(),
                attempts: self.attempts,
                seconds: self.since.elapsed().as_secs_f64(),
                last: Box::new(error),
            });
        }
        let delay = self.delay.min(left);
        self.delay = self.delay.mul_f64(policy.factor).min(policy.longest_delay);
        Ok((delay, error))
    }
}

/// Whether the next attempt may end better without anybody doing anything about it here. Before the first welcome a
/// certificate that does not fit is a mistake in the set-up, and is told at once. After it the same pair has worked: a
/// damaged record, a proxy's own page, another machine's certificate are passing trouble.
pub(super) fn worth_another_try(error: &WireError, settled: bool) -> bool {
    match error {
        WireError::ConnectionRefused { .. }
        | WireError::Unreachable { .. }
        | WireError::Unanswered { .. }
        | WireError::Lost { .. }
        | WireError::Refused(_) => true,
        WireError::Tls { .. } | WireError::OtherService { .. } => settled,
        _ => false,
    }
}
