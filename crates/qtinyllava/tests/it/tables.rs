//! Official folders in miniature, from the model to the table.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::run;
use crate::world::flags;

const NAMES: [&str; 11] = [
    "pope",
    "vqav2",
    "mme",
    "gqa",
    "scienceqa",
    "textvqa",
    "mmvet",
    "mmmu",
    "seedbench",
    "vizwiz",
    "mmbench",
];

/// A miniature of every folder, two scenes each.
static FOLDERS: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    for name in NAMES {
        let mut args = ["data", "benchmark", name, "--count", "2"]
            .map(str::to_owned)
            .to_vec();
        args.extend(flags(&[("--out", &dir.path().join(name))]));
        run(args).succeeds();
    }
    dir
});

/// A model with random weights and a tokenizer that knows every word; the demo's knows those of its scenes only.
static MODEL: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden");
    let config = dir.path().join("config");
    fs::create_dir(&config).unwrap();
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ] {
        let from = golden.join("data/tokenizers/spm_llama").join(name);
        fs::copy(from, config.join(name)).unwrap();
    }
    let mut fields = read(&golden.join("model/full_llama_siglip/config.json"));
    fields["text_config"]["vocab_size"] = 2000.into();
    fields["text_config"]["max_position_embeddings"] = 1024.into();
    fields["tokenizer_model_max_length"] = 512.into();
    fs::write(config.join("config.json"), fields.to_string()).unwrap();
    let mut args = words("data random-model");
    args.extend(flags(&[
        ("--config", &config),
        ("--out", &dir.path().join("tiny")),
    ]));
    run(args).succeeds();
    dir
});

fn model() -> std::path::PathBuf {
    MODEL.path().join("tiny")
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A list of these benchmarks.
fn list(dir: &Path, names: &[&str], more: &str) -> std::path::PathBuf {
    let entry = |name: &&str| {
        let folder = FOLDERS.path().join(name);
        format!(
            "[[benchmark]]\nname = \"{name}\"\ndir = {:?}\n",
            folder.display().to_string()
        )
    };
    let text: String = names.iter().map(entry).collect();
    let path = dir.join("suite.toml");
    fs::write(&path, format!("{more}\n{text}")).unwrap();
    path
}

#[test]
fn every_benchmark_stands_in_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let suite = list(dir.path(), &NAMES, "");
    let mut args = words("eval --longest 4");
    args.extend(flags(&[
        ("--checkpoint", &model()),
        ("--suite", &suite),
        ("--json", &at("table.json")),
        ("--latex", &at("table.tex")),
        ("--page", &at("table.html")),
        ("--submissions", &at("upload")),
    ]));
    let said = run(args.clone()).succeeds().stdout;
    for part in [
        "VQAv2",
        "SQA-I",
        "MMMU",
        "combined, 7 of 8",
        "blank pictures",
        "Not in the combined score: MM-Vet",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let table = read(&at("table.json"));
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!(
            (&row["of"], &row["missing"]),
            (&json!(7), &json!(["MM-Vet"]))
        );
        assert!(row["combined"].is_number(), "{row}");
        assert_eq!(row["benchmarks"].as_array().unwrap().len(), NAMES.len());
    }
    assert!(
        fs::read_to_string(at("table.tex"))
            .unwrap()
            .contains("blank pictures &")
    );
    assert!(
        fs::read_to_string(at("table.html"))
            .unwrap()
            .contains("TextVQA")
    );
    for file in [
        "answers_upload.json",
        "mm-vet_results.json",
        "testdev_balanced_predictions.json",
        "textvqa_submission.json",
        "mmmu_output.json",
        "mmbench_submission.xlsx",
        "scienceqa_results.json",
        "mme_results/color.txt",
    ] {
        assert!(at("upload").join(file).is_file(), "{file}");
    }
    // Every answer is kept, and asked no more.
    let kept = at("table.answers");
    assert!(
        kept.join("gqa.answers.jsonl").is_file() && kept.join("gqa.blank.answers.jsonl").is_file()
    );
    let again = run([args, words("--resume")].concat()).succeeds();
    assert_eq!(again.stdout, said);
    assert_eq!(read(&at("table.json")), table);
}

