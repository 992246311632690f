//! Ctrl-C and SIGTERM: once to stop in a resumable state, twice to stop at once. How the program says that it was stopped.

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of a run that was stopped and that the same command resumes.
const STOPPED: u8 = 3;

/// The run was stopped, and the same command resumes it: no error, and not finished either. Says from where.
#[derive(Debug)]
pub struct Stopped(pub String);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Stopped {}

/// Says on standard error how a command ended, and what the process is to return.
pub fn conclude(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    if let Some(stopped) = error.downcast_ref::<Stopped>() {
        eprintln!("{stopped}");
        return ExitCode::from(STOPPED);
    }
    if error.is::<crate::output::Closed>() {
        return ExitCode::SUCCESS;
    }
    // Many of our errors already quote their cause.
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    eprintln!("error: {text}");
    ExitCode::FAILURE
}

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
