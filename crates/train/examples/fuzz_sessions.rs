//! Plays generated sessions of a hostile client against servers of tiny models:
//! `fuzz_sessions --messages 20000 --seed 1`.
//!
//! With `--corpus DIR` it writes 40 sessions there instead, for the fuzz target `sessions`.
//!
//! The same sessions for the same seed. Every message is to get one answer within 5 seconds, and now and then a legal session
//! is to be answered as it was at first. Memory is held against its bound: what the process has with its servers open,
//! twice what the largest legal steps and prompts take beyond that, and 64 MiB. Ends with lines of counts, and with a
//! failure if a law was broken or a panic escaped.

#![allow(clippy::unwrap_used)] // The generator builds valid planes only.

#[path = "../tests/it/hostile.rs"]
mod hostile;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hostile::{Hostile, Session};
use qtl_train::fuzzing::{Desk, KINDS};
use qtl_wire::message::ServerMessage;

/// What a server may take beyond the largest legal step twice.
const ROOM: u64 = 64 << 20;

/// Sessions between two legal ones.
const CHECKED: u64 = 500;

fn main() -> ExitCode {
    match arguments().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}\nusage: fuzz_sessions [--messages N] [--seed N] [--corpus DIR]");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    messages: u64,
    seed: u64,
    corpus: Option<PathBuf>,
}

fn run(arguments: Arguments) -> Result<(), String> {
    let Arguments {
        messages,
        seed,
        corpus,
    } = arguments;
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let open = |kind: usize| Desk::open(kind, &dir.path().join(kind.to_string()));
    let mut desks: Vec<Desk> = (0..KINDS).map(open).collect::<Result<_, _>>()?;
    // Opening a server plays a legal session: its peak less what stays is what one takes.
    let (idle, peak) = (memory("VmRSS")?, memory("VmHWM")?);
    let legal = peak.saturating_sub(idle);
    let most = idle + 2 * legal + ROOM;

    let legals = desks.iter().map(|desk| desk.legal().clone()).collect();
    let mut hostile = Hostile::new(seed, legals);
    if let Some(corpus) = corpus {
        return write(&mut hostile, &corpus).map_err(|e| format!("{}: {e}", corpus.display()));
    }
    let (mut answered, mut refused, mut sessions) = (0u64, 0u64, 0u64);
    let (start, mut slowest) = (Instant::now(), Duration::ZERO);
    while answered + refused < messages {
        let session = hostile.next();
        let began = Instant::now();
        let became =
            play(&mut desks, &session).map_err(|law| violation(sessions, seed, &session, &law))?;
        slowest = slowest.max(began.elapsed());
        let no = |answer: &&ServerMessage| matches!(answer, ServerMessage::Refusal(_));
        let noes = became.iter().filter(no).count() as u64;
        refused += noes;
        answered += became.len() as u64 - noes;
        sessions += 1;
        if sessions.is_multiple_of(CHECKED) {
            let checked = desks[(sessions / CHECKED) as usize % KINDS].check();
            checked.map_err(|law| format!("VIOLATION after session {sessions}: {law}"))?;
            let held = memory("VmHWM")?;
            if held > most {
                return Err(format!(
                    "VIOLATION after session {sessions} of seed {seed}: {held} bytes held, {most} allowed"
                ));
            }
        }
    }
    for desk in &mut desks {
        desk.check()?;
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{:.0} messages/s, slowest session {:.0} ms",
        (answered + refused) as f64 / start.elapsed().as_secs_f64(),
        slowest.as_secs_f64() * 1e3,
    );
    println!(
        "memory: {:.0} MiB idle, {:.0} MiB more for the largest legal messages, {:.0} MiB at most, {:.0} MiB allowed",
        mib(idle),
        mib(legal),
        mib(memory("VmHWM")?),
        mib(most),
    );
    println!(
        "ok: {sessions} sessions of seed {seed}, {answered} messages answered, {refused} refused, no violation"
    );
    Ok(())
}

fn play(desks: &mut [Desk], (kind, frames): &Session) -> Result<Vec<ServerMessage>, String> {
    let session = || desks[*kind].session(frames);
    catch_unwind(AssertUnwindSafe(session)).unwrap_or_else(|_| Err("a panic".to_owned()))
}

fn violation(number: u64, seed: u64, (kind, frames): &Session, law: &str) -> String {
    format!("VIOLATION in session {number} of seed {seed}, model {kind}: {law}\n{frames:02x?}")
}

/// A line of `/proc/self/status` in bytes; nothing where there is no such file.
fn memory(line: &str) -> Result<u64, String> {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return Ok(0);
    };
    let value = status.lines().find_map(|l| l.strip_prefix(line));
    let kib = value.and_then(|v| v.trim_matches([':', '\t', ' ']).split(' ').next());
    let kib: u64 = kib
        .and_then(|kib| kib.parse().ok())
        .ok_or_else(|| format!("/proc/self/status has no {line}"))?;
    Ok(kib << 10)
}

/// Sessions as the fuzz target reads them.
fn write(hostile: &mut Hostile, corpus: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(corpus)?;
    for number in 0..40 {
        let (kind, frames) = hostile.next();
        let mut bytes = vec![kind as u8];
        for frame in frames.iter().filter(|frame| frame.len() <= 0xffff) {
            bytes.extend((frame.len() as u16).to_le_bytes());
            bytes.extend(frame);
        }
        std::fs::write(corpus.join(format!("{number:02}")), bytes)?;
    }
    Ok(())
}

fn arguments() -> Result<Arguments, String> {
    let mut read = Arguments {
        messages: 20_000,
        seed: 1,
        corpus: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} needs a value"))?;
        let number = || {
            value
                .parse()
                .map_err(|error| format!("{name} {value}: {error}"))
        };
        match name.as_str() {
            "--messages" => read.messages = number()?,
            "--seed" => read.seed = number()?,
            "--corpus" => read.corpus = Some(PathBuf::from(&value)),
            _ => return Err(format!("unknown argument {name}")),
        }
    }
    Ok(read)
}
