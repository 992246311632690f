//! The table of a user's own data: what training on it costs on the wire, beside sending the pictures themselves and beside
//! federated averaging of the same model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qtl_data::Reader;
use qtl_eval::Table;
use qtl_model::Device;
use qtl_model::quant::QuantizerSpec;
use qtl_train::Recipe;
use qtl_train::communication::{Line, Measured, Workload};
use qtl_train::inspect::inspect;
use serde::Serialize;
use serde_json::json;

use super::{Findings, Row};
use crate::commands;

/// Data, and the model that is trained on it.
pub struct Own {
    /// The model's directory.
    pub model: PathBuf,
    /// Its recipe.
    pub recipe: Recipe,
    /// LLaVA's JSON file.
    pub data: PathBuf,
    /// Where its pictures lie.
    pub images: PathBuf,
    /// Batches that are measured.
    pub batches: usize,
    /// The line between client and server.
    pub line: Line,
}

/// Rows of a picture that connectors with queries make.
const QUERIES: f64 = 64.0;

/// Bytes per sample of one way to train, and seconds for all samples.
#[derive(Serialize)]
struct Way {
    name: String,
    up: f64,
    down: f64,
    seconds: f64,
}

/// What is compared.
#[derive(Serialize)]
pub struct Compared {
    samples: usize,
    line: Line,
    /// Mean bytes of a sample's picture as it lies on disk; samples without one count as nothing.
    picture_bytes: f64,
    /// Parameters that the recipe trains.
    trained: u64,
    ways: Vec<Way>,
}

impl Own {
    /// The first batches, through the model without quantizers, and what is known of the data.
    pub fn workload(&self, device: &Device) -> Result<(Workload, Known)> {
        let mut plain = self.recipe.clone();
        plain.quantizer.image = QuantizerSpec::NONE;
        plain.quantizer.text = QuantizerSpec::NONE;
        let blueprint = commands::blueprint(&self.model, &plain)?;
        let reader = commands::reader(&plain, &blueprint, &self.data, &self.images)?;
        let client = blueprint.client(device)?.partition;
        let known = Known {
            samples: reader.entries().len(),
            picture_bytes: picture_bytes(&reader, &self.images)?,
            rows_per_picture: client.tokens_per_picture() as f64,
            trained: trained(&self.model, &self.recipe)?,
        };
        let server = blueprint.server(device)?.partition;
        let name = self.data.display().to_string();
        let work = Workload::of_data(&name, &client, server, &plain, reader, self.batches)?;
        if work.steps() == 0 {
            bail!(
                "{name}: no batch of {} samples shows a picture",
                plain.train.batch
            );
        }
        Ok((work, known))
    }

    /// Puts what was measured beside the other ways.
    pub fn compare(&self, known: &Known, found: &Findings) -> Compared {
        let batch = self.recipe.train.batch as f64;
        let samples = known.samples as f64;
        let way = |name: String, [up, down]: [f64; 2], coding: f64| Way {
            name,
            up: up / batch,
            down: down / batch,
            seconds: (samples / batch).ceil() * self.line.seconds(up + down, coding),
        };
        let mut ways = Vec::new();
        for Row {
            quantizer,
            codec,
            measured,
            ..
        } in &found.quantizers
        {
            let Measured { up, down } = measured;
            let coding = up.seconds + down.seconds;
            let both = [up.socket_bytes, down.socket_bytes];
            ways.push(way(format!("{quantizer}, down {codec}"), both, coding));
            // A quantizer of rows spends on fewer rows in proportion; nobody trained such a connector here.
            let spared = 1.0 - QUERIES / known.rows_per_picture;
            if quantizer.starts_with("fsq levels=4") && spared > 0.0 {
                let fewer = [both[0] - spared * up.image, both[1] - spared * down.image];
                ways.push(way(
                    format!("{quantizer}, {QUERIES} rows a picture (computed)"),
                    fewer,
                    coding,
                ));
            }
        }
        ways.push(Way {
            name: "the pictures as they are".to_owned(),
            up: known.picture_bytes,
            down: 0.0,
            seconds: self.line.seconds(samples * known.picture_bytes, 0.0),
        });
        let model = 4.0 * known.trained as f64;
        ways.push(Way {
            name: "federated averaging, a round per pass".to_owned(),
            up: model / samples,
            down: model / samples,
            seconds: self.line.seconds(2.0 * model, 0.0),
        });
        Compared {
            samples: known.samples,
            line: self.line,
            picture_bytes: known.picture_bytes,
            trained: known.trained,
            ways,
        }
    }
}

/// What is known of the data and the model beside what is measured.
pub struct Known {
    samples: usize,
    picture_bytes: f64,
    rows_per_picture: f64,
    trained: u64,
}

fn picture_bytes(reader: &Reader, images: &Path) -> Result<f64> {
    let mut bytes = 0;
    for picture in reader.entries().filter_map(|entry| entry.image.as_ref()) {
        let path = images.join(picture);
        let about = std::fs::metadata(&path).with_context(|| path.display().to_string())?;
        bytes += about.len();
    }
    Ok(bytes as f64 / reader.entries().len().max(1) as f64)
}

fn trained(model: &Path, recipe: &Recipe) -> Result<u64> {
    let parts = inspect(model, Some(recipe), 1)?.parts;
    Ok(parts.iter().map(|part| part.trained).sum())
}

impl Compared {
    /// The table.
    pub fn table(&self) -> Table {
        let Line {
            mbit,
            round_trip_ms,
        } = self.line;
        let title = format!(
            "One pass over {} samples at {mbit} Mbit/s and {round_trip_ms} ms",
            self.samples
        );
        let header = [
            "what crosses",
            "kB up per sample",
            "kB down",
            "times the picture",
            "seconds of a pass",
        ];
        let mut table = Table::new(title, &header);
        for way in &self.ways {
            let times = (way.up + way.down) / self.picture_bytes;
            table.push([
                way.name.clone(),
                format!("{:.3}", way.up / 1e3),
                format!("{:.3}", way.down / 1e3),
                if times.is_finite() {
                    format!("{times:.2}")
                } else {
                    "-".to_owned()
                },
                format!("{:.1}", way.seconds),
            ]);
        }
        table.note = format!(
            "Bytes as they pass the client's socket over gRPC and mutual TLS, mean of the measured batches. Seconds are computed from \
             one clock's parts: bytes over the line, a round trip per step, coding in processor time of one thread; nothing \
             overlaps, and computing is not in them. The pictures as they are: {:.1} kB a sample on disk, sent once in one \
             piece; they leave the house then. Federated averaging: the {} trained parameters, in 32 bits, up and down once.",
            self.picture_bytes / 1e3,
            self.trained
        );
        table
    }

    /// For a file.
    pub fn json(&self) -> serde_json::Value {
        json!(self)
    }
}

/// A line as it is written on the command line: `100mbit,20ms`.
pub fn line(text: &str) -> Result<Line, String> {
    let number =
        |text: &str, unit: &str| text.trim().strip_suffix(unit)?.trim().parse::<f64>().ok();
    let parts = text.split_once(',');
    let parts = parts.and_then(|(rate, trip)| Some((number(rate, "mbit")?, number(trip, "ms")?)));
    match parts {
        Some((mbit, round_trip_ms))
            if mbit > 0.0 && mbit.is_finite() && (0.0..=1e6).contains(&round_trip_ms) =>
        {
            Ok(Line {
                mbit,
                round_trip_ms,
            })
        }
        _ => Err("expected a rate and a round trip, such as 100mbit,20ms".to_owned()),
    }
}