#[test]
fn an_evaluation_goes_on_where_it_broke_off() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut args = words("eval --longest 4");
    args.extend(flags(&[
        ("--checkpoint", &model()),
        ("--data", &FOLDERS.path().join("gqa")),
        ("--answers", &at("a.jsonl")),
    ]));
    let whole = run(args.clone()).succeeds().stdout;
    let lines = fs::read_to_string(at("a.jsonl")).unwrap();
    // Half of the lines and a piece of the next, one answer of them not the model's.
    let half: Vec<&str> = lines.lines().take(3).collect();
    let mut mark: Value = serde_json::from_str(half[0]).unwrap();
    mark["text"] = "kept".into();
    fs::write(
        at("a.jsonl"),
        format!("{mark}\n{}\n{}\n{{\"question_id\": \"gq", half[1], half[2]),
    )
    .unwrap();
    run([args.clone(), words("--resume")].concat()).succeeds();
    let after = fs::read_to_string(at("a.jsonl")).unwrap();
    assert_eq!(after.lines().count(), lines.lines().count());
    assert!(after.starts_with(&mark.to_string()), "{after}");
    assert_eq!(
        after.lines().skip(1).collect::<Vec<_>>(),
        lines.lines().skip(1).collect::<Vec<_>>()
    );

    // Another model's answers, or to another question.
    for (key, value, part) in [
        ("model_id", "other-1", "was answered by other-1"),
        ("prompt", "Who?", "other words"),
        ("question_id", "gqa/7", "no question of this directory"),
    ] {
        let mut other = mark.clone();
        other[key] = value.into();
        fs::write(at("a.jsonl"), format!("{other}\n")).unwrap();
        run([args.clone(), words("--resume")].concat()).fails_naming(&[
            "a.jsonl:1: ",
            part,
            "without --resume",
        ]);
    }
    let fresh = run(args).succeeds().stdout;
    assert_eq!(fresh, whole);
    assert!(at("a.jsonl.old").is_file());
}

#[test]
fn answers_are_scored_and_compared_without_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let gqa = FOLDERS.path().join("gqa");
    let questions = read(&gqa.join("testdev_balanced_questions.json"));
    let lines = |answer: &dyn Fn(&Value) -> String| -> String {
        let all = questions.as_object().unwrap().iter();
        all.map(|(id, question)| {
            json!({"question_id": id, "text": answer(question)}).to_string() + "\n"
        })
        .collect()
    };
    fs::write(
        at("right.jsonl"),
        lines(&|question| question["answer"].as_str().unwrap().to_uppercase() + "."),
    )
    .unwrap();
    fs::write(at("wrong.jsonl"), lines(&|_| "nothing of this".to_owned())).unwrap();
    let data = flags(&[("--data", &gqa)]);
    let score = |file: &str| {
        [
            words("eval"),
            data.clone(),
            flags(&[("--score", &at(file))]),
        ]
        .concat()
    };
    let said = run([
        score("right.jsonl"),
        flags(&[("--samples", &at("samples.jsonl"))]),
    ]
    .concat())
    .succeeds()
    .stdout;
    // The official program alone forgives nothing.
    assert!(
        said.contains("factory 100.0, official 0.0, lmms-eval 100.0"),
        "{said}"
    );
    let samples = fs::read_to_string(at("samples.jsonl")).unwrap();
    let first: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    assert!(
        first["score"] == 1.0 && first["filtered_resps"][0].is_string() && first["doc_id"] == 0,
        "{first}"
    );

    let compare = [
        words("eval"),
        data.clone(),
        words("--compare"),
        vec![
            at("wrong.jsonl").display().to_string(),
            at("right.jsonl").display().to_string(),
        ],
    ]
    .concat();
    let said = run([compare, flags(&[("--json", &at("difference.json"))])].concat())
        .succeeds()
        .stdout;
    assert!(said.contains("+100.0 to +100.0"), "{said}");
    assert_eq!(read(&at("difference.json"))[0]["pictures"], 2);

    // An answer too many, and one to nothing.
    let text = fs::read_to_string(at("right.jsonl")).unwrap();
    let line = text.lines().next().unwrap();
    fs::write(at("twice.jsonl"), format!("{text}{line}\n")).unwrap();
    run(score("twice.jsonl")).fails_naming(&["twice.jsonl:", "was answered in line 1", "keep one"]);
    fs::write(at("other.jsonl"), "{\"question_id\": 5, \"text\": \"\"}\n").unwrap();
    run(score("other.jsonl")).fails_naming(&["other.jsonl:1: question_id `5`", "another split"]);
}

/// An endpoint that answers `replies` in turn, the last for ever; and how often it was asked.
fn judge(replies: &'static [(u16, &'static str)]) -> (String, Arc<AtomicUsize>) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", server.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            // The body is JSON and ends the request.
            while !request.ends_with(b"}") {
                let read = stream.read(&mut piece).unwrap();
                if read == 0 {
                    break;
                }
                request.extend_from_slice(&piece[..read]);
            }
            let text = String::from_utf8_lossy(&request);
            assert!(
                text.contains("gpt_query_prompt | Ground truth | Prediction | Correctness"),
                "{text}"
            );
            assert!(text.contains("What is in the picture? | "), "{text}");
            let (status, content) =
                replies[count.fetch_add(1, Ordering::SeqCst).min(replies.len() - 1)];
            let body = json!({"choices": [{"message": {"role": "assistant", "content": content}}]})
                .to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    (url, asked)
}

