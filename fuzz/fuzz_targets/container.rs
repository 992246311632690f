//! Any bytes, as they are and with a checksum that fits, are refused with a typed error, or decode to a code that survives
//! encoding again.
//!
//! `cargo +nightly fuzz run container`

#![no_main]

use qtl_codec::fuzzing::{container, fix_checksum};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut fixed = bytes.to_vec();
    fix_checksum(&mut fixed);
    for bytes in [bytes, &fixed] {
        if let Err(law) = container(bytes) {
            panic!("{law}");
        }
    }
});
