//! `eval --compare`: two files of answers side by side.

use std::path::PathBuf;

use anyhow::{Context, Result};
use qtl_eval::Table;
use qtl_eval::benchmark::Suite;
use qtl_eval::compare::{Difference, compare};
use qtl_eval::recorded;
use serde_json::json;

/// Prints the differences, and writes them as JSON.
pub fn run(suite: &Suite, files: &[PathBuf], out: Option<&PathBuf>) -> Result<()> {
    let [first, second] = files else {
        anyhow::bail!("--compare takes two files of answers");
    };
    let [a, b] = [
        recorded::answers(suite, first)?,
        recorded::answers(suite, second)?,
    ];
    let differences = compare(suite, &a, &b)?;
    let mut table = Table::new(
        format!("{} against {}", second.display(), first.display()),
        &[
            "form",
            "pictures",
            "questions",
            "first %",
            "second %",
            "difference",
            "95 % of it",
            "clear",
        ],
    );
    for one in &differences {
        table.push([
            one.form.to_owned(),
            one.pictures.to_string(),
            one.questions.to_string(),
            format!("{:.1}", one.first),
            format!("{:.1}", one.second),
            format!("{:+.1}", one.difference()),
            format!("{:+.1} to {:+.1}", one.interval.0, one.interval.1),
            if one.is_clear() { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table.note = "What answers are worth on average; a missing one nothing. The interval is that of 10,000 draws of whole \
                  pictures with all their questions, the same for both."
        .to_owned();
    println!("{table}");
    if let Some(path) = out {
        let all: Vec<_> = differences.iter().map(json).collect();
        qtl_train::metrics::write_json(path, &json!(all))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn json(one: &Difference) -> serde_json::Value {
    json!({
        "form": one.form, "pictures": one.pictures, "questions": one.questions, "first": one.first,
        "second": one.second, "difference": one.difference(), "interval": [one.interval.0, one.interval.1],
    })
}
