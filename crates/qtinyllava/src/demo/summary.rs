//! What the demo found: `summary.json`, tables for the terminal, `report.html`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use qtl_eval::Table;
use qtl_eval::report::{self, BarChart, BarSeries, Chart, Example, Qa, Report, Series};
use qtl_train::Recipe;
use qtl_train::metrics::{self, Alternatives, HiddenRecord, StepRecord};
use qtl_train::recipe::SitesSpec;
use serde_json::{Value, json};

use super::sites::{self, Run};
use crate::commands::eval::Evaluation;
use crate::progress::bytes;

/// Sums over all steps of the run, and what surrounds them.
pub struct Summary {
    recipe: Recipe,
    runs: Vec<Run>,
    scores: Value,
    /// The sites beside each other, where there are several.
    sites: Option<Table>,
    wall: f64,
}

impl Summary {
    /// Of what the clients left, and of the scores of the model that they trained.
    pub fn new(
        recipe: &Recipe,
        runs: Vec<Run>,
        evaluation: &Evaluation,
        wall: f64,
    ) -> Result<Self> {
        Ok(Self {
            recipe: recipe.clone(),
            sites: sites::table(&runs, &evaluation.scores),
            runs,
            scores: serde_json::to_value(&evaluation.scores)?,
            wall,
        })
    }

    fn records(&self) -> impl Iterator<Item = &StepRecord> {
        self.runs.iter().flat_map(|run| &run.records)
    }

    fn sum(&self, field: fn(&StepRecord) -> f64) -> f64 {
        self.records().map(field).sum()
    }

    /// Mean over the clients, which work at the same time.
    fn seconds(&self, field: fn(&StepRecord) -> f64) -> f64 {
        self.sum(field) / self.runs.len().max(1) as f64
    }

    fn socket(&self, direction: &str) -> u64 {
        let of = |run: &Run| run.wire[direction].as_u64().unwrap_or(0);
        self.runs.iter().map(of).sum()
    }

    fn per_sample(&self, field: fn(&StepRecord) -> f64) -> f64 {
        self.sum(field) / self.sum(|r| r.samples as f64).max(1.0)
    }

    fn bits(&self, bytes: fn(&StepRecord) -> f64, elements: fn(&StepRecord) -> f64) -> f64 {
        8.0 * self.sum(bytes) / self.sum(elements).max(1.0)
    }

    /// Mean over the steps in which sizes were compared; nothing if there was none.
    fn compared(&self, field: fn(&StepRecord, &Alternatives) -> u64) -> f64 {
        let (mut bytes, mut samples) = (0, 0);
        for record in self.records() {
            if let Some(other) = &record.alternatives {
                bytes += field(record, other);
                samples += record.samples;
            }
        }
        bytes as f64 / samples as f64
    }

    fn packed(
        &self,
        bytes: fn(&StepRecord, &Alternatives) -> u64,
        elements: fn(&StepRecord, &Alternatives) -> u64,
    ) -> f64 {
        8.0 * self.compared(bytes) / self.compared(elements)
    }

    fn distinct(&self) -> f64 {
        let last = self.runs.iter().flat_map(|run| {
            let from = run.records.len().saturating_sub(50);
            &run.records[from..]
        });
        let last: Vec<f64> = last.map(|r| r.distinct_per_1000).collect();
        last.iter().sum::<f64>() / last.len().max(1) as f64
    }

    fn samples_per_step(&self) -> u64 {
        let sites = self.recipe.sites.as_ref();
        self.recipe.train.batch as u64 * sites.map_or(1, SitesSpec::at_once)
    }

    fn steps(&self) -> u64 {
        self.records()
            .map(|record| record.step + 1)
            .max()
            .unwrap_or(0)
    }

    /// Whether hidden states came back, since the labels are the client's.
    fn second_edge(&self) -> bool {
        self.records().any(|record| record.hidden.is_some())
    }

    /// Adds what is to be said of the second edge.
    fn with_hidden(&self, mut json: Value) -> Value {
        if self.second_edge() {
            let (rows, states, gradients) = (
                self.per_sample(|r| hidden(r).rows_hidden as f64),
                |r: &StepRecord| hidden(r).bytes_hidden as f64,
                |r: &StepRecord| hidden(r).bytes_hidden_gradient as f64,
            );
            json["hidden_rows_per_sample"] = json!(rows);
            let parts = &mut json["bytes_per_sample"]["parts"];
            parts["hidden"] = json!(self.per_sample(states));
            parts["hidden_gradient"] = json!(self.per_sample(gradients));
            parts["wanted"] = json!(self.per_sample(|r| hidden(r).bytes_wanted as f64));
            let bits = &mut json["bits_per_element"];
            bits["hidden"] = json!(self.bits(states, |r| hidden(r).elements_hidden as f64));
            bits["hidden_gradient"] =
                json!(self.bits(gradients, |r| hidden(r).elements_hidden_gradient as f64));
        }
        json
    }

