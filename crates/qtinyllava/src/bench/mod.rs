//! Measurements. `bench codec`: how fast and how small the codec is on this machine, beside others, on the same planes;
//! [`communication`]: what a step costs on the wire.

pub mod communication;
mod data;
mod ours;
mod rank;
mod rivals;
mod timing;

use std::path::Path;

use anyhow::{Context, Result};
use qtl_eval::Table;
use serde::Serialize;

pub use data::Data;
pub use timing::Timer;

/// One measurement: an operation on a data set.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which features.
    pub data: &'static str,
    /// What is done to them.
    pub op: &'static str,
    /// Features per second, in units of 10^9, on one core.
    pub gelem_per_s: f64,
    /// Bits per feature of what the operation makes (or, going back, of what it reads).
    pub bits_per_element: f64,
}

/// What goes into the JSON file.
#[derive(Serialize)]
struct Rows<'a> {
    rows: &'a [Row],
}

/// A shape for synthetic data: samples, tokens of each, channels.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Samples of the batch.
    pub samples: usize,
    /// Rows of a sample.
    pub tokens: usize,
    /// Columns.
    pub channels: usize,
}

/// Measures everything; `watch` is told what comes next.
pub fn measure(
    shape: Shape,
    scenes: u64,
    timer: Timer,
    watch: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for make in data::ALL {
        watch("making the features");
        let data = make(shape, scenes)?;
        let mut add = |op, seconds: f64, bits: f64| {
            rows.push(Row {
                data: data.name,
                op,
                gelem_per_s: data.x.len() as f64 / seconds / 1e9,
                bits_per_element: bits,
            });
        };
        ours::measure(
            &data,
            timer,
            &mut |op| watch(&format!("{}: {op}", data.name)),
            &mut add,
        )?;
        rivals::measure(
            &data,
            timer,
            &mut |op| watch(&format!("{}: {op}", data.name)),
            &mut add,
        )?;
    }
    Ok(rows)
}

/// Operations down, data sets across: speed and size of each.
pub fn table(rows: &[Row]) -> Table {
    let mut sets: Vec<&str> = Vec::new();
    let mut ops: Vec<&str> = Vec::new();
    for row in rows {
        if !sets.contains(&row.data) {
            sets.push(row.data);
        }
        if !ops.contains(&row.op) {
            ops.push(row.op);
        }
    }
    let mut table = Table::new(
        "10^9 features per second and bits per feature, one core",
        &[],
    );
    table.header.push("operation".to_owned());
    for set in &sets {
        table.header.extend([(*set).to_owned(), "bits".to_owned()]);
    }
    for op in ops {
        let mut cells = vec![op.to_owned()];
        for set in &sets {
            match rows.iter().find(|row| row.op == op && row.data == *set) {
                Some(row) => cells.extend([
                    format!("{:.3}", row.gelem_per_s),
                    format!("{:.4}", row.bits_per_element),
                ]),
                None => cells.extend(["-".to_owned(), "-".to_owned()]),
            }
        }
        table.push(cells);
    }
    table
}

/// Writes the rows as JSON.
pub fn write(rows: &[Row], path: &Path) -> Result<()> {
    let value = serde_json::to_value(Rows { rows })?;
    qtl_train::metrics::write_json(path, &value)
        .with_context(|| format!("cannot write {}", path.display()))
}
