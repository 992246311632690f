//! Feeds generated inputs to the decoder: `fuzz_bounded --inputs 200000 --seed 1`.
//!
//! The same inputs for the same seed. Ends with a line of counts, and with a failure if a law was
//! broken or a panic escaped.

#![allow(clippy::unwrap_used)] // The generator builds valid planes only.

#[path = "../tests/it/inputs.rs"]
mod inputs;
#[path = "../tests/it/planes.rs"]
mod planes;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant;

use qtl_codec::fuzzing::{Verdict, container};

fn main() -> ExitCode {
    let (count, seed) = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}\nusage: fuzz_bounded [--inputs N] [--seed N]");
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    let mut inputs = inputs::Inputs::new(seed);
    let (mut accepted, mut bytes) = (0u64, 0u64);
    for index in 0..count {
        let input = inputs.next();
        bytes += input.len() as u64;
        let broken = match catch_unwind(|| container(&input)) {
            Ok(Ok(Verdict::Accepted)) => {
                accepted += 1;
                continue;
            }
            Ok(Ok(Verdict::Refused(_))) => continue,
            Ok(Err(law)) => law,
            Err(_) => "a panic".to_owned(),
        };
        println!("VIOLATION at input {index} of seed {seed}: {broken}\n{input:02x?}");
        return ExitCode::FAILURE;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{:.0} inputs/s, {:.1} MB/s",
        count as f64 / seconds,
        bytes as f64 / 1e6 / seconds
    );
    println!(
        "ok: {count} inputs of seed {seed}, {accepted} accepted, {} refused, no violation",
        count - accepted
    );
    ExitCode::SUCCESS
}

fn arguments() -> Result<(u64, u64), String> {
    let (mut count, mut seed) = (20_000, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let slot = match name.as_str() {
            "--inputs" => &mut count,
            "--seed" => &mut seed,
            _ => return Err(format!("unknown argument {name}")),
        };
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} needs a number"))?;
        *slot = value
            .parse()
            .map_err(|error| format!("{name} {value}: {error}"))?;
    }
    Ok((count, seed))
}
