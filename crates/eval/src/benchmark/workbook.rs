//! A sheet of texts as a workbook (Office Open XML), for servers that take nothing else. The parts that every program asks for, and
//! no more.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Characters of a cell at most.
const CELL: usize = 32_767;

const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#;

/// The parts that are the same in every workbook of one sheet.
const PARTS: [(&str, &str); 4] = [
    (
        "[Content_Types].xml",
        r#"<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>"#,
    ),
    (
        "_rels/.rels",
        r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#,
    ),
    (
        "xl/workbook.xml",
        r#"<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>"#,
    ),
    (
        "xl/_rels/workbook.xml.rels",
        r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#,
    ),
];

/// A workbook of one sheet with these rows. Whole numbers are numbers, all else is text; an empty cell is none.
pub(super) fn of<'a>(rows: impl Iterator<Item = Vec<&'a str>>) -> std::io::Result<Vec<u8>> {
    let mut sheet = String::from(
        r#"<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>"#,
    );
    for (row, cells) in rows.enumerate() {
        sheet += &format!(r#"<row r="{}">"#, row + 1);
        for (column, value) in cells.iter().enumerate() {
            let place = format!("{}{}", letters(column), row + 1);
            sheet += &match value.parse::<u32>() {
                _ if value.is_empty() => continue,
                Ok(number) if number.to_string() == *value => {
                    format!(r#"<c r="{place}"><v>{number}</v></c>"#)
                }
                _ => format!(
                    r#"<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{}</t></is></c>"#,
                    escaped(value)
                ),
            };
        }
        sheet += "</row>";
    }
    sheet += "</sheetData></worksheet>";
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, text) in PARTS
        .into_iter()
        .chain([("xl/worksheets/sheet1.xml", sheet.as_str())])
    {
        archive
            .start_file(name, stored)
            .map_err(std::io::Error::other)?;
        write!(archive, "{HEAD}\n{text}")?;
    }
    let written = archive.finish().map_err(std::io::Error::other)?;
    Ok(written.into_inner())
}

/// The name of a column: A to Z, then AA.
fn letters(column: usize) -> String {
    let last = char::from(b'A' + (column % 26) as u8);
    match column / 26 {
        0 => last.to_string(),
        more => letters(more - 1) + &last.to_string(),
    }
}

/// A text as XML holds it; characters that XML cannot hold go.
fn escaped(text: &str) -> String {
    let allowed = |c: &char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    let allowed = |c: &char| allowed(c) && !matches!(c, '\u{fffe}' | '\u{ffff}');
    let mut out = String::new();
    for c in text.chars().filter(allowed).take(CELL) {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '\r' => out += "&#13;",
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_names() {
        let named: Vec<String> = [0, 25, 26, 51, 52, 701, 702].map(letters).into();
        assert_eq!(named, ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
    }

    #[test]
    fn what_xml_cannot_hold_goes() {
        assert_eq!(
            escaped("a<b>\u{1}&\u{ffff}\n\"c\""),
            "a&lt;b&gt;&amp;\n\"c\""
        );
        assert_eq!(escaped(&"x".repeat(40_000)).len(), CELL);
    }

    #[test]
    fn the_archive_holds_its_parts_as_they_are() {
        let rows = [
            vec!["index", "prediction"],
            vec!["7", "A & B"],
            vec!["007", ""],
        ];
        let bytes = of(rows.into_iter()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(bytes.starts_with(b"PK") && text.contains("[Content_Types].xml"));
        assert!(text.contains(r#"<c r="A2"><v>7</v></c>"#), "{text}");
        assert!(text.contains(r#"<t xml:space="preserve">A &amp; B</t>"#));
        assert!(text.contains(r#"<t xml:space="preserve">007</t></is></c></row>"#));
    }
}
