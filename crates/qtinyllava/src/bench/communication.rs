//! `bench communication`: what every quantizer and every gradient codec costs on the wire.

use std::path::Path;

use anyhow::{Context, Result, bail};
use qtl_data::scenes::{Plan, TRAIN_SEED};
use qtl_eval::Table;
use qtl_model::Device;
use qtl_model::partition::TextRows;
use qtl_model::quant::QuantizerSpec;
use qtl_model::quant::gradient::GradientCodec;
use qtl_train::Recipe;
use qtl_train::communication::{
    LINES, Measured, Reference, Sent, Shape, Workload, measure, reference,
};
use serde::Serialize;
use serde_json::json;

use super::rank::{self, Rank};
use crate::progress::Progress;
use crate::{commands, demo};

/// A quantizer and a gradient codec, and what they cost.
#[derive(Serialize)]
struct Row {
    quantizer: String,
    codec: String,
    #[serde(flatten)]
    measured: Measured,
    /// Seconds of a step's communication, in the order of `lines`.
    step_seconds: Vec<f64>,
}

/// Everything about one workload.
#[derive(Serialize)]
pub struct Findings {
    data: String,
    /// Image rows, text rows, channels of a step.
    rows: [f64; 3],
    /// What training without quantizers sends, every row and 32-bit gradients; then every quantizer with the gradient
    /// codec of the demo's recipe.
    quantizers: Vec<Row>,
    /// Every gradient codec with the quantizer of the demo's recipe.
    gradients: Vec<Row>,
    reference: Vec<Reference>,
    /// What a low-rank gradient would lose; of gradients that a language model made.
    ranks: Vec<Rank>,
}

