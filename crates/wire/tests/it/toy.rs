//! Two toy halves of a model. Each half's state depends on everything the other sent, in order, so a
//! step that is lost, repeated or swapped shows in both final states.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use qtl_wire::*;

pub const RUN: &str = "run-1";

/// What the toy recipe says.
pub fn terms() -> Terms {
    let fields = [
        ("quantizer.bits", "2"),
        ("quantizer.kind", "fsq"),
        ("train.lr", "1e-4"),
    ];
    Terms {
        fields: fields
            .map(|(field, value)| (field.to_owned(), value.to_owned()))
            .into(),
    }
}

pub fn mix(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| {
        (state ^ u64::from(*byte))
            .wrapping_mul(0x100_0000_01b3)
            .rotate_left(17)
    })
}

/// A disk that outlives the server's process.
#[derive(Debug, Default)]
pub struct Disk {
    pub run: String,
    /// Whose the run is.
    pub owner: Option<Key>,
    pub checkpoints: BTreeMap<u64, u64>,
    /// Checkpoints that were set aside.
    pub aside: BTreeMap<u64, u64>,
    pub calibrated: u64,
    /// Checkpoints that are there and turn out not to be whole.
    pub damaged: Vec<u64>,
}

/// What happened to a server, over all its lives.
#[derive(Debug, Default)]
pub struct Log {
    /// Steps applied, cut back by every restore.
    pub applied: Vec<u64>,
    pub steps: u64,
    /// Steps begun, whatever became of them.
    pub begun: u64,
    pub saves: u64,
    pub finishes: u64,
    pub restores: Vec<u64>,
    pub closes: u64,
    /// Greetings that were not followed, as this side is told.
    pub turned_away: Vec<(Key, Refusal, String)>,
}

/// The server's half.
pub struct ToyServer {
    pub disk: Arc<Mutex<Disk>>,
    pub log: Arc<Mutex<Log>>,
    pub terms: Terms,
    pub trains: bool,
    pub generate: Askers,
    pub state: u64,
    pub live: Option<u64>,
    /// The next calls of this many kinds fail.
    pub fail_saves: u32,
    pub fail_steps: u32,
    /// Time one step takes.
    pub pace: std::time::Duration,
    /// Time that sending someone away takes.
    pub bother: std::time::Duration,
    /// State of the open generations.
    pub caches: BTreeMap<Lane, u64>,
    /// So many there may be.
    pub room: usize,
}

impl ToyServer {
    pub fn new(disk: &Arc<Mutex<Disk>>, log: &Arc<Mutex<Log>>) -> ToyServer {
        ToyServer {
            disk: disk.clone(),
            log: log.clone(),
            terms: terms(),
            trains: true,
            generate: Askers::Any,
            state: 0,
            live: None,
            fail_saves: 0,
            fail_steps: 0,
            pace: std::time::Duration::ZERO,
            bother: std::time::Duration::ZERO,
            caches: BTreeMap::new(),
            room: usize::MAX,
        }
    }

    pub fn fresh() -> ToyServer {
        ToyServer::new(&Arc::default(), &Arc::default())
    }
}

impl Work for ToyServer {
    fn terms(&self) -> Terms {
        self.terms.clone()
    }

    fn standing(&self) -> Standing {
        let disk = self.disk.lock().unwrap();
        let saved = disk.checkpoints.keys().copied().collect();
        Standing {
            run: disk.run.clone(),
            saved,
            live: self.live,
        }
    }

    fn access(&self) -> Access {
        Access {
            owner: self.disk.lock().unwrap().owner,
            trains: self.trains,
            generate: self.generate,
            sites: None,
        }
    }

    fn begin(&mut self, run: &str, owner: Key) -> Result<(), WorkError> {
        let mut disk = self.disk.lock().unwrap();
        disk.run = run.to_owned();
        disk.owner = disk.owner.or((owner != Key::LOCAL).then_some(owner));
        Ok(())
    }

