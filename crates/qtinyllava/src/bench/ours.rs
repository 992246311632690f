//! Our operations.

use anyhow::Result;
use qtl_codec::levels::{fill_values, quantize};
use qtl_codec::pack::{pack, unpack};
use qtl_codec::{Code, Limits, Options, Plane, SymbolData, decode, encode, encode_order0};

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
    let (x, scaling) = (&data.x, data.scaling());

    watch("quantize");
    let (seconds, plane) =
        timer.fastest(|| quantize(x, data.rows, data.cols, data.levels, &scaling));
    plane?;
    let plane = data.symbols()?;
    // A symbol in memory is a byte.
    add("quantize", seconds, 8.0);

    watch("pack");
    let (seconds, packed) = timer.fastest(|| pack(&plane));
    add("pack", seconds, bits(packed.len()));
    let (seconds, back) = timer.fastest(|| unpack(plane.alphabet, count, &packed));
    back?;
    add("unpack", seconds, bits(packed.len()));

    let symbols = match &plane.data {
        SymbolData::U8(symbols) => symbols.clone(),
        SymbolData::U16(_) => anyhow::bail!("{} levels do not fit a byte", data.levels),
    };
    let mut values = vec![0.0f32; count];
    let (seconds, ()) = timer.fastest(|| fill_values(&symbols, data.levels, &mut values));
    add("dequantize", seconds, 32.0);

    let code = Code::new(vec![plane.into()]);
    // What the coder chooses by itself, and what it would be without contexts to choose.
    let any: fn(&Code) -> Vec<u8> = |code| encode(code, &Options::default());
    for (coder, forth, back) in [
        (
            encode_order0 as fn(&Code) -> Vec<u8>,
            "rans_encode",
            "rans_decode",
        ),
        (any, "context_encode", "context_decode"),
    ] {
        watch(forth);
        let (seconds, bytes) = timer.fastest(|| coder(&code));
        add(forth, seconds, bits(bytes.len()));
        watch(back);
        let (seconds, decoded) = timer.fastest(|| decode(&bytes, &Limits::default()));
        decoded?;
        add(back, seconds, bits(bytes.len()));
    }

    // From features to a container and from a container to values, as a step of training does it.
    for (options, forth, back) in [
        (Options::packed(), "compress_packed", "decompress_packed"),
        (Options::default(), "compress", "decompress"),
    ] {
        watch(forth);
        let (seconds, bytes) = timer.fastest(|| {
            data.symbols()
                .map(|plane| encode(&Code::new(vec![plane.into()]), &options))
        });
        let bytes = bytes?;
        add(forth, seconds, bits(bytes.len()));
        watch(back);
        let (seconds, done) = timer.fastest(|| -> Result<()> {
            let (code, _) = decode(&bytes, &Limits::default())?;
            if let [Plane::Symbols(plane)] = code.planes.as_slice()
                && let SymbolData::U8(symbols) = &plane.data
            {
                fill_values(symbols, plane.alphabet, &mut values);
            }
            Ok(())
        });
        done?;
        add(back, seconds, bits(bytes.len()));
    }
    Ok(())
}
