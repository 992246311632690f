//! The demo as its user starts it, a little one.

use std::fs;

use serde_json::Value;

use crate::program::run;

#[test]
fn a_demo_of_several_sites_scores_each_of_them_and_their_average() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("demo");
    let shown = out.display().to_string();
    let mut args = vec!["demo", "--out", &shown, "--sites", "2"];
    args.extend(["--train-scenes", "40", "--test-scenes", "2"]);
    for set in [
        "train.steps=4",
        "train.save_every=2",
        "sites.average_every=2",
        "quantizer.calibration_batches=1",
    ] {
        args.extend(["--set", set]);
    }
    run(&args).succeeds();
    let summary: Value =
        serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap();
    let sites = summary["sites"].as_array().unwrap();
    let scenes = |site: &Value| site["scenes"].as_u64().unwrap();
    assert_eq!(sites.len(), 2);
    // No scene twice, and none with objects of every kind.
    assert!(sites.iter().all(|site| scenes(site) > 0));
    assert!(sites.iter().map(scenes).sum::<u64>() <= 40);
    for site in sites {
        assert_eq!(site["micro_batches"], 4);
        assert!(site["accuracy"]["pope"].is_number(), "{site}");
    }
    assert!(summary["accuracy"]["pope"].is_number());
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("site-2") && report.contains("average of all"));
    let rounds = fs::read_to_string(out.join("server/rounds.jsonl")).unwrap();
    assert_eq!(rounds.lines().count(), 4);
}

#[test]
fn a_demo_with_labels_at_the_client_reports_both_edges() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("demo");
    let shown = out.display().to_string();
    let mut args = vec!["demo", "--out", &shown];
    args.extend(["--train-scenes", "40", "--test-scenes", "2"]);
    for set in [
        "split.labels=client",
        "train.steps=3",
        "train.save_every=3",
        "quantizer.calibration_batches=1",
    ] {
        args.extend(["--set", set]);
    }
    let shown = run(&args).succeeds().stdout;
    let summary: Value =
        serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap();
    let number = |at: &str| summary.pointer(at).and_then(Value::as_f64).unwrap();
    let part = |name: &str| number(&format!("/bytes_per_sample/parts/{name}"));
    assert_eq!(summary["steps"], 3);
    assert!(number("/hidden_rows_per_sample") > 0.0);
    assert_eq!(part("targets"), 0.0);
    let parts = ["image", "text", "gradient_image", "gradient_text"];
    let hidden = ["hidden", "hidden_gradient", "wanted"];
    assert!(parts.iter().chain(&hidden).all(|name| part(name) > 0.0));
    let both = |way: &str, parts: &[&str]| {
        let sum: f64 = parts.iter().map(|name| part(name)).sum();
        assert!(number(&format!("/bytes_per_sample/{way}")) > sum, "{way}");
    };
    both(
        "up",
        &["image", "text", "text_index", "wanted", "hidden_gradient"],
    );
    both("down", &["gradient_image", "gradient_text", "hidden"]);
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    for (name, at) in [
        ("hidden states", "/bits_per_element/hidden"),
        ("their gradient", "/bits_per_element/hidden_gradient"),
    ] {
        let bits = format!("{:.3}", number(at));
        for told in [&shown, &report] {
            assert!(told.contains(name) && told.contains(&bits), "{name} {bits}");
        }
    }
    assert!(report.contains("gradient of hidden states"));
}
