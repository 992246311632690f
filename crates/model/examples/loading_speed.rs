//! How long a language model takes to load, both halves, against `cat` of the same files to nowhere.
//!
//!     cargo run --release -p qtl-model --example loading_speed -- DIR

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use qtl_model::Device;
use qtl_model::config::Fields;
use qtl_model::llm::{Decoder, DecoderSpec, TokenEmbedding};
use qtl_model::weights::{Checkpoint, load_into};

const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(std::env::args_os().nth(1).ok_or("give a model directory")?);
    let spec = DecoderSpec::from_config(&Fields::read(&dir)?)?;
    let device = Device::default();
    let file = Checkpoint::open(&dir)?;
    let files: Vec<PathBuf> = file.by_file().map(|(path, _)| path.to_owned()).collect();
    let bytes: u64 = files
        .iter()
        .map(|f| f.metadata().map_or(0, |m| m.len()))
        .sum();
    let (mut cat, mut load) = (Vec::new(), Vec::new());
    // The first round fills the page cache and does not count.
    for _ in 0..=ROUNDS {
        let start = Instant::now();
        Command::new("cat")
            .args(&files)
            .stdout(Stdio::null())
            .status()?;
        cat.push(start.elapsed().as_secs_f64());

        let start = Instant::now();
        let file = Checkpoint::open(&dir)?;
        let table = TokenEmbedding::new(&spec, &device);
        let table = load_into(table, &file, &spec.embedding_keys())?;
        let decoder = Decoder::new(spec.clone(), &device);
        let decoder = load_into(decoder, &file, &spec.decoder_keys())?;
        load.push(start.elapsed().as_secs_f64());
        drop((table, decoder));
    }
    let median = |times: &mut Vec<f64>| {
        times.remove(0);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (cat, load) = (median(&mut cat), median(&mut load));
    println!(
        "{:.0} MB: cat {:.3} s, load to f32 {load:.3} s, {:.2} times",
        bytes as f64 / 1e6,
        cat,
        load / cat
    );
    Ok(())
}
