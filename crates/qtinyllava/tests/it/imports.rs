//! The rules of who may import whom, held against the manifests.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::MetadataCommand;

/// Our crates and which of ours each may import; what is not listed may not be imported.
const RULES: &[(&str, &[&str])] = &[
    ("qtl-codec", &[]),
    ("qtl-wire", &["qtl-codec"]),
    ("qtl-data", &[]),
    ("qtl-fused", &[]),
    ("qtl-model", &["qtl-codec", "qtl-data", "qtl-fused"]),
    (
        "qtl-train",
        &[
            "qtl-codec",
            "qtl-data",
            "qtl-fused",
            "qtl-model",
            "qtl-wire",
        ],
    ),
    ("qtl-eval", &["qtl-data", "qtl-model"]),
    (
        "qtl-leakage",
        &[
            "qtl-codec",
            "qtl-data",
            "qtl-eval",
            "qtl-fused",
            "qtl-model",
            "qtl-train",
            "qtl-wire",
        ],
    ),
    (
        "qtinyllava",
        &[
            "qtl-codec",
            "qtl-data",
            "qtl-eval",
            "qtl-leakage",
            "qtl-model",
            "qtl-train",
            "qtl-wire",
        ],
    ),
];
/// The only crates that know tensors.
const TENSORS: &[&str] = &[
    "qtl-eval",
    "qtl-fused",
    "qtl-leakage",
    "qtl-model",
    "qtl-train",
];

/// Every kind of dependency counts: a test that needs a forbidden crate is in the wrong place.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .unwrap();
    let crates = metadata.packages.iter().map(|package| {
        let names = package
            .dependencies
            .iter()
            .map(|dependency| dependency.name.clone())
            .collect();
        (package.name.to_string(), names)
    });
    crates.collect()
}

#[test]
fn crates_import_only_what_the_rules_allow() {
    let imports = imports();
    for (name, allowed) in RULES {
        let found = imports
            .get(*name)
            .unwrap_or_else(|| panic!("there is no crate {name}"));
        for import in found.iter().filter(|import| imports.contains_key(*import)) {
            assert!(
                allowed.contains(&import.as_str()),
                "{name} must not import {import}"
            );
        }
    }
    for name in imports.keys() {
        assert!(
            RULES.iter().any(|rule| rule.0 == name),
            "{name} has no rule here"
        );
    }
}

#[test]
fn only_the_crates_of_the_model_know_tensors() {
    for (name, found) in imports() {
        let burn = found
            .iter()
            .find(|import| *import == "burn" || import.starts_with("burn-"));
        assert_eq!(
            burn.is_some(),
            TENSORS.contains(&name.as_str()),
            "{name} imports {burn:?}"
        );
    }
}
