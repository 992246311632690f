//! Runs a server's actions against a [`Work`].

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use super::server::{Action, Call, Peer, Returned, Server};
use crate::limits::Limits;
use crate::message::{MessageError, Outline, decode_client, outline};
use crate::{Work, WorkError};

/// What is left for the transport.
#[derive(Debug)]
pub enum Output {
    /// Send this to the peer.
    Send {
        /// To whom.
        peer: Peer,
        /// What.
        frame: Bytes,
    },
    /// End the peer's stream.
    Hangup {
        /// Whose.
        peer: Peer,
    },
}

/// Takes one encoded message from a peer, decodes it if the peer may send such a one, lets the work do what it asks for, and returns what to send.
pub fn drive<W: Work>(
    server: &mut Server,
    work: &mut W,
    limits: &Limits,
    peer: Peer,
    bytes: &[u8],
) -> Vec<Output> {
    let message = outline(bytes).and_then(|outline| {
        let may = match outline {
            Outline::Greeting => Ok(()),
            Outline::Request(lane) => server.may(peer, lane),
        };
        match may {
            Ok(()) => decode_client(bytes, limits).map(Ok),
            Err(no) => Ok(Err(no)),
        }
    });
    let actions = match message {
        Ok(Ok(message)) => server.receive(peer, message, fingerprint(bytes)),
        Ok(Err(no)) => server.forbidden(peer, no),
        Err(error) => return refuse(server, peer, &error),
    };
    run(server, work, actions)
}

/// Lets the work do what follows from something that is no message.
pub fn carry_out<W: Work>(
    server: &mut Server,
    work: &mut W,
    what: impl FnOnce(&mut Server) -> Vec<Action>,
) -> Vec<Output> {
    let actions = what(server);
    run(server, work, actions)
}

/// Answers bytes from a peer that were no message.
pub fn refuse(server: &mut Server, peer: Peer, error: &MessageError) -> Vec<Output> {
    let actions = server.garbled(peer, error).into_iter();
    actions
        .filter_map(|action| match action {
            Action::Send { peer, frame } => Some(Output::Send { peer, frame }),
            Action::Hangup { peer } => Some(Output::Hangup { peer }),
            // Nothing is asked of the work for bytes that say nothing.
            Action::End(_) | Action::TurnedAway { .. } | Action::Call(_) => None,
        })
        .collect()
}

fn run<W: Work>(server: &mut Server, work: &mut W, mut actions: Vec<Action>) -> Vec<Output> {
    let mut outputs = Vec::new();
    loop {
        let mut call = None;
        for action in actions {
            match action {
                Action::Send { peer, frame } => outputs.push(Output::Send { peer, frame }),
                Action::Hangup { peer } => outputs.push(Output::Hangup { peer }),
                Action::End(lane) => work.end(lane),
                Action::TurnedAway { key, refusal, here } => work.turned_away(key, &refusal, &here),
                Action::Call(asked) => call = Some(asked),
            }
        }
        match call {
            Some(call) => actions = server.returned(ask(work, call)),
            None => return outputs,
        }
    }
}

fn ask<W: Work>(work: &mut W, call: Call) -> Result<Returned, WorkError> {
    match call {
        Call::Access => return Ok(Returned::Access(work.access())),
        Call::Stand(place) => {
            let standing = work.standing();
            let states = standing.saved.iter().copied().chain(standing.live);
            let held = states
                .filter_map(|at| Some((at, work.held(place?, at))))
                .collect();
            return Ok(Returned::Stand(work.terms(), standing, held));
        }
        Call::Together(requests) => return Ok(Returned::Together(work.together(requests))),
        Call::Restore { run, to } => {
            if let Some((run, owner)) = run {
                work.begin(&run, owner)?;
            }
            work.restore(to)?;
        }
        Call::Request(lane, request) => return request.ask(work, lane).map(Returned::Answer),
    }
    Ok(Returned::Done)
}

/// Tells a repeated message from another with the same number. Against accidents only: who could forge one may send what it likes.
fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
