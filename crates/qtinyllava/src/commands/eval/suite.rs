//! `eval --suite`: several benchmarks, one table.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qtl_eval::Table;
use qtl_eval::benchmark::combined::{Combined, REFERENCE};
use qtl_eval::benchmark::{Choice, FormScore, Suite, named};
use qtl_eval::report::{self, Report};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::Ask;
use super::kept::Keep;
use super::{Scored, judge};

/// The list of benchmarks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Whether every question is asked about blank pictures, too.
    #[serde(default = "yes")]
    blank: bool,
    benchmark: Vec<Entry>,
}

/// One benchmark.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    dir: PathBuf,
    limit: Option<usize>,
    /// MM-Vet: a file of grades.
    grades: Option<PathBuf>,
}

fn yes() -> bool {
    true
}

/// What to do with the table.
pub struct Outputs<'a> {
    /// JSON.
    pub json: Option<&'a Path>,
    /// LaTeX.
    pub latex: Option<&'a Path>,
    /// A page.
    pub page: Option<&'a Path>,
    /// Files for the benchmarks' servers.
    pub submissions: Option<&'a Path>,
    /// Answers, a file per benchmark.
    pub answers: Option<&'a Path>,
    /// Go on with them.
    pub resume: bool,
}

/// One row of the table.
struct Row {
    name: String,
    blank: bool,
    all: Vec<Scored>,
}

impl List {
    /// Reads the list; folders are relative to its file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut list: Self = toml::from_str(&text).with_context(|| {
            format!(
                "{}: expected [[benchmark]] tables with `name` and `dir`",
                path.display()
            )
        })?;
        if list.benchmark.is_empty() {
            bail!(
                "{}: names no benchmark; add [[benchmark]] with `name` and `dir`",
                path.display()
            );
        }
        let base = path.parent().unwrap_or(Path::new(""));
        let mut seen = std::collections::HashSet::new();
        for entry in &mut list.benchmark {
            let form = named(&entry.name)
                .with_context(|| path.display().to_string())?
                .form();
            if !seen.insert(form) {
                bail!(
                    "{}: names `{}` twice; a table has one column for it",
                    path.display(),
                    entry.name
                );
            }
            entry.dir = base.join(&entry.dir);
            entry.grades = entry.grades.take().map(|file| base.join(file));
        }
        Ok(list)
    }

    /// Loads every benchmark, so that what is wrong with the last is not found after hours of the first.
    pub fn load(&self, limit: Option<usize>) -> Result<Vec<Suite>> {
        let load = |entry: &Entry| {
            let choice = Choice {
                benchmark: Some(entry.name.clone()),
                limit: limit.or(entry.limit),
            };
            Ok(Suite::choose(&entry.dir, &choice)?)
        };
        self.benchmark.iter().map(load).collect()
    }
}

