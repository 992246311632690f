//! The greeting: to bytes and back, and what it may hold.

use super::guard::bound;
use super::{Greeting, MessageError, proto};
use crate::limits::Limits;
use crate::{Purpose, Site, Terms};

/// Longest run identifier.
const RUN_BYTES: usize = 128;

pub(super) fn to_proto(
    mut greeting: Greeting,
    limits: &Limits,
) -> Result<proto::Greeting, MessageError> {
    greeting.saved.sort_unstable();
    greeting.saved.dedup();
    check(&greeting, limits)?;
    Ok(proto::Greeting {
        protocol: greeting.protocol,
        instance: greeting.instance,
        attempt: greeting.attempt,
        purpose: match greeting.purpose {
            Purpose::Train => proto::Purpose::Train,
            Purpose::Generate => proto::Purpose::Generate,
        } as i32,
        run: greeting.run,
        saved: greeting.saved,
        answered: greeting.answered,
        terms: greeting
            .terms
            .fields
            .into_iter()
            .map(|(field, value)| proto::Term { field, value })
            .collect(),
    })
}

pub(super) fn from_proto(
    greeting: proto::Greeting,
    limits: &Limits,
) -> Result<Greeting, MessageError> {
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
        run: greeting.run,
        saved: greeting.saved,
        answered: greeting.answered,
        terms: Terms {
            fields: greeting
                .terms
                .into_iter()
                .map(|term| (term.field, term.value))
                .collect(),
        },
    };
    check(&greeting, limits)?;
    Ok(greeting)
}

pub(super) fn site_to_proto(site: Site) -> Result<proto::Site, MessageError> {
    run("Site.run", &site.run)?;
    let Site { place, run } = site;
    Ok(proto::Site { place, run })
}

pub(super) fn site_from_proto(site: proto::Site) -> Result<Site, MessageError> {
    run("Site.run", &site.run)?;
    let proto::Site { place, run } = site;
    Ok(Site { place, run })
}

/// Sizes and characters.
fn check(greeting: &Greeting, limits: &Limits) -> Result<(), MessageError> {
    run("Greeting.run", &greeting.run)?;
    bound(
        "checkpoints in the greeting",
        greeting.saved.len(),
        limits.saved,
    )?;
    bound(
        "recipe fields in the greeting",
        greeting.terms.fields.len(),
        limits.terms,
    )?;
    for (field, value) in &greeting.terms.fields {
        bound(
            "the name of a recipe field in bytes",
            field.len(),
            limits.term_bytes,
        )?;
        bound(
            "the value of a recipe field in bytes",
            value.len(),
            limits.term_bytes,
        )?;
    }
    Ok(())
}

/// A run identifier becomes part of paths on the server, so it cannot be one itself.
fn run(field: &'static str, run: &str) -> Result<(), MessageError> {
    bound("the run identifier in bytes", run.len(), RUN_BYTES)?;
    let fits = |c: char| c.is_ascii_graphic() && c != '/' && c != '\\';
    if run.chars().all(fits) && run != "." && run != ".." {
        return Ok(());
    }
    Err(MessageError::Field {
        field,
        value: format!("{run:?}"),
        expected: "a run identifier consists of printable ASCII characters without slashes",
    })
}
