//! What each client of a demo left, and how several of them compare.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use qtl_eval::Table;
use qtl_eval::benchmark::Scores;
use qtl_train::metrics::{self, StepRecord};
use serde_json::{Value, json};

use super::clients::Clients;
use crate::progress::bytes;

/// One client's part of a run.
pub struct Run {
    /// What it is called.
    pub name: String,
    /// Its micro-batches.
    pub records: Vec<StepRecord>,
    /// What crossed its sockets.
    pub wire: Value,
    /// Of a site: its scenes, and the scores of the model with its own half.
    pub site: Option<(usize, Scores)>,
}

/// What a demo of so many sites changes in the recipe, ahead of what its user changes: a step has the `batch` of one client, or a few
/// more samples so that each site has as many.
pub fn defaults(sites: Option<usize>, batch: usize) -> Vec<String> {
    let Some(sites) = sites else {
        return Vec::new();
    };
    vec![
        format!("sites.count={sites}"),
        "sites.average_every=10".to_owned(),
        format!("train.batch={}", batch.div_ceil(sites)),
    ]
}

/// Reads what the clients left in `out`; `scores` of each site.
pub fn runs(out: &Path, clients: &Clients, scores: Vec<Scores>) -> Result<Vec<Run>> {
    let mut scores = scores.into_iter();
    let run = |(place, name): (usize, &String)| {
        let dir = out.join(name);
        let records = metrics::of_run(&dir)
            .with_context(|| format!("cannot use the metrics in {}", dir.display()))?;
        let site = match scores.next() {
            Some(scores) => Some((count(&out.join("train").join(clients.data(place)))?, scores)),
            None => None,
        };
        Ok(Run {
            name: name.clone(),
            records,
            wire: read(&dir.join("wire.json"))?,
            site,
        })
    };
    clients.names().iter().enumerate().map(run).collect()
}

fn read(path: &Path) -> Result<Value> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}

fn count(path: &Path) -> Result<usize> {
    match read(path)?.as_array() {
        Some(scenes) => Ok(scenes.len()),
        None => bail!("{} is no list", path.display()),
    }
}

impl Run {
    fn sum(&self, field: fn(&StepRecord) -> u64) -> u64 {
        self.records.iter().map(field).sum()
    }

    fn per_sample(&self, field: fn(&StepRecord) -> u64) -> f64 {
        self.sum(field) as f64 / self.sum(|record| record.samples).max(1) as f64
    }

    /// For `summary.json`.
    pub fn json(&self) -> Option<Value> {
        let (scenes, scores) = self.site.as_ref()?;
        let forms = scores.forms.iter();
        let accuracy = forms.map(|form| (form.form.to_owned(), json!(form.percent)));
        Some(json!({
            "name": self.name, "scenes": scenes, "samples": self.sum(|r| r.samples),
            "micro_batches": self.records.len(),
            "bytes_per_sample": { "up": self.per_sample(|r| r.bytes_up), "down": self.per_sample(|r| r.bytes_down) },
            "accuracy": accuracy.collect::<serde_json::Map<_, _>>(),
        }))
    }
}

/// The sites beside each other, and their average; nothing of a client that is alone.
pub fn table(runs: &[Run], average: &Scores) -> Option<Table> {
    let forms: Vec<&str> = average.forms.iter().map(|form| form.form).collect();
    let header = ["half of the client", "scenes", "samples", "up", "down"];
    let mut table = Table::new("Sites", &[&header[..], &forms].concat());
    let percents = |scores: &Scores| -> Vec<String> {
        let of = |form: &&str| {
            scores
                .percent(form)
                .map_or("-".to_owned(), |p| format!("{p:.1}"))
        };
        forms.iter().map(of).collect()
    };
    for run in runs {
        let (scenes, scores) = run.site.as_ref()?;
        let mut row = vec![
            run.name.clone(),
            scenes.to_string(),
            run.sum(|r| r.samples).to_string(),
            bytes(run.per_sample(|r| r.bytes_up)),
            bytes(run.per_sample(|r| r.bytes_down)),
        ];
        row.extend(percents(scores));
        table.push(row);
    }
    let mut row = vec![
        "average of all".to_owned(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
    ];
    row.extend(percents(average));
    table.push(row);
    table.note = "Bytes per sample. Each site has never seen a third of the objects, and every test scene may show them; the server's \
                  half is the same in all rows. In per cent."
        .to_owned();
    Some(table)
}
