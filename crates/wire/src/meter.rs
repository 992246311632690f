//! What was sent and received, counted where it happens: by direction, by kind of message, by part,
//! and at the socket.

use std::ops::{Add, AddAssign, Sub};

/// Counters of one client. All fields only ever grow, so two snapshots can be subtracted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Meter {
    /// Client to server.
    pub up: Direction,
    /// Server to client.
    pub down: Direction,
    /// Bytes written to the socket, under TLS: messages, HTTP/2 and TLS framing, handshakes, keep-alive.
    /// 0 for a link without a socket.
    pub socket_sent: u64,
    /// Bytes read from the socket.
    pub socket_received: u64,
    /// Streams opened; one more than the number of reconnects.
    pub connections: u64,
    /// Seconds the client waited for replies, reconnecting included.
    pub waiting_seconds: f64,
}

/// Messages in one direction, by kind. Messages sent again after a lost connection count again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    /// Greeting up, Welcome down.
    pub greeting: Tally,
    /// Calibration up, its acknowledgement down.
    pub calibration: Tally,
    /// Forward up, Backward down.
    pub step: Tally,
    /// Save and its acknowledgement.
    pub save: Tally,
    /// Finish and its acknowledgement.
    pub finish: Tally,
    /// Open, Next and Close up; Tokens and Closed down.
    pub generate: Tally,
    /// Refusals (down only).
    pub refusal: Tally,
}

/// Messages of one kind. `image + text + index + targets + hidden + framing == bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Number of messages.
    pub messages: u64,
    /// Bytes of the encoded messages.
    pub bytes: u64,
    /// Of these: image containers.
    pub image: u64,
    /// Of these: text containers.
    pub text: u64,
    /// Of these: containers of the text's row numbers.
    pub index: u64,
    /// Of these: target containers.
    pub targets: u64,
    /// Of these: containers of the second edge, where the labels are the client's: hidden states and their ranges, their
    /// gradient, which rows are supervised.
    pub hidden: u64,
    /// Of these: everything else (layout, step numbers, field tags).
    pub framing: u64,
}

/// Bytes of the containers in one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The image container.
    pub image: u64,
    /// The text container.
    pub text: u64,
    /// The container of the text's row numbers.
    pub index: u64,
    /// The container of the targets.
    pub targets: u64,
    /// The container of the second edge.
    pub hidden: u64,
}

/// Which [`Tally`] a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`Direction::greeting`].
    Greeting,
    /// See [`Direction::calibration`].
    Calibration,
    /// See [`Direction::step`].
    Step,
    /// See [`Direction::save`].
    Save,
    /// See [`Direction::finish`].
    Finish,
    /// See [`Direction::generate`].
    Generate,
    /// See [`Direction::refusal`].
    Refusal,
}

impl Meter {
    /// What was added since an earlier snapshot of the same meter.
    pub fn since(&self, earlier: &Meter) -> Meter {
        Meter {
            up: self.up - earlier.up,
            down: self.down - earlier.down,
            socket_sent: self.socket_sent.saturating_sub(earlier.socket_sent),
            socket_received: self.socket_received.saturating_sub(earlier.socket_received),
            connections: self.connections.saturating_sub(earlier.connections),
            waiting_seconds: self.waiting_seconds - earlier.waiting_seconds,
        }
    }
}

impl Add for Meter {
    type Output = Meter;

    fn add(self, other: Meter) -> Meter {
        Meter {
            up: self.up + other.up,
            down: self.down + other.down,
            socket_sent: self.socket_sent + other.socket_sent,
            socket_received: self.socket_received + other.socket_received,
            connections: self.connections + other.connections,
            waiting_seconds: self.waiting_seconds + other.waiting_seconds,
        }
    }
}

impl AddAssign for Meter {
    fn add_assign(&mut self, other: Meter) {
        *self = *self + other;
    }
}

impl Direction {
    /// Sum over all kinds.
    pub fn total(&self) -> Tally {
        let mut direction = *self;
        Kind::ALL.iter().fold(Tally::default(), |sum, kind| {
            sum.zip(*direction.of(*kind), u64::saturating_add)
        })
    }

    /// The tally of one kind.
    pub fn of(&mut self, kind: Kind) -> &mut Tally {
        match kind {
            Kind::Greeting => &mut self.greeting,
            Kind::Calibration => &mut self.calibration,
            Kind::Step => &mut self.step,
            Kind::Save => &mut self.save,
            Kind::Finish => &mut self.finish,
            Kind::Generate => &mut self.generate,
            Kind::Refusal => &mut self.refusal,
        }
    }

    fn zip(mut self, mut other: Direction, with: fn(u64, u64) -> u64) -> Direction {
        for kind in Kind::ALL {
            let tally = self.of(kind);
            *tally = tally.zip(*other.of(kind), with);
        }
        self
    }
}

impl Add for Direction {
    type Output = Direction;

    fn add(self, other: Direction) -> Direction {
        self.zip(other, u64::saturating_add)
    }
}

impl Sub for Direction {
    type Output = Direction;

    fn sub(self, other: Direction) -> Direction {
        self.zip(other, u64::saturating_sub)
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 7] = [
        Kind::Greeting,
        Kind::Calibration,
        Kind::Step,
        Kind::Save,
        Kind::Finish,
        Kind::Generate,
        Kind::Refusal,
    ];
}

impl Tally {
    /// One message of `bytes` bytes, of which `parts` are containers.
    pub fn of(bytes: usize, parts: Parts) -> Tally {
        let bytes = bytes as u64;
        Tally {
            messages: 1,
            bytes,
            image: parts.image,
            text: parts.text,
            index: parts.index,
            targets: parts.targets,
            hidden: parts.hidden,
            framing: bytes.saturating_sub(parts.sum()),
        }
    }

    fn zip(self, other: Tally, with: fn(u64, u64) -> u64) -> Tally {
        Tally {
            messages: with(self.messages, other.messages),
            bytes: with(self.bytes, other.bytes),
            image: with(self.image, other.image),
            text: with(self.text, other.text),
            index: with(self.index, other.index),
            targets: with(self.targets, other.targets),
            hidden: with(self.hidden, other.hidden),
            framing: with(self.framing, other.framing),
        }
    }
}

impl Parts {
    /// The sizes of four containers.
    pub fn of(image: &[u8], text: &[u8], index: &[u8], targets: &[u8]) -> Parts {
        Parts {
            image: image.len() as u64,
            text: text.len() as u64,
            index: index.len() as u64,
            targets: targets.len() as u64,
            hidden: 0,
        }
    }

    /// The same with a container of the second edge.
    #[must_use]
    pub fn and_hidden(self, hidden: &[u8]) -> Parts {
        Parts {
            hidden: hidden.len() as u64,
            ..self
        }
    }

    fn sum(&self) -> u64 {
        self.image + self.text + self.index + self.targets + self.hidden
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        *self = self.zip(other, u64::saturating_add);
    }
}
