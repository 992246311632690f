//! `plan`: what each choice of a quantizer, its levels and its width would cost and lose, as a table, a chart and a file.

pub mod sources;

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use qtl_codec::plan::{
    Candidate, Centroids, Confidence, MODELS, Rule, Sample, choose, confidence, frontier, scan,
};
use qtl_codec::{Code, Options, encode};
use qtl_eval::Table;
use qtl_eval::report::{Chart, Series, svg};
use qtl_model::quant::Design;
use qtl_train::edit::Choice;
use qtl_train::features::FeatureRows;
use serde_json::{Value, json};

use crate::progress::Progress;

/// Numbers of levels that are tried.
const LEVELS: std::ops::RangeInclusive<u32> = 2..=32;
/// Lines of the table.
const LINES: usize = 24;

/// Which features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Modality {
    /// Rows of pictures
    Image,
    /// Rows of text
    Text,
}

impl Modality {
    /// As the recipe calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Text => "text",
        }
    }
}

/// Which quantizers to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Both of the following
    Any,
    /// Equally spaced levels, 2 to 32, at every width
    Fsq,
    /// Designs for 0.5 to 5 bits after entropy coding
    Ecsq,
}

/// What to try and how to choose.
pub struct Search {
    /// Which quantizers.
    pub kind: Kind,
    /// Widths, in standard deviations.
    pub widths: Vec<f32>,
    /// Most features to look at.
    pub most: usize,
    /// The rule.
    pub rule: Rule,
}

/// What was found for one modality.
pub struct Plan {
    /// Which.
    pub modality: Modality,
    rows: usize,
    cols: usize,
    candidates: Vec<Candidate>,
    /// Those that no other beats, and bits per feature in a container, for the lines of the table.
    lines: Vec<(Candidate, f64)>,
    chosen: Option<(Candidate, f64, Confidence)>,
    rule: Rule,
}

/// Tries everything on the features of a modality.
pub fn examine(
    modality: Modality,
    features: &FeatureRows,
    per_channel: bool,
    search: &Search,
) -> Result<Plan> {
    // Whole pictures, or whole rows.
    let unit = features.grid.map_or(1, |grid| grid.tokens).max(1);
    let fit = search.most / features.cols.max(1) / unit * unit;
    let taken = if features.rows > fit {
        fit.max(unit)
    } else {
        features.rows
    };
    let sample = Sample::new(
        &features.values[..taken * features.cols],
        taken,
        features.cols,
        per_channel,
        features.grid,
    )?;
    let widths = match search.kind {
        Kind::Ecsq => &[][..],
        Kind::Fsq | Kind::Any => &search.widths,
    };
    let designs = match search.kind {
        Kind::Fsq => Vec::new(),
        Kind::Ecsq | Kind::Any => designs(),
    };
    let count = (widths.len() * LEVELS.count() + designs.len()) as u64;
    let mut bar = Progress::new(modality.name(), count);
    let mut candidates = scan(&sample, LEVELS, widths, &mut |done| {
        bar.at(done as u64, "candidates");
    })?;
    for (width, centroids) in designs {
        candidates.push(sample.try_centroids(width, centroids)?);
        bar.at(candidates.len() as u64, "candidates");
    }
    let coded = |candidate: &Candidate| -> Result<f64> {
        let plane = sample.quantize(candidate.levels, candidate.width)?;
        let bytes = encode(&Code::new(vec![plane.into()]), &Options::default()).len();
        Ok(8.0 * bytes as f64 / sample.len().max(1) as f64)
    };
    let best = frontier(&candidates);
    let step = best.len().div_ceil(LINES).max(1);
    let lines: Result<Vec<_>> = best
        .iter()
        .step_by(step)
        .map(|&c| Ok((c.clone(), coded(c)?)))
        .collect();
    let chosen = match choose(&candidates, search.rule) {
        Some(c) => Some((c.clone(), coded(c)?, confidence(&sample, c)?)),
        None => None,
    };
    Ok(Plan {
        modality,
        rows: taken,
        cols: features.cols,
        lines: lines?,
        chosen,
        candidates,
        rule: search.rule,
    })
}

