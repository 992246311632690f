//! Sessions of a hostile client: valid messages with a field or a byte wrong, a deterministic sequence per seed. Also used
//! by the example `fuzz_sessions`.

#![allow(dead_code)] // Each user takes a part of it.

use qtl_codec::fuzzing::{fix_checksum, fix_message};
use qtl_codec::{Code, Options, Plane, ScalarData, Scalars, Symbols};
use qtl_model::weights::Stream;
use qtl_train::fuzzing::{KINDS, Legal, RUN, asked, greeting};
use qtl_wire::limits::Limits;
use qtl_wire::message::{ClientMessage, On, encode_client};
use qtl_wire::verb::{
    Finish, ForwardHidden, MeasureHidden, NextHidden, Open, OpenHidden, Request, Save,
};
use qtl_wire::{Cut, Layout, Purpose, Sequence, Span, SpanKind};

/// An endless supply of sessions against the tiny models.
pub struct Hostile {
    dice: Stream,
    legal: Vec<Legal>,
    instance: u64,
}

/// The number of a tiny model, and the messages to it.
pub type Session = (usize, Vec<Vec<u8>>);

/// A sender that minds nothing.
const SENDER: Limits = Limits {
    message_bytes: 1 << 30,
    small_message_bytes: 1 << 30,
    container_bytes: 1 << 30,
    sequences: 1 << 20,
    spans: 1 << 22,
    rows: u64::MAX,
    terms: 1 << 20,
    term_bytes: 1 << 20,
    saved: 1 << 20,
};

impl Hostile {
    /// The sequence of a seed; `legal` as the models' own clients have it.
    pub fn new(seed: u64, legal: Vec<Legal>) -> Self {
        Self {
            dice: Stream::new(seed, "hostile"),
            legal,
            instance: 0,
        }
    }

    /// The next session.
    pub fn next(&mut self) -> Session {
        let kind = self.roll(KINDS);
        let legal = self.legal[kind].clone();
        let mut messages = self.plan(&legal);
        // Mostly one message has one thing wrong, behind legal ones.
        for _ in 0..[0, 1, 1, 1, 1, 1, 2, 3][self.roll(8)] {
            let at = self.roll(messages.len());
            self.spoil(&mut messages[at], &legal);
        }
        // Another run's checkpoint would lock the legal client out, as it should.
        if other_run(&messages) {
            messages.retain(|message| {
                let ends =
                    |request: &Request| matches!(request, Request::Save(_) | Request::Finish(_));
                !matches!(message, ClientMessage::Request(_, request) if ends(request))
            });
        }
        let mut frames: Vec<Vec<u8>> = messages.into_iter().filter_map(encode).collect();
        if self.one_in(6) && !frames.is_empty() {
            let at = self.roll(frames.len());
            match self.roll(4) {
                0 => frames[at] = self.bytes(40),
                1 => frames.insert(at, self.bytes(12)),
                _ => self.garble(&mut frames[at]),
            }
        }
        (kind, frames)
    }

    /// A request of a legal session on model `kind` with one thing wrong.
    pub fn request(&mut self, kind: usize) -> Request {
        let legal = self.legal[kind].clone();
        let mut request = match self.roll(6) {
            0..3 => {
                let mut trips = legal.step(self.roll(2));
                trips.swap_remove(self.roll(trips.len()))
            }
            3 => legal.calibration.clone().into(),
            4 => legal.open(),
            _ => legal.next(),
        };
        self.spoil_request(&mut request, &legal);
        request
    }

