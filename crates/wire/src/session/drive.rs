//! Runs a server's actions against a [`Work`].

use super::server::{Action, Call, Peer, Returned, Server};
use crate::limits::Limits;
use crate::message::{Frame, MessageError, decode_client, kind_of_client};
use crate::{Work, WorkError};

/// What is left for the transport.
#[derive(Debug)]
pub enum Output {
    /// Send this to the peer.
    Send {
        /// To whom.
        peer: Peer,
        /// What.
        frame: Frame,
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
    let message = kind_of_client(bytes).and_then(|kind| match server.may(peer, kind) {
        Ok(()) => decode_client(bytes, limits).map(Ok),
        Err(no) => Ok(Err(no)),
    });
    let actions = match message {
        Ok(Ok(message)) => server.receive(peer, message),
        Ok(Err(no)) => server.forbidden(peer, no),
        Err(error) => return refuse(server, peer, &error),
    };
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
            Action::DropCache | Action::TurnedAway { .. } | Action::Call(_) => None,
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
                Action::DropCache => work.close(),
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
        Call::Stand => return Ok(Returned::Stand(work.terms(), work.standing())),
        Call::Restore { run, to } => {
            if let Some((run, owner)) = run {
                work.begin(&run, owner)?;
            }
            work.restore(to)?;
        }
        Call::Calibrate(calibration) => work.calibrate(calibration)?,
        Call::Step(forward) => return work.step(forward).map(Returned::Backward),
        Call::Save(step) => work.save(step)?,
        Call::Finish(step) => work.finish(step)?,
        Call::Open(prompt) => return work.open(prompt).map(Returned::Tokens),
        Call::Next(rows) => return work.next(rows).map(Returned::Tokens),
    }
    Ok(Returned::Done)
}
