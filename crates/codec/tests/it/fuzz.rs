//! A few thousand inputs of the bounded fuzzer, at every test run.

use crate::inputs::Inputs;
use qtl_codec::fuzzing::{Verdict, container};

#[test]
fn any_bytes_are_refused_or_survive_a_round_trip() {
    let mut inputs = Inputs::new(1);
    let mut accepted = 0;
    for index in 0..4000 {
        let bytes = inputs.next();
        match container(&bytes) {
            Ok(Verdict::Accepted) => accepted += 1,
            Ok(Verdict::Refused(_)) => {}
            Err(law) => panic!("input {index}: {law}\n{bytes:02x?}"),
        }
    }
    // Both sides of the law are exercised.
    assert!(
        (100..3900).contains(&accepted),
        "{accepted} of 4000 accepted"
    );
}