/// Measures quantizers whose names contain `only`, and every gradient codec, on features of this shape and on so many
/// batches of the demo.
pub fn findings(shape: Shape, batches: usize, only: &str) -> Result<Vec<Findings>> {
    let device = Device::default();
    let recipe = demo::recipe(&[])?;
    let makers: [&dyn Fn() -> Result<Workload>; 2] =
        [&|| demo_steps(&recipe, batches, &device), &|| {
            Ok(Workload::synthetic(shape, &device))
        }];
    let (mut quantizers, codecs) = (QuantizerSpec::settings(), GradientCodec::settings());
    quantizers.retain(|spec| spec.to_string().contains(only));
    if quantizers.is_empty() {
        bail!(
            "--only {only}: no quantizer is called so; there are {}",
            QuantizerSpec::settings()
                .iter()
                .map(QuantizerSpec::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    let each = 1 + quantizers.len() + codecs.len() + 1;
    let mut bar = Progress::new("measuring", (makers.len() * each) as u64);
    let mut done = 0;
    let mut all = Vec::with_capacity(makers.len());
    for make in makers {
        let work = make()?;
        let mut row = |up: &QuantizerSpec, down: &GradientCodec, rows| -> Result<Row> {
            let what = format!("{}: {up}, {down}", work.name);
            bar.at(done, &what);
            let measured = measure(&work, up, down, rows, &device).with_context(|| what)?;
            done += 1;
            let (bytes, seconds) = both(&measured);
            Ok(Row {
                quantizer: up.to_string(),
                codec: down.to_string(),
                measured,
                step_seconds: LINES.map(|line| line.seconds(bytes, seconds)).into(),
            })
        };
        let mut first = row(&QuantizerSpec::NONE, &GradientCodec::F32, TextRows::All)?;
        first.quantizer.push_str(", every row");
        let mut rows = vec![first];
        for quantizer in &quantizers {
            rows.push(row(quantizer, &recipe.gradient.codec, TextRows::Distinct)?);
        }
        let gradients = codecs
            .iter()
            .map(|codec| row(&recipe.quantizer.image, codec, TextRows::Distinct));
        let gradients = gradients.collect::<Result<_>>()?;
        bar.at(done, &format!("{}: ranks", work.name));
        let ranks = rank::ranks(&work, &device)?;
        done += 1;
        let [images, texts, channels] = work.rows();
        all.push(Findings {
            gradients,
            ranks,
            quantizers: rows,
            reference: reference(images + texts, channels),
            rows: work.rows(),
            data: work.name,
        });
    }
    bar.at(done, "");
    Ok(all)
}

/// The first batches of the demo's own data, through its base.
fn demo_steps(recipe: &Recipe, batches: usize, device: &Device) -> Result<Workload> {
    let dir = tempfile::tempdir()?;
    let (model, data) = (dir.path().join("base"), dir.path().join("data"));
    demo::base::write(&model)?;
    let scenes = Plan::new(TRAIN_SEED, (batches * recipe.train.batch) as u64);
    commands::data::scenes(false, &data, &scenes)?;
    let mut plain = recipe.clone();
    plain.quantizer.image = QuantizerSpec::NONE;
    plain.quantizer.text = QuantizerSpec::NONE;
    let blueprint = commands::blueprint(&model, &plain)?;
    let (file, images) = (data.join("llava.json"), data.join("images"));
    let source = commands::reader(&plain, &blueprint, &file, &images)?;
    let client = blueprint.client(device)?.partition;
    let server = blueprint.server(device)?.partition;
    let work = Workload::of_data("demo", &client, server, &plain, source, batches)?;
    Ok(work)
}

/// Bytes and coding seconds of the round trip.
fn both(measured: &Measured) -> (f64, f64) {
    let Measured { up, down } = measured;
    (up.bytes + down.bytes, up.seconds + down.seconds)
}

/// Tables per workload: the way up, the way down, step times, and ranks where there are any.
pub fn tables(all: &[Findings]) -> Vec<Table> {
    all.iter()
        .flat_map(|found| {
            let ranks = (!found.ranks.is_empty()).then(|| ranks(found));
            [up(found), down(found), times(found)]
                .into_iter()
                .chain(ranks)
        })
        .collect()
}

fn title(found: &Findings, what: &str) -> String {
    let [images, texts, channels] = found.rows;
    format!(
        "{}: {what}; a step has {images:.0} image rows, {texts:.0} text rows, {channels:.0} channels",
        found.data
    )
}

/// Per cent that the round trip is smaller than the reference's without a quantizer.
fn saved(found: &Findings, bytes: f64) -> String {
    let plain = found.reference.first().map_or(0.0, |r| r.up + r.down);
    format!("{:.1}", 100.0 * (1.0 - bytes / plain))
}

fn kilo(bytes: f64) -> String {
    format!("{:.1}", bytes / 1e3)
}

fn bits(found: &Findings, bytes: f64) -> String {
    let [images, texts, channels] = found.rows;
    format!("{:.3}", 8.0 * bytes / ((images + texts) * channels))
}

fn quality(sent: &Sent) -> [String; 4] {
    [
        format!("{:.1}", sent.side_percent),
        format!("{:.4}", sent.error),
        format!("{:.4}", sent.cosine),
        format!("{:.1}", 1e3 * sent.seconds),
    ]
}

fn up(found: &Findings) -> Table {
    let header = [
        "quantizer",
        "kB up",
        "bits",
        "image bits",
        "side %",
        "mse",
        "cosine",
        "coding ms",
        "kB down",
        "bits down",
        "saved %",
    ];
    let mut table = Table::new(title(found, "up"), &header);
    for row in &found.quantizers {
        let Measured { up, down } = &row.measured;
        let [side, mse, cosine, coding] = quality(up);
        table.push([
            row.quantizer.clone(),
            kilo(up.bytes),
            format!("{:.3}", up.bits_per_element),
            format!("{:.3}", up.image_bits),
            side,
            mse,
            cosine,
            coding,
            kilo(down.bytes),
            format!("{:.3}", down.bits_per_element),
            saved(found, up.bytes + down.bytes),
        ]);
    }
    for way in &found.reference {
        let (bits_up, bits_down) = (bits(found, way.up), bits(found, way.down));
        let none = || "-".to_owned();
        table.push([
            way.method.to_owned(),
            kilo(way.up),
            bits_up,
            none(),
            none(),
            none(),
            none(),
            none(),
            kilo(way.down),
            bits_down,
            saved(found, way.up + way.down),
        ]);
    }
    table.note = format!(
        "Whole messages as the wire's meter counts them; bits per element of all rows, crossed or not. Side: all of a message but \
         targets and the elements' own numbers. Mse: relative to the variance, after the best gain. Coding: processor time of \
         both sides, one thread. Down: {} (first row: f32). Saved: of the round trip, against the reference without a \
         quantizer. The reference's bytes are computed from its format, without pickling and padding.",
        found.quantizers.last().map_or("", |row| &row.codec)
    );
    table
}

fn down(found: &Findings) -> Table {
    let header = [
        "gradient codec",
        "kB down",
        "bits",
        "side %",
        "mse",
        "cosine",
        "coding ms",
        "saved %",
    ];
    let mut table = Table::new(title(found, "down"), &header);
    for row in &found.gradients {
        let Measured { up, down } = &row.measured;
        let [side, mse, cosine, coding] = quality(down);
        table.push([
            row.codec.clone(),
            kilo(down.bytes),
            format!("{:.3}", down.bits_per_element),
            side,
            mse,
            cosine,
            coding,
            saved(found, up.bytes + down.bytes),
        ]);
    }
    table.note = format!(
        "Up: {}. Mse relative to the square. The reference sends 32 bits per element of every row.",
        found.gradients.first().map_or("", |row| &row.quantizer)
    );
    table
}

fn times(found: &Findings) -> Table {
    let what = "milliseconds of a step's communication by Mbit/s / round trip in ms";
    let mut table = Table::new(title(found, what), &["up", "down"]);
    let lines = LINES.map(|line| format!("{}/{}", line.mbit, line.round_trip_ms));
    table.header.extend(lines);
    let mut push = |up: String, down: String, seconds: &[f64]| {
        let ms = seconds.iter().map(|s| format!("{:.1}", 1e3 * s));
        table.push([up, down].into_iter().chain(ms));
    };
    for row in &found.quantizers {
        push(row.quantizer.clone(), row.codec.clone(), &row.step_seconds);
    }
    for way in &found.reference {
        let seconds = LINES.map(|line| line.seconds(way.up + way.down, 0.0));
        push(way.method.to_owned(), "f32".to_owned(), &seconds);
    }
    table.note = "Computed: measured bytes over the line, one round trip, measured coding on both sides, nothing overlapping; \
                  without computing. The reference's coding is taken for nothing."
        .to_owned();
    table
}

fn ranks(found: &Findings) -> Table {
    let header = [
        "rank",
        "image, own",
        "image, shared",
        "text, own",
        "text, shared",
    ];
    let mut table = Table::new(title(found, "mse of a low-rank gradient"), &header);
    for rank in &found.ranks {
        let lost = rank.lost.map(|lost| format!("{lost:.4}"));
        table.push([rank.rank.to_string()].into_iter().chain(lost));
    }
    table.note = "What is left of the gradient's square outside the best subspace of so many dimensions: the message's own, or the \
                  one that all earlier messages share, which need not be sent. Coefficients are taken as exact."
        .to_owned();
    table
}

/// Writes the numbers as JSON.
pub fn write_json(all: &[Findings], path: &Path) -> Result<()> {
    let value = json!({ "lines": LINES, "data": all });
    qtl_train::metrics::write_json(path, &value)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes the tables as Markdown.
pub fn write_markdown(tables: &[Table], path: &Path) -> Result<()> {
    let text: Vec<String> = tables.iter().map(Table::markdown).collect();
    qtl_train::files::replace(path, text.join("\n").as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
