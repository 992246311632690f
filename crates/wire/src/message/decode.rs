//! Bytes to plain types.

use prost::Message;

use super::guard::{self, bound};
use super::proto::{self, client_message, server_message};
use super::{ClientMessage, Greeting, MessageError, ServerMessage, layout, validate};
use crate::foreign::{NAME, SENTENCE, printable};
use crate::limits::Limits;
use crate::meter::Kind as MessageKind;
use crate::{
    Backward, Calibration, Forward, Prompt, Purpose, Reason, Refusal, Rows, Standing, Terms,
};

/// Decodes what a client said.
pub fn decode_client(bytes: &[u8], limits: &Limits) -> Result<ClientMessage, MessageError> {
    use client_message::Kind;
    guard::check(bytes, &guard::CLIENT, limits)?;
    let message = proto::ClientMessage::decode(bytes).map_err(malformed)?;
    Ok(match message.kind.ok_or_else(empty)? {
        Kind::Greeting(greeting) => ClientMessage::Greeting(to_greeting(greeting, limits)?),
        Kind::Calibration(proto::Calibration { image, text }) => {
            ClientMessage::Calibration(Calibration { image, text })
        }
        Kind::Forward(f) => ClientMessage::Forward(Forward {
            step: f.step,
            image: f.image,
            text: f.text,
            targets: f.targets,
            text_index: f.text_index,
            layout: layout::from_proto(f.layout, limits)?,
        }),
        Kind::Save(save) => ClientMessage::Save(save.step),
        Kind::Finish(finish) => ClientMessage::Finish(finish.step),
        Kind::Open(open) => ClientMessage::Open {
            generation: open.generation,
            prompt: Prompt {
                image: open.image,
                text: open.text,
                text_index: open.text_index,
                layout: layout::from_proto(open.layout, limits)?,
            },
        },
        Kind::Next(next) => ClientMessage::Next {
            generation: next.generation,
            index: next.index,
            rows: Rows {
                text: next.text,
                keep: validate::keep(next.keep, limits)?,
            },
        },
        Kind::Close(close) => ClientMessage::Close {
            generation: close.generation,
        },
    })
}

/// What kind of message a client's bytes hold, without decoding it.
pub(crate) fn kind_of_client(bytes: &[u8]) -> Result<MessageKind, MessageError> {
    Ok(match guard::only_part(bytes)?.ok_or_else(empty)? {
        1 => MessageKind::Greeting,
        2 => MessageKind::Calibration,
        3 => MessageKind::Step,
        4 => MessageKind::Save,
        5 => MessageKind::Finish,
        6..=8 => MessageKind::Generate,
        _ => return Err(empty()),
    })
}

/// Decodes what a server said.
pub fn decode_server(bytes: &[u8], limits: &Limits) -> Result<ServerMessage, MessageError> {
    use server_message::Kind;
    guard::check(bytes, &guard::SERVER, limits)?;
    let message = proto::ServerMessage::decode(bytes).map_err(malformed)?;
    Ok(match message.kind.ok_or_else(empty)? {
        Kind::Welcome(welcome) => ServerMessage::Welcome {
            at: welcome.at,
            live: welcome.live,
        },
        Kind::Calibrated(_) => ServerMessage::Calibrated,
        Kind::Backward(b) => ServerMessage::Backward(Backward {
            step: b.step,
            loss: b.loss,
            tokens: b.tokens,
            image: b.image,
            text: b.text,
            compute_seconds: validate::seconds("Backward.compute_seconds", b.compute_seconds)?,
            coding_seconds: validate::seconds("Backward.coding_seconds", b.coding_seconds)?,
        }),
        Kind::Saved(saved) => ServerMessage::Saved(saved.step),
        Kind::Finished(finished) => ServerMessage::Finished(finished.step),
        Kind::Tokens(tokens) => {
            bound("token ids", tokens.ids.len(), limits.sequences)?;
            ServerMessage::Tokens {
                generation: tokens.generation,
                index: tokens.index,
                ids: tokens.ids,
            }
        }
        Kind::Closed(closed) => ServerMessage::Closed {
            generation: closed.generation,
        },
        Kind::Refusal(refusal) => ServerMessage::Refusal(Refusal {
            reason: reason(refusal.reason),
            sentence: printable(&refusal.sentence, SENTENCE),
            field: printable(&refusal.field, NAME),
            sequence: refusal.sequence,
        }),
    })
}

fn to_greeting(greeting: proto::Greeting, limits: &Limits) -> Result<Greeting, MessageError> {
    let greeting = Greeting {
        protocol: greeting.protocol,
        instance: greeting.instance,
        attempt: greeting.attempt,
        purpose: match proto::Purpose::try_from(greeting.purpose) {
            Ok(proto::Purpose::Train) => Purpose::Train,
            Ok(proto::Purpose::Generate) => Purpose::Generate,
            _ => {
                return Err(MessageError::Field {
                    field: "Greeting.purpose",
                    value: greeting.purpose.to_string(),
                    expected: "must be PURPOSE_TRAIN or PURPOSE_GENERATE",
                });
            }
        },
        standing: Standing {
            run: greeting.run,
            saved: greeting.saved,
            live: greeting.live,
        },
        terms: Terms {
            fields: greeting
                .terms
                .into_iter()
                .map(|term| (term.field, term.value))
                .collect(),
        },
    };
    validate::greeting(&greeting, limits)?;
    Ok(greeting)
}

/// An unknown reason comes from a newer server; its sentence still says what is wrong.
fn reason(reason: i32) -> Reason {
    match proto::Reason::try_from(reason) {
        Ok(proto::Reason::Protocol) => Reason::Protocol,
        Ok(proto::Reason::Terms) => Reason::Terms,
        Ok(proto::Reason::OtherRun) => Reason::OtherRun,
        Ok(proto::Reason::Busy) => Reason::Busy,
        Ok(proto::Reason::Order) => Reason::Order,
        Ok(proto::Reason::Invalid) => Reason::Invalid,
        Ok(proto::Reason::Generation) => Reason::Generation,
        Ok(proto::Reason::Owner) => Reason::Owner,
        Ok(proto::Reason::Purpose) => Reason::Purpose,
        Ok(proto::Reason::NotFinite) => Reason::NotFinite,
        Ok(proto::Reason::Failed | proto::Reason::Unspecified) | Err(_) => Reason::Failed,
    }
}

fn malformed(error: prost::DecodeError) -> MessageError {
    MessageError::Malformed(error.to_string())
}

fn empty() -> MessageError {
    MessageError::Malformed("a message of no known kind".to_owned())
}