    /// A legal session, or a part of one, or its messages in another order.
    fn plan(&mut self, legal: &Legal) -> Vec<ClientMessage> {
        self.instance += 1;
        let mut hello = greeting(&legal.terms, self.instance);
        if self.one_in(5) {
            hello.purpose = Purpose::Generate;
        }
        let (open, next) = (|| legal.open(), || legal.next());
        let (mut requests, mut ends) = (Vec::new(), false);
        match self.roll(8) {
            0..2 => {
                requests.extend([open(), next(), next()]);
                ends = true;
            }
            2 => {
                requests.extend(legal.step(0));
                requests.extend([open(), next()]);
                requests.extend(legal.step(1));
            }
            3 => requests.extend(legal.measured()),
            4 => {
                requests.extend(legal.measured());
                requests.extend(legal.step(0));
                requests.extend(legal.step(1));
            }
            // The first half of a step is one too many where there are two.
            5 => requests.extend(legal.step(self.roll(2)).into_iter().take(1)),
            _ => requests.extend(legal.step(self.roll(2))),
        }
        // A checkpoint is a write to the disk.
        if self.one_in(400) {
            requests.push(match self.roll(2) {
                0 => Save { at: 2 }.into(),
                _ => Finish { at: 2 }.into(),
            });
        }
        let mut messages = vec![ClientMessage::Greeting(hello)];
        messages.extend(asked(requests));
        if ends {
            messages.push(ClientMessage::End(On {
                lane: 1,
                sequence: 3,
            }));
        }
        if self.one_in(16) {
            let (from, to) = (self.roll(messages.len()), self.roll(messages.len()));
            messages.swap(from, to);
        }
        if self.one_in(16) {
            let again = messages[self.roll(messages.len())].clone();
            messages.push(again);
        }
        messages
    }

    fn spoil(&mut self, message: &mut ClientMessage, legal: &Legal) {
        match message {
            ClientMessage::Greeting(hello) => match self.roll(10) {
                0 => hello.protocol = self.number(),
                1 => hello.attempt = self.number(),
                2 => hello.instance = self.roll(3) as u64,
                3 => hello.answered = Some(self.roll(4) as u64),
                4 => hello.saved = (0..self.roll(5)).map(|n| n as u64).collect(),
                5 => hello.run = "other".to_owned(),
                6 => hello.run = String::new(),
                7 => hello.terms.fields.clear(),
                8 => {
                    hello.terms.fields.insert("train.batch".into(), "2".into());
                }
                _ => hello.purpose = Purpose::Generate,
            },
            ClientMessage::End(on) => self.elsewhere(on),
            ClientMessage::Request(on, _) if self.one_in(7) => self.elsewhere(on),
            ClientMessage::Request(_, request) => self.spoil_request(request, legal),
        }
    }

    fn elsewhere(&mut self, on: &mut On) {
        match self.one_in(2) {
            true => on.lane = self.number(),
            false => on.sequence = self.number().into(),
        }
    }

    fn spoil_request(&mut self, request: &mut Request, legal: &Legal) {
        match request {
            Request::Calibration(c) => match self.one_in(2) {
                true => self.container(&mut c.image, legal),
                false => self.container(&mut c.text, legal),
            },
            Request::Forward(f) => match self.one_in(9) {
                true => self.container(&mut f.targets, legal),
                false => self.cut(&mut f.cut, legal),
            },
            Request::ForwardHidden(ForwardHidden { cut, wanted, .. })
            | Request::MeasureHidden(MeasureHidden { cut, wanted, .. }) => match self.one_in(4) {
                true => self.container(wanted, legal),
                false => self.cut(cut, legal),
            },
            Request::BackwardHidden(f) => self.container(&mut f.hidden, legal),
            Request::Pool(pool) => match self.one_in(2) {
                true => self.container(&mut pool.image, legal),
                false => self.container(&mut pool.text, legal),
            },
            Request::Average(average) => self.container(&mut average.weights, legal),
            Request::Open(Open(prompts)) | Request::OpenHidden(OpenHidden(prompts)) => {
                self.cut(prompts, legal)
            }
            Request::Next(rows) | Request::NextHidden(NextHidden(rows)) => match self.roll(4) {
                0..2 => self.container(&mut rows.text, legal),
                2 => rows.keep.clear(),
                _ => rows.keep = vec![self.number()],
            },
            Request::Save(Save { at }) | Request::Finish(Finish { at }) => {
                *at = self.number().into();
            }
        }
    }