    fn json(&self) -> Value {
        let score = |form: &str| self.scores.get(form).cloned().unwrap_or(Value::Null);
        self.with_hidden(json!({
            "wall_s": self.wall,
            "accuracy": { "pope": score("pope"), "vqa": score("vqa"), "mme": score("mme"), "gqa": score("gqa"), "caption": score("caption") },
            "bytes_per_sample": {
                "up": self.per_sample(|r| r.bytes_up as f64),
                "down": self.per_sample(|r| r.bytes_down as f64),
                "up_16bit": self.compared(|_, other| other.up_16bit),
                "down_32bit": self.compared(|_, other| other.down_32bit),
                "parts": {
                    "image": self.per_sample(|r| r.bytes_image as f64),
                    "text": self.per_sample(|r| r.bytes_text as f64),
                    "text_index": self.per_sample(|r| r.bytes_index as f64),
                    "targets": self.per_sample(|r| r.bytes_targets as f64),
                    "gradient_image": self.per_sample(|r| (r.bytes_gradient - r.bytes_gradient_text) as f64),
                    "gradient_text": self.per_sample(|r| r.bytes_gradient_text as f64),
                },
            },
            "text_rows_per_sample": {
                "all": self.per_sample(|r| r.rows_text as f64),
                "crossed": self.per_sample(|r| r.rows_distinct as f64),
            },
            "bits_per_element": {
                "image_packed": self.packed(|_, other| other.packed_image, |r, _| r.elements_image),
                "image_coded": self.bits(|r| r.bytes_image as f64, |r| r.elements_image as f64),
                "text_packed": self.packed(|_, other| other.packed_text, |r, _| r.elements_text),
                "text_coded": self.bits(|r| r.bytes_text as f64, |r| r.elements_text as f64),
                "gradient": self.bits(|r| r.bytes_gradient as f64, |r| r.elements_gradient as f64),
            },
            "seconds": {
                "compute": self.seconds(|r| r.compute),
                "coding": self.seconds(|r| r.coding),
                "waiting": self.seconds(|r| r.waiting),
            },
            "distinct_codes_per_1000": self.distinct(),
            "socket_bytes": { "sent": self.socket("socket_sent"), "received": self.socket("socket_received") },
            "steps": self.steps(),
            "recipe": self.recipe.to_toml(),
            "sites": self.runs.iter().filter_map(Run::json).collect::<Vec<_>>(),
            "details": self.scores["details"],
        }))
    }

