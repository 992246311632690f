//! The report: one page that a person can read who answers for the data.

use std::path::Path;

use qtl_eval::Table;
use qtl_eval::report::{self, Panel, Report};

use crate::attack::{ATTACKS, Stream};
use crate::error::LeakageError;
use crate::finding::{Outcome, tables};
use crate::kept::{Kept, SHOWN};
use crate::pictures::{Pictures, strip};

const INTRO: &str = "What a curious server can make of the features that reach it. The server follows the protocol; it knows the \
    architecture, the public model that training started from, the recipe and everything that it receives. Beside the attacks stand, \
    in brackets, what can be said without any of it: compare with those, not with zero.\n\nAn insider has the trained client's half as \
    well; it is told first because it is the most that can be learned. A low number here says that these attacks failed, not that \
    no attack succeeds: attacks that are known and not built are listed in docs/LEAKAGE.md. Quantization is not a privacy guarantee.";

/// Writes the page. `credit`: whose pictures it shows.
///
/// # Errors
///
/// [`LeakageError`]
pub fn write(
    path: &Path,
    facts: Vec<(String, String)>,
    outcomes: &[Outcome],
    kept: &Kept,
    side: usize,
    credit: String,
) -> Result<(), LeakageError> {
    let mut all: Vec<Table> = Vec::new();
    for stream in Stream::ALL {
        all.extend(tables(stream.name(), outcomes, false));
    }
    all.push(needs(outcomes));
    let report = Report {
        title: "What the server can learn".to_owned(),
        intro: INTRO.to_owned(),
        facts,
        tables: all,
        panels: panels(outcomes, kept, side)?,
        credit,
        ..Report::default()
    };
    Ok(report::write(&report, path)?)
}

/// What each attack needs, and what became of those that were not run.
fn needs(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(
        "What each attacker needs and does",
        &["attack", "needs and does", "remarks"],
    );
    for attack in ATTACKS {
        let own: Vec<&Outcome> = outcomes
            .iter()
            .filter(|o| o.attack == attack.name())
            .collect();
        if own.is_empty() {
            continue;
        }
        let remarks = own.iter().flat_map(|outcome| {
            let about = format!("{}, {}", outcome.view, outcome.setting.name());
            outcome
                .notes
                .iter()
                .map(move |note| format!("{about}: {note}"))
        });
        let remarks: Vec<String> = remarks.collect();
        table.push([
            attack.name().to_owned(),
            attack.needs().to_owned(),
            remarks.join("; "),
        ]);
    }
    table
}

/// A row of pictures per victim.
fn panels(outcomes: &[Outcome], kept: &Kept, side: usize) -> Result<Vec<Panel>, LeakageError> {
    let Some(truth) = kept.truth()?.map(|bytes| Pictures { side, bytes }) else {
        return Ok(Vec::new());
    };
    let mut made = Vec::new();
    for outcome in outcomes {
        if let Some(pictures) = kept.pictures(outcome, side)? {
            made.push((outcome, pictures));
        }
    }
    let shown = (0..truth.len().min(SHOWN)).filter(|_| !made.is_empty());
    let panel = |victim: usize| {
        let original = strip(&[truth.at(victim)], side).map(|png| ("the picture".to_owned(), png));
        let others = made.iter().filter(|(_, pictures)| pictures.len() > victim);
        let others = others.filter_map(|(outcome, pictures)| {
            let png = strip(&[pictures.at(victim)], side)?;
            let label = match outcome.baseline && outcome.setting == crate::Setting::Any {
                true => format!("({})", outcome.attack),
                false => format!(
                    "{}; {}; {}",
                    outcome.name(),
                    outcome.view,
                    outcome.setting.name()
                ),
            };
            Some((label, png))
        });
        Panel {
            title: format!("Picture {}", victim + 1),
            pictures: original.into_iter().chain(others).collect(),
        }
    };
    Ok(shown.map(panel).collect())
}
