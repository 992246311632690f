//! What normal noise is worth: Renyi differential privacy of the normal mechanism, composed over the times that a sample is sent.
//!
//! Each time is a mechanism of its own on the sample's rows, without any help of sampling: the server sees which rows are whose.
//! The order alpha of a noise of `multiplier` sensitivities sent `times` times costs `alpha times / (2 multiplier^2)`, and that
//! becomes an epsilon for a delta by Canonne, Kamath and Steinke (2020, proposition 12).

/// Where the search of the best order begins and ends.
const ORDERS: [f64; 2] = [1.0 + 1e-6, 1e9];
const STEPS: usize = 200;

/// The epsilon, for a `delta`, of sending a sample so many times with noise of so many sensitivities.
pub fn epsilon(multiplier: f64, times: u64, delta: f64) -> f64 {
    if times == 0 {
        return 0.0;
    }
    if multiplier <= 0.0 {
        return f64::INFINITY;
    }
    let cost = times as f64 / (2.0 * multiplier * multiplier);
    let of = |log: f64| {
        let alpha = log.exp();
        cost * alpha + ((alpha - 1.0) / alpha).ln() - (delta.ln() + alpha.ln()) / (alpha - 1.0)
    };
    // It falls and then rises.
    let [mut low, mut high] = ORDERS.map(f64::ln);
    for _ in 0..STEPS {
        let (a, b) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if of(a) < of(b) {
            high = b;
        } else {
            low = a;
        }
    }
    of(f64::midpoint(low, high)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::epsilon;

    #[test]
    fn more_noise_is_worth_more_and_sending_again_costs() {
        let one = epsilon(1.0, 1, 1e-5);
        // As dp-accounting has it; `runs/accountant.py` compares 20 settings.
        assert!((one - 4.7284).abs() < 1e-3, "{one}");
        assert!(epsilon(2.0, 1, 1e-5) < one && epsilon(1.0, 4, 1e-5) > one);
        // Sending four times with twice the noise is the same.
        assert!((epsilon(2.0, 4, 1e-5) - one).abs() < 1e-9);
        assert_eq!(epsilon(0.0, 1, 1e-5), f64::INFINITY);
        assert_eq!(epsilon(1.0, 0, 1e-5), 0.0);
    }
}
