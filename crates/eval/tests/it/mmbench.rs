//! MMBench's table, with rotations in it and without, and what may be wrong with it.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qtl_eval::benchmark::{Choice, Suite};

const HEAD: &str = "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\tsource\tl2-category\tcomment\tsplit\n";

fn picture() -> String {
    STANDARD.encode([7u8; 60])
}

fn row(index: u64, hint: &str, choices: [&str; 4], answer: &str, image: &str) -> String {
    let [a, b, c, d] = choices;
    format!(
        "{index}\tWhat is it?\t{hint}\t{a}\t{b}\t{c}\t{d}\t{answer}\tscene\t{image}\tweb\tcoarse\t\tdev\n"
    )
}

fn folder(name: &str, rows: &[String]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), HEAD.to_owned() + &rows.concat()).unwrap();
    dir
}

fn answers(suite: &Suite, say: impl Fn(&str, &str) -> String) -> Vec<Option<String>> {
    let each = suite.questions().iter();
    each.map(|q| Some(say(&q.id, &q.truth))).collect()
}

/// Cells of a workbook's sheet by their places.
fn sheet(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (_, rest) = text.split_once("<sheetData>").unwrap();
    rest.split_once("</sheetData>").unwrap().0.to_owned()
}

#[test]
fn rotations_are_made_where_a_file_has_none() {
    let picture = picture();
    let dir = folder(
        "MMBench_DEV_EN.tsv",
        &[
            row(
                3,
                "\"Look\nclosely.\"",
                ["a key", "a fox", "a cow", "nan"],
                "B",
                &picture,
            ),
            row(5, "", ["yes", "no", "", ""], "A", "3"),
        ],
    );
    let suite = Suite::load(dir.path()).unwrap();
    let ids: Vec<&str> = suite.questions().iter().map(|q| q.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "mmbench/3",
            "mmbench/1000003",
            "mmbench/2000003",
            "mmbench/5",
            "mmbench/1000005"
        ]
    );
    let truths: Vec<&str> = suite.questions().iter().map(|q| q.truth.as_str()).collect();
    assert_eq!(truths, ["B", "A", "C", "A", "B"]);
    let letter = "Answer with the option's letter from the given choices directly.";
    assert_eq!(
        suite.questions()[0].text,
        format!("Look\nclosely.\nWhat is it?\nA. a key\nB. a fox\nC. a cow\n{letter}")
    );
    assert_eq!(
        suite.questions()[2].text,
        format!("Look\nclosely.\nWhat is it?\nA. a cow\nB. a key\nC. a fox\n{letter}")
    );
    // One picture for all, unpacked once.
    assert_eq!(suite.pictures().count(), 1);
    assert_eq!(
        fs::read(&suite.questions()[3].pictures[0].path).unwrap(),
        [7; 60]
    );

    let form = |say: &dyn Fn(&str, &str) -> String| {
        let said = answers(&suite, say);
        suite.score(&said).unwrap().forms.remove(0)
    };
    let right = form(&|_, truth| truth.to_owned());
    assert_eq!((right.percent, right.questions), (Some(100.0), 2));
    // Who always says A is right once, and never all around.
    let always = form(&|_, _| "A".to_owned());
    assert_eq!(always.percent, Some(0.0));
    assert_eq!(always.details["all"]["first"], 50.0);
    // Words are as good as letters; one rotation wrong, and the question is.
    let words = form(&|id, _| {
        if id == "mmbench/1000005" {
            "yes, no"
        } else if id.ends_with('5') {
            "Yes."
        } else {
            "It is a fox"
        }
        .to_owned()
    });
    assert_eq!(words.percent, Some(50.0));
    assert_eq!(words.details["unread"], 1);

    let said = answers(&suite, |id, _| format!("<{id}>"));
    let file = suite.submissions(&said).unwrap().remove(0);
    assert_eq!(file.name, "mmbench_submission.xlsx");
    let cells = sheet(&file.bytes);
    let cell = |place: &str, value: &str| {
        cells.contains(&format!(
            "<c r=\"{place}\" t=\"inlineStr\"><is><t xml:space=\"preserve\">{value}</t>"
        ))
    };
    // The columns of LLaVA's conversion, and the file's own rows.
    for (place, value) in [
        ("A1", "index"),
        ("F1", "D"),
        ("G1", "prediction"),
        ("H1", "answer"),
        ("I1", "split"),
    ] {
        assert!(cell(place, value), "{place} {value}: {cells}");
    }
    assert!(cells.contains("<c r=\"A2\"><v>3</v></c>") && cells.contains("<row r=\"3\">"));
    assert!(
        cell("G2", "&lt;mmbench/3&gt;") && cell("G3", "&lt;mmbench/5&gt;") && cell("C2", "a key")
    );
    assert!(
        !cells.contains("<row r=\"4\">") && !cells.contains("r=\"F2\"") && !cells.contains("web")
    );

    let choice = Choice {
        benchmark: Some("mmbench".to_owned()),
        limit: Some(1),
    };
    assert_eq!(
        Suite::choose(dir.path(), &choice)
            .unwrap()
            .questions()
            .len(),
        3
    );
}