    fn turned_away(&mut self, key: Key, refusal: &Refusal, here: &str) {
        std::thread::sleep(self.bother);
        let told = (key, refusal.clone(), here.to_owned());
        self.log.lock().unwrap().turned_away.push(told);
    }

    fn calibrate(&mut self, c: Calibration) -> Result<(), WorkError> {
        assert_eq!(self.live, Some(0), "calibration before step 0 only");
        self.disk.lock().unwrap().calibrated += 1;
        self.state = mix(self.state, &c.image);
        Ok(())
    }

    fn step(&mut self, f: Forward) -> Result<Backward, WorkError> {
        if f.cut.image == b"bad" {
            return Err(WorkError::Invalid(
                "the image container has no planes".to_owned(),
            ));
        }
        if self.fail_steps > 0 {
            self.fail_steps -= 1;
            self.live = None;
            return Err(WorkError::Failed(
                "out of memory; use a smaller batch".to_owned(),
            ));
        }
        assert_ne!(f.cut.image, b"panic", "a panic on purpose");
        self.log.lock().unwrap().begun += 1;
        std::thread::sleep(self.pace);
        let mut log = self.log.lock().unwrap();
        // What the client counts is in the targets.
        let step = u64::from_le_bytes(f.targets[..].try_into().unwrap());
        assert_eq!(
            log.applied.len() as u64,
            step,
            "steps come once and in order"
        );
        assert_eq!(self.live, Some(step));
        log.applied.push(step);
        log.steps += 1;
        self.state = mix(mix(self.state, &f.cut.image), &f.targets);
        self.live = Some(step + 1);
        Ok(Backward {
            loss: (self.state % 1000) as f64 / 100.0,
            image: self.state.to_le_bytes().to_vec(),
            text: vec![7; 3],
            compute_seconds: 0.5,
            coding_seconds: 0.25,
        })
    }

    fn save(&mut self, step: u64) -> Result<(), WorkError> {
        assert_eq!(self.live, Some(step));
        if self.fail_saves > 0 {
            self.fail_saves -= 1;
            return Err(WorkError::Failed(
                "cannot write /srv/runs/step-1/state.json: the disk is full; free some space"
                    .to_owned(),
            ));
        }
        self.log.lock().unwrap().saves += 1;
        let mut disk = self.disk.lock().unwrap();
        disk.checkpoints.insert(step, self.state);
        disk.aside.retain(|aside, _| *aside > step);
        Ok(())
    }

    fn restore(&mut self, step: u64) -> Result<(), WorkError> {
        let mut disk = self.disk.lock().unwrap();
        if disk.damaged.contains(&step) {
            return Err(WorkError::Damaged(format!("/srv/step-{step} is damaged")));
        }
        self.state = match step {
            0 => 0,
            step => disk.checkpoints[&step],
        };
        let later = disk.checkpoints.split_off(&(step + 1));
        disk.aside.extend(later);
        self.live = Some(step);
        let mut log = self.log.lock().unwrap();
        log.applied.truncate(step as usize);
        log.restores.push(step);
        Ok(())
    }

    fn open(&mut self, lane: Lane, p: Cut) -> Result<Tokens, WorkError> {
        if self.caches.len() >= self.room {
            return Err(WorkError::Busy("all caches are taken".to_owned()));
        }
        self.caches.insert(lane, mix(self.state, &p.image));
        Ok(Tokens {
            ids: vec![1; p.layout.sequences.len()],
        })
    }

    fn next(&mut self, lane: Lane, r: Next) -> Result<Tokens, WorkError> {
        let cache = self.caches.get_mut(&lane).expect("a cache is open");
        *cache = mix(*cache, &r.text);
        Ok(Tokens {
            ids: vec![(*cache % 1000) as u32],
        })
    }

    fn end(&mut self, lane: Lane) {
        self.caches.remove(&lane).expect("an open lane ends");
        self.log.lock().unwrap().closes += 1;
    }

    fn finish(&mut self, step: u64) -> Result<(), WorkError> {
        assert_eq!(self.live, Some(step));
        self.log.lock().unwrap().finishes += 1;
        Ok(())
    }
}