/// The designs of `ecsq` that are tried, every tenth of a bit: width and centroids.
fn designs() -> Vec<(f32, Centroids)> {
    (5..=50)
        .map(|tenths| {
            let bits = f64::from(tenths) / 10.0;
            let design = Design::new(bits);
            let width = design.width() as f32;
            let values = design.centroids;
            (width, Centroids { bits, values })
        })
        .collect()
}

/// The kind of a candidate's quantizer, as a recipe has it.
fn kind(c: &Candidate) -> &'static str {
    if c.centroids.is_some() { "ecsq" } else { "fsq" }
}

/// What a candidate is called.
fn name(c: &Candidate) -> String {
    match &c.centroids {
        Some(centroids) => format!("ecsq for {:.1} bits ({} levels)", centroids.bits, c.levels),
        None => format!("{} levels at {:.2} deviations", c.levels, c.width),
    }
}

impl Plan {
    /// The quantizer.
    ///
    /// # Errors
    /// If nothing fits the rule.
    pub fn choice(&self) -> Result<Choice> {
        match &self.chosen {
            Some((c, ..)) => Ok(match &c.centroids {
                Some(centroids) => Choice::Ecsq {
                    bits: centroids.bits,
                },
                None => Choice::Fsq {
                    levels: c.levels,
                    width: c.width,
                },
            }),
            None => Err(anyhow!(
                "{}: no candidate fits {}",
                self.modality.name(),
                describe(self.rule)
            )),
        }
    }

    /// The frontier, with the choice marked.
    pub fn table(&self) -> Table {
        let title = format!(
            "{} features, {} x {}: bits per feature and loss of what nothing else beats",
            self.modality.name(),
            self.rows,
            self.cols
        );
        let mut table = Table::new(title, &["", "kind", "levels", "width"]);
        let header = MODELS.iter().map(|model| model.name());
        table.header.extend(header.map(str::to_owned));
        let rest = ["coded", "mse", "cosine", "bound for this mse"];
        table.header.extend(rest.map(str::to_owned));
        let mut lines: Vec<(&Candidate, f64)> = self.lines.iter().map(|(c, b)| (c, *b)).collect();
        if let Some((chosen, bits, _)) = &self.chosen
            && !lines.iter().any(|(c, _)| *c == chosen)
        {
            lines.push((chosen, *bits));
            lines.sort_by(|a, b| a.0.best().1.total_cmp(&b.0.best().1));
        }
        for (candidate, coded) in lines {
            let chosen = self.chosen.as_ref().is_some_and(|(c, ..)| c == candidate);
            let mut cells = vec![
                if chosen { ">" } else { "" }.to_owned(),
                kind(candidate).to_owned(),
                candidate.levels.to_string(),
                format!("{:.2}", candidate.width),
            ];
            let bits = |model| match candidate.bits(model) {
                Some(bits) => format!("{bits:.4}"),
                None => "-".to_owned(),
            };
            cells.extend(MODELS.into_iter().map(bits));
            cells.extend([
                format!("{coded:.4}"),
                format!("{:.5}", candidate.distortion.mse),
                format!("{:.4}", candidate.distortion.cosine),
                format!("{:.4}", candidate.bound()),
            ]);
            table.push(cells);
        }
        table
    }

