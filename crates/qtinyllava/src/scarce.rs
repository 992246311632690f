//! When the operating system has no more threads or memory to give.

use std::any::Any;
use std::panic;

/// Turns panics of libraries that cannot start a thread into an error with its cure. What is on disk is whole at every
/// moment, so that the process may end here, whichever thread it is in.
pub fn explain_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| match no_thread(info.payload()) {
        Some(cause) => {
            eprintln!(
                "error: the operating system starts no more threads for this program ({cause}); raise its limits \
                 (`ulimit -u`, `ulimit -v`, or the container's), or leave it more memory"
            );
            std::process::exit(1);
        }
        None => usual(info),
    }));
}

/// What a panic says, if it is about a thread that cannot be started.
fn no_thread(payload: &dyn Any) -> Option<&str> {
    let text = match payload.downcast_ref::<String>() {
        Some(text) => text.as_str(),
        None => *payload.downcast_ref::<&str>()?,
    };
    let marks = [
        "failed to spawn thread",
        "OS can't spawn",
        "ThreadPoolBuildError",
    ];
    marks.iter().any(|mark| text.contains(mark)).then_some(text)
}

/// A limit of the address space, which ends a program in the middle of whatever it does: there is no error to be had then.
pub fn warn_of_a_limit() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(bytes) = address_space(&limits) {
        eprintln!(
            "warning: this program may use {} MiB of address space (`ulimit -v`); where it needs more, it is aborted, and the same \
             command resumes from the newest step that both sides have saved: better give it more, or `ulimit -v unlimited`",
            bytes >> 20
        );
    }
}

/// The soft limit in `/proc/self/limits`, if there is one.
fn address_space(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_found_and_none_is_none() {
        let with = |soft: &str| {
            format!(
                "Limit  Soft Limit  Hard Limit  Units\nMax address space         {soft}            unlimited            bytes\n"
            )
        };
        assert_eq!(address_space(&with("409600000")), Some(409_600_000));
        assert_eq!(address_space(&with("unlimited")), None);
        assert_eq!(address_space(""), None);
    }

    #[test]
    fn only_panics_about_threads_are_explained() {
        let text = "failed to spawn thread: Os { code: 11 }".to_owned();
        assert!(no_thread(&text).is_some());
        assert!(no_thread(&"index out of bounds").is_none());
        assert!(no_thread(&7).is_none());
    }
}
