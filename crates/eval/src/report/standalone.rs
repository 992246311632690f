//! A chart as an SVG file of its own: what the page's style sheet and legend do, inside one picture.

use super::Chart;
use super::line_chart::{SIZE, drawing};
use super::svg::{class, line, text};

const MARGIN: f64 = 14.0;
const LINE: f64 = 18.0;

/// The chart, its title, legend and note as an SVG document.
pub fn svg(chart: &Chart) -> String {
    let (drawing, note) = drawing(chart);
    let mut head = String::new();
    let mut y = MARGIN + 10.0;
    head.push_str(&text(MARGIN, y, "start", "name", &chart.title));
    for (i, series) in chart.series.iter().enumerate() {
        y += LINE;
        let mark = line("line", (MARGIN, y - 4.0), (MARGIN + 20.0, y - 4.0));
        let name = text(MARGIN + 28.0, y, "start", "label", &series.name);
        head.push_str(&format!("<g class=\"{}\">{mark}{name}</g>", class(i)));
    }
    let top = y + 6.0;
    let mut bottom = top + SIZE.1;
    let mut foot = String::new();
    for part in wrapped(&note, 96) {
        bottom += LINE;
        foot.push_str(&text(MARGIN, bottom - 6.0, "start", "label", &part));
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {width} {bottom}\" width=\"{width}\" \
         height=\"{bottom}\" font-family=\"system-ui, sans-serif\">\n<style>{style}</style>\n\
         <rect width=\"{width}\" height=\"{bottom}\" fill=\"var(--paper)\"/>\n{head}\n\
         <g transform=\"translate(0 {top})\">{drawing}</g>\n{foot}</svg>\n",
        width = SIZE.0,
        style = include_str!("style.css"),
    )
}

/// Lines of at most `most` characters, broken between words.
fn wrapped(note: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in note.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::Series;
    use super::*;

    #[test]
    fn a_chart_stands_alone() {
        let chart = Chart {
            title: "rate & loss".into(),
            note: "a remark ".repeat(30),
            series: vec![Series {
                name: "fsq <4>".into(),
                points: vec![(0.0, 1.0), (1.0, 2.0)],
            }],
            ..Chart::default()
        };
        let svg = svg(&chart);
        assert!(svg.starts_with("<svg xmlns=") && svg.trim_end().ends_with("</svg>"));
        for part in [
            "rate &amp; loss",
            "fsq &lt;4&gt;",
            "--c0:",
            "<polyline",
            "a remark",
        ] {
            assert!(svg.contains(part), "{part}");
        }
        // The style sheet is inside an XML element: nothing in it may open another.
        assert!(!include_str!("style.css").contains(['<', '&']));
        assert!(
            wrapped(&chart.note, 96)
                .iter()
                .all(|line| line.chars().count() <= 96)
        );
    }
}
