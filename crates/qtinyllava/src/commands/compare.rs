//! `compare`: finished demos side by side, mean and deviation over seeds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qtl_eval::Table;
use qtl_eval::report::{Chart, Series, svg};
use serde_json::Value;

use super::leaks;

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
    /// Also write what is printed to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also tabulate differences to this method, seed by seed, with 95 % intervals of their means
    #[arg(long, value_name = "NAME")]
    against: Option<String>,
    /// Also draw bytes per sample against accuracy into this file; with --leakage, what pictures leak instead of bytes
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Also tabulate what `leakage` has found in DIR/attacks of each run
    #[arg(long)]
    leakage: bool,
}

/// Columns that are accuracies.
const FORMS: usize = 5;
/// 97.5 % points of Student's t for 1 degree of freedom and on.
const STUDENT: [f64; 15] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131,
];

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
    let mut seeds: BTreeMap<String, Vec<Option<u64>>> = BTreeMap::new();
    for run in &args.runs {
        let path = run.join("summary.json");
        let text = fs::read(&path).with_context(|| {
            format!("{}: is {} a finished demo?", path.display(), run.display())
        })?;
        let summary = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no JSON", path.display()))?;
        let (name, seed) = method(run)?;
        seeds.entry(name.clone()).or_default().push(seed);
        if !groups.contains_key(&name) {
            order.push(name.clone());
        }
        groups.entry(name).or_default().push(summary);
    }
    let rows = || order.iter().map(|name| (name.as_str(), &groups[name]));
    let mut table = table(rows()).markdown();
    if let Some(own) = &args.against {
        let Some(runs) = groups.get(own) else {
            bail!("--against {own}: there are {}", order.join(", "));
        };
        let base = by_seed(&seeds[own], runs);
        let others = rows().filter(|(name, _)| name != own);
        let others = others.map(|(name, runs)| (name, by_seed(&seeds[name], runs)));
        table = format!("{table}\n{}", differences(own, &base, others).markdown());
    }
    let mut attacks: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for run in args.runs.iter().filter(|_| args.leakage) {
        let (name, _) = method(run)?;
        attacks.entry(name).or_default().push(leaks::read(run)?);
    }
    let leaky = || {
        let known = rows().filter_map(|(name, runs)| Some((name, runs, attacks.get(name)?)));
        known.filter_map(|(name, runs, attacks)| {
            let all: Vec<f64> = runs.iter().filter_map(accuracy).collect();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            (!all.is_empty()).then_some((name, mean, attacks.as_slice()))
        })
    };
    if args.leakage {
        table = format!("{table}\n{}", leaks::table(leaky()).markdown());
    }
    print!("{table}");
    if let Some(path) = &args.svg {
        let chart = match args.leakage {
            true => leaks::chart(leaky()),
            false => frontier(rows()),
        };
        qtl_train::files::replace(path, svg(&chart).as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.out {
        qtl_train::files::replace(path, table.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Runs by their seeds, which alone can be paired.
fn by_seed<'a>(seeds: &[Option<u64>], runs: &'a [Value]) -> BTreeMap<u64, &'a Value> {
    let pairs = seeds.iter().zip(runs);
    pairs
        .filter_map(|(seed, run)| Some(((*seed)?, run)))
        .collect()
}

/// In every form, by how much a method differs from another on the same seeds.
fn differences<'a>(
    own: &str,
    base: &BTreeMap<u64, &Value>,
    others: impl Iterator<Item = (&'a str, BTreeMap<u64, &'a Value>)>,
) -> Table {
    let mut table = Table::new("", &["method", "pairs"]);
    let forms = &COLUMNS[..FORMS];
    table
        .header
        .extend(forms.iter().map(|(title, ..)| (*title).to_owned()));
    for (name, runs) in others {
        let shared: Vec<_> = runs
            .iter()
            .filter_map(|(seed, run)| Some((*base.get(seed)?, *run)))
            .collect();
        let cells = forms.iter().map(|(_, place, _)| {
            let score = |run: &Value| run.pointer(place)?.as_f64();
            let pairs = shared.iter();
            let off = pairs.filter_map(|(base, run)| Some(score(run)? - score(base)?));
            interval(&off.collect::<Vec<_>>())
        });
        let first = [name.to_owned(), shared.len().to_string()].into_iter();
        table.push(first.chain(cells));
    }
    table.note = format!(
        "Differences to {own} in points, run by run of the same seed: mean and 95 % interval of the mean (Student's t)."
    );
    table
}

/// A mean and how far its 95 % interval reaches on either side.
fn interval(values: &[f64]) -> String {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    match values.len() {
        0 => "-".to_owned(),
        1 => format!("{mean:+.1}"),
        len => {
            let square: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
            let t = STUDENT.get(len - 2).copied().unwrap_or(2.131);
            format!(
                "{mean:+.1} ± {:.1}",
                t * (square / (count - 1.0) / count).sqrt()
            )
        }
    }
}

/// The mean of a run's question forms.
fn accuracy(run: &Value) -> Option<f64> {
    let forms = COLUMNS[..FORMS].iter();
    let scores: Vec<f64> = forms
        .filter_map(|(_, place, _)| run.pointer(place)?.as_f64())
        .collect();
    (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
}

/// What methods send and how well they answer, as means over their runs.
fn frontier<'a>(groups: impl Iterator<Item = (&'a str, &'a Vec<Value>)>) -> Chart {
    let point = |run: &Value| {
        let bytes = |field: &str| run.pointer(&format!("/bytes_per_sample/{field}"))?.as_f64();
        Some((accuracy(run)?, bytes("up")? + bytes("down")?))
    };
    let series = groups.filter_map(|(name, runs)| {
        let all: Vec<(f64, f64)> = runs.iter().filter_map(point).collect();
        let mean = |of: fn(&(f64, f64)) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
        let at = (mean(|p| p.0), mean(|p| p.1));
        let name = format!("{name}: {:.0} bytes, {:.1} %", at.1, at.0);
        (!all.is_empty()).then(|| Series {
            name,
            points: vec![at],
        })
    });
    Chart {
        title: "What a sample takes up and down, and what it is worth".into(),
        x_label: "accuracy, mean of the question forms, per cent".into(),
        y_label: "bytes per sample".into(),
        log_y: true,
        series: series.collect(),
        ..Chart::default()
    }
}

/// The directory's name without the seed, and the seed.
fn method(run: &Path) -> Result<(String, Option<u64>)> {
    let Some(name) = run.file_name().and_then(|name| name.to_str()) else {
        bail!(
            "{} has no name; give the run's own directory",
            run.display()
        );
    };
    Ok(match name.rsplit_once("-seed") {
        Some((method, seed)) if seed.parse::<u64>().is_ok() => {
            (method.to_owned(), seed.parse().ok())
        }
        _ => (name.to_owned(), None),
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
    fn differences_are_of_the_same_seeds() {
        let run = |pope: f64| json!({ "accuracy": { "pope": pope, "vqa": null }, "bytes_per_sample": { "up": 60.0, "down": 40.0 } });
        let (base, other) = (
            [run(90.0), run(92.0), run(80.0)],
            [run(93.0), run(90.5), run(10.0)],
        );
        let base = by_seed(&[Some(1), Some(2), None], &base);
        let pairs = by_seed(&[Some(2), Some(1), Some(7)], &other);
        assert_eq!((base.len(), pairs.len()), (2, 3));
        let table = differences("a", &base, [("b", pairs)].into_iter()).markdown();
        // 93 - 92 and 90.5 - 90: 0.75 on average; Student's t of one degree of freedom.
        assert!(table.contains("| b | 2 | +0.8 ± 3.2 | - |"), "{table}");
        assert_eq!(interval(&[1.5]), "+1.5");
        let chart = frontier([("b", &vec![run(90.0), run(92.0)])].into_iter());
        assert_eq!(chart.series[0].points, [(91.0, 100.0)]);
        assert!(svg(&chart).contains("b: 100 bytes, 91.0 %"));
    }

    #[test]
    fn seeds_are_cut_off_names() {
        let name = |path: &str| method(Path::new(path)).ok().map(|(name, _)| name);
        assert_eq!(
            method(Path::new("runs/fsq2-seed12")).ok().and_then(|m| m.1),
            Some(12)
        );
        assert_eq!(name("runs/fsq2-seed12").as_deref(), Some("fsq2"));
        assert_eq!(
            name("runs/fsq2-seedling/").as_deref(),
            Some("fsq2-seedling")
        );
        assert_eq!(name("/"), None);
    }
}
