//! The page around tables, charts and pictures.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::svg::escape;
use super::{Example, Panel, Qa, Report, bar_chart, line_chart};
use crate::Table;

/// Pictures no wider than this are shown with their pixels as squares.
const SMALL_PICTURE: u32 = 128;

/// The whole page.
pub fn render(report: &Report) -> String {
    let mut body = format!("<header><h1>{}</h1>\n", escape(&report.title));
    for paragraph in report
        .intro
        .split("\n\n")
        .map(str::trim)
        .filter(|paragraph| !paragraph.is_empty())
    {
        body.push_str(&format!("<p>{}</p>\n", escape(paragraph)));
    }
    body.push_str(&facts(&report.facts));
    body.push_str("</header>\n");
    let tables: String = report.tables.iter().map(table).collect();
    body.push_str(&section("Results", "tables", &tables));
    let charts: String = report
        .charts
        .iter()
        .map(line_chart::draw)
        .chain(report.bars.iter().map(bar_chart::draw))
        .collect();
    body.push_str(&section("Charts", "charts", &charts));
    let panels: String = report.panels.iter().map(panel).collect();
    body.push_str(&section("Pictures", "panels", &panels));
    let examples: String = report.examples.iter().map(example).collect();
    body.push_str(&section("Examples", "examples", &examples));
    if !report.credit.is_empty() {
        body.push_str(&format!("<footer>{}</footer>\n", escape(&report.credit)));
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escape(&report.title),
        include_str!("style.css"),
    )
}

fn section(heading: &str, class: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>{heading}</h2>\n<div class=\"{class}\">\n{content}</div>\n</section>\n")
}

fn facts(facts: &[(String, String)]) -> String {
    if facts.is_empty() {
        return String::new();
    }
    let items: String = facts
        .iter()
        .map(|(name, value)| {
            format!(
                "<div><dt>{}</dt><dd>{}</dd></div>",
                escape(name),
                escape(value)
            )
        })
        .collect();
    format!("<dl class=\"facts\">{items}</dl>\n")
}

fn table(table: &Table) -> String {
    let columns = table.columns();
    let row = |cells: &[String], tag: &str| {
        let cells: String = (0..columns)
            .map(|column| {
                let class = if table.is_numeric(column) {
                    " class=\"number\""
                } else {
                    ""
                };
                let content = cells
                    .get(column)
                    .map(|cell| escape(cell))
                    .unwrap_or_default();
                format!("<{tag}{class}>{content}</{tag}>")
            })
            .collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = table.rows.iter().map(|cells| row(cells, "td")).collect();
    let title = if table.title.is_empty() {
        String::new()
    } else {
        format!("<h3>{}</h3>", escape(&table.title))
    };
    let note = if table.note.is_empty() {
        String::new()
    } else {
        format!("<p class=\"note\">{}</p>", escape(&table.note))
    };
    format!(
        "<div class=\"table\">{title}<div class=\"scroll\"><table>\n<thead>{}</thead>\n<tbody>\n{rows}</tbody>\n\
         </table></div>{note}</div>\n",
        row(&table.header, "th")
    )
}

fn panel(panel: &Panel) -> String {
    let pictures = panel.pictures.iter().map(|(label, png)| {
        let label_text = escape(label);
        format!(
            "<div class=\"picture\">{}<p class=\"note\">{label_text}</p></div>",
            img(png, label)
        )
    });
    let pictures: String = pictures.collect();
    format!(
        "<h3>{}</h3>\n<article>{pictures}</article>\n",
        escape(&panel.title)
    )
}

fn img(png: &[u8], alt: &str) -> String {
    let small = png_width(png).is_none_or(|width| width <= SMALL_PICTURE);
    format!(
        "<img{} alt=\"{}\" src=\"data:image/png;base64,{}\">",
        if small { " class=\"pixels\"" } else { "" },
        escape(alt),
        STANDARD.encode(png)
    )
}

fn example(example: &Example) -> String {
    let picture = match (example.png.is_empty(), example.caption.as_str()) {
        (true, _) => String::new(),
        (false, "") => img(&example.png, "the picture asked about"),
        (false, caption) => img(&example.png, caption),
    };
    let caption = if example.caption.is_empty() {
        String::new()
    } else {
        format!("<p class=\"note\">{}</p>", escape(&example.caption))
    };
    let rows: String = example.qa.iter().map(qa).collect();
    format!(
        "<article><div class=\"picture\">{picture}{caption}</div><table class=\"qa\">\n<thead><tr><th>Question</th>\
         <th>Answer</th><th>Truth</th><th></th></tr></thead>\n<tbody>\n{rows}</tbody></table></article>\n"
    )
}

fn qa(qa: &Qa) -> String {
    let (class, mark) = match qa.credit {
        None => ("", ""),
        Some(credit) if credit >= 1.0 - 1e-9 => ("right", "right"),
        Some(credit) if credit > 0.0 => ("partly", "partly"),
        Some(_) => ("wrong", "wrong"),
    };
    let mark = if mark.is_empty() {
        String::new()
    } else {
        format!("<span class=\"mark {class}\">{mark}</span>")
    };
    let answer = if qa.answer.trim().is_empty() {
        "<span class=\"nothing\">(nothing)</span>".to_owned()
    } else {
        escape(&qa.answer)
    };
    format!(
        "<tr><td>{}</td><td>{answer}</td><td>{}</td><td>{mark}</td></tr>\n",
        escape(&qa.question),
        escape(&qa.truth)
    )
}

/// The width in a PNG file's header, which is its first chunk.
fn png_width(png: &[u8]) -> Option<u32> {
    let width = png.get(16..20)?.try_into().ok()?;
    png.starts_with(b"\x89PNG\r\n\x1a\n")
        .then(|| u32::from_be_bytes(width))
}