    /// Bytes and seconds, for the terminal and the report.
    pub fn tables(&self) -> Vec<Table> {
        let json = self.json();
        let number = |path: &str| {
            json.pointer(path)
                .and_then(Value::as_f64)
                .unwrap_or(f64::NAN)
        };
        let saving = |name: &str, own: f64, plain: f64| {
            let (size, saved) = match plain.is_finite() {
                true => (
                    bytes(plain),
                    format!("{:.1} %", 100.0 * (1.0 - own / plain)),
                ),
                false => ("not compared".to_owned(), "-".to_owned()),
            };
            [name.to_owned(), bytes(own), size, saved]
        };
        let row = |name: &str, own: &str, plain: &str| saving(name, number(own), number(plain));
        let mut wire = Table::new(
            "Bytes per sample",
            &["direction", "measured", "uncompressed", "saved"],
        );
        let second = self.second_edge();
        let [up, down] = match second {
            false => ["up (features, targets, layout)", "down (gradient, loss)"],
            true => [
                "up (features, supervised rows, layout, gradient of hidden states)",
                "down (hidden states, gradient)",
            ],
        };
        wire.push(row(
            up,
            "/bytes_per_sample/up",
            "/bytes_per_sample/up_16bit",
        ));
        wire.push(row(
            down,
            "/bytes_per_sample/down",
            "/bytes_per_sample/down_32bit",
        ));
        let sum = |a: &str, b: &str| number(a) + number(b);
        let (own, plain) = (
            sum("/bytes_per_sample/up", "/bytes_per_sample/down"),
            sum("/bytes_per_sample/up_16bit", "/bytes_per_sample/down_32bit"),
        );
        wire.push(saving("round trip", own, plain));
        wire.note = format!(
            "Uncompressed: the same features as 16-bit and the same gradients as 32-bit floats, encoded for real. \
             The sockets carried {} up and {} down in all, TLS included.",
            bytes(number("/socket_bytes/sent")),
            bytes(number("/socket_bytes/received"))
        );
        let mut bits = Table::new("Bits per element", &["stream", "packed", "entropy-coded"]);
        for (name, stream) in [("image", "image"), ("text", "text")] {
            let of = |kind: &str| {
                format!(
                    "{:.3}",
                    number(&format!("/bits_per_element/{stream}_{kind}"))
                )
            };
            bits.push([name.to_owned(), of("packed"), of("coded")]);
        }
        bits.push([
            "gradient".to_owned(),
            String::new(),
            format!("{:.3}", number("/bits_per_element/gradient")),
        ]);
        let of_hidden = [
            ("hidden states", "/bits_per_element/hidden"),
            ("their gradient", "/bits_per_element/hidden_gradient"),
        ];
        for (name, place) in of_hidden.iter().filter(|_| second) {
            let bits_of = format!("{:.3}", number(place));
            bits.push([(*name).to_owned(), String::new(), bits_of]);
        }
        bits.note = format!(
            "Of the elements that crossed, container headers, tables and scales included. Of {:.1} text rows per sample, \
             {:.1} crossed, with {:.1} bytes of row numbers.",
            number("/text_rows_per_sample/all"),
            number("/text_rows_per_sample/crossed"),
            number("/bytes_per_sample/parts/text_index"),
        );
        let mut time = Table::new(
            "Seconds",
            &[
                "computing",
                "coding",
                "waiting for the wire",
                "wall clock in all",
            ],
        );
        let seconds = |path: &str| format!("{:.1}", number(path));
        time.push(
            [
                "/seconds/compute",
                "/seconds/coding",
                "/seconds/waiting",
                "/wall_s",
            ]
            .map(seconds),
        );
        time.note = format!(
            "{:.0} different image codes per 1,000 at the end of training (near 0 would be a collapsed code).",
            number("/distinct_codes_per_1000")
        );
        self.sites
            .iter()
            .cloned()
            .chain([wire, bits, time])
            .collect()
    }

    /// Writes `summary.json` and `report.html`.
    pub fn write(&self, out: &Path, evaluation: &Evaluation) -> Result<()> {
        let report = self.report(evaluation)?;
        report::write(&report, &out.join("report.html"))?;
        let path = out.join("summary.json");
        metrics::write_json(&path, &self.json()).with_context(|| path.display().to_string())
    }

