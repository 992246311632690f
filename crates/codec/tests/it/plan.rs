//! Planning against what is known of Gaussian features: the integrals in closed or numerical form.

use qtl_codec::Grid;
use qtl_codec::levels::{Scaling, quantize};
use qtl_codec::plan::{Model, Rule, Sample, choose, confidence, frontier, rate, scan};
use qtl_codec::samples::{autoregressive, channel_scales, gaussian};

fn sample(rows: usize, cols: usize) -> Sample {
    Sample::new(&gaussian(rows, cols, 11), rows, cols, true, None).unwrap()
}

#[test]
fn a_gaussian_costs_and_loses_what_the_integrals_say() {
    let sample = sample(8000, 64);
    // Levels, entropy, error after the best gain, cosine; clipped at 3 deviations.
    let table = [
        (2, 1.0000, 0.3634, 0.7979),
        (3, 0.7009, 0.4978, 0.7087),
        (4, 1.2670, 0.2464, 0.8681),
        (5, 1.5842, 0.1583, 0.9174),
        (6, 1.8635, 0.1076, 0.9447),
        (7, 2.1019, 0.0774, 0.9605),
        (8, 2.3089, 0.0582, 0.9705),
        (16, 3.3729, 0.0136, 0.9932),
    ];
    for (levels, entropy, mse, cosine) in table {
        let got = sample.try_out(levels, 3.0).unwrap();
        let bits = got.bits(Model::Order0).unwrap();
        assert!((bits - entropy).abs() < 0.005, "{levels}: {bits} bits");
        // Nothing to know of independent features.
        assert!((got.bits(Model::Previous).unwrap() - entropy).abs() < 0.005);
        assert!((got.bits(Model::Channel).unwrap() - entropy).abs() < 0.005);
        assert!(got.bits(Model::Neighbours).is_none(), "there is no grid");
        let found = got.distortion;
        assert!((found.mse / mse - 1.0).abs() < 0.01, "{levels}: {found:?}");
        assert!((found.cosine - cosine).abs() < 0.001, "{levels}: {found:?}");
        // No quantizer beats the bound, and this kind stays within 0.3 bits of it.
        assert!((0.0..0.3).contains(&(bits - got.bound())), "{levels}");
    }
}

#[test]
fn the_best_width_of_a_packed_gaussian_is_found() {
    let sample = sample(4000, 64);
    let widths: Vec<f32> = (4..=16).map(|w| w as f32 / 4.0).collect();
    let found = scan(&sample, [4], &widths, &mut |_| {}).unwrap();
    let best = found
        .iter()
        .min_by(|a, b| a.distortion.mse.total_cmp(&b.distortion.mse));
    let best = best.unwrap();
    // A uniform quantizer of 4 levels is best with its outer levels at 1.494 deviations; its error is 0.1189.
    assert_eq!(best.width, 1.5);
    assert!((best.distortion.mse - 0.1189).abs() < 0.002, "{best:?}");
}

#[test]
fn neighbours_save_what_the_correlation_says() {
    // H(q_t | q_t-1) of a Gaussian pair with this correlation.
    for (rho, bits) in [(0.0, 1.267), (0.5, 1.156), (0.8, 0.924), (0.95, 0.605)] {
        let x = autoregressive(6000, 64, 6000, rho, 5);
        let sample = Sample::new(&x, 6000, 64, true, None).unwrap();
        let got = sample.try_out(4, 3.0).unwrap();
        let previous = got.bits(Model::Previous).unwrap();
        assert!((previous - bits).abs() < 0.012, "{rho}: {previous}");
        if rho > 0.0 {
            assert_eq!(got.best().0, Model::Previous, "{rho}");
        } else {
            assert!(got.bits(Model::Order0).unwrap() - got.best().1 < 0.002);
        }
    }
}

#[test]
fn channels_save_what_their_scales_say() {
    // One range for all, channels of different scale: 1.304 -> 1.216 and 1.245 -> 1.121 bits.
    for (spread, whole, known) in [(0.5, 1.304, 1.216), (1.0, 1.245, 1.121)] {
        let (rows, cols) = (400, 4000);
        let x = channel_scales(rows, cols, spread, 7);
        let range = Scaling::Range {
            low: -3.0,
            high: 3.0,
            epsilon: 1e-4,
        };
        let plane = quantize(&x, rows, cols, 4, &range).unwrap();
        let bits = |model| rate(&plane, model).unwrap().bits();
        assert!((bits(Model::Order0) - whole).abs() < 0.02, "{spread}");
        let gain = bits(Model::Order0) - bits(Model::Channel);
        assert!((gain - (whole - known)).abs() < 0.01, "{spread}: {gain}");
    }
}

#[test]
fn neighbours_on_a_grid_are_left_and_above() {
    // Each cell is the sum of its neighbours: given both it costs nothing, given the previous token it does.
    let (side, pictures, cols) = (8, 40, 16);
    let tokens = side * side;
    let mut rng = fastrand::Rng::with_seed(3);
    let mut x = vec![0.0f32; pictures * tokens * cols];
    for row in 0..pictures * tokens {
        let place = row % tokens;
        for col in 0..cols {
            let at = |back: usize| x[(row - back) * cols + col];
            let free = place < side || place % side == 0;
            let value = if free {
                rng.u32(..2) as f32
            } else {
                (at(1) + at(side)) % 2.0
            };
            x[row * cols + col] = value;
        }
    }
    let picture = Some(Grid {
        tokens,
        width: side,
        first: 0,
    });
    let sample = Sample::new(&x, pictures * tokens, cols, true, picture).unwrap();
    let got = sample.try_out(2, 1.0).unwrap();
    let border = (2 * side - 1) as f64 / tokens as f64;
    let neighbours = got.bits(Model::Neighbours).unwrap();
    assert!((neighbours - border).abs() < 0.01, "{neighbours}");
    assert!(got.bits(Model::Previous).unwrap() > 0.9);
    assert_eq!(got.best().0, Model::Neighbours);
    assert!(
        Sample::new(
            &x,
            pictures * tokens,
            cols,
            true,
            Some(Grid {
                tokens: 7,
                width: 7,
                first: 0,
            })
        )
        .is_err()
    );
}

