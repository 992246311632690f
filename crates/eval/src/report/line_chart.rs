//! Line charts.

use super::axis::{Axis, number};
use super::svg::{class, escape, figure, legend, line, text};
use super::{Chart, Series};

const SIZE: (f64, f64) = (640.0, 340.0);
const LEFT: f64 = 62.0;
const RIGHT: f64 = 618.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 286.0;
/// Points drawn per line: more cannot be told apart at this width and make the page heavy.
const MOST_POINTS: usize = 800;
/// Lines with fewer points show each of them.
const FEW_POINTS: usize = 30;

pub(super) fn draw(chart: &Chart) -> String {
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
    for (i, points) in series.iter().enumerate() {
        drawing.push_str(&format!("<g class=\"{}\">", class(i)));
        let smooth = chart.smooth > 1 && points.len() > 2 * chart.smooth;
        if smooth {
            drawing.push_str(&path("raw", &thinned(points), place));
            drawing.push_str(&path(
                "line",
                &thinned(&smoothed(points, chart.smooth)),
                place,
            ));
        } else {
            drawing.push_str(&path("line", &thinned(points), place));
        }
        if points.len() < FEW_POINTS {
            drawing.push_str(&markers(&chart.series[i].name, points, place));
        }
        drawing.push_str("</g>");
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
    let legend = legend(chart.series.iter().map(|series| series.name.as_str()), true);
    let mut note = chart.note.clone();
    if chart.smooth > 1 && series.iter().any(|points| points.len() > 2 * chart.smooth) {
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
    figure(&chart.title, &legend, SIZE, &drawing, &note)
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

/// The mean over a window of neighbours around each point, narrower at the ends.
fn smoothed(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let mut sums = vec![0.0];
    for (_, y) in points {
        sums.push(sums[sums.len() - 1] + y);
    }
    let half = window / 2;
    (0..points.len())
        .map(|i| {
            // Equally far to both sides: a lopsided window would bend the ends of a slope.
            let reach = half.min(i).min(points.len() - 1 - i);
            let (low, high) = (i - reach, i + reach + 1);
            (points[i].0, (sums[high] - sums[low]) / (high - low) as f64)
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
