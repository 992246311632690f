//! The program as a child process: always bounded in time, always gone when the test is.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Nothing here takes longer, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Lines as they come, for whoever waits for one.
#[derive(Default)]
struct Lines {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Lines {
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) -> std::thread::JoinHandle<()> {
        let this = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { break };
                this.lines.lock().unwrap().push(line);
                this.more.notify_all();
            }
        })
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

/// A running `qtinyllava`.
pub struct Program {
    child: Child,
    out: Arc<Lines>,
    err: Arc<Lines>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

/// How a `qtinyllava` ended.
#[derive(Debug)]
pub struct Ended {
    pub success: bool,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    pub fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::start_in(&[], args)
    }

    /// With these environment variables besides those of the test.
    pub fn start_in<S: AsRef<OsStr>>(
        variables: &[(&str, &OsStr)],
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        Self::spawn(Stdio::null(), variables, args)
    }

    /// With its standard input, which stays open until the caller lets go of it.
    pub fn listening<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> (Self, ChildStdin) {
        let mut program = Self::spawn(Stdio::piped(), &[], args);
        let stdin = program.child.stdin.take().unwrap();
        (program, stdin)
    }

    fn spawn<S: AsRef<OsStr>>(
        stdin: Stdio,
        variables: &[(&str, &OsStr)],
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_qtinyllava"))
            .args(args)
            .envs(variables.iter().copied())
            .env("QTL_LOG", "warn,qtinyllava=debug")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, err) = (Arc::<Lines>::default(), Arc::<Lines>::default());
        let readers = vec![
            out.follow(child.stdout.take().unwrap()),
            err.follow(child.stderr.take().unwrap()),
        ];
        Self {
            child,
            out,
            err,
            readers,
        }
    }

    /// How many lines standard error has so far.
    pub fn mark(&self) -> usize {
        self.err.lines.lock().unwrap().len()
    }

    /// Waits for a line of standard error, beyond the first `mark`, that contains `text`.
    pub fn await_error_line(&mut self, mark: usize, text: &str) {
        self.await_line(&Arc::clone(&self.err), mark, text);
    }

    /// Waits for a line of standard output that contains `text`.
    pub fn await_output_line(&mut self, text: &str) {
        self.await_line(&Arc::clone(&self.out), 0, text);
    }

    /// The address that a server prints once it listens.
    pub fn address(&mut self) -> String {
        let line = self.await_line(&Arc::clone(&self.out), 0, "listening on ");
        line.rsplit(' ').next().unwrap().to_owned()
    }

    fn await_line(&mut self, from: &Lines, mark: usize, text: &str) -> String {
        let start = Instant::now();
        let mut lines = from.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().skip(mark).find(|line| line.contains(text)) {
                return line.clone();
            }
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || start.elapsed() > LIMIT {
                let all = lines.join("\n");
                drop(lines);
                panic!(
                    "no {text:?} (ended: {ended:?}) in:\n{all}\n{}",
                    self.err.text()
                );
            }
            lines = from
                .more
                .wait_timeout(lines, Duration::from_millis(50))
                .unwrap()
                .0;
        }
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        self.signal("-INT");
    }

    /// What a service manager sends.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Ended {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if start.elapsed() > LIMIT => {
                    panic!("still running after {LIMIT:?}:\n{}", self.err.text())
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Ended {
            success: status.success(),
            code: status.code(),
            stdout: self.out.text(),
            stderr: self.err.text(),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs to the end.
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ended {
    Program::start(args).finish()
}

/// Runs to the end with `input` on standard input.
pub fn run_with<S: AsRef<OsStr>>(input: &str, args: impl IntoIterator<Item = S>) -> Ended {
    let (program, mut stdin) = Program::listening(args);
    // A program that refuses its arguments is gone before it reads.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    program.finish()
}

impl Ended {
    /// It must have succeeded.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert!(self.success, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// It must have been stopped so that the same command resumes it, and must say so.
    #[track_caller]
    pub fn stops(self) -> Self {
        assert_eq!(self.code, Some(3), "{}\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("error: "), "{}", self.stderr);
        self
    }

    /// It must have failed with a message that contains all of `words`, and without a panic.
    #[track_caller]
    pub fn fails_naming(self, words: &[&str]) -> Self {
        assert!(
            !self.success,
            "it succeeded; expected an error with {words:?}\n{}\n{}",
            self.stdout, self.stderr
        );
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let error = self
            .stderr
            .split("error: ")
            .nth(1)
            .unwrap_or_else(|| panic!("no error line in:\n{}", self.stderr));
        for word in words {
            assert!(error.contains(word), "no {word:?} in: {error}");
        }
        self
    }
}
