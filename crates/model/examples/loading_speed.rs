//! How long the server's half of a language model takes to load, against `cat` of the same files to nowhere: widened to 32
//! bits, and with its matrices in the file's own bfloat16, as a recipe with `base = "bf16"` or `"nf4"` reads them.
//!
//!     cargo run --release -p qtl-model --example loading_speed -- DIR

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use qtl_model::Device;
use qtl_model::config::Fields;
use qtl_model::llm::{Decoder, DecoderSpec};
use qtl_model::tuning::Matrix;
use qtl_model::weights::{Checkpoint, load_keeping};

const ROUNDS: usize = 9;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let dir = PathBuf::from(std::env::args_os().nth(1).ok_or("give a model directory")?);
    let spec = DecoderSpec::from_config(&Fields::read(&dir)?)?;
    let device = Device::default();
    let file = Checkpoint::open(&dir)?;
    let files: Vec<PathBuf> = file.by_file().map(|(path, _)| path.to_owned()).collect();
    let sizes = files.iter().map(|f| f.metadata().map(|m| m.len()));
    let bytes = sizes.sum::<std::io::Result<u64>>()?;
    let load = |keep: &dyn Fn(&str, Matrix) -> bool| -> Result<f64> {
        let start = Instant::now();
        let file = Checkpoint::open(&dir)?;
        let decoder = Decoder::new(spec.clone(), &device);
        let decoder = load_keeping(decoder, &file, &spec.decoder_keys(), keep)?;
        let seconds = start.elapsed().as_secs_f64();
        drop(decoder);
        Ok(seconds)
    };
    let [mut cat, mut wide, mut own] = [const { Vec::new() }; 3];
    for round in 0..=ROUNDS {
        let start = Instant::now();
        let cat_it = Command::new("cat")
            .args(&files)
            .stdout(Stdio::null())
            .status()?;
        let seconds = start.elapsed().as_secs_f64();
        if !cat_it.success() {
            return Err("cat failed".into());
        }
        let (as_f32, as_is) = (load(&|_, _| false)?, load(&|_, _| true)?);
        // The first round fills the page cache and does not count.
        if round > 0 {
            cat.push(seconds);
            wide.push(as_f32);
            own.push(as_is);
        }
    }
    let [cat, wide, own] = [cat, wide, own].map(median);
    println!(
        "{:.0} MB, medians of {ROUNDS}: cat {cat:.3} s",
        bytes as f64 / 1e6
    );
    println!(
        "  as 32-bit floats: {wide:.3} s, {:.2} times cat",
        wide / cat
    );
    println!(
        "  as the file has them: {own:.3} s, {:.2} times cat",
        own / cat
    );
    Ok(())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
