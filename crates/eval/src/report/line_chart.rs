//! Line charts.

use super::axis::{Axis, number};
use super::svg::{class, escape, figure, legend, line, text};
use super::{Chart, Series};

pub(super) const SIZE: (f64, f64) = (560.0, 320.0);
const LEFT: f64 = 64.0;
const RIGHT: f64 = 544.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 266.0;
/// Points drawn per line: more cannot be told apart at this width and make the page heavy.
const MOST_POINTS: usize = 800;
/// Lines with fewer points show each of them.
const FEW_POINTS: usize = 30;

pub(super) fn draw(chart: &Chart) -> String {
    let (drawing, note) = drawing(chart);
    let legend = legend(chart.series.iter().map(|series| series.name.as_str()), true);
    figure(&chart.title, &legend, SIZE, &drawing, &note)
}

/// Axes and lines, and the note below them.
pub(super) fn drawing(chart: &Chart) -> (String, String) {
    let series: Vec<Vec<(f64, f64)>> = chart
        .series
        .iter()
        .map(|series| usable(series, chart.log_y))
        .collect();
    let (x, y) = (
        fit(&series, |p| p.0, false, 7, false),
        fit(&series, |p| p.1, chart.log_y, 5, true),
    );
    let place = |(px, py): (f64, f64)| {
        (
            LEFT + (RIGHT - LEFT) * x.place(px),
            BOTTOM - (BOTTOM - TOP) * y.place(py),
        )
    };
    let mut drawing = axes(chart, &x, &y);
    let smooths = |points: &[(f64, f64)]| chart.smooth > 1 && points.len() > 2 * chart.smooth;
    // All faint lines first: they would dull the strong ones.
    for (i, points) in series
        .iter()
        .enumerate()
        .filter(|(_, points)| smooths(points))
    {
        let raw = path("raw", &thinned(points), place);
        drawing.push_str(&format!("<g class=\"{}\">{raw}</g>", class(i)));
    }
    for (i, points) in series.iter().enumerate() {
        let smooth = if smooths(points) {
            smoothed(points, chart.smooth)
        } else {
            points.clone()
        };
        let line = path("line", &thinned(&smooth), place);
        let dots = if points.len() < FEW_POINTS {
            markers(&chart.series[i].name, points, place)
        } else {
            String::new()
        };
        drawing.push_str(&format!("<g class=\"{}\">{line}{dots}</g>", class(i)));
    }
    if series.iter().all(Vec::is_empty) {
        drawing.push_str(&text(
            (LEFT + RIGHT) / 2.0,
            (TOP + BOTTOM) / 2.0,
            "middle",
            "label",
            "no data",
        ));
    }
    let mut note = chart.note.clone();
    if series.iter().any(|points| smooths(points)) {
        let remark = format!(
            "Strong line: mean over {} neighbouring points; faint line: the points.",
            chart.smooth
        );
        note = if note.is_empty() {
            remark
        } else {
            format!("{note} {remark}")
        };
    }
    (drawing, note)
}

fn usable(series: &Series, log: bool) -> Vec<(f64, f64)> {
    let keep = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (!log || *y > 0.0);
    series.points.iter().copied().filter(keep).collect()
}

fn fit(
    series: &[Vec<(f64, f64)>],
    of: fn(&(f64, f64)) -> f64,
    log: bool,
    ticks: usize,
    round: bool,
) -> Axis {
    Axis::fit(series.iter().flatten().map(of), log, ticks, round)
}

fn axes(chart: &Chart, x: &Axis, y: &Axis) -> String {
    let mut out = String::new();
    for (value, label) in &y.ticks {
        let at = BOTTOM - (BOTTOM - TOP) * y.place(*value);
        out.push_str(&line("grid", (LEFT, at), (RIGHT, at)));
        out.push_str(&text(LEFT - 8.0, at + 4.0, "end", "tick", label));
    }
    for (value, label) in &x.ticks {
        let at = LEFT + (RIGHT - LEFT) * x.place(*value);
        out.push_str(&line("axis", (at, BOTTOM), (at, BOTTOM + 5.0)));
        out.push_str(&text(at, BOTTOM + 19.0, "middle", "tick", label));
    }
    out.push_str(&line("axis", (LEFT, BOTTOM), (RIGHT, BOTTOM)));
    out.push_str(&text(
        (LEFT + RIGHT) / 2.0,
        SIZE.1 - 8.0,
        "middle",
        "label",
        &chart.x_label,
    ));
    let middle = (TOP + BOTTOM) / 2.0;
    let unit = if chart.log_y {
        format!("{} (log)", chart.y_label)
    } else {
        chart.y_label.clone()
    };
    out.push_str(&format!(
        "<text class=\"label\" text-anchor=\"middle\" transform=\"translate(14 {middle}) rotate(-90)\">{}</text>",
        escape(&unit)
    ));
    out
}