/// The client's half, with its own disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToyClient {
    pub state: u64,
    pub checkpoints: BTreeMap<u64, u64>,
}

impl ToyClient {
    pub fn standing(&self) -> Standing {
        Standing {
            run: RUN.to_owned(),
            saved: self.checkpoints.keys().copied().collect(),
            live: None,
        }
    }

    pub fn forward(&self, step: u64) -> Forward {
        Forward {
            cut: Cut {
                image: self.state.to_le_bytes().to_vec(),
                text: vec![1, 2],
                text_index: vec![3; 3],
                layout: layout(),
                packed: false,
            },
            targets: step.to_le_bytes().to_vec(),
            step: None,
        }
    }

    pub fn apply(&mut self, backward: &Backward) {
        self.state = mix(self.state, &backward.image);
    }

    pub fn restore(&mut self, step: u64) {
        self.state = match step {
            0 => 0,
            step => self.checkpoints[&step],
        };
        self.checkpoints.retain(|saved, _| *saved <= step);
    }

    pub fn calibration(&self) -> Calibration {
        Calibration {
            image: vec![9; 4],
            text: Vec::new(),
        }
    }

    /// A whole run: `steps` steps, a checkpoint every `every`, from wherever both stand.
    pub fn train(
        &mut self,
        exchange: &mut dyn Exchange,
        steps: u64,
        every: u64,
    ) -> Result<(), WireError> {
        let resume = exchange.greet(&terms(), &self.standing(), Purpose::Train)?;
        self.go_on(exchange, resume.at, steps, every)
    }

    /// The part of a run after the greeting.
    pub fn go_on(
        &mut self,
        exchange: &mut dyn Exchange,
        from: u64,
        steps: u64,
        every: u64,
    ) -> Result<(), WireError> {
        let mut at = from;
        let mut back = Some(from);
        loop {
            if let Some(to) = back.take() {
                self.restore(to);
                at = to;
                if at == 0 {
                    back = rewound(exchange.calibrate(self.calibration())?);
                    continue;
                }
            }
            if at == steps {
                match exchange.finish(steps)? {
                    Reply::Done(()) => return Ok(()),
                    Reply::Rewind { to } => back = Some(to),
                    Reply::Moved { .. } => panic!("there is one site"),
                }
                continue;
            }
            match exchange.step(self.forward(at))? {
                Reply::Done(backward) => self.apply(&backward),
                Reply::Rewind { to } => {
                    back = Some(to);
                    continue;
                }
                Reply::Moved { .. } => panic!("there is one site"),
            }
            at += 1;
            if at.is_multiple_of(every) {
                self.checkpoints.insert(at, self.state);
                back = rewound(exchange.save(at)?);
            }
        }
    }
}

pub fn rewound<T>(reply: Reply<T>) -> Option<u64> {
    match reply {
        Reply::Done(_) => None,
        Reply::Rewind { to } => Some(to),
        Reply::Moved { .. } => panic!("there is one site"),
    }
}

/// Two sequences; the second has two independent turns.
pub fn layout() -> Layout {
    let span = |kind, len, branch| Span { kind, len, branch };
    Layout {
        sequences: vec![
            Sequence {
                spans: vec![span(SpanKind::Image, 4, 0), span(SpanKind::Text, 5, 0)],
            },
            Sequence {
                spans: vec![
                    span(SpanKind::Image, 4, 0),
                    span(SpanKind::Text, 6, 1),
                    span(SpanKind::Text, 300, 2),
                ],
            },
        ],
    }
}

/// Both final states of a run in which nothing went wrong.
pub fn undisturbed(steps: u64) -> (u64, u64) {
    let mut client = ToyClient::default();
    let mut server = ToyServer::fresh();
    server.restore(0).unwrap();
    server.calibrate(client.calibration()).unwrap();
    for step in 0..steps {
        let backward = server.step(client.forward(step)).unwrap();
        client.apply(&backward);
    }
    (client.state, server.state)
}
