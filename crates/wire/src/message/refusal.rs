//! Refusals: to bytes and back.

use super::proto;
use crate::foreign::{NAME, SENTENCE, printable};
use crate::limits::Limits;
use crate::{Reason, Refusal};

/// Every reason, as it is here and as it travels.
const REASONS: [(Reason, proto::Reason); 11] = [
    (Reason::Protocol, proto::Reason::Protocol),
    (Reason::Terms, proto::Reason::Terms),
    (Reason::OtherRun, proto::Reason::OtherRun),
    (Reason::Busy, proto::Reason::Busy),
    (Reason::Order, proto::Reason::Order),
    (Reason::Invalid, proto::Reason::Invalid),
    (Reason::Failed, proto::Reason::Failed),
    (Reason::Generation, proto::Reason::Generation),
    (Reason::Owner, proto::Reason::Owner),
    (Reason::Purpose, proto::Reason::Purpose),
    (Reason::NotFinite, proto::Reason::NotFinite),
];

pub(super) fn to_proto(refusal: Refusal, limits: &Limits) -> proto::Refusal {
    let reason = REASONS.iter().find(|(here, _)| *here == refusal.reason);
    let reason = reason.map_or(proto::Reason::Unspecified, |(_, there)| *there);
    proto::Refusal {
        reason: reason as i32,
        sentence: shorten(printable(&refusal.sentence, SENTENCE), limits),
        field: shorten(printable(&refusal.field, NAME), limits),
        sequence: refusal.sequence,
    }
}

/// An unknown reason comes from a newer server; its sentence still says what is wrong.
pub(super) fn from_proto(refusal: proto::Refusal) -> Refusal {
    let reason = REASONS
        .iter()
        .find(|(_, there)| *there as i32 == refusal.reason);
    Refusal {
        reason: reason.map_or(Reason::Failed, |(here, _)| *here),
        sentence: printable(&refusal.sentence, SENTENCE),
        field: printable(&refusal.field, NAME),
        sequence: refusal.sequence,
    }
}

/// A sentence for people may lose its end, but never makes a message too large.
fn shorten(mut text: String, limits: &Limits) -> String {
    let mut end = limits.term_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_comes_back_as_it_was() {
        for (reason, _) in REASONS {
            let refusal = Refusal {
                reason,
                sentence: "no".to_owned(),
                field: String::new(),
                sequence: Some(3),
            };
            let proto = to_proto(refusal.clone(), &Limits::default());
            assert_ne!(proto.reason, proto::Reason::Unspecified as i32);
            assert_eq!(from_proto(proto), refusal);
        }
    }
}