    fn cut(&mut self, cut: &mut Cut, legal: &Legal) {
        if qtl_codec::past::is_message(&cut.text) && self.one_in(2) {
            match self.one_in(2) {
                true => self.garble(&mut cut.text),
                false => self.garble(&mut cut.text_index),
            }
            fix_message(&mut cut.text, &cut.text_index);
            return;
        }
        match self.roll(7) {
            0..2 => self.container(&mut cut.image, legal),
            2..4 => self.container(&mut cut.text, legal),
            4 => self.container(&mut cut.text_index, legal),
            _ => self.layout(&mut cut.layout),
        }
    }

    fn layout(&mut self, layout: &mut Layout) {
        let text = |len| Span {
            kind: SpanKind::Text,
            len,
            branch: 0,
        };
        let sequences = layout.sequences.len();
        if sequences == 0 {
            layout.sequences.push(Sequence::default());
            return;
        }
        match self.roll(9) {
            0 => layout.sequences.clear(),
            1 => {
                let [many, len] = [self.roll(400), self.roll(600)];
                layout.sequences = vec![
                    Sequence {
                        spans: vec![text(len as u32)]
                    };
                    many
                ];
            }
            2 => layout.sequences[self.pick(sequences)].spans.clear(),
            3 => layout.sequences.push(Sequence::default()),
            4 => {
                layout.sequences.pop();
            }
            5 => {
                let spans = vec![text(1); 1 + self.roll(64)];
                layout.sequences[self.pick(sequences)].spans = spans;
            }
            other => {
                let sequence = &mut layout.sequences[self.pick(sequences)];
                let at = self.pick(sequence.spans.len());
                let Some(span) = sequence.spans.get_mut(at) else {
                    return;
                };
                match other {
                    6 => span.len = self.number(),
                    7 => span.branch = self.number() & Span::MAX_BRANCH,
                    _ if span.kind == SpanKind::Text => span.kind = SpanKind::Image,
                    _ => span.kind = SpanKind::Text,
                }
            }
        }
    }

    fn container(&mut self, bytes: &mut Vec<u8>, legal: &Legal) {
        let others = [
            &legal.steps[0].cut.text,
            &legal.steps[0].cut.image,
            &legal.steps[1].cut.text,
            &legal.steps[1].targets,
            &legal.steps[0].cut.text_index,
            &legal.calibration.text,
            &legal.next.text,
        ];
        // What is spoiled already may stand for gigabytes.
        let code = qtl_codec::decode(bytes, &qtl_codec::fuzzing::LIMITS);
        match (self.roll(12), code) {
            (0, _) => bytes.clear(),
            (1, _) => bytes.truncate(self.roll(bytes.len() + 1)),
            (2, _) => *bytes = others[self.roll(others.len())].clone(),
            (3, _) => *bytes = self.bomb(),
            (4..6, Ok((mut code, _))) => {
                self.numbers(&mut code);
                *bytes = qtl_codec::encode(&code, &Options::default());
            }
            (6..9, Ok((mut code, _))) => {
                self.shape(&mut code);
                *bytes = qtl_codec::encode(&code, &Options::default());
            }
            _ => {
                self.garble(bytes);
                if !self.one_in(4) {
                    fix_checksum(bytes);
                }
            }
        }
    }

