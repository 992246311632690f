//! `bench communication`: what every quantizer and every gradient codec costs on the wire.

mod own;
mod tables;

use std::path::Path;

use anyhow::{Context, Result, bail};
use qtl_data::scenes::{Plan, TRAIN_SEED};
use qtl_eval::Table;
use qtl_model::Device;
use qtl_model::quant::QuantizerSpec;
use qtl_model::quant::gradient::GradientCodec;
use qtl_train::Recipe;
use qtl_train::communication::{
    LINES, Measured, Reference, Shape, TextSent, Workload, measure, reference,
};
use serde::Serialize;
use serde_json::json;

pub use own::{Compared, Own, line};
pub use tables::tables;

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
    /// Seconds of a step's communication, by bytes at the socket, in the order of `lines`.
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
pub fn findings(
    shape: Shape,
    batches: usize,
    only: &str,
    device: &Device,
) -> Result<Vec<Findings>> {
    let recipe = demo::recipe(&[])?;
    let makers: [&dyn Fn() -> Result<Workload>; 2] =
        [&|| demo_steps(&recipe, batches, device), &|| {
            Ok(Workload::synthetic(shape, device))
        }];
    let (quantizers, codecs) = (named(only)?, GradientCodec::settings());
    let each = 1 + quantizers.len() + codecs.len() + 1;
    let mut bar = Bar::new(makers.len() * each);
    let mut all = Vec::with_capacity(makers.len());
    for make in makers {
        let work = make()?;
        let rows = rows(&work, &quantizers, &recipe, device, &mut bar)?;
        let gradients = codecs.iter().map(|codec| {
            row(
                &work,
                &recipe.quantizer.image,
                codec,
                TextSent::of(&recipe),
                device,
                &mut bar,
            )
        });
        let gradients = gradients.collect::<Result<_>>()?;
        bar.says(&format!("{}: ranks", work.name));
        let ranks = rank::ranks(&work, device)?;
        bar.done += 1;
        all.push(Findings::new(work, rows, gradients, ranks));
    }
    bar.says("");
    Ok(all)
}

/// Measures quantizers on a user's own data, and compares.
pub fn of_own(own: &Own, only: &str, device: &Device) -> Result<(Findings, Compared)> {
    let quantizers = named(only)?;
    let (work, known) = own.workload(device)?;
    let mut bar = Bar::new(1 + quantizers.len());
    let rows = rows(&work, &quantizers, &own.recipe, device, &mut bar)?;
    bar.says("");
    let found = Findings::new(work, rows, Vec::new(), Vec::new());
    let compared = own.compare(&known, &found);
    Ok((found, compared))
}

/// The quantizers whose names contain `only`.
fn named(only: &str) -> Result<Vec<QuantizerSpec>> {
    let mut quantizers = QuantizerSpec::settings();
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
    Ok(quantizers)
}

/// How far a measurement is.
struct Bar {
    bar: Progress,
    done: u64,
}

impl Bar {
    fn new(length: usize) -> Self {
        Self {
            bar: Progress::new("measuring", length as u64),
            done: 0,
        }
    }

    fn says(&mut self, what: &str) {
        self.bar.at(self.done, what);
    }
}

/// Everything uncompressed, then every quantizer with the recipe's gradient codec.
fn rows(
    work: &Workload,
    quantizers: &[QuantizerSpec],
    recipe: &Recipe,
    device: &Device,
    bar: &mut Bar,
) -> Result<Vec<Row>> {
    let (none, f32) = (QuantizerSpec::NONE, GradientCodec::F32);
    let mut first = row(work, &none, &f32, TextSent::ALL, device, bar)?;
    first.quantizer.push_str(", every row");
    let mut rows = vec![first];
    for quantizer in quantizers {
        rows.push(row(
            work,
            quantizer,
            &recipe.gradient.codec,
            TextSent::of(recipe),
            device,
            bar,
        )?);
    }
    Ok(rows)
}

fn row(
    work: &Workload,
    up: &QuantizerSpec,
    down: &GradientCodec,
    text: TextSent,
    device: &Device,
    bar: &mut Bar,
) -> Result<Row> {
    let what = format!("{}: {up}, {down}", work.name);
    bar.says(&what);
    let measured = measure(work, up, down, text, device).with_context(|| what)?;
    bar.done += 1;
    let (bytes, seconds) = both(&measured);
    Ok(Row {
        quantizer: up.to_string(),
        codec: down.to_string(),
        measured,
        step_seconds: LINES.map(|line| line.seconds(bytes, seconds)).into(),
    })
}

impl Findings {
    fn new(work: Workload, quantizers: Vec<Row>, gradients: Vec<Row>, ranks: Vec<Rank>) -> Self {
        let [images, texts, channels] = work.rows();
        Self {
            gradients,
            ranks,
            quantizers,
            reference: reference(images + texts, channels),
            rows: work.rows(),
            data: work.name,
        }
    }
}

/// The first batches of the demo's own data, through its base.
fn demo_steps(recipe: &Recipe, batches: usize, device: &Device) -> Result<Workload> {
    let dir = tempfile::tempdir()?;
    let (model, data) = (dir.path().join("base"), dir.path().join("data"));
    demo::base::write(&model)?;
    let scenes = Plan::new(TRAIN_SEED, (batches * recipe.train.batch) as u64);
    commands::data::scenes(qtl_data::scenes::Split::Train, &data, &scenes)?;
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

/// Bytes at the socket and coding seconds of the round trip.
fn both(measured: &Measured) -> (f64, f64) {
    let Measured { up, down } = measured;
    (
        up.socket_bytes + down.socket_bytes,
        up.seconds + down.seconds,
    )
}

/// Writes the numbers as JSON.
pub fn write_json(all: &[Findings], own: Option<&Compared>, path: &Path) -> Result<()> {
    let mut value = json!({ "lines": LINES, "data": all });
    if let Some(own) = own {
        value["compared"] = own.json();
    }
    qtl_train::metrics::write_json(path, &value)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes the tables as Markdown.
pub fn write_markdown(tables: &[Table], path: &Path) -> Result<()> {
    let text: Vec<String> = tables.iter().map(Table::markdown).collect();
    qtl_train::files::replace(path, text.join("\n").as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
