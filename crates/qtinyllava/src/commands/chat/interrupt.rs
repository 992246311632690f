//! Ctrl-C in a conversation.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use super::tally::Tally;

const IDLE: u8 = 0;
const ANSWERING: u8 = 1;
const STOPPING: u8 = 2;

/// Ctrl-C: where someone types, it ends the answer that comes; else, or the second time, the program.
pub struct Interrupt {
    state: Arc<AtomicU8>,
    tally: Arc<Mutex<Tally>>,
}

impl Interrupt {
    /// Takes over Ctrl-C; once per process.
    pub fn install(interactive: bool) -> Result<Self> {
        let (state, tally) = (
            Arc::new(AtomicU8::new(IDLE)),
            Arc::<Mutex<Tally>>::default(),
        );
        let (seen, sum) = (Arc::clone(&state), Arc::clone(&tally));
        ctrlc::set_handler(move || {
            let stop =
                seen.compare_exchange(ANSWERING, STOPPING, Ordering::Relaxed, Ordering::Relaxed);
            if stop.is_err() || !interactive {
                eprintln!();
                sum.lock().unwrap_or_else(PoisonError::into_inner).show();
                std::process::exit(130);
            }
        })?;
        Ok(Self { state, tally })
    }

    /// An answer begins.
    pub fn begin(&self) {
        self.state.store(ANSWERING, Ordering::Relaxed);
    }

    /// Whether the answer is still wanted.
    pub fn go_on(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ANSWERING
    }

    /// The answer has ended.
    pub fn end(&self) {
        self.state.store(IDLE, Ordering::Relaxed);
    }

    /// The sum over all answers, which is shown however the program ends.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
