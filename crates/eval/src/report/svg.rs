//! What the charts share: escaping, the frame, the legend.

/// Text that may stand in HTML or SVG, in an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters may not stand in a document; a generated answer can hold them.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

/// The number of colours; see `--c0` and following in the style sheet.
pub(super) const COLOURS: usize = 8;

/// The class that gives the n-th series its colour and, for lines, its dashes: the pattern changes with
/// each round of colours, so that no two of the first 24 series look alike.
pub(super) fn class(series: usize) -> String {
    format!("s{} d{}", series % COLOURS, (series / COLOURS) % 3)
}

/// The names of series with their colours. HTML, as SVG cannot break lines.
pub(super) fn legend<'a>(names: impl ExactSizeIterator<Item = &'a str>, lines: bool) -> String {
    if names.len() < 2 {
        return String::new();
    }
    let items: String = names
        .enumerate()
        .map(|(i, name)| {
            let mark = if lines {
                "<line class=\"line\" x1=\"1\" y1=\"6\" x2=\"21\" y2=\"6\"/>"
            } else {
                "<rect class=\"bar\" x=\"5\" y=\"0\" width=\"12\" height=\"12\" rx=\"2\"/>"
            };
            format!(
                "<li class=\"{}\"><svg width=\"22\" height=\"12\" aria-hidden=\"true\">{mark}</svg>{}</li>",
                class(i),
                escape(name)
            )
        })
        .collect();
    format!("<ul class=\"legend\">{items}</ul>")
}

/// A figure: title, legend, drawing, note.
pub(super) fn figure(
    title: &str,
    legend: &str,
    (width, height): (f64, f64),
    drawing: &str,
    note: &str,
) -> String {
    let note = if note.is_empty() {
        String::new()
    } else {
        format!("<p class=\"note\">{}</p>", escape(note))
    };
    format!(
        "<figure><figcaption>{title}</figcaption>{legend}<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-label=\"{title}\">{drawing}</svg>{note}</figure>\n",
        title = escape(title),
    )
}

/// A text element; `anchor` is `start`, `middle` or `end`.
pub(super) fn text(x: f64, y: f64, anchor: &str, class: &str, content: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{}</text>",
        escape(content)
    )
}

/// A straight line.
pub(super) fn line(class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    format!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>")
}
