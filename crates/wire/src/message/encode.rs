//! Plain types to bytes.

use prost::Message;

use super::guard::bound;
use super::proto::{self, client_message, server_message};
use super::{ClientMessage, Frame, Greeting, MessageError, ServerMessage, layout, validate};
use crate::foreign::{NAME, SENTENCE, printable};
use crate::limits::Limits;
use crate::{Purpose, Reason};

/// Encodes what a client says. Fails if it is beyond the limits, so that a batch too large is an
/// error where it was made and not a refusal from afar.
pub fn encode_client(message: ClientMessage, limits: &Limits) -> Result<Frame, MessageError> {
    use client_message::Kind;
    let (tally, parts) = (message.kind(), message.parts());
    let kind = match message {
        ClientMessage::Greeting(greeting) => Kind::Greeting(to_greeting(greeting, limits)?),
        ClientMessage::Calibration(c) => {
            validate::containers(&[&c.image, &c.text], limits)?;
            Kind::Calibration(proto::Calibration {
                image: c.image,
                text: c.text,
            })
        }
        ClientMessage::Forward(f) => {
            validate::containers(&[&f.image, &f.text, &f.targets, &f.text_index], limits)?;
            layout::check(&f.layout, limits)?;
            Kind::Forward(proto::Forward {
                step: f.step,
                layout: layout::to_proto(&f.layout),
                image: f.image,
                text: f.text,
                targets: f.targets,
                text_index: f.text_index,
            })
        }
        ClientMessage::Save(step) => Kind::Save(proto::Save { step }),
        ClientMessage::Finish(step) => Kind::Finish(proto::Finish { step }),
        ClientMessage::Open { generation, prompt } => {
            validate::containers(&[&prompt.image, &prompt.text, &prompt.text_index], limits)?;
            layout::check(&prompt.layout, limits)?;
            Kind::Open(proto::Open {
                generation,
                layout: layout::to_proto(&prompt.layout),
                image: prompt.image,
                text: prompt.text,
                text_index: prompt.text_index,
            })
        }
        ClientMessage::Next {
            generation,
            index,
            rows,
        } => {
            validate::containers(&[&rows.text], limits)?;
            Kind::Next(proto::Next {
                generation,
                index,
                text: rows.text,
                keep: validate::keep(rows.keep, limits)?,
            })
        }
        ClientMessage::Close { generation } => Kind::Close(proto::Close { generation }),
    };
    let bytes = proto::ClientMessage { kind: Some(kind) }.encode_to_vec();
    bound("the message in bytes", bytes.len(), limits.message_bytes)?;
    Ok(Frame::new(bytes, tally, parts))
}

/// Encodes what a server says.
pub fn encode_server(message: ServerMessage, limits: &Limits) -> Result<Frame, MessageError> {
    use server_message::Kind;
    let (tally, parts) = (message.kind(), message.parts());
    let kind = match message {
        ServerMessage::Welcome { at, live } => Kind::Welcome(proto::Welcome { at, live }),
        ServerMessage::Calibrated => Kind::Calibrated(proto::Calibrated {}),
        ServerMessage::Backward(b) => {
            validate::containers(&[&b.image, &b.text], limits)?;
            Kind::Backward(proto::Backward {
                step: b.step,
                loss: b.loss,
                tokens: b.tokens,
                image: b.image,
                text: b.text,
                compute_seconds: b.compute_seconds,
                coding_seconds: b.coding_seconds,
            })
        }
        ServerMessage::Saved(step) => Kind::Saved(proto::Saved { step }),
        ServerMessage::Finished(step) => Kind::Finished(proto::Finished { step }),
        ServerMessage::Tokens {
            generation,
            index,
            ids,
        } => {
            bound("token ids", ids.len(), limits.sequences)?;
            Kind::Tokens(proto::Tokens {
                generation,
                index,
                ids,
            })
        }
        ServerMessage::Closed { generation } => Kind::Closed(proto::Closed { generation }),
        ServerMessage::Refusal(refusal) => Kind::Refusal(proto::Refusal {
            reason: reason(refusal.reason) as i32,
            sentence: validate::shorten(printable(&refusal.sentence, SENTENCE), limits),
            field: validate::shorten(printable(&refusal.field, NAME), limits),
            sequence: refusal.sequence,
        }),
    };
    let bytes = proto::ServerMessage { kind: Some(kind) }.encode_to_vec();
    bound("the message in bytes", bytes.len(), limits.message_bytes)?;
    Ok(Frame::new(bytes, tally, parts))
}

fn to_greeting(mut greeting: Greeting, limits: &Limits) -> Result<proto::Greeting, MessageError> {
    greeting.standing.saved.sort_unstable();
    greeting.standing.saved.dedup();
    validate::greeting(&greeting, limits)?;
    Ok(proto::Greeting {
        protocol: greeting.protocol,
        instance: greeting.instance,
        attempt: greeting.attempt,
        purpose: match greeting.purpose {
            Purpose::Train => proto::Purpose::Train,
            Purpose::Generate => proto::Purpose::Generate,
        } as i32,
        run: greeting.standing.run,
        saved: greeting.standing.saved,
        live: greeting.standing.live,
        terms: greeting
            .terms
            .fields
            .into_iter()
            .map(|(field, value)| proto::Term { field, value })
            .collect(),
    })
}

fn reason(reason: Reason) -> proto::Reason {
    match reason {
        Reason::Protocol => proto::Reason::Protocol,
        Reason::Terms => proto::Reason::Terms,
        Reason::OtherRun => proto::Reason::OtherRun,
        Reason::Busy => proto::Reason::Busy,
        Reason::Order => proto::Reason::Order,
        Reason::Invalid => proto::Reason::Invalid,
        Reason::Failed => proto::Reason::Failed,
        Reason::Generation => proto::Reason::Generation,
        Reason::Owner => proto::Reason::Owner,
        Reason::Purpose => proto::Reason::Purpose,
        Reason::NotFinite => proto::Reason::NotFinite,
    }
}
