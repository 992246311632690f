//! Whole sessions of a client that may say anything, against the server of a tiny model: what must hold for any bytes at
//! all. Shared by the fuzz target, the bounded driver and the tests.

mod tiny;

use std::path::Path;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use qtl_model::Device;
use qtl_wire::limits::Limits;
use qtl_wire::message::{
    ClientMessage, Greeting, On, PROTOCOL_VERSION, ServerMessage, decode_server, encode_client,
};
use qtl_wire::session::drive::{Output, drive};
use qtl_wire::session::server::{Peer, Server};
use qtl_wire::verb::{
    Answer, BackwardHidden, ForwardHidden, MeasureHidden, NextHidden, Open, OpenHidden, Place,
    Request,
};
use qtl_wire::{Calibration, Cut, Forward, Key, Next, Purpose, Terms, Work};

use crate::server::ServerWork;

pub use tiny::KINDS;

/// The run of all sessions.
pub const RUN: &str = "run";

/// No message takes longer, by the clock and in computing: a machine that is busy elsewhere is no fault of the server.
const LONGEST: Duration = Duration::from_secs(5);

/// What a client that keeps to its recipe sends.
#[derive(Debug, Clone, Default)]
pub struct Legal {
    /// What both sides agree on.
    pub terms: Terms,
    /// What was measured.
    pub calibration: Calibration,
    /// Two steps. The first is the largest that the recipe allows.
    pub steps: Vec<Forward>,
    /// Where the labels are the client's: for each of them the container of what is supervised, and that of the gradient with
    /// which it comes back.
    pub second: Vec<[Vec<u8>; 2]>,
    /// Two prompts.
    pub prompt: Cut,
    /// The next row of both.
    pub next: Next,
}

impl Legal {
    /// What is said before the first step.
    pub fn measured(&self) -> Vec<Request> {
        let mut said = vec![Request::from(self.calibration.clone())];
        said.extend(self.second.iter().enumerate().map(|(number, [wanted, _])| {
            let measure = MeasureHidden {
                cut: self.steps[number].cut.clone(),
                wanted: wanted.clone(),
                last: number + 1 == self.second.len(),
                batch: None,
            };
            Request::from(measure)
        }));
        said
    }

    /// A step in one trip, or in two.
    pub fn step(&self, number: usize) -> Vec<Request> {
        let forward = self.steps[number].clone();
        let Some([wanted, gradient]) = self.second.get(number).cloned() else {
            return vec![forward.into()];
        };
        let up = ForwardHidden {
            cut: forward.cut,
            wanted,
            step: None,
        };
        let back = BackwardHidden { hidden: gradient };
        vec![up.into(), back.into()]
    }

    /// The prompts open a generation.
    pub fn open(&self) -> Request {
        let prompt = self.prompt.clone();
        match self.second.is_empty() {
            true => Open(prompt).into(),
            false => OpenHidden(prompt).into(),
        }
    }

    /// It goes on.
    pub fn next(&self) -> Request {
        let next = self.next.clone();
        match self.second.is_empty() {
            true => next.into(),
            false => NextHidden(next).into(),
        }
    }
}

/// A server of one of the tiny models.
pub struct Desk {
    server: Server,
    work: ServerWork,
    limits: Limits,
    stream: u64,
    instance: u64,
    legal: Legal,
    /// What the legal session was answered at first.
    first: Vec<ServerMessage>,
}

impl Desk {
    /// The server of the tiny model number `kind`, its checkpoints in `dir`.
    ///
    /// # Errors
    ///
    /// A sentence, if it cannot be built.
    pub fn open(kind: usize, dir: &Path) -> Result<Self, String> {
        let (work, legal) = Self::served(kind, dir)?;
        let limits = work.limits(Limits::default());
        let mut desk = Self {
            server: Server::new(limits),
            legal,
            work,
            limits,
            stream: 0,
            instance: 1 << 32,
            first: Vec::new(),
        };
        desk.first = desk.honest()?;
        let applied = |message: &&ServerMessage| {
            matches!(
                message,
                ServerMessage::Answer(_, Answer::Backward(_) | Answer::CutGradients(_))
            )
        };
        match desk.first.iter().filter(applied).count() {
            2 => Ok(desk),
            _ => Err(format!("the legal session was refused: {:?}", desk.first)),
        }
    }

    /// The work of such a server, for another transport, and what is legal there.
    ///
    /// # Errors
    ///
    /// A sentence, if it cannot be built.
    pub fn served(kind: usize, dir: &Path) -> Result<(ServerWork, Legal), String> {
        let (recipe, blueprint) = tiny::model(kind)?;
        let legal = tiny::legal(&recipe, &blueprint)?;
        let work = ServerWork::open(recipe, &blueprint, Some(dir), Device::flex());
        let work = work.map_err(|error| error.to_string())?;
        let terms = work.terms();
        Ok((work, Legal { terms, ..legal }))
    }

    /// What is legal here.
    pub fn legal(&self) -> &Legal {
        &self.legal
    }