#[test]
fn a_judge_is_called_on_request_only_and_once_per_answer() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let answers =
        "{\"question_id\": 0, \"text\": \"a fox\"}\n{\"question_id\": 1, \"text\": \"a key\"}\n";
    fs::write(at("answers.jsonl"), answers).unwrap();
    // Too much to do, words, then grades.
    let (url, asked) = judge(&[(503, ""), (200, "I think"), (200, "0.5"), (200, "1.0 ")]);
    let mut args = words("eval --judge-model judge-1 --judge-key NO_SUCH_KEY_HERE --judge-url");
    args.push(url);
    args.extend(flags(&[
        ("--data", &FOLDERS.path().join("mmvet")),
        ("--score", &at("answers.jsonl")),
        ("--judge-cache", &at("judge.jsonl")),
    ]));
    let shown = run(args.clone()).succeeds();
    assert!(
        shown.stderr.contains("2 calls") && shown.stderr.contains("--judge-calls 2"),
        "{}",
        shown.stderr
    );
    assert!(
        shown.stdout.contains("no score without a judge") && shown.stdout.contains("Not MM-Vet"),
        "{}",
        shown.stdout
    );
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    run([args.clone(), words("--judge-calls 1")].concat())
        .fails_naming(&["--judge-calls 1", "give 2"]);
    assert_eq!(asked.load(Ordering::SeqCst), 0);

    let json = flags(&[("--json", &at("scores.json"))]);
    let graded = [args.clone(), words("--judge-calls 2"), json].concat();
    let said = run(graded.clone()).succeeds().stdout;
    assert!(said.contains("MM-Vet, graded by judge-1"), "{said}");
    assert_eq!(read(&at("scores.json"))["mmvet"], 75.0);
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    // What it said is kept.
    run(graded).succeeds();
    assert_eq!(asked.load(Ordering::SeqCst), 4);

    // A file of grades does as well.
    let grade = |score: f64| json!({"model": ["me"], "content": ["x"], "score": [score]});
    let file = |grades: Value| fs::write(at("grades.json"), grades.to_string()).unwrap();
    let with = [
        words("eval"),
        flags(&[
            ("--data", &FOLDERS.path().join("mmvet")),
            ("--score", &at("answers.jsonl")),
            ("--grades", &at("grades.json")),
        ]),
    ]
    .concat();
    file(json!({"v1_0": grade(0.2), "v1_1": grade(0.4)}));
    assert!(run(with.clone()).succeeds().stdout.contains("30.0 ± 0.0"));
    file(json!({"v1_0": grade(0.2)}));
    run(with.clone()).fails_naming(&["grades.json: no grade for v1_1"]);
    file(json!({"v1_0": grade(1.2), "v1_1": grade(0.4)}));
    run(with).fails_naming(&["grades.json: v1_0: grade 1.2 is not between 0 and 1"]);
}

#[test]
fn what_is_wrong_with_a_list_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("suite.toml");
    let suite = |text: &str| {
        fs::write(&path, text).unwrap();
        [
            words("eval"),
            flags(&[("--checkpoint", &model()), ("--suite", &path)]),
        ]
        .concat()
    };
    for (text, part) in [
        ("[[benchmark]]\nname = \"gqq\"\ndir = \"x\"", "`gqq`"),
        ("[[benchmark]]\nname = \"gqa\"", "missing field `dir`"),
        (
            "[[benchmark]]\nname = \"gqa\"\ndir = \"x\"\n[[benchmark]]\nname = \"GQA\"\ndir = \"y\"",
            "twice",
        ),
        ("benchmark = []", "names no benchmark"),
        (
            "[[benchmark]]\nname = \"gqa\"\ndir = \"x\"\nlimits = 3",
            "limits",
        ),
        (
            "[[benchmark]]\nname = \"gqa\"\ndir = \"nowhere\"",
            "nowhere",
        ),
    ] {
        run(suite(text)).fails_naming(&[part]);
    }
    let above = FOLDERS.path().display().to_string();
    let text = format!("[[benchmark]]\nname = \"gqa\"\ndir = {above:?}");
    run(suite(&text)).fails_naming(&["no benchmark here", "gqa has it"]);
}
