//! GQA: the conversion's file and the official program's numbers, from the case's own folder.

use qtl_eval::benchmark::Suite;
use serde_json::Value;

use crate::golden;

#[test]
fn golden_gqa() {
    for case in golden::cases("gqa") {
        let expected: Value = golden::json(case.join("expected.json"));
        let suite = Suite::load(&case).unwrap();
        assert_eq!(
            suite.questions().len() as u64,
            expected["questions"].as_u64().unwrap()
        );
        let file = golden::only(&golden::only(&case.join("answers"))).join("merge.jsonl");
        let mut answers = golden::answers(&suite, "gqa", &file);

        let score = suite.score(&answers).unwrap().forms.remove(0);
        let details = &score.details;
        assert_eq!(
            details["balanced_questions"],
            expected["balanced_questions"]
        );
        assert_eq!(details["missing"], 0);
        for key in ["accuracy", "binary", "open", "distribution"] {
            golden::close(details[key].as_f64().unwrap(), &expected[key], key);
        }
        golden::close(score.percent.unwrap(), &expected["accuracy"], "headline");
        for key in ["StructuralType", "SemanticType", "Steps", "Length"] {
            let key = format!("accuracyPer{key}");
            let theirs = expected[&key].as_object().unwrap();
            let ours = details[&key].as_object().unwrap();
            assert_eq!(ours.len(), theirs.len(), "{key}");
            for (name, theirs) in theirs {
                let ours = &ours[name];
                assert_eq!(ours["questions"], theirs["questions"], "{key} {name}");
                golden::close(
                    ours["accuracy"].as_f64().unwrap(),
                    &theirs["accuracy"],
                    name,
                );
            }
        }

        let theirs: Vec<Value> = golden::json(golden::only(&case.join("expected")));
        let ours: Vec<Value> =
            serde_json::from_str(suite.submissions(&answers).unwrap()[0].text()).unwrap();
        assert_eq!(ours.len(), theirs.len());
        for row in theirs {
            assert!(ours.contains(&row), "{row}");
        }

        // Where the official program stops, the answer is wrong and counted.
        let right = suite
            .credits(&answers)
            .unwrap()
            .iter()
            .position(|credit| *credit == 1.0)
            .unwrap();
        answers[right] = None;
        let fewer = suite.score(&answers).unwrap().forms.remove(0);
        assert!(fewer.percent.unwrap() <= score.percent.unwrap());
    }
}
