//! Bar charts.

use super::BarChart;
use super::axis::{Axis, number};
use super::svg::{class, escape, figure, legend, line, text};

const WIDTH: f64 = 560.0;
const TOP: f64 = 6.0;
const BAR: f64 = 16.0;
const GAP: f64 = 12.0;
/// Room to the right of the longest bar for its number.
const NUMBER: f64 = 62.0;
/// Mean width of a character of the label font.
const CHARACTER: f64 = 6.6;
/// Labels longer than this are cut.
const LONGEST_LABEL: usize = 30;

pub(super) fn draw(chart: &BarChart) -> String {
    let group = BAR * chart.series.len().max(1) as f64;
    let bottom = TOP + chart.categories.len() as f64 * (group + GAP);
    let longest = chart
        .categories
        .iter()
        .map(|name| cut(name).chars().count())
        .max()
        .unwrap_or(0);
    let (left, right) = (16.0 + CHARACTER * longest as f64, WIDTH - NUMBER);
    let finite = chart
        .series
        .iter()
        .flat_map(|series| series.values.iter().copied())
        .filter(|value| value.is_finite());
    // Bars are lengths: an axis that does not start at 0 would lie.
    let axis = Axis::fit(finite.chain([0.0]), false, 5, true);
    let place = |value: f64| left + (right - left) * axis.place(value);
    let mut drawing = String::new();
    for (value, label) in &axis.ticks {
        drawing.push_str(&line("grid", (place(*value), TOP), (place(*value), bottom)));
        drawing.push_str(&text(place(*value), bottom + 17.0, "middle", "tick", label));
    }
    for (row, category) in chart.categories.iter().enumerate() {
        let top = TOP + GAP / 2.0 + row as f64 * (group + GAP);
        drawing.push_str(&format!(
            "<g><title>{}</title>{}</g>",
            escape(category),
            text(
                left - 8.0,
                top + group / 2.0 + 4.0,
                "end",
                "name",
                &cut(category)
            )
        ));
        for (i, series) in chart.series.iter().enumerate() {
            let Some(value) = series
                .values
                .get(row)
                .copied()
                .filter(|value| value.is_finite())
            else {
                continue;
            };
            let (from, to) = (place(value.min(0.0)), place(value.max(0.0)));
            let y = top + i as f64 * BAR;
            drawing.push_str(&format!(
                "<rect class=\"bar {}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\"/>",
                class(i),
                y + 1.0,
                to - from,
                BAR - 2.0
            ));
            drawing.push_str(&text(
                to + 5.0,
                y + BAR / 2.0 + 4.0,
                "start",
                "value",
                &number(value),
            ));
        }
    }
    drawing.push_str(&line("axis", (place(0.0), TOP), (place(0.0), bottom)));
    drawing.push_str(&text(
        (left + right) / 2.0,
        bottom + 40.0,
        "middle",
        "label",
        &chart.value_label,
    ));
    let legend = legend(
        chart.series.iter().map(|series| series.name.as_str()),
        false,
    );
    figure(
        &chart.title,
        &legend,
        (WIDTH, bottom + 50.0),
        &drawing,
        &chart.note,
    )
}

fn cut(label: &str) -> String {
    if label.chars().count() <= LONGEST_LABEL {
        return label.to_owned();
    }
    label
        .chars()
        .take(LONGEST_LABEL - 1)
        .chain(['\u{2026}'])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::BarSeries;

    #[test]
    fn absent_values_have_no_bar() {
        let chart = BarChart {
            categories: vec!["a".into(), "b".into(), "c".into()],
            series: vec![BarSeries {
                name: "x".into(),
                values: vec![1.0, f64::NAN],
            }],
            ..BarChart::default()
        };
        let svg = draw(&chart);
        assert_eq!(svg.matches("<rect").count(), 1);
        assert!(!svg.contains("NaN"));
        assert!(!draw(&BarChart::default()).contains("NaN"));
    }
}
