//! Ctrl-C and SIGTERM: once to stop in a resumable state, twice to stop at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that the first Ctrl-C raises; `then` is called once as well. The second ends the process.
pub fn on_interrupt(
    what: &'static str,
    then: impl Fn() + Send + 'static,
) -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping: {what} (again to stop at once)");
        then();
    })?;
    Ok(stop)
}
