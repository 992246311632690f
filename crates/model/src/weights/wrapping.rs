//! What everyday tools put into the names of tensors, recognised and taken out.

use std::collections::BTreeSet;

/// Levels that a tool puts around a module, wherever that is in the tree, and the tool.
const LEVELS: &[(&str, &str)] = &[
    ("_orig_mod", "torch.compile"),
    ("_fsdp_wrapped_module", "FSDP"),
    ("_checkpoint_wrapped_module", "activation checkpointing"),
    ("base_layer", "a PEFT adapter over it"),
];
/// Levels before every name: what they come from, and what has to follow some of them. A language model's own names
/// may all start with `model.`.
const PREFIXES: &[(&str, &str, &[&str])] = &[
    ("module.", "DataParallel", &[]),
    (
        "model.",
        "an object around the model",
        &[
            "model.",
            "lm_head.",
            "language_model.",
            "vision_tower.",
            "connector.",
            "vision_model.",
            "_connector.",
        ],
    ),
];

/// What was taken out of names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unwrapped {
    /// The names without it, in the order in which they were given.
    pub(super) names: Vec<String>,
    /// What it was, and where it comes from; empty if nothing was taken out.
    pub(super) remarks: Vec<String>,
}

/// Takes the wrappers out of `names`. Two names never become one: then all stay as they are.
pub(super) fn unwrap<'a>(stored: impl Iterator<Item = &'a str>) -> Unwrapped {
    let stored: Vec<&str> = stored.collect();
    let mut names: Vec<String> = stored.iter().map(|name| (*name).to_owned()).collect();
    let mut remarks = Vec::new();
    for (level, tool) in LEVELS {
        let mut found = false;
        for name in &mut names {
            let kept: Vec<&str> = name.split('.').filter(|part| part != level).collect();
            let kept = kept.join(".");
            found |= kept != *name;
            *name = kept;
        }
        if found {
            remarks.push(format!("names are read without {level}. ({tool})"));
        }
    }
    for (prefix, tool, below) in PREFIXES {
        let mut found = false;
        while is_before_all(&names, prefix, below) {
            names
                .iter_mut()
                .for_each(|name| drop(name.drain(..prefix.len())));
            found = true;
        }
        if found {
            remarks.push(format!("names are read without {prefix} ({tool})"));
        }
    }
    let different: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    if different.len() < names.len() {
        names = stored.iter().map(|name| (*name).to_owned()).collect();
        remarks.clear();
    }
    Unwrapped { names, remarks }
}

fn is_before_all(names: &[String], prefix: &str, below: &[&str]) -> bool {
    let rest = |name: &String| name.strip_prefix(prefix).map(str::to_owned);
    let Some(rests) = names.iter().map(rest).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let named = |rest: &String| below.iter().any(|part| rest.starts_with(part));
    !rests.is_empty() && (below.is_empty() || rests.iter().any(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_taken_out_and_names_of_models_are_not() {
        for (stored, want) in [
            (&["_orig_mod.a.w", "_orig_mod.b.w"][..], &["a.w", "b.w"][..]),
            (&["a._orig_mod.w", "b.w"], &["a.w", "b.w"]),
            (&["module._orig_mod.a.w"], &["a.w"]),
            (&["module.module.a.w", "module.module.b"], &["a.w", "b"]),
            (&["module.a.w", "b.w"], &["module.a.w", "b.w"]),
            (
                &["q.base_layer.weight", "k.weight"],
                &["q.weight", "k.weight"],
            ),
            // A language model whose head is tied, as it is, and inside an object.
            (
                &["model.embed_tokens.weight", "model.norm.weight"],
                &["model.embed_tokens.weight", "model.norm.weight"],
            ),
            (
                &["model.model.embed_tokens.weight", "model.lm_head.weight"],
                &["model.embed_tokens.weight", "lm_head.weight"],
            ),
            (
                &["model.connector._connector.0.bias"],
                &["connector._connector.0.bias"],
            ),
            // Both would be called the same.
            (
                &["q.base_layer.weight", "q.weight"],
                &["q.base_layer.weight", "q.weight"],
            ),
        ] {
            let unwrapped = unwrap(stored.iter().copied());
            assert_eq!(unwrapped.names, want);
            assert_eq!(unwrapped.remarks.is_empty(), stored == want);
        }
    }
}
