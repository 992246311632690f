//! The codecs of the returned gradient: errors within their step, rounding without bias, bad input refused.

use burn::tensor::{Device, Tensor, TensorData};
use qtl_codec::{Code, Limits, Options, Plane, ScalarData, Symbols};
use qtl_model::quant::gradient::{Draw, GradientCodec, GradientError, Rows, Tiled};

use crate::golden::floats;

const COLS: usize = 45;

fn draw(step: u64) -> Draw<'static> {
    Draw {
        seed: 11,
        step,
        tensor: "image",
    }
}

fn tensor(values: &[f32], cols: usize) -> Tensor<2> {
    let data = TensorData::new(values.to_vec(), [values.len() / cols, cols]);
    Tensor::from_data(data, &Device::default())
}

fn tiled(bits: u32, tile: usize, hadamard: bool, even: f64) -> GradientCodec {
    GradientCodec::Tiled(Tiled {
        bits,
        tile,
        hadamard,
        even,
    })
}

fn drawn(keep: f64) -> GradientCodec {
    let tiled = Tiled {
        bits: 4,
        tile: 32,
        hadamard: true,
        even: 1.0,
    };
    GradientCodec::Rows(Rows { keep, tiled })
}

/// There and back through the container.
fn carry(codec: &GradientCodec, values: &[f32], cols: usize, draw: Draw<'_>) -> Vec<f32> {
    let code = codec.encode(tensor(values, cols), draw).unwrap();
    let bytes = qtl_codec::encode(&code, &Options::default());
    let (back, _) = qtl_codec::decode(&bytes, &Limits::default()).unwrap();
    assert_eq!(back, code);
    let shape = [values.len() / cols, cols];
    floats(
        codec
            .decode(&back, shape, draw, &Device::default())
            .unwrap(),
    )
}

/// Zeros, tiny entries, one outlier, sizes mixed within a row, a plain row, equal entries; the last tile is short.
fn awkward() -> Vec<f32> {
    let wave = |i: usize| ((i * 37 % 23) as f32 - 11.0) / 11.0;
    let mut values = vec![0.0; COLS];
    values.extend((0..COLS).map(|i| wave(i) * 1e-12));
    values.extend((0..COLS).map(|i| if i == 40 { 3.0 } else { wave(i) * 1e-3 }));
    values.extend((0..COLS).map(|i| wave(i) * (10f32).powi(-(i as i32 % 6))));
    values.extend((0..COLS).map(wave));
    values.extend(vec![0.25; COLS]);
    values
}

#[test]
fn fixed_codecs_stay_within_their_step() {
    use GradientCodec::{F16, F32, Int8};
    // Tiny values, a zero row, rows of very different size.
    let rows: Vec<f32> = (0..64)
        .map(|i| match i / 16 {
            0 => 0.0,
            1 => (i as f32 - 23.0) * 1e-9,
            2 => (i as f32 - 40.0) * 1e-3,
            _ => (i as f32 - 55.5) * 2.0,
        })
        .collect();
    for (codec, relative) in [(F32, 0.0), (F16, 1.0 / 1024.0), (Int8, 1.0 / 200.0)] {
        let got = carry(&codec, &rows, 16, draw(0));
        for (row, (got, want)) in got.chunks(16).zip(rows.chunks(16)).enumerate() {
            // Rows far below the largest entry may vanish in the 16-bit forms, but never grow.
            let top = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for (got, want) in got.iter().zip(want) {
                let limit = relative * top + if codec == F32 { 0.0 } else { 2e-7 };
                assert!(
                    (got - want).abs() <= limit,
                    "{codec:?} row {row}: {got} for {want}"
                );
            }
        }
    }
}

#[test]
fn tiled_rounding_has_no_bias() {
    const DRAWS: u32 = 2000;
    let values = awkward();
    for (bits, tile, hadamard, even) in [
        (2, 32, true, 0.0),
        (2, 32, false, 0.0),
        (3, 8, true, 0.5),
        (4, 32, true, 0.0),
        (4, 64, false, 1.0),
        (5, 16, true, 1.0),
        (8, 4, true, 0.0),
    ] {
        let codec = tiled(bits, tile, hadamard, even);
        let mut sum = vec![0.0f64; values.len()];
        let mut square = vec![0.0f64; values.len()];
        for step in 0..DRAWS {
            let got = carry(&codec, &values, COLS, draw(u64::from(step)));
            for (i, (got, want)) in got.iter().zip(&values).enumerate() {
                let error = f64::from(*got) - f64::from(*want);
                sum[i] += error;
                square[i] += error * error;
            }
        }
        let n = f64::from(DRAWS);
        for (i, want) in values.iter().enumerate() {
            let mean = sum[i] / n;
            let standard_error = ((square[i] / n - mean * mean).max(0.0) / n).sqrt();
            // The rotation itself rounds to 32 bits.
            let row = &values[i / COLS * COLS..][..COLS];
            let rounding = 1e-6 * f64::from(row.iter().fold(0.0f32, |m, v| m.max(v.abs())));
            assert!(
                mean.abs() <= 5.0 * standard_error + rounding,
                "{codec:?}: entry {i} = {want} comes back {mean:e} off on average, standard error {standard_error:e}"
            );
        }
        assert!(
            sum[..COLS].iter().all(|s| *s == 0.0),
            "zeros must stay zeros"
        );
    }
}