#[test]
fn rotations_that_a_file_has_are_asked_as_they_are() {
    let picture = picture();
    let dir = folder(
        "mmbench_dev_cn_20231003.tsv",
        &[
            row(1_000_002, "", ["b", "a", "", ""], "B", &picture),
            row(2, "", ["a", "b", "", ""], "A", &picture),
            row(4, "", ["a", "b", "", ""], "B", &picture),
        ],
    );
    let suite = Suite::load(dir.path()).unwrap();
    let ids: Vec<&str> = suite.questions().iter().map(|q| q.id.as_str()).collect();
    assert_eq!(ids, ["mmbench/2", "mmbench/1000002", "mmbench/4"]);
    assert!(
        suite.questions()[0]
            .text
            .ends_with("B. b\n请直接回答选项字母。")
    );
    let said = answers(&suite, |_, _| "B".to_owned());
    let form = suite.score(&said).unwrap().forms.remove(0);
    assert_eq!(form.percent, Some(50.0));
    // In the file's order.
    let cells = sheet(&suite.submissions(&said).unwrap()[0].bytes);
    assert!(
        cells.contains("<c r=\"A2\"><v>1000002</v></c>")
            && cells.contains("<c r=\"A4\"><v>4</v></c>")
    );
}

#[test]
fn a_split_without_answers_has_no_score() {
    let dir = folder(
        "mmbench_test.tsv",
        &[row(1, "", ["a", "b", "", ""], "", &picture())],
    );
    let suite = Suite::load(dir.path()).unwrap();
    let said = answers(&suite, |_, _| "B".to_owned());
    let form = suite.score(&said).unwrap().forms.remove(0);
    assert_eq!((form.percent, form.table.rows.len()), (None, 0));
    assert_eq!(suite.submissions(&said).unwrap().len(), 1);
}

#[test]
fn what_is_wrong_with_a_table_is_named() {
    let picture = picture();
    let choices = ["a", "b", "", ""];
    let good = row(1, "", choices, "A", &picture);
    let cases: [(Vec<String>, &[&str]); 9] = [
        (vec![], &["holds no question"]),
        (
            vec![good.clone(), good.clone()],
            &["mmbench_x.tsv:3", "question 1", "stands twice"],
        ),
        (
            vec![row(1, "", choices, "C", &picture)],
            &["x.tsv:2", "`answer` is `C`", "2 choices"],
        ),
        (
            vec![row(1, "", ["a", "none", "", ""], "A", &picture)],
            &["fewer than two choices"],
        ),
        (
            vec![row(1, "", choices, "A", "cat.jpg")],
            &["`image` is `cat.jpg`", "base64"],
        ),
        (
            vec![row(1, "", choices, "A", "9")],
            &["`image` names a row that has no picture"],
        ),
        (
            vec![row(1, "", choices, "A", &"!".repeat(80))],
            &["no base64", "download"],
        ),
        (
            vec![good.clone(), row(2_000_001, "", choices, "A", &picture)],
            &["question 2000001", "1000001 is missing"],
        ),
        (
            vec![good.replacen('1', "one", 1)],
            &["x.tsv:2", "`index` is `one`"],
        ),
    ];
    for (rows, parts) in cases {
        let dir = folder("mmbench_x.tsv", &rows);
        let error = Suite::load(dir.path()).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "no {part:?} in: {error}");
        }
    }
    let short = HEAD.replace("image", "picture");
    for (text, part) in [
        (short + &good, "has no column `image`"),
        (HEAD.to_owned() + "1\tWhat?\n", "tab-separated"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mmbench.tsv"), text).unwrap();
        let error = Suite::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
    // Two of them; and what editors on Windows make of one.
    let dir = folder("mmbench_a.tsv", std::slice::from_ref(&good));
    fs::copy(
        dir.path().join("mmbench_a.tsv"),
        dir.path().join("mmbench_b.tsv"),
    )
    .unwrap();
    let error = Suite::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("mmbench_a.tsv and mmbench_b.tsv"), "{error}");
    windows(dir.path());
}

fn windows(dir: &Path) {
    fs::remove_file(dir.join("mmbench_b.tsv")).unwrap();
    let path = dir.join("mmbench_a.tsv");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    let suite = Suite::load(dir).unwrap();
    assert_eq!(suite.questions()[0].truth, "A");
}
