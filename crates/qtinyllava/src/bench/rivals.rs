//! What ours is measured against: a general entropy coder in Rust, the usual compressor, and doing nothing.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use constriction::stream::Decode;
use constriction::stream::model::DefaultContiguousCategoricalEntropyModel;
use constriction::stream::stack::DefaultAnsCoder;
use qtl_codec::entropy::histogram;
use qtl_codec::pack::pack;

use super::Data;
use super::timing::Timer;

/// Measures each; `add` takes the operation, its seconds and its bits per feature.
pub fn measure(
    data: &Data,
    timer: Timer,
    watch: &mut dyn FnMut(&str),
    add: &mut dyn FnMut(&'static str, f64, f64),
) -> Result<()> {
    let count = data.x.len();
    let bits = |bytes: usize| 8.0 * bytes as f64 / count as f64;
    let plane = data.symbols()?;

    watch("constriction");
    let probabilities: Vec<f64> = histogram(&plane)
        .iter()
        .map(|&n| n.max(1) as f64 / count as f64)
        .collect();
    let model = DefaultContiguousCategoricalEntropyModel::from_floating_point_probabilities_fast(
        &probabilities,
        None,
    );
    let Ok(model) = model else {
        bail!("constriction takes no model of {probabilities:?}");
    };
    let message: Vec<usize> = plane.data.iter().map(|s| s as usize).collect();
    let (seconds, coder) = timer.fastest(|| {
        let mut coder = DefaultAnsCoder::new();
        coder
            .encode_iid_symbols_reverse(&message, &model)
            .map(|()| coder)
    });
    let Ok(coder) = coder else {
        bail!("constriction does not encode the plane");
    };
    let bytes = coder.num_valid_bits().div_ceil(8);
    add("constriction_encode", seconds, bits(bytes));
    let (seconds, same) = timer.fastest(|| {
        let mut coder = coder.clone();
        let decoded = coder.decode_iid_symbols(count, &model);
        decoded
            .zip(&message)
            .all(|(got, want)| got.is_ok_and(|got| got == *want))
    });
    if !same {
        bail!("constriction does not return what it was given");
    }
    add("constriction_decode", seconds, bits(bytes));

    zstd(&pack(&plane), timer, watch, &mut |op, seconds, bytes| {
        add(op, seconds, bits(bytes));
    })?;

    watch("memcpy");
    let mut copy = vec![0.0f32; count];
    let (seconds, ()) = timer.fastest(|| copy.copy_from_slice(&data.x));
    add("memcpy", seconds, 32.0);
    Ok(())
}

/// The installed zstd program on packed bytes (of one byte a symbol it makes more, and takes longer), from a file to a
/// pipe. Its start is included: a millisecond. Nothing where it is not installed.
fn zstd(
    packed: &[u8],
    timer: Timer,
    watch: &mut dyn FnMut(&str),
    add: &mut dyn FnMut(&'static str, f64, usize),
) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (plain, small) = (dir.path().join("plane"), dir.path().join("plane.zst"));
    std::fs::write(&plain, packed)?;
    let run = |flags: &[&str], file: &Path| {
        Command::new("zstd")
            .args(["--single-thread", "-q", "-c"])
            .args(flags)
            .arg(file)
            .output()
    };
    for (level, forth, back) in [
        ("-1", "zstd_1_encode", "zstd_1_decode"),
        ("-19", "zstd_19_encode", "zstd_19_decode"),
    ] {
        watch(forth);
        let (seconds, output) = match timer.fastest(|| run(&[level], &plain)) {
            (_, Err(error)) if error.kind() == ErrorKind::NotFound => {
                watch("zstd is not installed: no rows of it");
                return Ok(());
            }
            (seconds, output) => (seconds, output.context("zstd")?),
        };
        let bytes = output.stdout.len();
        std::fs::write(&small, output.stdout)?;
        add(forth, seconds, bytes);
        let (seconds, output) = timer.fastest(|| run(&["-d"], &small));
        if output.context("zstd")?.stdout != packed {
            bail!("zstd does not return what it was given");
        }
        add(back, seconds, bytes);
    }
    Ok(())
}