/// Asks every benchmark and makes the table.
pub fn run(
    list: &List,
    suites: &[Suite],
    model: &str,
    judge: &judge::Args,
    out: &Outputs<'_>,
    ask: &mut Ask<'_>,
) -> Result<()> {
    if let Some(dir) = out.answers {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let mut rows = Vec::new();
    let kinds: &[bool] = if list.blank { &[false, true] } else { &[false] };
    for &blank in kinds {
        let mut all = Vec::new();
        for (entry, suite) in list.benchmark.iter().zip(suites) {
            let form = named(&entry.name)?.form();
            eprintln!("{form}{}", if blank { ", blank pictures" } else { "" });
            let kind = if blank { "blank." } else { "" };
            let file = out
                .answers
                .map(|dir| dir.join(format!("{form}.{kind}answers.jsonl")));
            let keep = Keep {
                file: file.as_deref(),
                resume: out.resume,
            };
            let outcomes = ask(suite, &keep, blank)?;
            // Grades are of one model's answers, and a judge costs money: blank pictures have none.
            let judge = (!blank).then(|| judge.with_file(entry.grades.as_deref()));
            let scored = Scored::of(suite, outcomes, judge.as_ref(), &entry.dir)?;
            if let (false, Some(dir)) = (blank, out.submissions) {
                scored.submit(suite, dir)?;
            }
            all.push(scored);
        }
        let name = if blank { "blank pictures" } else { model }.to_owned();
        rows.push(Row { name, blank, all });
    }
    for form in rows.iter().take(1).flat_map(Row::forms) {
        let whole = form.whole();
        if !whole.trim().is_empty() {
            println!("{whole}");
        }
    }
    let table = table(&rows);
    println!("{table}");
    rows.iter()
        .flat_map(|row| &row.all)
        .for_each(Scored::list_missed);
    write(&table, &rows, out)
}

impl Row {
    fn forms(&self) -> impl Iterator<Item = &FormScore> {
        self.all.iter().flat_map(|scored| &scored.scores.forms)
    }
}

fn table(rows: &[Row]) -> Table {
    let forms: Vec<&FormScore> = rows.iter().take(1).flat_map(Row::forms).collect();
    let known = REFERENCE
        .iter()
        .filter(|(name, _)| forms.iter().any(|form| form.form == *name));
    let mut columns: Vec<(&str, String)> = known
        .map(|(name, heading)| (*name, (*heading).to_owned()))
        .collect();
    let more = forms
        .iter()
        .filter(|form| !REFERENCE.iter().any(|(name, _)| *name == form.form));
    columns.extend(more.map(|form| (form.form, form.form.to_owned())));
    let first = Combined::of(forms.iter().copied());
    let mut table = Table::new("Benchmarks", &["model"]);
    for (name, heading) in &columns {
        let judge = forms
            .iter()
            .find(|form| form.form == *name)
            .and_then(|form| judge_of(form));
        table
            .header
            .push(judge.map_or_else(|| heading.clone(), |judge| format!("{heading} ({judge})")));
    }
    table.header.push(first.name());
    for row in rows {
        let mut cells = vec![row.name.clone()];
        for (name, _) in &columns {
            let form = row.forms().find(|form| form.form == *name);
            cells.push(form.map_or_else(|| "-".to_owned(), FormScore::shown));
        }
        let combined = Combined::of(row.forms());
        // A mean of fewer benchmarks than the row above compares with nothing.
        let mean = combined.mean.filter(|_| combined.missing == first.missing);
        cells.push(mean.map_or_else(|| "-".to_owned(), |mean| format!("{mean:.1}")));
        table.push(cells);
    }
    table.note = "Per cent; MME in points, of which the combined score takes their share of all points there are.".to_owned();
    if !first.missing.is_empty() {
        table.note += &format!(" Not in the combined score: {}.", first.missing.join(", "));
    }
    let missed: usize = rows
        .iter()
        .take(1)
        .flat_map(|row| &row.all)
        .map(|one| one.missed.len())
        .sum();
    if missed > 0 {
        table.note += &format!(
            " {missed} questions have no answer: POPE leaves them out, elsewhere they are wrong."
        );
    }
    table
}

/// Who graded, where somebody did.
fn judge_of(form: &FormScore) -> Option<String> {
    let judges = form.details.pointer("/graded/judges")?.as_array()?;
    let names: Vec<&str> = judges.iter().filter_map(Value::as_str).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn write(table: &Table, rows: &[Row], out: &Outputs<'_>) -> Result<()> {
    if let Some(path) = out.json {
        let rows: Vec<Value> = rows.iter().map(row_json).collect();
        qtl_train::metrics::write_json(path, &json!({"rows": rows}))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = out.latex {
        qtl_train::files::replace(path, table.latex().as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = out.page {
        let details = rows
            .iter()
            .take(1)
            .flat_map(Row::forms)
            .map(|form| form.table.clone());
        let details = details.filter(|table| !table.rows.is_empty());
        let page = Report {
            title: "Benchmarks".to_owned(),
            tables: std::iter::once(table.clone()).chain(details).collect(),
            ..Report::default()
        };
        report::write(&page, path)?;
    }
    Ok(())
}

fn row_json(row: &Row) -> Value {
    let combined = Combined::of(row.forms());
    let each = row.all.iter().map(|scored| {
        json!({"scores": scored.scores, "questions": scored.answers.len(), "unanswered": scored.missed})
    });
    json!({
        "model": row.name, "blank": row.blank, "combined": combined.mean, "of": combined.of, "missing": combined.missing,
        "benchmarks": each.collect::<Vec<_>>(),
    })
}
