//! What two peers have in common: a checkpoint to go back to, and terms.

use crate::Terms;
use crate::foreign::{NAME, printable};

/// The checkpoint that both peers go back to: the latest that both have, or the beginning.
pub fn negotiate(client: &[u64], server: &[u64]) -> u64 {
    let common = client.iter().filter(|at| server.contains(at));
    common.max().copied().unwrap_or(0)
}

/// The first field in which the terms differ, with both values (`None`: the side has no such field).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Dotted name of the recipe field.
    pub field: String,
    /// The client's value.
    pub client: Option<String>,
    /// The server's value.
    pub server: Option<String>,
    /// How many other fields differ too.
    pub others: usize,
}

/// Compares terms field by field.
pub fn compare(client: &Terms, server: &Terms) -> Option<Difference> {
    let mut fields: Vec<&String> = client.fields.keys().chain(server.fields.keys()).collect();
    fields.sort_unstable();
    fields.dedup();
    fields.retain(|&field| client.fields.get(field) != server.fields.get(field));
    let (first, others) = fields.split_first()?;
    Some(Difference {
        field: (*first).clone(),
        client: client.fields.get(*first).cloned(),
        server: server.fields.get(*first).cloned(),
        others: others.len(),
    })
}

impl Difference {
    /// One sentence that names the field and both values: for the server's own side.
    pub fn sentence(&self) -> String {
        self.with(&value(&self.server))
    }

    /// The same for the client, without the server's value: who can ask for values one by one must not be told them.
    pub fn told(&self) -> String {
        self.with(match &self.server {
            Some(_) => "another value",
            None => "no value",
        })
    }

    fn with(&self, server: &str) -> String {
        let others = match self.others {
            0 => String::new(),
            1 => " (and 1 more field differs)".to_owned(),
            n => format!(" (and {n} more fields differ)"),
        };
        format!(
            "the recipes differ in {}: the client has {}, the server has {server}{others}; give both sides the same recipe",
            printable(&self.field, NAME),
            value(&self.client),
        )
    }
}

fn value(value: &Option<String>) -> String {
    match value {
        Some(value) => format!("'{}'", printable(value, NAME)),
        None => "no value".to_owned(),
    }
}
