//! What both senders and receivers check.

use super::guard::bound;
use super::{Greeting, MessageError};
use crate::limits::Limits;

/// Longest run identifier.
const RUN_BYTES: usize = 128;

/// Sizes of containers.
pub(super) fn containers(containers: &[&[u8]], limits: &Limits) -> Result<(), MessageError> {
    containers.iter().try_for_each(|container| {
        bound(
            "a container in bytes",
            container.len(),
            limits.container_bytes,
        )
    })
}

/// The sequences of a generation that go on: few, and each once.
pub(super) fn keep(keep: Vec<u32>, limits: &Limits) -> Result<Vec<u32>, MessageError> {
    bound("sequences that go on", keep.len(), limits.sequences)?;
    match keep.windows(2).find(|pair| pair[0] >= pair[1]) {
        None => Ok(keep),
        Some(pair) => Err(MessageError::Field {
            field: "Next.keep",
            value: format!("{}, {}", pair[0], pair[1]),
            expected: "the numbers of the sequences that go on must ascend",
        }),
    }
}

/// A time that a peer says it took. Sums of what is none would be none, too.
pub(super) fn seconds(field: &'static str, value: f64) -> Result<f64, MessageError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    Err(MessageError::Field {
        field,
        value: value.to_string(),
        expected: "a number of seconds, 0 or more",
    })
}

/// Sizes and characters of a greeting.
pub(super) fn greeting(greeting: &Greeting, limits: &Limits) -> Result<(), MessageError> {
    run(&greeting.standing.run)?;
    bound(
        "checkpoints in the greeting",
        greeting.standing.saved.len(),
        limits.saved,
    )?;
    bound(
        "recipe fields in the greeting",
        greeting.terms.fields.len(),
        limits.terms,
    )?;
    for (field, value) in &greeting.terms.fields {
        bound(
            "the name of a recipe field in bytes",
            field.len(),
            limits.term_bytes,
        )?;
        bound(
            "the value of a recipe field in bytes",
            value.len(),
            limits.term_bytes,
        )?;
    }
    Ok(())
}

/// A run identifier becomes part of paths on the server, so it cannot be one itself.
fn run(run: &str) -> Result<(), MessageError> {
    bound("the run identifier in bytes", run.len(), RUN_BYTES)?;
    let fits = |c: char| c.is_ascii_graphic() && c != '/' && c != '\\';
    if run.chars().all(fits) && run != "." && run != ".." {
        return Ok(());
    }
    Err(MessageError::Field {
        field: "Greeting.run",
        value: format!("{run:?}"),
        expected: "a run identifier consists of printable ASCII characters without slashes",
    })
}

/// A sentence for people may lose its end, but never makes a message too large.
pub(super) fn shorten(mut text: String, limits: &Limits) -> String {
    let mut end = limits.term_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