    /// Numbers that are none, or hardly any.
    fn numbers(&mut self, code: &mut Code) {
        let bad = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            3e38,
            -3e38,
            -1.0,
            0.0,
        ][self.roll(7)];
        let scalars = code.planes.iter_mut().filter_map(|plane| match plane {
            Plane::Scalars(plane) => Some(plane),
            _ => None,
        });
        for plane in scalars {
            let count = plane.len();
            let at = self.pick(count);
            match &mut plane.data {
                _ if count == 0 => {}
                ScalarData::F32(data) => data[at] = bad,
                ScalarData::F16(data) => data[at] = half::f16::from_f32(bad),
                ScalarData::U8(data) => data[at] = self.number() as u8,
            }
        }
    }

    /// Another number of planes, or a plane of another shape or kind.
    fn shape(&mut self, code: &mut Code) {
        let at = self.pick(code.planes.len());
        let Some(plane) = code.planes.get(at).cloned() else {
            return;
        };
        let other = match (self.roll(6), plane) {
            (0, _) => {
                code.planes.remove(at);
                return;
            }
            (1, plane) => {
                code.planes.push(plane);
                return;
            }
            (2, _) => self.scalars(),
            (_, Plane::Symbols(plane)) => {
                let mut data: Vec<u32> = plane.data.iter().collect();
                let rows = [0, plane.rows + 1, plane.rows.saturating_sub(1), plane.rows];
                let rows = rows[self.roll(4)];
                let cols = [plane.cols, plane.cols, plane.cols + 1, 1][self.roll(4)];
                data.resize(rows * cols, 0);
                let alphabet = [plane.alphabet, plane.alphabet + 1, 300][self.roll(3)];
                Symbols::from_u32(alphabet, rows, cols, data).map(Plane::from)
            }
            (_, Plane::Scalars(plane)) => {
                let rows = [0, plane.rows + 1, plane.rows.saturating_sub(1), 7][self.roll(4)];
                let data = vec![0.5; rows * plane.cols];
                Scalars::new(rows, plane.cols, ScalarData::F32(data)).map(Plane::from)
            }
            (_, plane) => Ok(plane),
        };
        if let Ok(other) = other {
            code.planes[at] = other;
        }
    }

    fn scalars(&mut self) -> Result<Plane, qtl_codec::code::CodeError> {
        let (rows, cols) = (self.roll(9), self.roll(9));
        let count = rows * cols;
        let data = match self.roll(3) {
            0 => ScalarData::U8(vec![9; count]),
            1 => ScalarData::F16(vec![half::f16::from_bits(0x7c01); count]),
            _ => ScalarData::F32(vec![f32::NAN; count]),
        };
        Scalars::new(rows, cols, data).map(Plane::from)
    }

    /// A few bytes that stand for a great many numbers.
    fn bomb(&mut self) -> Vec<u8> {
        bomb(1 << (10 + self.roll(21)))
    }

    fn garble(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.roll(3) {
            let at = self.pick(bytes.len());
            match self.roll(5) {
                _ if bytes.is_empty() => bytes.push(self.number() as u8),
                0 => bytes[at] ^= 1 << self.roll(8),
                1 => bytes[at] = self.number() as u8,
                2 => bytes.insert(at, self.number() as u8),
                3 => {
                    bytes.remove(at);
                }
                _ => bytes.truncate(at),
            }
        }
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.roll(most))
            .map(|_| self.dice.bits() as u8)
            .collect()
    }

    /// Small, large, or one of those that arithmetic stumbles over.
    fn number(&mut self) -> u32 {
        match self.roll(5) {
            0 => 0,
            1 => u32::MAX - self.roll(3) as u32,
            2 => 1 << self.roll(32),
            3 => self.roll(300) as u32,
            _ => self.roll(4) as u32,
        }
    }

    fn roll(&mut self, sides: usize) -> usize {
        (self.dice.bits() % sides as u64) as usize
    }

    fn pick(&mut self, count: usize) -> usize {
        self.roll(count.max(1))
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }
}

/// A container of so many rows of one symbol.
pub fn bomb(rows: u64) -> Vec<u8> {
    let plane = Symbols::from_u32(4, 100, 8, vec![0; 800]).unwrap();
    let mut bytes = qtl_codec::encode(&Code::new(vec![plane.into()]), &Options::default());
    // Magic, version, planes, kind and alphabet stand before the rows.
    assert_eq!(bytes[8], 100);
    let mut varint = Vec::new();
    let mut left = rows;
    while left >= 0x80 {
        varint.push(left as u8 | 0x80);
        left >>= 7;
    }
    varint.push(left as u8);
    bytes.splice(8..9, varint);
    fix_checksum(&mut bytes);
    bytes
}

fn other_run(messages: &[ClientMessage]) -> bool {
    let other = |message: &ClientMessage| match message {
        ClientMessage::Greeting(hello) => hello.run != RUN,
        _ => false,
    };
    messages.iter().any(other)
}

fn encode(message: ClientMessage) -> Option<Vec<u8>> {
    let frame = encode_client(message, &SENDER).ok()?;
    Some(frame.bytes.to_vec())
}