/// Rows of which some are long and most are short come back right on average, each from the few times that it is sent; and
/// what is wrong with a single message is what the chances say.
#[test]
fn rows_that_are_drawn_have_no_bias() {
    const DRAWS: u32 = 4000;
    let mut stream = qtl_model::weights::Stream::new(5, "gradient test");
    let lengths = [8.0, 4.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.0, 0.25, 1.0];
    let value = |i: usize| (lengths[i / COLS] * stream.normal()) as f32;
    let values: Vec<f32> = (0..lengths.len() * COLS).map(value).collect();
    let square = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    for keep in [0.3, 0.6] {
        let codec = drawn(keep);
        let mut sum = vec![0.0f64; values.len()];
        let mut squares = vec![0.0f64; values.len()];
        let (mut sent, mut whole) = (0, 0.0);
        for step in 0..DRAWS {
            let got = carry(&codec, &values, COLS, draw(u64::from(step)));
            let some = |row: &&[f32]| row.iter().any(|x| *x != 0.0);
            sent += got.chunks_exact(COLS).filter(some).count();
            let error: Vec<f32> = got.iter().zip(&values).map(|(g, w)| g - w).collect();
            whole += square(&error);
            for (i, error) in error.into_iter().enumerate() {
                sum[i] += f64::from(error);
                squares[i] += f64::from(error).powi(2);
            }
        }
        let n = f64::from(DRAWS);
        for (i, want) in values.iter().enumerate() {
            let mean = sum[i] / n;
            let standard_error = ((squares[i] / n - mean * mean).max(0.0) / n).sqrt();
            assert!(
                mean.abs() <= 5.0 * standard_error + 1e-6,
                "keep {keep}: entry {i} = {want} is {mean:e} off on average, standard error {standard_error:e}"
            );
        }
        let sent = sent as f64 / n;
        assert!((sent - keep * 10.0).abs() < 0.05, "{sent} rows for {keep}");
        // In proportion to the lengths: no more squared error than the same number of rows drawn alike.
        let alike = square(&values) * (1.0 / keep - 1.0);
        assert!(whole / n < 0.5 * alike, "{} for {alike}", whole / n);
    }
    // All rows are those of the codec alone.
    let tiled = tiled(4, 32, true, 1.0);
    let all = carry(&drawn(1.0), &values, COLS, draw(3));
    assert_eq!(all, carry(&tiled, &values, COLS, draw(3)));
}

#[test]
fn each_bit_quarters_the_squared_error() {
    // Normal entries: with one more bit the step halves (2^(b-1) - 1 levels on either side).
    let mut stream = qtl_model::weights::Stream::new(3, "gradient test");
    let values: Vec<f32> = (0..64 * 128).map(|_| stream.normal() as f32).collect();
    let error = |bits| {
        let got = carry(&tiled(bits, 32, true, 0.0), &values, 128, draw(7));
        let square = |x: f64| x * x;
        let sum: f64 = got
            .iter()
            .zip(&values)
            .map(|(g, w)| square(f64::from(g - w)))
            .sum();
        sum / values.len() as f64
    };
    let errors: Vec<f64> = (2..=8).map(error).collect();
    println!("squared error of unit normals at 2 to 8 bits: {errors:.5?}");
    for (bits, pair) in (2u32..).zip(errors.windows(2)) {
        let levels = |bits: u32| f64::from((1u32 << (bits - 1)) - 1);
        let want = (levels(bits + 1) / levels(bits)).powi(2);
        let got = pair[0] / pair[1];
        assert!(
            (got / want - 1.0).abs() < 0.1,
            "{bits} bits: the error fell {got:.2} times, {want:.2} were due"
        );
    }
    // Uniform in a step of scale / 7; the scale is at most the 128 x 64 entries' largest, and above a tile's own.
    assert!((0.008..0.03).contains(&errors[2]), "{}", errors[2]);
}

