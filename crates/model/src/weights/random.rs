//! Our own random numbers: the n-th number of a named stream is a pure function of seed, name and n.
//!
//! A backend's global generator would make starting weights depend on the order in which modules are built.

use super::names::hash;

/// An endless stream of numbers, SplitMix64 (Steele et al. 2014) over a counter.
#[derive(Clone, Debug)]
pub struct Stream {
    key: u64,
    counter: u64,
    /// Second half of the last pair of normals.
    spare: Option<f64>,
}

impl Stream {
    /// The stream `name` of a seed.
    pub fn new(seed: u64, name: &str) -> Self {
        Self {
            key: mix(seed ^ mix(hash(name))),
            counter: 0,
            spare: None,
        }
    }

    /// The same stream from where so many [`bits`](Self::bits) have been drawn of it.
    pub fn after(&self, draws: u64) -> Self {
        Self {
            key: self.key,
            counter: self.counter + draws,
            spare: None,
        }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.counter += 1;
        mix(self
            .key
            .wrapping_add(self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // 1 - u is in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_and_name_and_repeat() {
        let take = |seed, name| Stream::new(seed, name).bits();
        assert_eq!(take(1, "a"), take(1, "a"));
        assert_ne!(take(1, "a"), take(2, "a"));
        assert_ne!(take(1, "a"), take(1, "b"));
    }

    #[test]
    fn normals_have_the_right_moments() {
        let mut stream = Stream::new(7, "moments");
        let n = 100_000;
        let draws: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let moment = |k| draws.iter().map(|x| x.powi(k)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.015, "{mean}");
        assert!((moment(2) - 1.0).abs() < 0.02, "{}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.15, "{}", moment(4));
    }
}
