//! Any bytes are refused with a typed error, or decode to a code that survives encoding again.
//!
//! `cargo +nightly fuzz run container`

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(law) = qtl_codec::fuzzing::container(bytes) {
        panic!("{law}");
    }
});
