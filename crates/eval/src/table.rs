//! A table of text, printed aligned on a terminal and drawn by the report.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A titled table. Rows shorter than the header are padded with empty cells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// What the table shows; may be empty.
    pub title: String,
    /// A remark below the table; may be empty.
    pub note: String,
    /// One name per column.
    pub header: Vec<String>,
    /// The cells.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(title: impl Into<String>, header: &[&str]) -> Self {
        Self {
            title: title.into(),
            note: String::new(),
            header: header.iter().map(|name| (*name).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Appends a row.
    pub fn push<I, S>(&mut self, cells: I)
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Number of columns: of the header or of the longest row.
    pub fn columns(&self) -> usize {
        self.rows
            .iter()
            .map(Vec::len)
            .fold(self.header.len(), usize::max)
    }

    /// The table as Markdown, title and remark as paragraphs.
    pub fn markdown(&self) -> String {
        let columns = self.columns();
        let line = |row: &[String]| {
            let cells = (0..columns).map(|column| row.get(column).map_or("", String::as_str));
            let cells: Vec<String> = cells.map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule: String = (0..columns)
            .map(|column| {
                if self.is_numeric(column) {
                    "---:|"
                } else {
                    "---|"
                }
            })
            .collect();
        let mut text = String::new();
        if !self.title.is_empty() {
            text += &format!("{}\n\n", self.title);
        }
        text += &format!("{}|{rule}\n", line(&self.header));
        text.extend(self.rows.iter().map(|row| line(row)));
        if !self.note.is_empty() {
            text += &format!("\n{}\n", self.note);
        }
        text
    }

    /// The table as LaTeX for the package booktabs; the title is its caption, the remark stands below.
    pub fn latex(&self) -> String {
        let columns = self.columns();
        let escaped = |cell: &str| -> String {
            let mut text = String::new();
            for c in cell.chars() {
                match c {
                    '\\' => text += "\\textbackslash{}",
                    '&' | '%' | '$' | '#' | '_' | '{' | '}' => text.extend(['\\', c]),
                    '~' => text += "\\textasciitilde{}",
                    '^' => text += "\\textasciicircum{}",
                    '±' => text += "$\\pm$",
                    _ => text.push(c),
                }
            }
            text
        };
        let line = |row: &[String]| {
            let cells =
                (0..columns).map(|column| escaped(row.get(column).map_or("", String::as_str)));
            format!("{} \\\\\n", cells.collect::<Vec<_>>().join(" & "))
        };
        let form: String = (0..columns)
            .map(|column| if self.is_numeric(column) { 'r' } else { 'l' })
            .collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        let caption = match self.title.is_empty() {
            true => String::new(),
            false => format!("\\caption{{{}}}\n", escaped(&self.title)),
        };
        let note = match self.note.is_empty() {
            true => String::new(),
            false => format!("\n\\smallskip {}\n", escaped(&self.note)),
        };
        format!(
            "\\begin{{table}}\n{caption}\\centering\n\\begin{{tabular}}{{{form}}}\n\\toprule\n{}\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}\n{note}\\end{{table}}\n",
            line(&self.header)
        )
    }

    /// Whether a column holds numbers (perhaps with a unit) and is therefore aligned to the right.
    pub fn is_numeric(&self, column: usize) -> bool {
        let mut cells = self
            .rows
            .iter()
            .filter_map(|row| row.get(column))
            .filter(|cell| !cell.is_empty())
            .peekable();
        cells.peek().is_some() && cells.all(|cell| looks_numeric(cell))
    }
}

/// A number, a number with a unit ("12 %", "3.1 MB", "8x"), or a dash for "no number".
fn looks_numeric(cell: &str) -> bool {
    if matches!(cell, "-" | "\u{2013}") {
        return true;
    }
    if let Some((mean, deviation)) = cell.split_once(" ± ") {
        return looks_numeric(mean) && looks_numeric(deviation);
    }
    let unsigned = cell.trim_start_matches(['-', '+', '\u{2212}', '<', '~']);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    // A unit is one short word behind the number; "2 layers of 4" or a date is text.
    let rest =
        unsigned.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | 'e'));
    rest.trim().chars().count() <= 5 && !rest.trim().contains([' ', '-', '/', ':'])
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.columns();
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let width: Vec<usize> = (0..columns)
            .map(|column| {
                std::iter::once(&self.header)
                    .chain(&self.rows)
                    .map(|row| cell(row, column).chars().count())
                    .fold(0, usize::max)
            })
            .collect();
        let line = |row: &[String]| {
            let cells: Vec<String> = (0..columns)
                .map(|column| {
                    let (text, width) = (cell(row, column), width[column]);
                    if self.is_numeric(column) {
                        format!("{text:>width$}")
                    } else {
                        format!("{text:<width$}")
                    }
                })
                .collect();
            cells.join("  ").trim_end().to_owned()
        };
        if !self.title.is_empty() {
            writeln!(f, "{}", self.title)?;
        }
        writeln!(f, "{}", line(&self.header))?;
        writeln!(
            f,
            "{}",
            "-".repeat(width.iter().sum::<usize>() + 2 * columns.saturating_sub(1))
        )?;
        for row in &self.rows {
            writeln!(f, "{}", line(row))?;
        }
        if !self.note.is_empty() {
            writeln!(f, "{}", self.note)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let mut table = Table::new("", &["task", "acc"]);
        table.push(["colour", "7.5"]);
        table.push(["x", "100.0"]);
        assert_eq!(
            table.to_string(),
            "task      acc\n-------------\ncolour    7.5\nx       100.0\n"
        );
    }

    #[test]
    fn markdown_aligns_numbers_and_escapes_bars() {
        let mut table = Table::new("Scores", &["task", "acc"]);
        table.push(["a|b", "7.5"]);
        table.push(["x"]);
        table.push(["y", "7.5 ± 0.1"]);
        table.note = "Per cent.".into();
        assert_eq!(
            table.markdown(),
            "Scores\n\n| task | acc |\n|---|---:|\n| a\\|b | 7.5 |\n| x |  |\n| y | 7.5 ± 0.1 |\n\nPer cent.\n"
        );
    }

    #[test]
    fn latex_escapes_what_it_would_read() {
        let mut table = Table::new("50 %", &["a_b", "n"]);
        table.push(["x & y", "1.0 ± 0.5"]);
        let expected = "\\begin{table}\n\\caption{50 \\%}\n\\centering\n\\begin{tabular}{lr}\n\\toprule\na\\_b & n \\\\\n\
                        \\midrule\nx \\& y & 1.0 $\\pm$ 0.5 \\\\\n\\bottomrule\n\\end{tabular}\n\\end{table}\n";
        assert_eq!(table.latex(), expected);
    }

    #[test]
    fn a_column_with_a_word_is_not_numeric() {
        let mut table = Table::new("", &["a", "b", "c"]);
        table.push(["12 %", "1", "2024-01-01"]);
        table.push(["-", "one", "3"]);
        assert!(table.is_numeric(0));
        assert!(!table.is_numeric(1));
        assert!(!table.is_numeric(2));
        assert!(!table.is_numeric(9));
    }
}