#[test]
fn rules_choose_from_the_frontier() {
    let sample = sample(3000, 64);
    let widths: Vec<f32> = (3..=16).map(|w| w as f32 / 4.0).collect();
    let mut done = 0;
    let all = scan(&sample, 2..=20, &widths, &mut |n| done = n).unwrap();
    assert_eq!((all.len(), done), (19 * 14, 19 * 14));

    // The entropy of 16 levels is 3.37 bits: the paper's rule takes 4 bits.
    let shannon = choose(&all, Rule::Shannon).unwrap();
    assert_eq!((shannon.levels, shannon.width), (16, 3.0));

    // At 2 bits an entropy-coded uniform quantizer loses 0.0889; the reference's 4 levels at 3 deviations 0.2451.
    let budget = choose(&all, Rule::Budget { bits: 2.0 }).unwrap();
    assert!(budget.best().1 <= 2.0);
    assert!(
        (0.086..0.095).contains(&budget.distortion.mse),
        "{budget:?}"
    );

    let tolerance = choose(&all, Rule::Tolerance { mse: 0.092 }).unwrap();
    assert!(tolerance.distortion.mse <= 0.092);
    assert!((1.95..2.08).contains(&tolerance.best().1), "{tolerance:?}");
    assert!(choose(&all, Rule::Budget { bits: 0.01 }).is_none());
    assert!(choose(&all, Rule::Tolerance { mse: 1e-9 }).is_none());

    let frontier = frontier(&all);
    assert!(frontier.windows(2).all(|pair| {
        pair[0].best().1 < pair[1].best().1 && pair[0].distortion.mse > pair[1].distortion.mse
    }));
    for chosen in [budget, tolerance] {
        assert!(frontier.contains(&chosen), "{chosen:?}");
    }
}

#[test]
fn a_small_sample_says_so_and_its_interval_holds_the_truth() {
    let verdict = |rows: usize, cols: usize, rho: f64| {
        let x = autoregressive(rows, cols, rows, rho, 9);
        let sample = Sample::new(&x, rows, cols, true, None).unwrap();
        let candidate = sample.try_out(4, 3.0).unwrap();
        (confidence(&sample, &candidate).unwrap(), candidate)
    };
    let (small, _) = verdict(60, 8, 0.0);
    assert!(!small.is_enough() && small.times > 10.0, "{small:?}");
    let (large, candidate) = verdict(20_000, 64, 0.0);
    assert!(large.rate < small.rate / 10.0, "{large:?}");
    assert!(
        (candidate.best().1 - 1.267).abs() < 2.0 * large.rate,
        "{large:?}"
    );
    // As many features, but every token much like the one before.
    let (alike, _) = verdict(20_000, 64, 0.99);
    assert!(alike.rate > 2.0 * large.rate, "{alike:?} {large:?}");
    let (nothing, _) = verdict(1, 8, 0.0);
    assert!(nothing.rate.is_infinite() && !nothing.is_enough());
}

#[test]
fn constant_and_empty_features_are_no_trouble() {
    let empty = Sample::new(&[], 0, 8, true, None).unwrap();
    let got = empty.try_out(4, 3.0).unwrap();
    assert_eq!((got.best().1, got.distortion.mse), (0.0, 0.0));
    assert!(!confidence(&empty, &got).unwrap().is_enough());
    let flat = Sample::new(&[0.1; 600], 100, 6, true, None).unwrap();
    let got = flat.try_out(4, 3.0).unwrap();
    assert!(
        got.best().1.abs() < 1e-9 && got.distortion.mse == 0.0,
        "{got:?}"
    );
    let wrong = Sample::new(&[0.0; 5], 2, 3, true, None).unwrap_err();
    assert!(wrong.to_string().contains("2 rows x 3 columns"), "{wrong}");
}

/// What a budget buys is what the coder makes of it: contexts end at 16 levels, and beyond them what they would know saves
/// nothing.
#[test]
fn a_budget_holds_for_coded_bits() {
    let (rows, cols) = (4000, 32);
    let x = autoregressive(rows, cols, rows, 0.9, 13);
    let sample = Sample::new(&x, rows, cols, true, None).unwrap();
    let widths: Vec<f32> = (4..=16).map(|w| w as f32 / 4.0).collect();
    let all = scan(&sample, 2..=24, &widths, &mut |_| {}).unwrap();
    for bits in [1.5, 2.0, 2.5, 3.0] {
        let chosen = choose(&all, Rule::Budget { bits }).unwrap();
        let plane = sample.quantize(chosen.levels, chosen.width).unwrap();
        let bytes = qtl_codec::encode(
            &qtl_codec::Code::new(vec![plane.into()]),
            &qtl_codec::Options::default(),
        );
        let coded = 8.0 * bytes.len() as f64 / (rows * cols) as f64;
        assert!(coded < 1.03 * bits, "{bits}: {coded} bits at {chosen:?}");
    }
}
