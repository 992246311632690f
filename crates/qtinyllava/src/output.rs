//! Standard output and standard error that a reader may close: `qtinyllava ... | head -1`.
//!
//! The macros of the standard library panic then. The ones below take their names in this program: where nobody reads any
//! more the rest is dropped and the work goes on; any other trouble with standard output, such as a full disk behind it,
//! makes the program fail at its end.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

/// Nobody reads what is being written any more: for what is not worth going on with then.
#[derive(Debug)]
pub struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for Closed {}

/// Writes a piece to standard output at once.
///
/// # Errors
///
/// [`Closed`], or what is wrong with standard output.
pub fn piece(stream: &mut impl Write, text: &str) -> anyhow::Result<()> {
    let done = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush());
    match done {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        other => Ok(other?),
    }
}

/// The first trouble with standard output.
static TROUBLE: OnceLock<io::Error> = OnceLock::new();

/// Writes to standard output.
pub fn out(text: Arguments<'_>) {
    let mut stream = io::stdout().lock();
    // A terminal shows a line when it ends, so what is printed in pieces is flushed by the last of them.
    if let Err(error) = stream.write_fmt(text)
        && error.kind() != ErrorKind::BrokenPipe
    {
        TROUBLE.get_or_init(|| error);
    }
}

/// Writes to standard error; there is nowhere to say that it failed.
pub fn err(text: Arguments<'_>) {
    io::stderr().lock().write_fmt(text).ok();
}

/// What went wrong with standard output, in all.
pub fn trouble() -> Option<&'static io::Error> {
    if let Err(error) = io::stdout().flush()
        && error.kind() != ErrorKind::BrokenPipe
    {
        TROUBLE.get_or_init(|| error);
    }
    TROUBLE.get()
}

macro_rules! print {
    ($($text:tt)*) => { $crate::output::out(format_args!($($text)*)) };
}
macro_rules! println {
    () => { $crate::output::out(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::out(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! eprint {
    ($($text:tt)*) => { $crate::output::err(format_args!($($text)*)) };
}
macro_rules! eprintln {
    () => { $crate::output::err(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::err(format_args!("{}\n", format_args!($($text)*))) };
}