    /// The answers to one session: messages as bytes, on one stream until the server hangs up, then on the next.
    ///
    /// # Errors
    ///
    /// A sentence on the law that was broken.
    pub fn session(&mut self, frames: &[impl AsRef<[u8]>]) -> Result<Vec<ServerMessage>, String> {
        self.stream += 1;
        let mut answers = Vec::with_capacity(frames.len());
        for (number, bytes) in frames.iter().enumerate() {
            let answer = self.say(bytes.as_ref());
            answers.push(answer.map_err(|law| format!("message {number}: {law}"))?);
        }
        self.server.gone(self.peer());
        Ok(answers)
    }

    /// The legal session from the beginning of the run: it is answered as it was the first time, bit for bit, whatever was
    /// said in between.
    ///
    /// # Errors
    ///
    /// A sentence on the law that was broken.
    pub fn check(&mut self) -> Result<(), String> {
        match self.honest()? {
            again if again == self.first => Ok(()),
            again => Err(format!(
                "a legal session was answered {again:?}, and {:?} at first",
                self.first
            )),
        }
    }

    fn honest(&mut self) -> Result<Vec<ServerMessage>, String> {
        self.instance += 1;
        self.stream += 1;
        let legal = &self.legal;
        let steps = (0..legal.steps.len()).flat_map(|number| legal.step(number));
        let mut requests = legal.measured();
        requests.extend(steps);
        requests.extend([legal.open(), legal.next()]);
        let hello = greeting(&self.legal.terms, self.instance);
        let messages = [vec![ClientMessage::Greeting(hello)], asked(requests)].concat();
        let answers = messages.into_iter().map(|message| {
            let frame = encode_client(message, &Limits::default());
            let answer = self.say(&frame.map_err(|error| error.to_string())?.bytes)?;
            Ok(match answer {
                ServerMessage::Answer(on, answer) => ServerMessage::Answer(on, untimed(answer)),
                answer => answer,
            })
        });
        let answers = answers.collect();
        self.server.gone(self.peer());
        answers
    }

    fn peer(&self) -> Peer {
        Peer {
            stream: self.stream,
            key: Key::LOCAL,
        }
    }

    /// Says something on the current stream; the one answer.
    fn say(&mut self, bytes: &[u8]) -> Result<ServerMessage, String> {
        let (start, computed) = (Instant::now(), ProcessTime::now());
        let own = self.peer();
        let outputs = drive(&mut self.server, &mut self.work, &self.limits, own, bytes);
        let took = start.elapsed().min(computed.elapsed());
        if took > LONGEST {
            return Err(format!("it took {took:.1?}"));
        }
        let mut answers = Vec::new();
        for output in outputs {
            match output {
                Output::Send { peer, frame } if peer == own => answers.push(frame),
                Output::Hangup { peer } if peer == own => self.stream += 1,
                Output::Hangup { .. } => {}
                Output::Send { peer, .. } => {
                    let (to, own) = (peer.stream, own.stream);
                    return Err(format!("an answer to stream {to} instead of {own}"));
                }
            }
        }
        let [answer] = answers.as_slice() else {
            return Err(format!("{} answers instead of one", answers.len()));
        };
        decode_server(answer, &Limits::default())
            .map_err(|error| format!("an answer that is no message: {error}"))
    }
}

/// An answer without how long it took.
fn untimed(mut answer: Answer) -> Answer {
    let seconds = match &mut answer {
        Answer::Backward(a) => [&mut a.compute_seconds, &mut a.coding_seconds],
        Answer::HiddenStates(a) => [&mut a.compute_seconds, &mut a.coding_seconds],
        Answer::CutGradients(a) => [&mut a.compute_seconds, &mut a.coding_seconds],
        _ => return answer,
    };
    seconds.into_iter().for_each(|seconds| *seconds = 0.0);
    answer
}

/// The greeting of a fresh client.
pub fn greeting(terms: &Terms, instance: u64) -> Greeting {
    Greeting {
        protocol: PROTOCOL_VERSION,
        instance,
        attempt: 1,
        purpose: Purpose::Train,
        run: RUN.to_owned(),
        saved: Vec::new(),
        answered: None,
        terms: terms.clone(),
    }
}

/// Requests as a client sends them one after the other behind its greeting: each with its lane and number.
pub fn asked(requests: Vec<Request>) -> Vec<ClientMessage> {
    let (mut training, mut generation) = (0, On::default());
    let number = |request: Request| {
        let on = match request.place() {
            Place::Training => {
                training += 1;
                On {
                    lane: On::TRAINING,
                    sequence: training - 1,
                }
            }
            Place::Opens => {
                generation = On {
                    lane: generation.lane + 1,
                    sequence: 0,
                };
                generation
            }
            Place::GoesOn => {
                generation.sequence += 1;
                generation
            }
        };
        ClientMessage::Request(on, request)
    };
    requests.into_iter().map(number).collect()
}

/// A session out of plain bytes, as a fuzzer makes them: the model's number, then each message after its length in two
/// bytes.
pub fn split(bytes: &[u8]) -> (usize, Vec<&[u8]>) {
    let (kind, mut rest) = match bytes.split_first() {
        Some((kind, rest)) => (usize::from(*kind) % KINDS, rest),
        None => (0, bytes),
    };
    let mut frames = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (frame, after) = after.split_at(length);
        frames.push(frame);
        rest = after;
    }
    (kind, frames)
}
