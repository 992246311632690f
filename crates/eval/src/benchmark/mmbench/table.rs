//! The table that an MMBench file is: a line is a question with its picture.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use csv::{ReaderBuilder, StringRecord};
use tempfile::TempDir;

use super::Picture;
use crate::EvalError;
use crate::score::mmbench::LETTERS;

/// Between the indices of a question's rotations.
pub(super) const ROUND: u64 = 1_000_000;

/// A picture's cell that is shorter is the index of the row that has it.
const REFERENCE: usize = 64;

/// Columns that a submission does not have.
const LEFT_OUT: [&str; 6] = [
    "hint",
    "category",
    "source",
    "image",
    "comment",
    "l2-category",
];

/// A row, read.
pub(super) struct Row {
    pub line: u64,
    pub index: u64,
    pub question: String,
    pub choices: Vec<String>,
    pub answer: String,
    pub category: String,
    pub ability: String,
    pub cells: Vec<String>,
}

/// The rows of a question, and what is known of its picture.
#[derive(Default)]
pub(super) struct Rows {
    pub base: u64,
    pub rows: Vec<Row>,
    picture: Option<Shown>,
}

enum Shown {
    Here(Picture),
    /// In the row of this index.
    There(u64),
}

/// A file, read.
pub(super) struct Table {
    /// The rows of each question, with the question's picture.
    pub groups: Vec<(Rows, Picture)>,
    /// Columns of the file that a submission has.
    pub columns: Vec<String>,
    /// Where pictures are unpacked; it goes with the questions.
    pub unpacked: TempDir,
}

/// Reads a file, and unpacks its pictures.
pub(super) fn read(path: &Path) -> Result<Table, EvalError> {
    let unpacked = TempDir::with_prefix("mmbench-")
        .map_err(|source| EvalError::write(&std::env::temp_dir(), source))?;
    let mut table = ReaderBuilder::new()
        .delimiter(b'\t')
        .from_path(path)
        .map_err(|problem| broken(path, &problem))?;
    let header = table.headers().map_err(|problem| broken(path, &problem))?;
    let columns = Columns::of(header, path)?;
    let mut all: Vec<Rows> = Vec::new();
    let mut places: HashMap<u64, usize> = HashMap::new();
    for record in table.records() {
        let record = record.map_err(|problem| broken(path, &problem))?;
        let row = columns.row(&record, path)?;
        let base = row.index % ROUND;
        let place = *places.entry(base).or_insert_with(|| {
            all.push(Rows {
                base,
                ..Rows::default()
            });
            all.len() - 1
        });
        let group = &mut all[place];
        if group.picture.is_none() {
            let shown = unpack(columns.cell(&record, "image"), base, unpacked.path());
            group.picture = Some(shown.map_err(|problem| wrong(path, &row, &problem))?);
        }
        if group.rows.iter().any(|other| other.index == row.index) {
            return Err(wrong(path, &row, "stands twice; indices must differ"));
        }
        group.rows.push(row);
    }
    if all.is_empty() {
        return Err(EvalError::file(path, "holds no question"));
    }
    let pictures = pictures(&all, &places, path)?;
    Ok(Table {
        groups: all.into_iter().zip(pictures).collect(),
        columns: columns.submitted().map(str::to_owned).collect(),
        unpacked,
    })
}

/// The picture of each question.
fn pictures(
    all: &[Rows],
    places: &HashMap<u64, usize>,
    path: &Path,
) -> Result<Vec<Picture>, EvalError> {
    let of = |group: &Rows| {
        let shown = match &group.picture {
            Some(Shown::There(index)) => {
                let place = places.get(&(index % ROUND));
                place.and_then(|place| all[*place].picture.as_ref())
            }
            here => here.as_ref(),
        };
        match (shown, &group.rows[..]) {
            (Some(Shown::Here(picture)), _) => Ok(picture.clone()),
            (_, [row, ..]) => Err(wrong(path, row, "`image` names a row that has no picture")),
            (_, []) => Err(EvalError::file(path, "holds no question")),
        }
    };
    all.iter().map(of).collect()
}