#[test]
fn one_step_everywhere_costs_less_for_the_same_squared_error() {
    // Rows whose size varies by octaves, as those of a real gradient do.
    let mut stream = qtl_model::weights::Stream::new(4, "gradient test");
    let mut values = Vec::new();
    for _ in 0..256 {
        let size = stream.normal().exp();
        values.extend((0..128).map(|_| (size * stream.normal()) as f32));
    }
    let measure = |codec: GradientCodec| {
        let code = codec.encode(tensor(&values, 128), draw(0)).unwrap();
        let bytes = qtl_codec::encode(&code, &Options::default()).len();
        let got = carry(&codec, &values, 128, draw(0));
        let error: f64 = got
            .iter()
            .zip(&values)
            .map(|(g, w)| f64::from(g - w).powi(2))
            .sum();
        (bytes, error)
    };
    let (same_levels, relative) = measure(tiled(4, 32, true, 0.0));
    let (same_step, absolute) = measure(tiled(7, 32, true, 1.0));
    assert!(
        absolute < relative && same_step < same_levels,
        "{same_step} bytes at error {absolute:.1}, {same_levels} at {relative:.1}"
    );
}

#[test]
fn a_step_draws_the_same_again_and_another_step_does_not() {
    let (codec, values) = (tiled(3, 32, true, 0.0), awkward());
    let code = |draw| codec.encode(tensor(&values, COLS), draw).unwrap();
    assert_eq!(code(draw(5)), code(draw(5)));
    assert_ne!(code(draw(5)), code(draw(6)));
    let other = Draw {
        tensor: "text",
        ..draw(5)
    };
    assert_ne!(code(draw(5)), code(other));
}

#[test]
fn what_is_not_a_number_is_refused_by_place() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = awkward();
        values[2 * COLS + 3] = bad;
        for codec in [
            GradientCodec::F32,
            GradientCodec::F16,
            GradientCodec::Int8,
            tiled(4, 32, true, 0.0),
            drawn(0.5),
        ] {
            let GradientError::NotFinite { row, channel, .. } =
                codec.encode(tensor(&values, COLS), draw(0)).unwrap_err()
            else {
                panic!("another error");
            };
            assert_eq!((row, channel), (2, 3));
        }
    }
}

/// What the peer sends is no gradient, however well it is packed.
#[test]
fn what_is_not_a_number_is_refused_where_it_arrives() {
    let device = Device::default();
    let values = awkward();
    let shape = [values.len() / COLS, COLS];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for codec in [
            GradientCodec::F32,
            GradientCodec::F16,
            GradientCodec::Int8,
            tiled(4, 32, true, 0.0),
        ] {
            let mut code = codec.encode(tensor(&values, COLS), draw(0)).unwrap();
            let Some(Plane::Scalars(plane)) = code.planes.first_mut() else {
                panic!("{codec:?} starts with scalars");
            };
            let ScalarData::F32(scalars) = &mut plane.data else {
                panic!("{codec:?} starts with 32-bit floats");
            };
            let last = scalars.len() - 1;
            scalars[last] = bad;
            let error = codec.decode(&code, shape, draw(0), &device).unwrap_err();
            match codec {
                GradientCodec::F32 => assert!(
                    matches!(error, GradientError::NotFinite { row, .. } if row == shape[0] - 1)
                ),
                // The magnitude that all entries are relative to.
                _ => assert!(
                    error.to_string().contains("1x1 not all finite floats"),
                    "{error}"
                ),
            }
        }
    }
}

#[test]
fn planes_of_another_shape_are_refused() {
    let device = Device::default();
    let values = awkward();
    let rows = values.len() / COLS;
    for codec in [
        GradientCodec::F32,
        GradientCodec::F16,
        GradientCodec::Int8,
        tiled(4, 32, true, 0.5),
        drawn(0.7),
    ] {
        let code = codec.encode(tensor(&values, COLS), draw(0)).unwrap();
        let decode = |code: &Code, shape| codec.decode(code, shape, draw(0), &device);
        assert!(decode(&code, [rows, COLS]).is_ok());
        assert!(decode(&code, [rows, COLS - 1]).is_err());
        assert!(decode(&code, [rows + 1, COLS]).is_err());
        for plane in 0..code.planes.len() {
            let mut fewer = code.clone();
            fewer.planes.remove(plane);
            assert!(decode(&fewer, [rows, COLS]).is_err(), "{codec:?} {plane}");
        }
        let mut more = code.clone();
        more.planes.push(code.planes[0].clone());
        assert!(decode(&more, [rows, COLS]).is_err());
        let mut longer = code;
        if let Some(Plane::Symbols(last)) = longer.planes.last().cloned() {
            let symbols = last.data.iter().chain([0]);
            let last = Symbols::from_u32(last.alphabet, last.len() + 1, 1, symbols).unwrap();
            *longer.planes.last_mut().unwrap() = last.into();
            assert!(decode(&longer, [rows, COLS]).is_err());
        }
    }
}

#[test]
fn empty_gradients_pass() {
    for codec in [
        GradientCodec::F32,
        GradientCodec::F16,
        GradientCodec::Int8,
        tiled(4, 32, true, 0.0),
        drawn(0.5),
    ] {
        let code = codec.encode(tensor(&[], 8), draw(0)).unwrap();
        let back = codec.decode(&code, [0, 8], draw(0), &Device::default());
        assert_eq!(back.unwrap().dims(), [0, 8]);
    }
}
