//! MMMU's own release: parquet with pictures inside, as `fixtures/mmmu.py` wrote it.

use std::path::Path;

use qtl_eval::benchmark::Suite;

fn released() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/mmmu"))
}

#[test]
fn the_release_of_mmmu_is_read_as_it_is() {
    let suite = Suite::load(released()).unwrap();
    let question = |id: &str| suite.questions().iter().find(|q| q.id == id).unwrap();
    let first = question("mmmu/validation_Math_1");
    assert_eq!(
        first.text,
        "<image 1> What colour?\n\n(A) red\n(B) it's blue\n(C) \\frac{1}{2}°\n\n\nAnswer with the option's letter from the \
         given choices directly."
    );
    assert_eq!((first.truth.as_str(), first.pictures.len()), ("B", 1));
    let open = question("mmmu/validation_Math_2");
    assert!(
        open.text
            .ends_with("\n\nAnswer the question using a single word or phrase.")
    );
    assert_eq!(open.truth, "2 or two");
    // Pictures among the choices count, and are unpacked.
    let several = question("mmmu/validation_Art_Theory_1");
    assert_eq!(several.pictures.len(), 3);
    let png = std::fs::read(&several.pictures[2].path).unwrap();
    assert!(png.starts_with(b"\x89PNG"));

    let answers: Vec<_> = suite
        .questions()
        .iter()
        .map(|q| {
            Some(
                if q.id.ends_with("Math_2") {
                    "two."
                } else {
                    "(B)"
                }
                .to_owned(),
            )
        })
        .collect();
    let score = suite.score(&answers).unwrap().forms.remove(0);
    assert_eq!(score.details["per_subject"]["Math"]["accuracy"], 100.0);
    assert_eq!(score.details["per_subject"]["Art_Theory"]["accuracy"], 0.0);
    let path = several.pictures[0].path.clone();
    drop(suite);
    assert!(!path.exists(), "what was unpacked is left behind");
}

#[test]
fn the_test_split_has_no_score() {
    let dir = tempfile::tempdir().unwrap();
    let file = released().join("Math/validation-00000-of-00001.parquet");
    std::fs::copy(file, dir.path().join("test-00000-of-00001.parquet")).unwrap();
    let suite = Suite::load(dir.path()).unwrap();
    let answers = vec![Some("(C)".to_owned()); suite.questions().len()];
    assert_eq!(suite.score(&answers).unwrap().forms[0].percent, None);
    let file = suite.submissions(&answers).unwrap().remove(0);
    assert!(
        file.text().contains("\"validation_Math_1\":\"C\""),
        "{}",
        file.text()
    );
}

#[test]
fn a_broken_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("Math/validation-00000-of-00001.parquet");
    std::fs::create_dir(dir.path().join("Math")).unwrap();
    let whole = std::fs::read(released().join("Math/validation-00000-of-00001.parquet")).unwrap();
    for bytes in [
        &b"version https://git-lfs"[..],
        &whole[..whole.len() - 100],
        &whole[100..],
    ] {
        std::fs::write(&file, bytes).unwrap();
        let error = Suite::load(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("Math/validation-00000-of-00001.parquet: ")
                && error.contains("download it again"),
            "{error}"
        );
    }
}
