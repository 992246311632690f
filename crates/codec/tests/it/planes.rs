//! Symbols to code: features as the quantizer sees them, and every odd distribution. Also used by the bench and by
//! the bounded fuzzer.

#![allow(dead_code)] // Each user takes a part of it.

/// A standard normal sample (Box and Muller).
pub fn gaussian(rng: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

/// The level of a unit-variance feature in a quantizer of `levels` levels that clips at `width` deviations.
pub fn fsq(x: f64, levels: u32, width: f64) -> u32 {
    let half = f64::from(levels - 1) / 2.0;
    let offset = if levels.is_multiple_of(2) { 0.5 } else { 0.0 };
    let z = x.clamp(-width, width) / width;
    ((z * half - offset).round_ties_even() + offset + half) as u32
}

/// Quantized Gaussian features.
pub fn features(count: usize, levels: u32, width: f64, seed: u64) -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..count)
        .map(|_| fsq(gaussian(&mut rng), levels, width))
        .collect()
}

/// `count` symbols below `alphabet`, of a shape between constant (0) and uniform (1 and more).
pub fn skewed(count: usize, alphabet: u32, shape: f64, seed: u64) -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let anchor = rng.u32(..alphabet);
    let symbol = |rng: &mut fastrand::Rng| {
        let distance = (f64::from(alphabet) * rng.f64().powf(1.0 / shape.max(1e-9))) as u32;
        (anchor + distance.min(alphabet - 1)) % alphabet
    };
    (0..count).map(|_| symbol(&mut rng)).collect()
}

/// Features whose channels follow first-order recursions of correlation `rho` along the tokens, quantized at 3
/// deviations.
pub fn correlated(rows: usize, cols: usize, levels: u32, rho: f64, seed: u64) -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut channels: Vec<f64> = (0..cols).map(|_| gaussian(&mut rng)).collect();
    let mut data = Vec::with_capacity(rows * cols);
    for _ in 0..rows {
        data.extend(channels.iter().map(|&x| fsq(x, levels, 3.0)));
        for x in &mut channels {
            *x = rho * *x + (1.0 - rho * rho).sqrt() * gaussian(&mut rng);
        }
    }
    data
}

/// Independent features whose channels have deviations of log-normal spread 1, quantized by the deviation of all.
pub fn spread(rows: usize, cols: usize, levels: u32, seed: u64) -> Vec<u32> {
    // Quantiles instead of draws: the few widest of a few hundred channels would decide everything.
    const DRAWS: usize = 101;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut logs: Vec<f64> = (0..cols * DRAWS).map(|_| gaussian(&mut rng)).collect();
    logs.sort_by(f64::total_cmp);
    // The mean square of exp(z) is exp(2).
    let scale = |channel: usize| (logs[channel * DRAWS + DRAWS / 2] - 1.0).exp();
    (0..rows * cols)
        .map(|i| fsq(scale(i % cols) * gaussian(&mut rng), levels, 3.0))
        .collect()
}