/// Writes the picture in a cell to a file, unless it is another row's.
fn unpack(cell: &str, base: u64, dir: &Path) -> Result<Shown, String> {
    let cell = cell.trim();
    if cell.len() <= REFERENCE {
        let index = cell.parse().map_err(|_| {
            format!("`image` is `{cell}`: expected a picture in base64, or the index of the row that has it")
        })?;
        return Ok(Shown::There(index));
    }
    let bytes = STANDARD
        .decode(cell)
        .map_err(|problem| format!("`image` is no base64: {problem}; download the file again"))?;
    let path = dir.join(base.to_string());
    std::fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Shown::Here(Picture { path, absent: None }))
}

fn broken(path: &Path, problem: &csv::Error) -> EvalError {
    let line = problem.position().map_or(1, csv::Position::line);
    let what = format!("no table of tab-separated columns: {problem}; download it again");
    EvalError::line(path, line as usize, what)
}

pub(super) fn wrong(path: &Path, row: &Row, problem: &str) -> EvalError {
    let problem = format!("question {}: {problem}", row.index);
    EvalError::line(path, row.line as usize, problem)
}

/// Where columns stand.
struct Columns {
    names: Vec<String>,
}

impl Columns {
    fn of(header: &StringRecord, path: &Path) -> Result<Self, EvalError> {
        let names = header
            .iter()
            .map(|name| name.trim_start_matches('\u{feff}'));
        let columns = Self {
            names: names.map(str::to_owned).collect(),
        };
        for needed in ["index", "question", "A", "B", "image"] {
            if !columns.names.iter().any(|name| name == needed) {
                let problem = format!("has no column `{needed}` in its first line");
                return Err(EvalError::file(path, problem));
            }
        }
        Ok(columns)
    }

    /// A cell; empty where there is no such column, or where pandas, which the published programs read with, reads nothing.
    fn cell<'a>(&self, record: &'a StringRecord, name: &str) -> &'a str {
        let place = self.names.iter().position(|own| own == name);
        let cell = place.and_then(|place| record.get(place)).unwrap_or("");
        match cell {
            "nan" | "NaN" | "-nan" | "-NaN" | "none" | "None" | "NONE" | "NAN" | "Nan" | "null"
            | "NULL" | "NA" | "N/A" | "n/a" | "<NA>" | "#N/A" | "#NA" | "#N/A N/A" | "1.#IND"
            | "-1.#IND" | "1.#QNAN" | "-1.#QNAN" => "",
            cell => cell,
        }
    }

    fn row(&self, record: &StringRecord, path: &Path) -> Result<Row, EvalError> {
        let line = record.position().map_or(0, csv::Position::line);
        let of = |name: &str| self.cell(record, name).to_owned();
        let index = of("index");
        let Ok(index) = index.parse() else {
            let problem = format!("`index` is `{index}`, not a whole number");
            return Err(EvalError::line(path, line as usize, problem));
        };
        let (question, hint) = (of("question"), of("hint"));
        let choices = LETTERS.map(|letter| of(&letter.to_string()));
        let choices = choices.into_iter().take_while(|choice| !choice.is_empty());
        let named = |name: &str| match of(name) {
            empty if empty.is_empty() => "none".to_owned(),
            value => value,
        };
        Ok(Row {
            line,
            index,
            question: match hint.is_empty() {
                true => question,
                false => format!("{hint}\n{question}"),
            },
            choices: choices.collect(),
            answer: of("answer").trim().to_owned(),
            category: named("category"),
            ability: named("l2-category"),
            cells: self.submitted().map(of).collect(),
        })
    }

    fn submitted(&self) -> impl Iterator<Item = &str> {
        let names = self.names.iter().map(String::as_str);
        names.filter(|name| !LEFT_OUT.contains(name))
    }
}
