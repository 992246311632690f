//! `compare`: finished demos side by side, mean and deviation over seeds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qtl_eval::Table;
use serde_json::Value;

/// Tabulate finished demos: mean and deviation over runs that differ in their seed only
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  qtinyllava compare runs/bits/none-seed1 runs/bits/none-seed2 runs/bits/fsq2-seed1 runs/bits/fsq2-seed2
Runs whose directories are called NAME-seedN form one row of the table, which is Markdown. runs/bits.sh makes such runs.")]
pub struct Args {
    /// Directories with a summary.json
    #[arg(value_name = "DIR", required = true)]
    runs: Vec<PathBuf>,
    /// Also write the table to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Columns: title, place in summary.json, decimals.
const COLUMNS: [(&str, &str, usize); 10] = [
    ("POPE", "/accuracy/pope", 1),
    ("VQAv2 form", "/accuracy/vqa", 1),
    ("MME form", "/accuracy/mme", 1),
    ("GQA form", "/accuracy/gqa", 1),
    ("captions", "/accuracy/caption", 1),
    ("image bits", "/bits_per_element/image_coded", 2),
    ("text bits", "/bits_per_element/text_coded", 2),
    ("gradient bits", "/bits_per_element/gradient", 2),
    ("bytes up", "/bytes_per_sample/up", 0),
    ("bytes down", "/bytes_per_sample/down", 0),
];

/// Prints the table.
pub fn run(args: &Args) -> Result<()> {
    let mut order = Vec::new();
    let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for run in &args.runs {
        let path = run.join("summary.json");
        let text = fs::read(&path).with_context(|| {
            format!("{}: is {} a finished demo?", path.display(), run.display())
        })?;
        let summary = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no JSON", path.display()))?;
        let name = method(run)?;
        if !groups.contains_key(&name) {
            order.push(name.clone());
        }
        groups.entry(name).or_default().push(summary);
    }
    let table = table(order.iter().map(|name| (name.as_str(), &groups[name]))).markdown();
    print!("{table}");
    if let Some(path) = &args.out {
        qtl_train::files::replace(path, table.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The directory's name without the seed.
fn method(run: &Path) -> Result<String> {
    let Some(name) = run.file_name().and_then(|name| name.to_str()) else {
        bail!(
            "{} has no name; give the run's own directory",
            run.display()
        );
    };
    Ok(match name.rsplit_once("-seed") {
        Some((method, seed)) if seed.parse::<u64>().is_ok() => method.to_owned(),
        _ => name.to_owned(),
    })
}

fn table<'a>(groups: impl Iterator<Item = (&'a str, &'a Vec<Value>)>) -> Table {
    let mut table = Table::new("", &["method", "runs"]);
    let titles = COLUMNS.iter().map(|(title, ..)| *title);
    table
        .header
        .extend(titles.chain(["saved"]).map(str::to_owned));
    for (name, runs) in groups {
        let all = |place: &str| -> Vec<f64> {
            runs.iter()
                .filter_map(|run| run.pointer(place)?.as_f64())
                .collect()
        };
        let cells = COLUMNS.map(|(_, place, decimals)| cell(&all(place), decimals));
        let first = [name.to_owned(), runs.len().to_string()].into_iter();
        table.push(first.chain(cells).chain([cell(&saved(runs), 1)]));
    }
    table.note = "Accuracies in per cent; bytes per sample; saved: per cent of the round trip against 16-bit features and 32-bit \
                  gradients. Where there are several runs: mean ± standard deviation."
        .to_owned();
    table
}

/// Per run, how much smaller the round trip is than the same tensors uncompressed.
fn saved(runs: &[Value]) -> Vec<f64> {
    let one = |run: &Value| {
        let bytes = |field: &str| run.pointer(&format!("/bytes_per_sample/{field}"))?.as_f64();
        let (own, plain) = (
            bytes("up")? + bytes("down")?,
            bytes("up_16bit")? + bytes("down_32bit")?,
        );
        Some(100.0 * (1.0 - own / plain))
    };
    runs.iter().filter_map(one).collect()
}

/// Mean, and the unbiased deviation where there is one.
fn cell(values: &[f64], decimals: usize) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if values.len() == 1 {
        return format!("{mean:.decimals$}");
    }
    let square: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    format!(
        "{mean:.decimals$} ± {:.decimals$}",
        (square / (count - 1.0)).sqrt()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn runs_of_one_method_are_averaged() {
        let run = |pope: f64, up: f64| {
            json!({
                "accuracy": { "pope": pope },
                "bytes_per_sample": { "up": up, "down": 100.0, "up_16bit": 1600.0, "down_32bit": 2400.0 },
            })
        };
        let (two, one) = (
            vec![run(90.0, 200.0), run(92.0, 400.0)],
            vec![run(95.0, 300.0)],
        );
        let table = table([("a", &two), ("b", &one)].into_iter()).markdown();
        let row = |name: &str| {
            table
                .lines()
                .find(|line| line.starts_with(&format!("| {name} |")))
                .unwrap_or_default()
        };
        assert!(
            row("a").starts_with("| a | 2 | 91.0 ± 1.4 | - |"),
            "{table}"
        );
        assert!(
            row("a").ends_with("| 300 ± 141 | 100 ± 0 | 90.0 ± 3.5 |"),
            "{table}"
        );
        assert!(
            row("b").starts_with("| b | 1 | 95.0 |") && row("b").ends_with("| 90.0 |"),
            "{table}"
        );
    }

    #[test]
    fn seeds_are_cut_off_names() {
        let name = |path: &str| method(Path::new(path)).ok();
        assert_eq!(name("runs/fsq2-seed12").as_deref(), Some("fsq2"));
        assert_eq!(
            name("runs/fsq2-seedling/").as_deref(),
            Some("fsq2-seedling")
        );
        assert_eq!(name("/"), None);
    }
}
