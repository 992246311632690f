//! MME: from the release's truths and the model's answers file, and from the converted files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use qtl_eval::benchmark::Suite;
use qtl_eval::score::answers::read_jsonl;
use qtl_eval::score::mme::{self, COGNITION, Label, MmeScore, PERCEPTION};
use qtl_eval::score::{Answers, Confusion};
use serde_json::Value;

use crate::golden;

/// The last sentence differs between the files; what stands before it is the question.
fn question(text: &str) -> String {
    let sentences = [
        "Please answer yes or no.",
        "Answer the question using a single word or phrase.",
    ];
    sentences
        .iter()
        .fold(text.to_owned(), |text, sentence| text.replace(sentence, ""))
        .trim()
        .to_owned()
}

/// Truths by (task, picture without its ending, question).
fn truths(release: &Path) -> HashMap<(String, String, String), bool> {
    let mut truths = HashMap::new();
    for task in fs::read_dir(release)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        let apart = task.join("questions_answers_YN");
        let files = if apart.is_dir() { apart } else { task.clone() };
        for file in fs::read_dir(files)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if file.extension().is_none_or(|ending| ending != "txt") {
                continue;
            }
            for line in golden::text(&file).lines() {
                let (text, truth) = line.split_once('\t').unwrap();
                let names = [&task, &file]
                    .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned());
                let [task, picture] = names;
                truths.insert((task, picture, question(text)), truth.trim() == "Yes");
            }
        }
    }
    truths
}

fn compare(score: &MmeScore, answers: &[(String, String)], expected: &Value, what: &str) {
    let recorded = expected["tasks"].as_object().unwrap();
    assert_eq!(score.tasks.len(), recorded.len(), "{what}");
    for ours in &score.tasks {
        let theirs = &recorded[&ours.task];
        let what = format!("{what} {}", ours.task);
        assert_eq!(
            format!("{:?}", ours.group),
            theirs["group"].as_str().unwrap(),
            "{what}"
        );
        golden::close(ours.acc, &theirs["acc"], &what);
        golden::close(ours.acc_plus, &theirs["acc_plus"], &what);
        golden::close(ours.score, &theirs["score"], &what);
        assert_eq!(
            ours.counts,
            serde_json::from_value::<Confusion>(theirs.clone()).unwrap(),
            "{what}"
        );
        assert_eq!(
            ours.questions as u64,
            theirs["questions"].as_u64().unwrap(),
            "{what}"
        );
        assert_eq!(
            ours.other as u64,
            theirs["other"].as_u64().unwrap(),
            "{what}"
        );
        let task_answers = answers.iter().filter(|(task, _)| *task == ours.task);
        let read: Vec<Value> = task_answers
            .map(|(_, text)| serde_json::to_value(mme::read(text)).unwrap())
            .collect();
        assert_eq!(Value::Array(read), theirs["read_as"], "{what}");
    }
    let totals = [score.perception, score.cognition].map(Option::unwrap_or_default);
    golden::close(totals[0], &expected["totals"]["Perception"], what);
    golden::close(totals[1], &expected["totals"]["Cognition"], what);
    golden::close(totals[0] + totals[1], &expected["overall"], what);
    let right: usize = score.tasks.iter().map(|task| task.counts.right()).sum();
    let asked: usize = score.tasks.iter().map(|task| task.questions).sum();
    assert!(
        (score.accuracy - 100.0 * right as f64 / asked as f64).abs() < 1e-9,
        "{what}"
    );
}

#[test]
fn golden_mme_converted() {
    for case in golden::cases("mme") {
        let (mut labels, mut answers) = (Vec::new(), Vec::new());
        for task in PERCEPTION.iter().chain(&COGNITION) {
            let path = case.join(format!("expected/converted/{task}.txt"));
            if !path.is_file() {
                continue;
            }
            for line in golden::text(path).lines() {
                let cells: Vec<&str> = line.splitn(4, '\t').collect();
                let id = labels.len().to_string();
                labels.push(Label {
                    id,
                    task: (*task).into(),
                    picture: cells[0].into(),
                    yes: cells[2] == "Yes",
                });
                answers.push(((*task).to_owned(), cells[3].to_owned()));
            }
        }
        let by_id: Answers = answers
            .iter()
            .enumerate()
            .map(|(i, (_, text))| (i.to_string(), text.clone()))
            .collect();
        let expected = golden::json(case.join("expected.json"));
        compare(
            &mme::score(&labels, &by_id, mme::read),
            &answers,
            &expected,
            &format!("{} converted", case.display()),
        );
    }
}

#[test]
fn golden_mme_answers_file() {
    for case in golden::cases("mme") {
        let truths = truths(&case.join("MME_Benchmark_release_version"));
        let (records, unreadable) = read_jsonl(&golden::text(case.join("answers/model.jsonl")));
        assert!(unreadable.is_empty());
        let (mut labels, mut answers) = (Vec::new(), Vec::new());
        for record in records {
            // `task/picture.jpg` or `task/images/picture.jpg`.
            let path = Path::new(&record.question_id);
            let task = path
                .components()
                .next()
                .unwrap()
                .as_os_str()
                .to_string_lossy()
                .into_owned();
            let picture = path.file_stem().unwrap().to_string_lossy().into_owned();
            let key = (task.clone(), picture.clone(), question(&record.prompt));
            let yes = *truths
                .get(&key)
                .unwrap_or_else(|| panic!("{key:?} has no truth"));
            labels.push(Label {
                id: labels.len().to_string(),
                task: task.clone(),
                picture,
                yes,
            });
            answers.push((task, record.text));
        }
        let by_id: Answers = answers
            .iter()
            .enumerate()
            .map(|(i, (_, text))| (i.to_string(), text.clone()))
            .collect();
        let expected = golden::json(case.join("expected.json"));
        compare(
            &mme::score(&labels, &by_id, mme::read),
            &answers,
            &expected,
            &format!("{} answers", case.display()),
        );
    }
}

/// The folder of the release is asked in LLaVA's words and becomes the files that the official program reads.
#[test]
fn golden_mme_release() {
    for case in golden::cases("mme") {
        let suite = Suite::load(&case).unwrap();
        let (records, _) = read_jsonl(&golden::text(case.join("answers/model.jsonl")));
        assert_eq!(suite.questions().len(), records.len());
        let mut answers = vec![None; records.len()];
        for record in records {
            // `task/picture.jpg` or `task/images/picture.jpg`.
            let path = Path::new(&record.question_id);
            let task = path
                .components()
                .next()
                .unwrap()
                .as_os_str()
                .to_string_lossy();
            let stem = path.file_stem().unwrap().to_string_lossy();
            let start = format!("mme/{task}/{stem}/");
            let at = suite
                .questions()
                .iter()
                .position(|q| q.id.starts_with(&start) && q.text == record.prompt);
            let at = at.unwrap_or_else(|| panic!("{start}: {}", record.prompt));
            answers[at] = Some(record.text);
        }
        let expected = golden::json::<Value>(case.join("expected.json"));
        let score = suite.score(&answers).unwrap().forms.remove(0);
        let part = |name: &str| score.details[name].as_f64().unwrap_or_default();
        golden::close(
            part("perception") + part("cognition"),
            &expected["overall"],
            "overall",
        );
        for file in suite.submissions(&answers).unwrap() {
            let name = file.name.strip_prefix("mme_results/").unwrap();
            let sorted = |text: &str| {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            let theirs = golden::text(case.join("expected/converted").join(name));
            assert_eq!(sorted(file.text()), sorted(&theirs), "{name}");
        }
    }
}
