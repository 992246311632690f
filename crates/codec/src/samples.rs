//! Synthetic features for measuring coders: the three kinds of redundancy that real ones have, one at a time.
//!
//! Every draw follows from the seed alone, by a counter-based generator. Features have zero mean and, in expectation,
//! unit variance.

/// Independent Gaussian features: no coder can beat their order-0 entropy.
pub fn gaussian(rows: usize, cols: usize, seed: u64) -> Vec<f32> {
    let mut normal = Normal::new(seed);
    (0..rows * cols).map(|_| normal.draw() as f32).collect()
}

/// Features whose neighbours in the same channel have the correlation `rho`: a first-order autoregressive process
/// along the rows, starting anew every `tokens` rows.
pub fn autoregressive(rows: usize, cols: usize, tokens: usize, rho: f64, seed: u64) -> Vec<f32> {
    let mut normal = Normal::new(seed);
    let fresh = (1.0 - rho * rho).sqrt();
    let mut state = vec![0.0; cols];
    let mut features = Vec::with_capacity(rows * cols);
    for row in 0..rows {
        for state in &mut state {
            let draw = normal.draw();
            *state = if row % tokens.max(1) == 0 {
                draw
            } else {
                rho * *state + fresh * draw
            };
            features.push(*state as f32);
        }
    }
    features
}

/// Gaussian features whose channels differ in scale: the logarithm of a channel's deviation is Gaussian with deviation
/// `spread`, and all are divided by the deviation that results for the whole, `exp(spread^2)`.
pub fn channel_scales(rows: usize, cols: usize, spread: f64, seed: u64) -> Vec<f32> {
    let mut normal = Normal::new(seed);
    let scales: Vec<f64> = (0..cols)
        .map(|_| (spread * normal.draw() - spread * spread).exp())
        .collect();
    let mut features = Vec::with_capacity(rows * cols);
    for _ in 0..rows {
        features.extend(scales.iter().map(|scale| (scale * normal.draw()) as f32));
    }
    features
}

/// Standard normal draws (Box and Muller) from the splitmix64 generator.
struct Normal {
    state: u64,
    second: Option<f64>,
}

impl Normal {
    fn new(seed: u64) -> Self {
        Self {
            state: seed,
            second: None,
        }
    }

    /// Uniform in (0, 1].
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((x ^ (x >> 31)) >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }

    fn draw(&mut self) -> f64 {
        if let Some(second) = self.second.take() {
            return second;
        }
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.second = Some(radius * sin);
        radius * cos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(x: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
        let n = x.clone().count() as f64;
        let mean = x.clone().sum::<f64>() / n;
        (mean, x.map(|x| (x - mean).powi(2)).sum::<f64>() / n)
    }

    #[test]
    fn features_are_what_they_say() {
        let wide = |x: &f32| f64::from(*x);
        let plain = gaussian(400, 250, 1);
        let (mean, variance) = moments(plain.iter().map(wide));
        assert!(
            mean.abs() < 0.015 && (variance - 1.0).abs() < 0.02,
            "{mean} {variance}"
        );
        let (_, fourth) = moments(plain.iter().map(|x| wide(x).powi(2)));
        assert!(
            (fourth - 2.0).abs() < 0.1,
            "the variance of squares is 2, not {fourth}"
        );

        let (cols, tokens) = (250, 100);
        let chained = autoregressive(400, cols, tokens, 0.8, 2);
        let (_, variance) = moments(chained.iter().map(wide));
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
        let correlation = |within: bool| {
            let pairs = (cols..400 * cols).filter(|i| (i / cols % tokens == 0) != within);
            let (count, sum) = pairs.fold((0.0, 0.0), |(n, sum), i| {
                (n + 1.0, sum + wide(&chained[i]) * wide(&chained[i - cols]))
            });
            sum / count
        };
        assert!((correlation(true) - 0.8).abs() < 0.03);
        assert!(correlation(false).abs() < 0.15);

        let spread = channel_scales(200, 4000, 0.5, 3);
        let (_, variance) = moments(spread.iter().map(wide));
        assert!((variance - 1.0).abs() < 0.1, "{variance}");
        let logs = (0..4000).map(|c| {
            let (_, variance) = moments(spread[c..].iter().step_by(4000).map(wide));
            variance.ln() / 2.0
        });
        let (mean, variance) = moments(logs);
        assert!(
            (mean + 0.25).abs() < 0.03 && (variance - 0.25).abs() < 0.03,
            "{mean} {variance}"
        );
        assert_eq!(gaussian(3, 3, 7), gaussian(3, 3, 7));
    }
}
