//! How `check` shows what it found.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::path::Path;

use anyhow::Result;
use qtl_data::check::{Report, Sizes};
use qtl_data::render::{Kind, Piece, pieces};
use qtl_data::{EntryError, Reader};
use qtl_eval::Table;
use serde_json::{Map, Value, json};

/// Rows of a sample that are shown.
const LONGEST: usize = 600;

/// Everything that was counted.
pub fn table(report: &Report, data: &Path) -> Table {
    let mut table = Table::new(data.display().to_string(), &["what", "how much"]);
    let Report {
        tokens,
        tokens_left,
        ..
    } = report;
    let mean = |total: u64| total / report.samples.max(1) as u64;
    let rows = [
        ("entries", report.entries.to_string()),
        ("left out", report.refused.len().to_string()),
        ("samples", report.samples.to_string()),
        ("without a picture", report.text_only.to_string()),
        ("questions with answers", report.turns.to_string()),
        (
            "tokens, pictures included",
            spread(tokens.total, mean(tokens.total), tokens.most),
        ),
        (
            "after max_length",
            spread(tokens_left.total, mean(tokens_left.total), tokens_left.most),
        ),
        ("samples cut", report.cut.to_string()),
        ("supervised tokens", report.supervised.to_string()),
        ("after max_length", report.supervised_left.to_string()),
    ];
    for (what, value) in rows {
        table.push([what, &value]);
    }
    for (form, sizes) in &report.pictures {
        table.push([
            format!("{form} pictures"),
            format!("{}, {}", sizes.count, pixels(sizes)),
        ]);
    }
    table.push(["pictures decoded", &report.decoded.to_string()]);
    table
}

/// The same for programs.
pub fn json(report: &Report, reader: &Reader) -> Value {
    let pictures = report.pictures.iter().map(|(form, sizes)| {
        let Sizes { count, least, most } = sizes;
        (
            form.clone(),
            json!({"count": count, "least": least, "most": most}),
        )
    });
    let refused = report.refused.iter().map(|error| {
        json!({"index": error.index, "id": error.id, "field": error.field, "fault": error.fault, "reason": error.to_string()})
    });
    json!({
        "entries": report.entries,
        "samples": report.samples,
        "without_picture": report.text_only,
        "turns": report.turns,
        "tokens": report.tokens,
        "tokens_after_max_length": report.tokens_left,
        "cut": report.cut,
        "supervised_tokens": report.supervised,
        "supervised_tokens_after_max_length": report.supervised_left,
        "pictures": pictures.collect::<Map<_, _>>(),
        "decoded": report.decoded,
        "notes": reader.notes().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "left_out": refused.collect::<Vec<_>>(),
    })
}

fn spread(total: u64, mean: u64, most: u64) -> String {
    format!("{total}, {mean} a sample, {most} at most")
}

fn pixels(sizes: &Sizes) -> String {
    let ((a, b), (c, d)) = (sizes.least, sizes.most);
    if sizes.least == sizes.most {
        format!("{a} x {b}")
    } else {
        format!("{a} to {c} wide, {b} to {d} high")
    }
}

/// The same in one line.
pub fn line(report: &Report) -> String {
    let forms: Vec<String> = report
        .pictures
        .iter()
        .map(|(form, sizes)| format!("{} {form}", sizes.count))
        .collect();
    let pictures = if forms.is_empty() {
        "none".to_owned()
    } else {
        forms.join(", ")
    };
    let cut = match report.cut {
        0 => String::new(),
        cut => format!(", {cut} samples cut at max_length"),
    };
    format!(
        "{} of {} entries, pictures: {pictures}; {} tokens, {} supervised{cut}",
        report.samples, report.entries, report.tokens_left.total, report.supervised_left
    )
}

/// Entries that are left out, by id and reason; those behind the first `most` as a number.
pub fn refused(refused: &[EntryError], most: usize, say: &mut dyn FnMut(&str)) {
    for error in refused.iter().take(most) {
        say(&format!("left out: {}: {error}", error.fault));
    }
    if refused.len() > most {
        let more = refused.len() - most;
        say(&format!(
            "left out: {more} more entries; `qtinyllava check` names them all"
        ));
    }
}

/// The first samples that can be read, with what is learned from them and what is cut away.
pub fn samples(reader: &Reader, report: &Report, count: usize) -> Result<()> {
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let options = reader.options();
    let unread = report
        .refused
        .iter()
        .filter(|error| !error.fault.teaches_nothing());
    let unread: HashSet<&str> = unread.map(|error| error.id.as_str()).collect();
    let read = (0..reader.entries().len())
        .filter(|index| !unread.contains(reader.entry(*index).id.as_str()));
    for index in read.take(count) {
        let Ok(spans) = reader.uncut(index, 0) else {
            continue;
        };
        println!("\nsample `{}`", safe(&reader.entry(index).id));
        let mut text = String::new();
        let (mut branch, mut shown) = (0, 0);
        for piece in pieces(
            reader.tokenizer(),
            &spans,
            options.picture_rows,
            options.max_length,
        )? {
            if piece.branch != branch {
                branch = piece.branch;
                text.push_str("\n  ");
            }
            shown += piece.rows;
            text += &marked(&piece, color);
            if shown > LONGEST {
                text += " ...";
                break;
            }
        }
        println!("  {text}");
    }
    println!();
    Ok(())
}

fn marked(piece: &Piece, color: bool) -> String {
    let text = safe(&piece.text);
    match (piece.kind, color) {
        (Kind::Picture, _) => format!("<picture, {} rows>", piece.rows),
        (Kind::Read, _) => text,
        (Kind::Learned, true) => format!("\u{1b}[32m{text}\u{1b}[0m"),
        (Kind::Learned, false) => format!(">>{text}<<"),
        (Kind::Cut, true) => format!("\u{1b}[9;31m{text}\u{1b}[0m"),
        (Kind::Cut, false) => format!("[cut: {text}]"),
    }
}

/// One printable line.
fn safe(text: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}
