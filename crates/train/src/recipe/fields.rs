//! Fields of a recipe by their dotted names: set, listed, and the nearest one where a name is unknown.

use std::collections::BTreeMap;

/// Sets `a.b.c` in a table; the value is TOML if it parses as such, otherwise text.
pub(super) fn insert(table: &mut toml::Table, key: &str, value: &str) -> Option<()> {
    let (parents, last) = match key.rsplit_once('.') {
        Some((parents, last)) => (parents.split('.').collect(), last),
        None => (Vec::new(), key),
    };
    let mut at = table;
    for parent in parents {
        at = at
            .entry(parent)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()?;
    }
    let parsed = format!("v = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut t| t.remove("v"));
    at.insert(
        last.to_owned(),
        parsed.unwrap_or_else(|| toml::Value::String(value.to_owned())),
    );
    Some(())
}

/// Adds the leaves below `value` by their dotted names.
pub(super) fn flatten(prefix: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let key = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                flatten(&key, value, into);
            }
        }
        other => {
            into.insert(prefix.to_owned(), other.to_string());
        }
    }
}

/// Adds the nearest known name, if one is near, to serde's "unknown field `x`, expected one of `a`, `b`".
pub(super) fn explain(message: &str) -> String {
    let Some((_, rest)) = message
        .split_once("unknown field `")
        .or_else(|| message.split_once("unknown variant `"))
    else {
        return message.to_owned();
    };
    let mut names = rest.split('`').step_by(2);
    let Some(unknown) = names.next() else {
        return message.to_owned();
    };
    // A slip of the fingers, not another word: one letter in three at most, or its beginning.
    let letters = unknown.chars().count();
    let distance = |name: &&str| {
        if letters > 2 && name.starts_with(unknown) {
            return 0;
        }
        strsim::damerau_levenshtein(&unknown.to_lowercase(), name)
    };
    match names.min_by_key(distance) {
        Some(nearest) if distance(&nearest) <= (letters / 3).max(1) => format!(
            "{}\ndid you mean `{nearest}` instead of `{unknown}`?",
            message.trim_end()
        ),
        _ => message.to_owned(),
    }
}
