//! What finished demos leak beside what they are worth: `compare --leakage`. Each run has its attacks in `attacks/leakage.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use qtl_eval::Table;
use qtl_eval::report::{Chart, Series};
use serde_json::Value;

/// What no attacker has, whatever it knows, so that no attack is compared with it: the victim's own background.
const ORACLE: &str = "own background";

/// A number of the best attack, and what it is compared with.
struct Column {
    title: &'static str,
    stream: &'static str,
    measure: &'static str,
    /// The measure of baselines, where it is another.
    beside: Option<&'static str>,
}

const COLUMNS: [Column; 8] = [
    Column {
        title: "picture dB",
        stream: "picture",
        measure: "PSNR dB",
        beside: None,
    },
    Column {
        title: "objects dB",
        stream: "picture",
        measure: "PSNR of objects dB",
        beside: None,
    },
    Column {
        title: "named %",
        stream: "picture",
        measure: "still named %",
        beside: None,
    },
    Column {
        title: "named by drawings %",
        stream: "picture",
        measure: "named by drawings %",
        beside: None,
    },
    Column {
        title: "match of 1,000 %",
        stream: "picture",
        measure: "top-1 of 1000 %",
        beside: None,
    },
    Column {
        title: "questions %",
        stream: "text",
        measure: "tokens of questions %",
        beside: None,
    },
    Column {
        title: "answers %",
        stream: "text",
        measure: "tokens of answers %",
        beside: None,
    },
    Column {
        title: "labels %",
        stream: "labels",
        measure: "tokens of answers %",
        beside: Some("guess without the gradient %"),
    },
];

/// The attacks on a run.
pub fn read(run: &Path) -> Result<Value> {
    let path = run.join("attacks").join("leakage.json");
    let text = fs::read(&path).with_context(|| {
        format!(
            "{}: --leakage needs the attacks on every run there; `qtinyllava leakage --out {}` writes them",
            path.display(),
            run.join("attacks").display()
        )
    })?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))
}

/// The best attack on what the recipe has cross, of an insider, and the best that can be said without looking.
fn best(attacks: &Value, column: &Column) -> [Option<f64>; 2] {
    let none = Vec::new();
    let outcomes = attacks["outcomes"].as_array().unwrap_or(&none);
    let own = outcomes.iter().filter(|o| {
        let view = o["view"].as_str().unwrap_or_default();
        let setting = o["setting"].as_str().unwrap_or_default();
        o["stream"] == column.stream
            && view.starts_with("the recipe's")
            && ["insider", "any"].contains(&setting)
            && o["attack"] != ORACLE
    });
    let mut found: [Option<f64>; 2] = [None; 2];
    for outcome in own {
        let baseline = outcome["baseline"] == true;
        for finding in outcome["findings"].as_array().unwrap_or(&none) {
            let beside = column.beside.is_some_and(|m| finding["measure"] == m);
            let own = finding["measure"] == column.measure;
            if let (Some(value), true) = (finding["value"].as_f64(), own || beside) {
                let place = &mut found[usize::from(baseline || beside)];
                *place = Some(place.map_or(value, |known| known.max(value)));
            }
        }
    }
    found
}

/// Means over runs, where there are any.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.flatten().collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn means(runs: &[Value], column: &Column) -> [Option<f64>; 2] {
    let all: Vec<[Option<f64>; 2]> = runs.iter().map(|run| best(run, column)).collect();
    [0, 1].map(|which| mean(all.iter().map(|both| both[which])))
}

/// A row per method: its accuracy, and for every kind of leak the best attack and, in brackets, the best without looking.
pub fn table<'a>(methods: impl Iterator<Item = (&'a str, f64, &'a [Value])>) -> Table {
    let mut table = Table::new("", &["method", "runs", "accuracy"]);
    let titles = COLUMNS.iter().map(|column| column.title.to_owned());
    table.header.extend(titles);
    for (name, accuracy, runs) in methods {
        let cells = COLUMNS.iter().map(|column| match means(runs, column) {
            [None, _] => "-".to_owned(),
            [Some(attack), None] => format!("{attack:.1}"),
            [Some(attack), Some(without)] => format!("{attack:.1} ({without:.1})"),
        });
        let first = [
            name.to_owned(),
            runs.len().to_string(),
            format!("{accuracy:.1}"),
        ];
        table.push(first.into_iter().chain(cells));
    }
    table.note = "Accuracy: mean of the question forms in per cent. Then the best of the attacks that were run, by one who has the \
                  trained client's half; in brackets the best that can be said without looking at what crosses, the victim's own \
                  background excepted. Means over runs."
        .to_owned();
    table
}

/// Accuracy against how much better the best picture attack is than what can be said without looking.
pub fn chart<'a>(methods: impl Iterator<Item = (&'a str, f64, &'a [Value])>) -> Chart {
    let series = methods.filter_map(|(name, accuracy, runs)| {
        let [attack, without] = means(runs, &COLUMNS[0]);
        let beyond = attack? - without?;
        Some(Series {
            name: format!("{name}: {accuracy:.1} %, {beyond:+.1} dB"),
            points: vec![(accuracy, beyond)],
        })
    });
    Chart {
        title: "What a run is worth, and what its pictures leak".into(),
        x_label: "accuracy, mean of the question forms, per cent".into(),
        y_label: "best picture attack above the best baseline, dB".into(),
        series: series.collect(),
        ..Chart::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(attack: &str, baseline: bool, view: &str, setting: &str, value: f64) -> Value {
        json!({
            "stream": "picture", "attack": attack, "baseline": baseline, "view": view, "setting": setting,
            "findings": [{ "measure": "PSNR dB", "value": value, "count": 9 }],
        })
    }

    #[test]
    fn the_best_attack_stands_beside_the_best_baseline() {
        let run = json!({ "outcomes": [
            outcome("mean picture", true, "the recipe's: fsq", "any", 14.0),
            outcome("own background", true, "the recipe's: fsq", "any", 30.0),
            outcome("nearest by code", true, "the recipe's: fsq", "insider", 15.5),
            outcome("collage", false, "the recipe's: fsq", "insider", 18.0),
            outcome("mixed", false, "the recipe's: fsq", "insider", 19.0),
            outcome("mixed", false, "exact", "insider", 25.0),
            outcome("mixed", false, "the recipe's: fsq", "base", 26.0),
        ]});
        let runs = [run];
        let methods = || std::iter::once(("a", 90.0, &runs[..]));
        let text = table(methods()).markdown();
        assert!(
            text.contains("| a | 1 | 90.0 | 19.0 (15.5) | - |"),
            "{text}"
        );
        assert_eq!(chart(methods()).series[0].points, [(90.0, 3.5)]);
    }
}
