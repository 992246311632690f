//! The report: nothing in it is taken for markup, nothing is loaded from elsewhere, nothing half-written.

use qtl_eval::Table;
use qtl_eval::report::{self, BarChart, BarSeries, Chart, Example, Panel, Qa, Report, Series};

const EVIL: &str = "</title><script>alert('x')</script>\"&\u{7}";

fn page() -> Report {
    let mut table = Table::new(EVIL, &[EVIL, "n"]);
    table.push([EVIL, "12.5"]);
    table.note = EVIL.into();
    let series = Series {
        name: EVIL.into(),
        points: (0..20).map(|i| (f64::from(i), f64::from(i * i))).collect(),
    };
    Report {
        title: EVIL.into(),
        intro: format!("{EVIL}\n\nSecond paragraph."),
        facts: vec![(EVIL.into(), EVIL.into())],
        tables: vec![table],
        charts: vec![Chart {
            title: EVIL.into(),
            x_label: EVIL.into(),
            y_label: EVIL.into(),
            note: EVIL.into(),
            series: vec![series.clone(), series],
            ..Chart::default()
        }],
        bars: vec![BarChart {
            title: EVIL.into(),
            value_label: EVIL.into(),
            categories: vec![EVIL.into()],
            series: vec![
                BarSeries {
                    name: EVIL.into(),
                    values: vec![3.0]
                };
                2
            ],
            ..BarChart::default()
        }],
        panels: vec![Panel {
            title: EVIL.into(),
            pictures: vec![(EVIL.into(), b"\x89PNG\r\n\x1a\n".to_vec())],
        }],
        examples: vec![Example {
            caption: EVIL.into(),
            png: b"\x89PNG\r\n\x1a\n".to_vec(),
            qa: vec![Qa {
                question: EVIL.into(),
                answer: EVIL.into(),
                truth: EVIL.into(),
                credit: Some(1.0),
            }],
        }],
        credit: EVIL.into(),
    }
}

#[test]
fn text_is_never_markup() {
    let html = report::render(&page());
    assert!(!html.contains("<script") && !html.contains("alert('") && !html.contains('\u{7}'));
    // Every place a text can stand: title and heading, intro, fact, table, charts, example.
    assert!(
        html.matches("&lt;script&gt;").count() >= 20,
        "{}",
        html.matches("&lt;script&gt;").count()
    );
    assert_eq!(
        html.matches("</title>").count(),
        html.matches("<title>").count()
    );
}

#[test]
fn tags_are_balanced() {
    let html = report::render(&page());
    let mut open: Vec<&str> = Vec::new();
    for piece in html.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap();
        let name = tag
            .trim_start_matches('/')
            .split(|c: char| c.is_whitespace() || c == '/')
            .next()
            .unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else if !tag.ends_with('/') && !matches!(name, "!DOCTYPE" | "meta" | "img") {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let html = report::render(&page());
    for outside in [
        "http://", "https://", "//", "@import", "url(", "<link", "<script", "<iframe",
    ] {
        // Base64 may hold two slashes by chance; this picture's does not.
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("src=\"data:image/png;base64,iVBORw0KGgo=\""));
}

#[test]
fn empty_parts_leave_no_heading() {
    let html = report::render(&Report {
        title: "Nothing".into(),
        ..Report::default()
    });
    assert!(!html.contains("<h2>") && !html.contains("<dl") && html.contains("<h1>Nothing</h1>"));
}

#[test]
fn answers_are_marked() {
    let qa = |answer: &str, credit| Qa {
        question: "?".into(),
        answer: answer.into(),
        truth: "no".into(),
        credit,
    };
    let qa = vec![
        qa("No.", Some(1.0)),
        qa("yes", Some(0.0)),
        qa("two", Some(0.3)),
        qa(" ", None),
    ];
    let html = report::render(&Report {
        examples: vec![Example {
            qa,
            ..Example::default()
        }],
        ..Report::default()
    });
    for (mark, times) in [
        ("mark right", 1),
        ("mark wrong", 1),
        ("mark partly", 1),
        ("(nothing)", 1),
    ] {
        assert_eq!(html.matches(mark).count(), times, "{mark}");
    }
}

#[test]
fn a_page_is_written_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.html");
    report::write(&page(), &path).unwrap();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        report::render(&page())
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let nowhere = dir.path().join("nowhere/report.html");
    let error = report::write(&page(), &nowhere).unwrap_err().to_string();
    assert!(
        error.contains("nowhere/report.html: cannot be written"),
        "{error}"
    );
}
