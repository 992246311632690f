//! Which token comes next: the most likely one, or a draw.

use crate::weights::Stream;

/// How tokens are chosen. The draw of a position depends on seed and position only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most likely token.
    pub temperature: f64,
    /// Draws are from the smallest set of most likely tokens whose probabilities reach this sum (Holtzman et al. 2020,
    /// nucleus sampling); 1 is all of them.
    pub top_p: f64,
    /// Seeds the draws.
    pub seed: u64,
}

impl Sampling {
    /// Always the most likely token.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_p: 1.0,
        seed: 0,
    };

    /// The token at `position`, given the logits of the whole vocabulary. Of equal logits the first wins.
    pub fn choose(&self, logits: &[f32], position: usize) -> u32 {
        let best = (0..logits.len()).rev();
        let best = best.max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
        let best = best.unwrap_or_default();
        if self.temperature <= 0.0 {
            return best as u32;
        }
        let top = f64::from(logits[best]);
        let weight = |logit: f32| ((f64::from(logit) - top) / self.temperature).exp();
        let mut tokens: Vec<(usize, f64)> =
            logits.iter().copied().map(weight).enumerate().collect();
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1));
        let total: f64 = tokens.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let nucleus = tokens.iter().position(|(_, weight)| {
            sum += weight;
            sum >= self.top_p * total
        });
        tokens.truncate(nucleus.map_or(tokens.len(), |last| last + 1));
        let total: f64 = tokens.iter().map(|(_, weight)| weight).sum();
        let mut left = total * Stream::new(self.seed, &format!("token {position}")).uniform();
        for (token, weight) in &tokens {
            left -= weight;
            if left < 0.0 {
                return *token as u32;
            }
        }
        best as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities 8/15, 4/15, 2/15, 1/15, shuffled.
    fn logits() -> Vec<f32> {
        [2.0f32, 8.0, 1.0, 4.0].map(f32::ln).to_vec()
    }

    fn shares(sampling: Sampling) -> [f64; 4] {
        let mut shares = [0.0; 4];
        for position in 0..20_000 {
            shares[sampling.choose(&logits(), position) as usize] += 1.0 / 20_000.0;
        }
        shares
    }

    #[track_caller]
    fn near(got: [f64; 4], want: [f64; 4]) {
        for (got, want) in got.iter().zip(want) {
            // Four standard deviations of a share of one half.
            assert!((got - want).abs() < 0.015, "{got} instead of {want}");
            assert!(want > 0.0 || *got == 0.0);
        }
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let plain = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            seed: 1,
        };
        near(shares(plain), [2.0, 8.0, 1.0, 4.0].map(|p| p / 15.0));
        // Half the temperature squares the weights.
        let cold = Sampling {
            temperature: 0.5,
            ..plain
        };
        near(shares(cold), [4.0, 64.0, 1.0, 16.0].map(|p| p / 85.0));
        // 8/15 falls short of 0.6, 12/15 does not.
        let narrow = Sampling {
            top_p: 0.6,
            ..plain
        };
        near(shares(narrow), [0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
        let narrowest = Sampling {
            top_p: 0.0,
            ..plain
        };
        near(shares(narrowest), [0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_draw_is_a_function_of_seed_and_position() {
        let sampling = |seed| Sampling {
            temperature: 1.0,
            top_p: 1.0,
            seed,
        };
        let draws = |seed| -> Vec<u32> {
            (0..50)
                .map(|position| sampling(seed).choose(&logits(), position))
                .collect()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }

    #[test]
    fn without_temperature_the_first_of_the_most_likely_is_taken() {
        assert_eq!(Sampling::GREEDY.choose(&[0.5, 2.0, -1.0, 2.0], 7), 1);
    }
}
