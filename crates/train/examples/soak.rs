//! One server and one client with certificates, for long: `soak --steps 5000 --reconnects 500 --sessions 100000`.
//!
//! First so many sessions of a hostile client (valid messages with one field wrong), none of which may take 5 seconds, then
//! a run of so many steps whose connection is cut so many times: every step is to be applied once, and neither memory nor
//! open files may grow. Ends with lines of counts, and with a failure otherwise.

#![allow(clippy::unwrap_used)] // The generator builds valid planes only.

#[path = "../tests/it/hostile.rs"]
mod hostile;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hostile::Hostile;
use qtl_train::fuzzing::{Desk, Legal, RUN};
use qtl_wire::certs::throw_away;
use qtl_wire::verb::Request;
use qtl_wire::{
    ClientOptions, ClientTls, Exchange, GrpcClient, Purpose, Reply, RetryPolicy, ServeOptions,
    ServerTls, ShutdownHandle, Standing, WireError, bind, serve,
};

/// The tiny model that is served.
const KIND: usize = 0;

/// What memory may move by: allocators keep some of what they get.
const SLACK: u64 = 16 << 20;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\nusage: soak [--steps N] [--reconnects N] [--sessions N]");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let [steps, reconnects, sessions] = arguments()?;
    let dir = tempfile::tempdir()?;
    let (work, legal) = Desk::served(KIND, &dir.path().join("run"))?;
    throw_away(dir.path(), &["client"])?;
    let listener = bind("127.0.0.1:0")?;
    let cable = Cable::new(listener.local_addr()?.port())?;
    let tls = ServerTls::from_kit(&dir.path().join("server"))?;
    let shutdown = ShutdownHandle::new();
    let handle = shutdown.clone();
    let server = thread::spawn(move || serve(ServeOptions::new(listener, tls), work, handle));

    let kit = ClientTls::from_kit(&dir.path().join("client"))?;
    let mut options = ClientOptions::new(&format!("127.0.0.1:{}", cable.port), kit);
    options.retry = RetryPolicy {
        first_delay: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    let connect = || GrpcClient::connect(options.clone());
    attack(&mut connect()?, &legal, sessions)?;
    train(&mut connect()?, &legal, &cable, steps, reconnects)?;
    shutdown.shutdown();
    server.join().map_err(|_| "the server panicked")??;
    Ok(())
}

/// Sessions with one thing wrong each.
fn attack(link: &mut GrpcClient, legal: &Legal, sessions: u64) -> Result<(), Failure> {
    let mut hostile = Hostile::new(3, vec![legal.clone()]);
    let (mut refused, mut answered, mut slowest) = (0u64, 0u64, Duration::ZERO);
    let start = Instant::now();
    for session in 0..sessions {
        let began = Instant::now();
        greet(link, legal)?;
        let outcome = match hostile.request(KIND) {
            Request::Next(rows) => {
                link.open(legal.prompt.clone())?;
                link.next(rows).map(drop)
            }
            request => link.ask(request).map(drop),
        };
        match outcome {
            Ok(()) => answered += 1,
            Err(WireError::Refused(_) | WireError::GenerationLost | WireError::Message(_)) => {
                refused += 1;
            }
            Err(other) => return Err(format!("session {session}: {other}").into()),
        }
        let took = began.elapsed();
        if took > Duration::from_secs(5) {
            return Err(format!("session {session} took {took:.1?}").into());
        }
        slowest = slowest.max(took);
    }
    println!(
        "{sessions} hostile sessions in {:.0} s: {answered} answered, {refused} refused, slowest {:.0} ms; {}",
        start.elapsed().as_secs_f64(),
        slowest.as_secs_f64() * 1e3,
        Held::now()?,
    );
    Ok(())
}

/// A run through a cable that is cut now and then.
fn train(
    link: &mut GrpcClient,
    legal: &Legal,
    cable: &Cable,
    steps: u64,
    reconnects: u64,
) -> Result<(), Failure> {
    greet(link, legal)?;
    let every = (steps / reconnects.max(1)).max(1);
    let (start, mut cuts, mut early) = (Instant::now(), 0, None);
    for step in 0..steps {
        match link.step(legal.steps[(step % 2) as usize].clone())? {
            Reply::Done(_) => {}
            other => return Err(format!("step {step} was answered {other:?}").into()),
        }
        if step % every == every - 1 && cuts < reconnects {
            cable.cut();
            cuts += 1;
        }
        if step == steps / 5 {
            early = Some(Held::now()?);
        }
    }
    let late = Held::now()?;
    let connections = link.meter().connections;
    println!(
        "{steps} steps and {cuts} cut connections ({connections} made) in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    let Some(early) = early else { return Ok(()) };
    println!("after a fifth: {early}; at the end: {late}");
    if late.memory > early.memory + SLACK || late.files > early.files + 4 {
        return Err("it grows".into());
    }
    Ok(())
}

fn greet(link: &mut GrpcClient, legal: &Legal) -> Result<(), WireError> {
    let standing = Standing {
        run: RUN.to_owned(),
        ..Standing::default()
    };
    link.greet(&legal.terms, &standing, Purpose::Train)
        .map(drop)
}

/// What this process holds.
struct Held {
    memory: u64,
    files: usize,
}

impl Held {
    fn now() -> Result<Self, Failure> {
        // Threads that pump a cut cable end a moment later.
        thread::sleep(Duration::from_millis(200));
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(Self {
            memory: kib.ok_or("no VmRSS")?.parse::<u64>()? << 10,
            files: std::fs::read_dir("/proc/self/fd")?.count(),
        })
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = self.memory as f64 / f64::from(1 << 20);
        write!(f, "{mib:.1} MiB, {} open files", self.files)
    }
}

/// Forwards connections until they are cut.
struct Cable {
    port: u16,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    fn new(to: u16) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let ends: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let kept = Arc::clone(&ends);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                // There is one client: what it had before is over.
                let mut ends = kept.lock().unwrap();
                ends.clear();
                for end in [&near, &far] {
                    let _ = end.set_nodelay(true);
                    ends.extend(end.try_clone());
                }
                drop(ends);
                let clones = (near.try_clone().unwrap(), far.try_clone().unwrap());
                thread::spawn(move || pump(clones.0, clones.1));
                thread::spawn(move || pump(far, near));
            }
        });
        Ok(Self { port, ends })
    }

    fn cut(&self) {
        for end in self.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 1 << 14];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn arguments() -> Result<[u64; 3], Failure> {
    let names = ["--steps", "--reconnects", "--sessions"];
    let mut values = [200, 20, 500];
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let at = names.iter().position(|known| **known == *name);
        let at = at.ok_or_else(|| format!("unknown argument {name}"))?;
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} needs a value"))?;
        values[at] = value
            .parse()
            .map_err(|error| format!("{name} {value}: {error}"))?;
    }
    Ok(values)
}