    /// The choice in words, and how far the sample can be trusted.
    pub fn verdict(&self) -> String {
        let Some((c, coded, trust)) = &self.chosen else {
            return format!(
                "{}: nothing fits {}",
                self.modality.name(),
                describe(self.rule)
            );
        };
        let (model, bits) = c.best();
        let mut text = format!(
            "{}: {} by {}: {bits:.4} +- {:.4} bits ({}; {coded:.4} coded), mse {:.5} +- {:.5}",
            self.modality.name(),
            name(c),
            describe(self.rule),
            trust.rate,
            model.name(),
            c.distortion.mse,
            trust.mse,
        );
        if !trust.is_enough() {
            let more = if trust.times.is_finite() {
                format!(
                    "it would take about {:.0} times as many tokens",
                    trust.times.ceil()
                )
            } else {
                "it is too small to say how many tokens it would take".to_owned()
            };
            text.push_str(&format!(
                "\nthe sample is too small for the third digit: {more} ({} blocks of rows, bias {:.4} bits corrected)",
                trust.blocks, trust.bias
            ));
        }
        text
    }

    fn json(&self) -> Value {
        let candidate = |c: &Candidate| {
            let rates: serde_json::Map<String, Value> = c
                .rates
                .iter()
                .map(|(model, rate)| (model.name().to_owned(), rate.bits().into()))
                .collect();
            json!({
                "kind": kind(c), "design_bits": c.centroids.as_ref().map(|d| d.bits),
                "levels": c.levels, "width": c.width, "bits": rates, "mse": c.distortion.mse,
                "cosine": c.distortion.cosine, "gaussian_bound": c.bound(),
            })
        };
        let chosen = self.chosen.as_ref().map(|(c, coded, trust)| {
            let mut value = candidate(c);
            value["coded_bits"] = (*coded).into();
            value["confidence"] = json!({
                "bits": finite(trust.rate), "mse": finite(trust.mse), "bias_bits": trust.bias,
                "blocks": trust.blocks, "third_digit": trust.is_enough(),
                "times_as_many_tokens": finite(trust.times),
            });
            value
        });
        json!({
            "modality": self.modality.name(), "rows": self.rows, "columns": self.cols,
            "rule": describe(self.rule), "chosen": chosen,
            "candidates": self.candidates.iter().map(candidate).collect::<Vec<_>>(),
        })
    }

    fn chart(&self) -> Chart {
        let best = frontier(&self.candidates);
        let points = |bits: fn(&Candidate) -> f64| -> Vec<(f64, f64)> {
            best.iter().map(|c| (bits(c), c.distortion.mse)).collect()
        };
        let mut series = vec![
            Series {
                name: "best model".into(),
                points: points(|c| c.best().1),
            },
            Series {
                name: "bound of an independent Gaussian".into(),
                points: points(Candidate::bound),
            },
        ];
        if let Some((c, ..)) = &self.chosen {
            series.push(Series {
                name: format!("chosen: {}", name(c)),
                points: vec![(c.best().1, c.distortion.mse)],
            });
        }
        Chart {
            title: format!("{}: loss against rate", self.modality.name()),
            x_label: "bits per feature".into(),
            y_label: "mean squared error / variance".into(),
            note: self.verdict().replace('\n', ". "),
            log_y: true,
            smooth: 0,
            series,
        }
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn describe(rule: Rule) -> String {
    match rule {
        Rule::Shannon => "the entropy of 16 levels, rounded up".to_owned(),
        Rule::Budget { bits } => format!("a budget of {bits} bits"),
        Rule::Tolerance { mse } => format!("a tolerance of {mse}"),
    }
}

/// Draws the plans; a second modality goes into a file of its own, named after it.
pub fn charts(plans: &[Plan], path: &Path) -> Result<()> {
    for plan in plans {
        let path = if plans.len() == 1 {
            path.to_owned()
        } else {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            path.with_file_name(format!("{stem}-{}.svg", plan.modality.name()))
        };
        qtl_train::files::replace(&path, svg(&plan.chart()).as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Writes every candidate and the choices.
pub fn write_json(plans: &[Plan], path: &Path) -> Result<()> {
    let value = json!({ "plans": plans.iter().map(Plan::json).collect::<Vec<_>>() });
    qtl_train::metrics::write_json(path, &value)
        .with_context(|| format!("cannot write {}", path.display()))
}
