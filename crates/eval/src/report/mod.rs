//! One HTML page a person can read: tables, charts, pictures with questions and answers.
//!
//! The page stands alone: no scripts, no files beside it, nothing loaded from anywhere, so that it can be
//! mailed, archived, and opened where there is no network. Charts are inline SVG, pictures inline PNG.

mod axis;
mod bar_chart;
mod html;
mod line_chart;
mod standalone;
mod svg;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::{EvalError, Table};

pub use html::render;
pub use standalone::svg;

/// What a page shows, in this order. Empty parts are left out.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The heading.
    pub title: String,
    /// Paragraphs of text, separated by blank lines.
    pub intro: String,
    /// Names and values at the head of the page: model, data, seed, duration.
    pub facts: Vec<(String, String)>,
    /// Tables; the most important first.
    pub tables: Vec<Table>,
    /// Line charts.
    pub charts: Vec<Chart>,
    /// Bar charts.
    pub bars: Vec<BarChart>,
    /// Pictures beside each other.
    pub panels: Vec<Panel>,
    /// Pictures with questions and answers.
    pub examples: Vec<Example>,
    /// The last line of the page, such as whose pictures it shows.
    pub credit: String,
}

/// A line chart.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// What the chart shows.
    pub title: String,
    /// What x is, with its unit.
    pub x_label: String,
    /// What y is, with its unit.
    pub y_label: String,
    /// A remark below the chart; may be empty.
    pub note: String,
    /// Whether y has a logarithmic axis; values that are not positive are then left out.
    pub log_y: bool,
    /// If above 1: a mean over so many neighbouring points is drawn strongly, over the raw values faintly.
    pub smooth: usize,
    /// The lines.
    pub series: Vec<Series>,
}

/// One line of a [`Chart`].
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// What the line is.
    pub name: String,
    /// (x, y) in the order of drawing; points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Horizontal bars, grouped by category.
#[derive(Clone, Debug, Default)]
pub struct BarChart {
    /// What the chart shows.
    pub title: String,
    /// What a bar's length is, with its unit.
    pub value_label: String,
    /// A remark below the chart; may be empty.
    pub note: String,
    /// One group of bars each.
    pub categories: Vec<String>,
    /// One colour each.
    pub series: Vec<BarSeries>,
}

/// One colour of a [`BarChart`].
#[derive(Clone, Debug, Default)]
pub struct BarSeries {
    /// What the colour is; a chart with a single series shows no legend.
    pub name: String,
    /// One value per category; a value that is not finite, or absent, has no bar.
    pub values: Vec<f64>,
}

/// Pictures that are to be compared, each with its label.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// What they are of.
    pub title: String,
    /// Labels, and the bytes of PNG files.
    pub pictures: Vec<(String, Vec<u8>)>,
}

/// A picture with what was asked about it.
#[derive(Clone, Debug, Default)]
pub struct Example {
    /// Shown below the picture, such as its file name; may be empty.
    pub caption: String,
    /// The picture: the bytes of a PNG file.
    pub png: Vec<u8>,
    /// Questions with answers.
    pub qa: Vec<Qa>,
}

/// A question with the model's answer and the truth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Qa {
    /// What was asked.
    pub question: String,
    /// What the model said.
    pub answer: String,
    /// The right answer.
    pub truth: String,
    /// What the answer is worth, from 0 (marked wrong) to 1 (marked right); `None` for no mark.
    pub credit: Option<f64>,
}

/// Renders a report into a file: written beside, synced, then renamed, so that a reader never sees half.
///
/// # Errors
/// The file cannot be written.
pub fn write(report: &Report, path: &Path) -> Result<(), EvalError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let beside = Path::new(&beside);
    let written = File::create(beside).and_then(|mut file| {
        file.write_all(render(report).as_bytes())?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(beside, path))
        .map_err(|source| {
            // The error that matters is the first; a left-over file is only untidy.
            let _ = fs::remove_file(beside);
            EvalError::write(path, source)
        })
}
