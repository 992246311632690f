//! Where ticks stand and how their numbers are written.

/// A range of values, the ticks within it, and where a value falls.
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    /// Tick values with their labels.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that fits finite values (positive ones, where `log`), with about `count` ticks. With
    /// `round` the range is widened to full ticks. Without any value it is 0..1.
    pub fn fit(values: impl Iterator<Item = f64>, log: bool, count: usize, round: bool) -> Self {
        let (mut low, mut high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
            (l.min(v), h.max(v))
        });
        if low > high {
            (low, high) = if log { (1.0, 10.0) } else { (0.0, 1.0) };
        }
        if log {
            Self::decades(low, high, count)
        } else {
            Self::linear(low, high, count, round)
        }
    }

    fn linear(mut low: f64, mut high: f64, count: usize, round: bool) -> Self {
        if high - low <= f64::EPSILON * high.abs().max(low.abs()) {
            let margin = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low, high) = (low - margin, high + margin);
        }
        let step = nice_step((high - low) / count as f64);
        if round {
            (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        }
        let (first, last) = (
            (low / step - 1e-9).ceil() as i64,
            (high / step + 1e-9).floor() as i64,
        );
        let largest = low.abs().max(high.abs());
        let ticks = (first..=last)
            .map(|i| (i as f64 * step, label(i as f64 * step, step, largest)))
            .collect();
        Self {
            low,
            high,
            log: false,
            ticks,
        }
    }

    fn decades(low: f64, high: f64, count: usize) -> Self {
        let (mut first, mut last) = (low.log10(), high.log10());
        if last - first < 0.2 {
            (first, last) = (first - 0.1, last + 0.1);
        }
        let margin = 0.03 * (last - first);
        (first, last) = (first - margin, last + margin);
        // Few decades need ticks within each, many only every n-th.
        let within: &[f64] = match last - first {
            span if span < 1.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
            span if span < 2.5 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let every = (((last - first) / count as f64).ceil() as i32).max(1);
        let ticks = (first.floor() as i32..=last.ceil() as i32)
            .filter(|decade| decade.rem_euclid(every) == 0)
            .flat_map(|decade| {
                within
                    .iter()
                    .map(move |mantissa| mantissa * 10f64.powi(decade))
            })
            .filter(|tick| (first..=last).contains(&tick.log10()))
            .map(|tick| (tick, number(tick)))
            .collect();
        Self {
            low: 10f64.powf(first),
            high: 10f64.powf(last),
            log: true,
            ticks,
        }
    }

    /// Where a value falls: 0 at the low end, 1 at the high end.
    pub fn place(&self, value: f64) -> f64 {
        if self.log {
            (value / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }
}

/// The step of 1, 2 or 5 times a power of ten that is at least `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * power >= rough * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// A tick's number: as many decimals as the step needs, in thousands or millions if the axis reaches
/// 10 000.
fn label(value: f64, step: f64, largest: f64) -> String {
    if value.abs() < step * 1e-6 {
        return "0".to_owned();
    }
    if largest < 1e-3 {
        return scientific(value);
    }
    let (unit, suffix) = match largest {
        l if l >= 1e9 => (1e9, "G"),
        l if l >= 1e6 => (1e6, "M"),
        l if l >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let decimals = (-(step / unit).log10().floor()).max(0.0) as usize;
    format!("{:.decimals$}{suffix}", value / unit)
}

/// A number by itself: three or four significant digits, k, M and G from 10 000 on.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    let (unit, suffix) = match size {
        s if s >= 1e9 => (1e9, "G"),
        s if s >= 1e6 => (1e6, "M"),
        s if s >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let scaled = value / unit;
    let decimals = match scaled.abs() {
        0.0 => return "0".to_owned(),
        s if s < 1e-3 => return scientific(value),
        s if s < 0.1 => 4,
        s if s < 1.0 => 3,
        s if s < 100.0 => 2,
        s if s < 1000.0 => 1,
        _ => 0,
    };
    let text = format!("{scaled:.decimals$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{suffix}")
}

fn scientific(value: f64) -> String {
    let text = format!("{value:.1e}");
    text.replace(".0e", "e")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, log: bool) -> Vec<String> {
        let axis = Axis::fit([low, high].into_iter(), log, 5, true);
        assert!(
            axis.ticks
                .iter()
                .all(|(tick, _)| (-1e-9..=1.0 + 1e-9).contains(&axis.place(*tick)))
        );
        axis.ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            labels(0.0, 1.0, false),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"].map(|l| if l == "0.0" { "0" } else { l })
        );
        assert_eq!(
            labels(0.0, 24_000.0, false),
            ["0", "5k", "10k", "15k", "20k", "25k"]
        );
        assert_eq!(
            labels(0.0, 2.5e6, false),
            ["0", "0.5M", "1.0M", "1.5M", "2.0M", "2.5M"]
        );
        assert_eq!(
            labels(-3.0, 7.0, false),
            ["-4", "-2", "0", "2", "4", "6", "8"]
        );
        assert_eq!(
            labels(0.0, 4e-4, false),
            ["0", "1e-4", "2e-4", "3e-4", "4e-4"]
        );
    }

    #[test]
    fn log_ticks_are_decades_or_parts_of_them() {
        assert_eq!(labels(1.0, 1e4, true), ["1", "10", "100", "1000", "10k"]);
        assert_eq!(
            labels(0.01, 0.5, true),
            ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5"]
        );
        assert!(labels(1e-9, 1e9, true).len() <= 6);
    }

    #[test]
    fn a_single_value_or_none_still_has_an_axis() {
        for values in [vec![], vec![0.0], vec![7.0], vec![-1e-300], vec![1e300]] {
            let axis = Axis::fit(values.iter().copied(), false, 5, true);
            assert!(
                axis.place(0.5).is_finite() && !axis.ticks.is_empty() && axis.ticks.len() < 50,
                "{values:?}"
            );
        }
    }

    #[test]
    fn numbers_are_short() {
        let shown = [
            0.0, 0.00002, 0.05, 0.5, 12.345, 99.99, 100.0, 1234.0, 12_345.0, 2.5e6, -3.0,
        ]
        .map(number);
        assert_eq!(
            shown,
            [
                "0", "2e-5", "0.05", "0.5", "12.35", "99.99", "100", "1234", "12.35k", "2.5M", "-3"
            ]
        );
    }
}