fn path(class: &str, points: &[(f64, f64)], place: impl Fn((f64, f64)) -> (f64, f64)) -> String {
    let steps: Vec<String> = points
        .iter()
        .map(|point| {
            let (x, y) = place(*point);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    format!(
        "<polyline class=\"{class}\" points=\"{}\"/>",
        steps.join(" ")
    )
}

fn markers(name: &str, points: &[(f64, f64)], place: impl Fn((f64, f64)) -> (f64, f64)) -> String {
    points
        .iter()
        .map(|point| {
            let (x, y) = place(*point);
            let shown = escape(&format!("{name}: {} at {}", number(point.1), number(point.0)));
            format!("<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"><title>{shown}</title></circle>")
        })
        .collect()
}

/// At each point, the straight line that fits a window of neighbours best. Where the window lies evenly
/// around the point that is their mean; at the ends, where it cannot, a mean would bend a slope.
fn smoothed(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let half = window / 2;
    // Sums up to each point, of y and of y times its number.
    let mut sums = vec![(0.0, 0.0)];
    for (i, (_, y)) in points.iter().enumerate() {
        let (sum, weighted) = sums[i];
        sums.push((sum + y, weighted + y * i as f64));
    }
    (0..points.len())
        .map(|i| {
            let (low, high) = (i.saturating_sub(half), (i + half + 1).min(points.len()));
            let count = (high - low) as f64;
            let (sum, weighted) = (sums[high].0 - sums[low].0, sums[high].1 - sums[low].1);
            let (mean, centre) = (sum / count, (low + high - 1) as f64 / 2.0);
            if 2 * i == low + high - 1 {
                return (points[i].0, mean);
            }
            let slope = (weighted - centre * sum) / (count * (count * count - 1.0) / 12.0);
            // The line may leave the values it was fitted to, even below zero on a logarithmic axis.
            let (least, most) = points[low..high]
                .iter()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), p| {
                    (l.min(p.1), m.max(p.1))
                });
            (
                points[i].0,
                (mean + slope * (i as f64 - centre)).clamp(least, most),
            )
        })
        .collect()
}

/// At most [`MOST_POINTS`]: of each stretch the lowest and the highest, so that spikes stay.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(MOST_POINTS / 2);
    points
        .chunks(stretch)
        .flat_map(|stretch| {
            let by_y = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let low = stretch.iter().min_by(by_y).copied();
            let high = stretch.iter().max_by(by_y).copied();
            let (first, second) = if low.map(|p| p.0) <= high.map(|p| p.0) {
                (low, high)
            } else {
                (high, low)
            };
            first.into_iter().chain(second)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_spikes() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 1.0)).collect();
        points[70_001].1 = 9.0;
        let thin = thinned(&points);
        assert!(thin.len() <= MOST_POINTS && thin.contains(&(70_001.0, 9.0)));
        assert!(thin.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn smoothing_keeps_a_straight_line() {
        let points: Vec<(f64, f64)> = (0..50)
            .map(|i| (f64::from(i), 2.0 * f64::from(i)))
            .collect();
        for (smooth, raw) in smoothed(&points, 9).iter().zip(&points) {
            assert!((smooth.1 - raw.1).abs() < 1e-9);
        }
    }

    #[test]
    fn smoothing_takes_noise_away_up_to_the_ends_and_stays_within_the_values() {
        let noise = |i: u32| if i.is_multiple_of(2) { 1.0 } else { 3.0 };
        let points: Vec<(f64, f64)> = (0..400).map(|i| (f64::from(i), noise(i))).collect();
        assert!(
            smoothed(&points, 101)
                .iter()
                .all(|(_, y)| (y - 2.0).abs() < 0.1)
        );
        let cliff: Vec<(f64, f64)> = (0..40)
            .map(|i| (f64::from(i), if i < 4 { 9.0 } else { 0.1 }))
            .collect();
        assert!(
            smoothed(&cliff, 15)
                .iter()
                .all(|(_, y)| (0.1..=9.0).contains(y))
        );
    }

    #[test]
    fn bad_points_are_left_out_and_nothing_is_nan() {
        let points = vec![
            (0.0, f64::NAN),
            (1.0, 0.0),
            (2.0, -3.0),
            (f64::INFINITY, 1.0),
            (3.0, 5.0),
        ];
        let chart = Chart {
            log_y: true,
            series: vec![
                Series {
                    name: "a".into(),
                    points,
                },
                Series::default(),
            ],
            ..Chart::default()
        };
        let svg = draw(&chart);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(draw(&Chart::default()).contains("no data"));
    }
}