    fn report(&self, evaluation: &Evaluation) -> Result<Report> {
        let mut accuracy = Table::new(
            "Accuracy in per cent",
            &["question form", "measure", "score"],
        );
        for form in &evaluation.scores.forms {
            accuracy.push([
                form.form.to_owned(),
                form.measure.to_owned(),
                form.percent
                    .map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}")),
            ]);
        }
        accuracy.note = format!(
            "{} questions about test scenes that training never saw.",
            evaluation.answers.len()
        );
        let mut tables = vec![accuracy];
        tables.extend(self.tables());
        Ok(Report {
            title: format!("qtinyllava: {}", self.recipe.name),
            intro: format!(
                "A small vision-language model, fine-tuned in {} over mutual TLS: the client kept pictures, \
                 text, vision tower, connector and token embedding{}; the server kept {}. Every number \
                 here was measured in this run.{}",
                match self.runs.len() {
                    1 => "two processes".to_owned(),
                    n => format!(
                        "{} processes, {n} of them sites with pictures of their own",
                        n + 1
                    ),
                },
                [
                    "",
                    ", the labels, and the end of the language model that learns from them"
                ][usize::from(self.second_edge())],
                ["the language model", "the rest of the language model"]
                    [usize::from(self.second_edge())],
                self.recipe
                    .still_told()
                    .map(|told| format!(" Note: {told}."))
                    .unwrap_or_default(),
            ),
            facts: self.facts(),
            tables,
            charts: self.charts(),
            bars: vec![self.bars()],
            panels: Vec::new(),
            examples: examples(evaluation)?,
            credit: qtl_data::scenes::ATTRIBUTION.into(),
        })
    }

    fn facts(&self) -> Vec<(String, String)> {
        let quantizer = |spec| serde_json::to_string(spec).unwrap_or_default();
        [
            ("steps", self.steps().to_string()),
            ("samples per step", self.samples_per_step().to_string()),
            ("image quantizer", quantizer(&self.recipe.quantizer.image)),
            ("text quantizer", quantizer(&self.recipe.quantizer.text)),
            (
                "gradient",
                serde_json::to_string(&self.recipe.gradient.codec).unwrap_or_default(),
            ),
            ("wall clock", format!("{:.0} s", self.wall)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    fn charts(&self) -> Vec<Chart> {
        // A line per client where there are several.
        let lines = |name: &str, field: fn(&StepRecord) -> Option<f64>| -> Vec<Series> {
            let line = |run: &Run| Series {
                name: match self.runs.len() {
                    1 => name.to_owned(),
                    _ => format!("{name}, {}", run.name),
                },
                points: run
                    .records
                    .iter()
                    .filter_map(|r| Some((r.step as f64, field(r)?)))
                    .collect(),
            };
            self.runs.iter().map(line).collect()
        };
        let chart = |title: &str, y: &str, note: &str, series: Vec<Series>| Chart {
            title: title.to_owned(),
            x_label: "step".into(),
            y_label: y.to_owned(),
            note: note.to_owned(),
            log_y: false,
            smooth: 20,
            series,
        };
        let up = |r: &StepRecord| Some(r.bytes_up as f64 / r.samples.max(1) as f64);
        let down = |r: &StepRecord| Some(r.bytes_down as f64 / r.samples.max(1) as f64);
        vec![
            chart(
                "Loss",
                "cross-entropy",
                "Mean over the supervised tokens of each batch.",
                lines("loss", |r| r.loss),
            ),
            chart(
                "Bytes per sample",
                "bytes",
                "Whole messages.",
                [lines("up", up), lines("down", down)].concat(),
            ),
            chart(
                "Life of the code",
                "per 1,000 rows",
                "Different image codes per 1,000; a collapsing quantizer falls towards 0.",
                lines("distinct codes", |r| Some(r.distinct_per_1000)),
            ),
        ]
    }

    fn bars(&self) -> BarChart {
        let series = |name: &str, values: [fn(&StepRecord) -> f64; 4]| BarSeries {
            name: name.to_owned(),
            values: values.iter().map(|field| self.per_sample(*field)).collect(),
        };
        BarChart {
            title: "Where the bytes go".into(),
            value_label: "bytes per sample".into(),
            note: "Image and text features up (text with its row numbers), gradients down. Uncompressed: every row.".into(),
            categories: ["image up", "text up", "image down", "text down"]
                .map(str::to_owned)
                .into(),
            series: vec![
                series(
                    "measured",
                    [
                        |r| r.bytes_image as f64,
                        |r| (r.bytes_text + r.bytes_index) as f64,
                        |r| (r.bytes_gradient - r.bytes_gradient_text) as f64,
                        |r| r.bytes_gradient_text as f64,
                    ],
                ),
                series(
                    "16 bit up, 32 bit down",
                    [
                        |r| 2.0 * r.elements_image as f64,
                        |r| 2.0 * all_text(r),
                        |r| 4.0 * r.elements_image as f64,
                        |r| 4.0 * all_text(r),
                    ],
                ),
            ],
        }
    }
}

/// What crossed the second edge.
fn hidden(record: &StepRecord) -> HiddenRecord {
    record.hidden.unwrap_or_default()
}

/// Elements of the text's features, had every row crossed.
fn all_text(r: &StepRecord) -> f64 {
    (r.elements_text * r.rows_text) as f64 / r.rows_distinct.max(1) as f64
}

/// The first pictures with their questions, answers and truths.
fn examples(evaluation: &Evaluation) -> Result<Vec<Example>> {
    let credits = evaluation.suite.credits(&evaluation.answers)?;
    let mut examples = Vec::new();
    let mut at = 0;
    for questions in evaluation.suite.pictures().take(8) {
        let Some(first) = questions.first() else {
            continue;
        };
        let Some(picture) = first.pictures.first() else {
            continue;
        };
        let png = fs::read(&picture.path).with_context(|| picture.path.display().to_string())?;
        let qa = questions.iter().enumerate().map(|(i, question)| Qa {
            question: question.text.clone(),
            answer: evaluation.answers[at + i].clone().unwrap_or_default(),
            truth: question.truth.clone(),
            credit: Some(credits[at + i]),
        });
        let caption = picture
            .path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        examples.push(Example {
            caption,
            png,
            qa: qa.collect(),
        });
        at += questions.len();
    }
    Ok(examples)
}
