//! `inspect`: what a model directory is and what running it takes.

use std::path::PathBuf;

use anyhow::{Result, bail};
use qtl_train::Recipe;
use qtl_train::inspect::{Cost, FileContents, Inspection, Memory, Part, inspect};
use qtl_train::recipe::Recompute;

use crate::numbers::whole;
use crate::progress::bytes;

/// Say what a checkpoint is: families, sizes, files, which half holds what, memory and traffic
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qtinyllava inspect base
  qtinyllava inspect owner/name --recipe r.toml --text-tokens 200 --json
It fails if something is wrong with the directory.")]
pub struct Args {
    /// Model directory, or a hub id like owner/name or owner/name@revision
    #[arg(value_name = "DIR|ID")]
    model: PathBuf,
    /// Recipe whose quantizers, batch and tuning count [default: the one that the model carries, or else one sample, all but
    /// the tower trained]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Change one field of the recipe, for example --set train.batch=8
    #[arg(long = "set", value_name = "FIELD=VALUE", requires = "recipe")]
    set: Vec<String>,
    /// Rows of text per sample to reckon with
    #[arg(long, default_value_t = 64, value_parser = whole::<usize>(0..=1 << 20))]
    text_tokens: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Looks and prints.
pub fn run(args: &Args) -> Result<()> {
    let dir = crate::hub::directory(&args.model)?;
    let recipe = match &args.recipe {
        Some(path) => Some(Recipe::load(path, &args.set)?),
        None => None,
    };
    let found = inspect(&dir, recipe.as_ref(), args.text_tokens)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        println!("{}", dir.display());
        print!("{}", text(&found));
    }
    match found.problems.len() {
        0 => Ok(()),
        1 => bail!("{} has a problem, named above", dir.display()),
        count => bail!("{} has {count} problems, named above", dir.display()),
    }
}

fn text(found: &Inspection) -> String {
    let mut rows = vec![vec!["model".to_owned(), found.model_type.clone()]];
    rows.extend(
        found
            .sizes
            .iter()
            .map(|(what, value)| vec![what.clone(), value.clone()]),
    );
    rows.extend(found.tied_head.map(|tied| {
        let tied = if tied {
            "tied to the token embedding: whoever computes the loss holds a copy"
        } else {
            "its own matrix"
        };
        vec!["  head".to_owned(), tied.to_owned()]
    }));
    let mut out = table(&rows, &[]);
    out += &files(&found.contents.files);
    if !found.parts.is_empty() {
        out += &parts(&found.parts);
    }
    if let Some(cost) = &found.cost {
        out += &memory(cost);
        out += &traffic(cost);
    }
    for note in &found.notes {
        out += &format!("\nnote: {note}\n");
    }
    for problem in &found.problems {
        out += &format!("\nproblem: {problem}\n");
    }
    out
}

fn files(files: &[FileContents]) -> String {
    let mut rows = vec![words(&["file", "size", "tensors", "parameters", "type"])];
    for file in files {
        let types: Vec<&str> = file.parameters.keys().map(String::as_str).collect();
        rows.push(vec![
            file.file.display().to_string(),
            bytes(file.bytes as f64),
            file.tensors.to_string(),
            count(file.parameters.values().sum()),
            match &file.problem {
                Some(problem) => problem.clone(),
                None => types.join(", "),
            },
        ]);
    }
    format!("\n{}", table(&rows, &[1, 2, 3]))
}

fn parts(parts: &[Part]) -> String {
    let mut rows = vec![words(&["half", "part", "parameters", "trained"])];
    for part in parts.iter().filter(|part| part.parameters > 0) {
        let (held, trained) = (count(part.parameters), count(part.trained));
        rows.push(vec![part.side.into(), part.name.into(), held, trained]);
    }
    for side in ["client", "server"] {
        let of = |field: fn(&Part) -> u64| {
            let mine = parts.iter().filter(|part| part.side == side);
            count(mine.map(field).sum())
        };
        let (held, trained) = (of(|p| p.parameters), of(|p| p.trained));
        rows.push(vec![side.into(), "in all".into(), held, trained]);
    }
    format!("\n{}", table(&rows, &[2, 3]))
}

fn memory(cost: &Cost) -> String {
    let mut rows = vec![words(&[
        "memory",
        "weights",
        "inference",
        "one step",
        "training",
        "recomputing",
        "keeping",
        "graphs kept",
    ])];
    let [client, server] = [0, 1].map(|side| (&cost.recomputing[side], &cost.keeping[side]));
    for (side, memory, (all_again, none_again)) in [
        ("client", &cost.client, client),
        ("server", &cost.server, server),
    ] {
        let Memory {
            weights,
            inference,
            one_step,
            training,
            graphs,
            ..
        } = memory;
        let mut row = vec![side.to_owned()];
        let ends = [&all_again.training, &none_again.training];
        row.extend([weights, inference, one_step, training].map(|b| bytes(*b as f64)));
        row.extend(ends.map(|b| bytes(*b as f64)));
        row.push(format!("{graphs} of {}", none_again.graphs));
        rows.push(row);
    }
    let waits = match cost.server.waiting {
        0 => String::new(),
        waiting => format!(
            "  of the server's training, {} wait between the two trips of a step, once per client\n",
            bytes(waiting as f64)
        ),
    };
    let kept = match cost.traffic.kept {
        0 => String::new(),
        kept => format!(
            "  of either side's training, up to {} per client are text rows that were sent before (quantizer.text_deltas)\n",
            bytes(kept as f64)
        ),
    };
    format!(
        "\n{}  estimated peaks, with {} sample(s) of {} image and {} text rows at a time; training, as train.recompute = {} has it \
         with {} of memory free, beside running every block again and keeping every block's graph\n{waits}{kept}",
        table(&rows, &[1, 2, 3, 4, 5, 6, 7]),
        cost.batch,
        cost.picture_tokens,
        cost.text_tokens,
        match cost.recompute {
            Recompute::Auto => "auto",
            Recompute::Always => "always",
            Recompute::Never => "never",
        },
        bytes(cost.free as f64)
    )
}

fn traffic(cost: &Cost) -> String {
    let t = &cost.traffic;
    let row = |what: &str, sent: u64, plain: u64, how: &str| {
        let (sent, plain) = (bytes(sent as f64), bytes(plain as f64));
        vec![what.to_owned(), sent, format!("{plain} as {how}")]
    };
    let rows = [
        words(&["bytes per sample", "sent", "uncompressed"]),
        row(
            "up: features",
            t.up_image + t.up_text,
            t.up_16bit,
            "16-bit floats",
        ),
        row("down: gradients", t.down, t.down_32bit, "32-bit floats"),
    ];
    let second = t.hidden.iter().flat_map(|hidden| {
        [
            row(
                "down: hidden states",
                hidden.down,
                hidden.down_16bit,
                "16-bit floats",
            ),
            row(
                "up: their gradients",
                hidden.up,
                hidden.up_32bit,
                "32-bit floats",
            ),
        ]
    });
    let rows: Vec<_> = rows.into_iter().chain(second).collect();
    format!("\n{}", table(&rows, &[1]))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// 271,483,904 as people read it.
fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// Columns as wide as their widest entry; those in `right` are set flush right.
fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(i, (cell, width))| {
                if right.contains(&i) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
        let line = cells.collect::<Vec<_>>().join("  ");
        out += line.trim_end();
        out.push('\n');
    }
    out
}
