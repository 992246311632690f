//! Any bytes, as a session of messages to the server of a tiny model: every message gets one answer within five seconds, and a
//! legal session is answered as it was at first.
//!
//! `cargo +nightly fuzz run sessions -- -max_len=65536 -rss_limit_mb=1024`, from a corpus of
//! `cargo run --example fuzz_sessions -- --corpus fuzz/corpus/sessions`

#![no_main]

use std::sync::{LazyLock, Mutex};

use qtl_train::fuzzing::{Desk, KINDS, split};

static DESKS: LazyLock<Mutex<Vec<Desk>>> = LazyLock::new(|| {
    let dir = tempfile::tempdir()
        .expect("a folder for checkpoints")
        .keep();
    let open = |kind: usize| {
        Desk::open(kind, &dir.join(kind.to_string())).expect("a server of a tiny model")
    };
    Mutex::new((0..KINDS).map(open).collect())
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (kind, frames) = split(bytes);
    let mut desks = DESKS.lock().expect("a panic ends the fuzzer");
    let desk = &mut desks[kind];
    if let Err(law) = desk.session(&frames).and_then(|_| desk.check()) {
        panic!("{law}");
    }
});
