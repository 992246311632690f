//! MM-Vet: the file of answers, the judge's rows, and what grades come to.

use qtl_eval::benchmark::Suite;
use qtl_eval::score::mmvet::{self, Grades, Item, MmVetScore};
use serde_json::Value;

use crate::golden;

fn compare(score: &MmVetScore, expected: &Value, what: &str, within: f64) {
    let close = |ours: f64, theirs: &Value, what: &str| {
        let theirs = theirs
            .as_f64()
            .unwrap_or_else(|| panic!("{what}: nothing recorded"));
        assert!(
            (ours - theirs).abs() <= within,
            "{what}: {ours}, recorded {theirs}"
        );
    };
    for (groups, kind, counts) in [
        (&score.capabilities, "capability", "counts"),
        (&score.integrations, "integration", "integration_counts"),
    ] {
        let table = &expected[kind];
        for (name, ours) in &groups.scores {
            close(*ours, &table[name], &format!("{what} {name}"));
            assert_eq!(expected[counts][name], groups.counts[name], "{what} {name}");
        }
        // Total, deviation and runs stand beside the groups.
        assert_eq!(
            groups.scores.len() + 3,
            table.as_object().unwrap().len(),
            "{what}"
        );
        close(score.total, &table["total"], what);
        close(score.std, &table["std"], what);
        let runs: Vec<f64> = serde_json::from_str(table["runs"].as_str().unwrap()).unwrap();
        assert_eq!(runs.len(), score.runs.len(), "{what}");
        for (ours, theirs) in score.runs.iter().zip(runs) {
            close(*ours, &theirs.into(), what);
        }
    }
}

#[test]
fn golden_mmvet_scores() {
    for case in golden::cases("mmvet") {
        let expected: Value = golden::json(case.join("expected.json"));
        let entries: Value = golden::json(case.join("mm-vet.json"));
        let item = |(id, entry): (&String, &Value)| Item {
            id: id.clone(),
            capabilities: serde_json::from_value(entry["capability"].clone()).unwrap(),
            truth: entry["answer"].as_str().unwrap().to_owned(),
        };
        let items: Vec<Item> = entries.as_object().unwrap().iter().map(item).collect();
        let subset: Vec<String> = golden::json(case.join("bard_set.json"));
        for (key, expected) in expected["scores"].as_object().unwrap() {
            // runs_<n>_places_<digits>, perhaps _subset.
            let parts: Vec<&str> = key.split('_').collect();
            let (runs, places): (usize, i32) =
                (parts[1].parse().unwrap(), parts[3].parse().unwrap());
            let ending = format!("grade-{runs}runs.json");
            let files = std::fs::read_dir(case.join("results")).unwrap();
            let mut files = files.map(|file| file.unwrap().path());
            let file = files.find(|file| file.display().to_string().ends_with(&ending));
            let grades: Grades = golden::json(file.unwrap());
            let mut items = items.clone();
            if key.ends_with("_subset") {
                items.retain(|item| subset.contains(&item.id));
            }
            let within = 0.5 * 10f64.powi(-places) + 1e-9;
            compare(&mmvet::score(&items, &grades), expected, key, within);
        }
    }
}

#[test]
fn golden_mmvet_answers() {
    for case in golden::cases("mmvet") {
        let suite = Suite::load(&case).unwrap();
        let file = case.join("answers/model.jsonl");
        let answers = golden::answers(&suite, "mmvet", &file);
        let theirs: Value = golden::json(case.join("expected/results.json"));
        let ours: Value =
            serde_json::from_str(suite.submissions(&answers).unwrap()[0].text()).unwrap();
        assert_eq!(ours, theirs);
        let expected: Value = golden::json(case.join("expected.json"));
        let rows = expected["judge_row"].as_object().unwrap();
        let judged = suite.judged(&answers).unwrap();
        assert_eq!(judged.len(), rows.len());
        for one in judged {
            let row = mmvet::judge_row(&one.question, &one.truth, &one.answer);
            assert_eq!(rows[&one.id].as_str(), Some(row.as_str()));
        }
        // Without a judge there is no number to be taken for MM-Vet's.
        let score = suite.score(&answers).unwrap().forms.remove(0);
        assert_eq!(score.percent, None);
    }
}
