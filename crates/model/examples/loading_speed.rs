//! How long the server's half of a language model takes to load, against `cat` of the same files to nowhere: widened to 32
//! bits; and with its matrices in the file's own bfloat16, as a recipe with `base = "bf16"` keeps them, which is a view of the
//! file that is looked at once for values that are none. Reading it all once more is timed too.
//!
//!     cargo run --release -p qtl-model --example loading_speed -- DIR
//!
//! Every load has a process of its own: memory that was used before is cheaper than fresh memory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use qtl_model::Device;
use qtl_model::config::Fields;
use qtl_model::llm::{Decoder, DecoderSpec};
use qtl_model::tuning::Storage;
use qtl_model::weights::{Checkpoint, load_keeping};

const ROUNDS: usize = 9;
const WAYS: [(&str, &str); 3] = [
    ("f32", "as 32-bit floats"),
    ("own", "as the file has them"),
    ("own-used", "as the file has them, and read once more"),
];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("give a model directory")?);
    if let Some(way) = arguments.next() {
        println!("{}", load(&dir, &way)?);
        return Ok(());
    }
    let file = Checkpoint::open(&dir)?;
    let files: Vec<PathBuf> = file.by_file().map(|(path, _)| path.to_owned()).collect();
    let sizes = files.iter().map(|f| f.metadata().map(|m| m.len()));
    let bytes = sizes.sum::<std::io::Result<u64>>()?;
    let mut cat = Vec::new();
    let mut loads = WAYS.map(|_| Vec::new());
    // The first round fills the page cache and does not count.
    for round in 0..=ROUNDS {
        let start = Instant::now();
        let cat_it = Command::new("cat")
            .args(&files)
            .stdout(Stdio::null())
            .status()?;
        if !cat_it.success() {
            return Err("cat failed".into());
        }
        let seconds = start.elapsed().as_secs_f64();
        if round > 0 {
            cat.push(seconds);
        }
        for ((way, _), times) in WAYS.iter().zip(&mut loads) {
            let child = Command::new(std::env::current_exe()?)
                .arg(&dir)
                .arg(way)
                .output()?;
            let seconds = String::from_utf8(child.stdout)?.trim().parse();
            if round > 0 {
                times.push(seconds?);
            }
        }
    }
    let cat = median(cat);
    println!(
        "{:.0} MB, medians of {ROUNDS}: cat {cat:.3} s",
        bytes as f64 / 1e6
    );
    for ((_, words), times) in WAYS.iter().zip(loads) {
        let seconds = median(times);
        println!("  {words}: {seconds:.3} s, {:.2} times cat", seconds / cat);
    }
    Ok(())
}

/// Seconds that one load takes.
fn load(dir: &Path, way: &str) -> Result<f64> {
    let spec = DecoderSpec::from_config(&Fields::read(dir)?)?;
    let storage = match way {
        "f32" => Storage::F32,
        _ => Storage::Bf16,
    };
    let start = Instant::now();
    let file = Checkpoint::open(dir)?;
    let decoder = Decoder::new(spec.clone(), &Device::default());
    let decoder = load_keeping(decoder, &file, &spec.decoder_keys(), &|_, _| storage)?;
    if way == "own-used" {
        // The views of one opened checkpoint are views of one map, so these are the model's own pages.
        let mut sum = 0u64;
        for name in file.names() {
            let bytes = file.map_bf16(name)?.ok_or("a tensor is not in bfloat16")?;
            let words = bytes
                .chunks_exact(8)
                .filter_map(|word| word.try_into().ok());
            sum = words.map(u64::from_le_bytes).fold(sum, u64::wrapping_add);
        }
        std::hint::black_box(sum);
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(decoder);
    Ok(seconds)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
