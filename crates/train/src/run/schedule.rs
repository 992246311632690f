//! The learning rate: linear warm-up from zero, then a cosine to zero, as Hugging Face's `cosine` schedule.

use crate::recipe::TrainSpec;

/// The factor on the peak learning rate at optimizer step `step` (from 0) of `total`.
pub fn cosine(step: u64, total: u64, warmup: f64) -> f64 {
    let warm = (total as f64 * warmup).ceil() as u64;
    if step < warm {
        return step as f64 / warm.max(1) as f64;
    }
    let progress = (step - warm) as f64 / (total.saturating_sub(warm)).max(1) as f64;
    (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
}

/// The factor for `step`.
pub fn at(train: &TrainSpec, step: u64) -> f64 {
    cosine(step, train.steps, train.warmup)
}

/// Whether a micro-batch is the last of its step.
pub fn ends_step(train: &TrainSpec, micro_batch: u64) -> bool {
    (micro_batch + 1).is_multiple_of(train.accumulate)
}

#[cfg(test)]
mod tests {
    use super::cosine;

    #[test]
    fn it_rises_peaks_and_falls_to_zero() {
        assert_eq!(cosine(0, 100, 0.1), 0.0);
        assert_eq!(cosine(5, 100, 0.1), 0.5);
        assert_eq!(cosine(10, 100, 0.1), 1.0);
        assert!((cosine(55, 100, 0.1) - 0.5).abs() < 1e-12);
        assert!(cosine(100, 100, 0.1) < 1e-12);
        assert_eq!(cosine(0, 10, 0.0), 1.0);
    }
}
