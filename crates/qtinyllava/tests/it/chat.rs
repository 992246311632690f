//! Conversations with the demo's base: as a plain language model, as a TinyLLaVA model, whole and split.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::program::{Ended, Program, run, run_with};
use crate::world::{TINY, World, base, flags};

/// Says the lines of `input` and listens until the program ends, which it does when the input does.
fn chat(model: &Path, more: &[&str], input: &str) -> Ended {
    let model = model.display().to_string();
    let args = ["chat", &model, "--longest", "8"];
    run_with(input, args.iter().chain(more))
}

/// The base's language model as the hub would have it: its own configuration and a chat template of its own.
fn plain(template: Option<&str>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let companions = [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ];
    for name in companions.into_iter().chain(["model.safetensors"]) {
        fs::copy(base().join(name), dir.path().join(name)).unwrap();
    }
    let config = read(&base().join("config.json"));
    write(&dir.path().join("config.json"), &config["text_config"]);
    if let Some(template) = template {
        fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    }
    dir
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn write(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).unwrap();
}

/// A blank between all that was said so far.
const WORDS: &str = "{% for m in messages %}{{ m['content'] }} {% endfor %}";

#[test]
fn a_plain_language_model_is_addressed_through_its_own_template() {
    let dir = plain(Some(WORDS));
    let (one, two) = ("Describe the image.", "What is there?");
    let said = chat(
        dir.path(),
        &["--text-only"],
        &format!("{one}\n\n{two}\n/new\n{two}\n{one}\n"),
    );
    let said = said.succeeds();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{:?}", said.stdout);
    assert!(!lines[0].is_empty());
    // /new forgets; what was said before /new is seen.
    let alone = |question| {
        chat(dir.path(), &["--prompt", question], "not read\n")
            .succeeds()
            .stdout
    };
    assert_eq!(lines[0], alone(one).trim_end());
    assert_eq!(lines[2], alone(two).trim_end());
    let history = format!("{one} {} {two}", lines[0]);
    assert_eq!(lines[1], alone(&history).trim_end());
    assert!(
        said.stderr.contains("4 answers") && said.stderr.contains("tokens/s"),
        "{}",
        said.stderr
    );

    // A system turn reaches the template.
    let system = chat(dir.path(), &["--system", one, "--prompt", two], "").succeeds();
    assert_eq!(system.stdout, alone(&format!("{one} {two}")));
    // The template alone makes the prompt.
    let constant = plain(Some("Is the dog green?"));
    let said = chat(constant.path(), &[], &format!("{one}\n/new\n{two}\n")).succeeds();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[0], lines[1]);
}

#[test]
fn draws_repeat_with_their_seed() {
    let dir = plain(Some(WORDS));
    let drawn = |more: &[&str]| {
        let args = [
            &["--prompt", "Is the cat blue?", "--temperature", "3"][..],
            more,
        ]
        .concat();
        chat(dir.path(), &args, "").succeeds().stdout
    };
    assert_eq!(drawn(&["--seed", "1"]), drawn(&["--seed", "1"]));
    assert_ne!(drawn(&["--seed", "1"]), drawn(&["--seed", "2"]));
    let greedy = chat(dir.path(), &["--prompt", "Is the cat blue?"], "")
        .succeeds()
        .stdout;
    assert_ne!(drawn(&[]), greedy);
    assert_eq!(drawn(&["--top-p", "1e-9"]), greedy);
    run(["chat", "model", "--temperature", "-1"]).fails_naming(&["--temperature", "from 0 on"]);
    run(["chat", "model", "--temperature", "1", "--top-p", "1.5"])
        .fails_naming(&["--top-p", "up to 1"]);
}

#[test]
fn an_answer_ends_at_the_configured_tokens_and_at_the_template_s_marker() {
    let dir = plain(Some(WORDS));
    // The answer's word is no part of the question, or a marker of that name would cut the question up.
    let question = ["--prompt", "How many objects are there?"];
    let said = || chat(dir.path(), &question, "").succeeds().stdout;
    let long = said();
    let word = long.split(|c: char| !c.is_alphabetic()).next().unwrap();
    assert!(!word.is_empty(), "{long:?}");
    let tokenizer = read(&dir.path().join("tokenizer.json"));
    let id = &tokenizer["model"]["vocab"][word];
    let generation = dir.path().join("generation_config.json");
    for end in [json!(id), json!([0, id])] {
        write(&generation, &json!({"eos_token_id": end}));
        assert_eq!(said(), "", "{end}");
    }
    write(&generation, &json!({"eos_token_id": "stop"}));
    chat(dir.path(), &question, "").fails_naming(&[
        "generation_config.json",
        "eos_token_id",
        "stop",
        "list",
    ]);
    fs::remove_file(&generation).unwrap();

    let config = dir.path().join("config.json");
    let mut changed = read(&config);
    let before = changed.clone();
    changed["eos_token_id"] = id.clone();
    write(&config, &changed);
    assert_eq!(said(), "");
    write(&config, &before);
    assert_eq!(said(), long);

    // A special token that the template puts behind answers, and nowhere else.
    let file = dir.path().join("tokenizer.json");
    let mut special = tokenizer.clone();
    let list = special["added_tokens"].as_array_mut().unwrap();
    let mut marker = list[0].clone();
    marker["id"] = id.clone();
    marker["content"] = word.into();
    list.push(marker);
    write(&file, &special);
    let marked = format!(
        "{{% for m in messages %}}{{{{ m.content }}}} {{% if m.role == 'assistant' %}}{}{{% endif %}}{{% endfor %}}",
        word
    );
    fs::write(dir.path().join("chat_template.jinja"), marked).unwrap();
    assert_eq!(said(), "");
}

#[test]
fn an_interrupt_ends_a_waiting_program_with_its_summary() {
    let model = base().display().to_string();
    let (mut program, mut stdin) = Program::listening(["chat", &model, "--text-only"]);
    stdin.write_all(b"Describe the image.\n").unwrap();
    program.await_output_line("a");
    program.interrupt();
    let ended = program.finish();
    assert!(!ended.success);
    assert!(ended.stderr.contains("1 answer"), "{}", ended.stderr);
    drop(stdin);
}

#[test]
fn what_cannot_be_is_said() {
    let dir = plain(None);
    let model = dir.path();
    let ask = ["--prompt", "Is the cat blue?"];
    chat(model, &ask, "").fails_naming(&[
        "no chat template",
        "chat_template.jinja",
        "tokenizer_config.json",
        "--template",
    ]);
    chat(model, &["--template", "klingon"], "").fails_naming(&["klingon", "llama"]);
    chat(model, &["--image", "a.png"], "").fails_naming(&["without a vision tower", "a.png"]);
    chat(model, &["--split", "localhost:1", "--tls", "kit"], "").fails_naming(&["--split"]);
    chat(&model.join("absent"), &ask, "").fails_naming(&["absent", "not a directory"]);
    chat(&base(), &["--temperature", "1"], "").fails_naming(&["--temperature", "--text-only"]);
    chat(&base(), &["--text-only", "--system", "be kind"], "").fails_naming(&["--system"]);

    let template = model.join("chat_template.jinja");
    fs::write(&template, "{{ raise_exception('no system turns here') }}").unwrap();
    chat(model, &ask, "").fails_naming(&["chat_template.jinja", "no system turns here"]);
    fs::write(&template, "{% for %}").unwrap();
    chat(model, &ask, "").fails_naming(&["chat_template.jinja"]);
    fs::write(&template, WORDS).unwrap();

    let limit = read(&model.join("config.json"))["max_position_embeddings"]
        .as_u64()
        .unwrap();
    let long = "cat ".repeat(limit as usize + 9);
    chat(model, &[], &long).fails_naming(&[
        &(limit + 9).to_string(),
        &(limit - 1).to_string(),
        "shorten",
    ]);
    chat(&base(), &["--template", "qa"], &long)
        .fails_naming(&["shorten", &(limit - 1).to_string()]);

    // A word that a word-level tokenizer does not know.
    chat(model, &["--prompt", "zebra"], "").fails_naming(&["zebra"]);
    // An id beyond the embedding, though there are fewer tokens than rows.
    let file = model.join("tokenizer.json");
    let whole = read(&file);
    let mut tokenizer = whole.clone();
    tokenizer["model"]["vocab"]["zebra"] = 5000.into();
    write(&file, &tokenizer);
    chat(model, &ask, "").fails_naming(&["5001 tokens", "114 rows"]);
    fs::remove_file(&file).unwrap();
    chat(model, &ask, "").fails_naming(&["no", "tokenizer.json", "save_pretrained"]);
    write(&file, &whole);
    fs::write(model.join("model.safetensors"), "short").unwrap();
    chat(model, &ask, "").fails_naming(&["model.safetensors"]);
}

#[test]
fn questions_about_a_picture_are_answered_whole_and_split() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let merged = world.merged(dir.path(), TINY);
    let pictures = pictures(&world);
    let picture = pictures[0].display().to_string();
    let input = "How many objects are there?\nIs there a cat?\nHow many objects are there?\n";
    let whole = chat(&merged, &["--image", &picture], input).succeeds();
    let lines: Vec<&str> = whole.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{:?}", whole.stdout);
    assert!(!lines[0].is_empty());
    // The recipe's turns are independent, so nothing that came before counts.
    assert!(whole.stderr.contains("stand alone"), "{}", whole.stderr);
    assert_eq!(lines[0], lines[2]);
    let once = chat(
        &merged,
        &["--image", &picture, "--prompt", "Is there a cat?"],
        "",
    )
    .succeeds();
    assert_eq!(once.stdout.trim_end(), lines[1]);
    let blind = chat(&merged, &["--prompt", "Is there a cat?"], "").succeeds();
    assert_eq!(blind.stdout.lines().count(), 1);
    let text = chat(&merged, &["--text-only", "--prompt", "Is there a cat?"], "").succeeds();
    assert_eq!(text.stdout.lines().count(), 1);

    let mut server = world.answering(&merged);
    let address = server.address();
    let kit = world.path("certs/client").display().to_string();
    let split = ["--image", &picture, "--split", &address, "--tls", &kit];
    assert_eq!(chat(&merged, &split, input).succeeds().stdout, whole.stdout);

    let absent = dir.path().join("absent.png").display().to_string();
    chat(&merged, &["--image", &absent], "").fails_naming(&["absent.png", "no file"]);
    let torn = dir.path().join("torn.png");
    let bytes = fs::read(&pictures[0]).unwrap();
    fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
    chat(&merged, &["--image", &torn.display().to_string()], "").fails_naming(&["torn.png"]);
}

/// Where the client has the labels it chooses, and so it can draw; in one process and in two it draws the same.
#[test]
fn a_client_that_has_the_labels_draws_tokens_about_a_picture() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let sets = [
        TINY,
        &[
            "split.labels=client",
            "split.top_blocks=1",
            "quantizer.hidden={kind='fsq', levels=16, statistics='channel'}",
        ],
    ]
    .concat();
    let merged = world.merged(dir.path(), &sets);
    let picture = pictures(&world)[0].display().to_string();
    let asked = |more: &[&str]| {
        let question = ["--image", &picture, "--prompt", "Is there a cat?"];
        chat(&merged, &[&question[..], more].concat(), "")
            .succeeds()
            .stdout
    };
    let hot = ["--temperature", "5", "--seed", "3"];
    let drawn = asked(&hot);
    assert_ne!(drawn, asked(&[]));
    assert_eq!(drawn, asked(&hot));
    assert_eq!(
        asked(&["--temperature", "5", "--top-p", "1e-9"]),
        asked(&[])
    );
    let mut server = world.answering(&merged);
    let address = server.address();
    let kit = world.path("certs/client").display().to_string();
    let split = ["--split", &address, "--tls", &kit];
    assert_eq!(asked(&[&hot[..], &split].concat()), drawn);
    assert_eq!(asked(&split), asked(&[]));
    let evaluated = |more: &[&str]| {
        let mut args = vec!["eval".to_owned()];
        args.extend(flags(&[
            ("--model", &merged),
            ("--data", &world.path("test")),
        ]));
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        run(args).succeeds().stdout
    };
    assert_eq!(evaluated(&split), evaluated(&[]));
}

/// And where text crosses as token ids, what is typed does so too.
#[test]
fn questions_cross_as_token_ids_where_the_recipe_says_so() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let ids = [
        "split.text=ids",
        "quantizer.text={kind='none'}",
        "tune.embed_tokens={kind='frozen', base='bf16'}",
    ];
    let merged = world.merged(dir.path(), &[TINY, &ids].concat());
    let picture = pictures(&world)[0].display().to_string();
    let asked = |more: &[&str]| {
        let question = ["--image", &picture, "--prompt", "Is there a cat?"];
        chat(&merged, &[&question[..], more].concat(), "")
            .succeeds()
            .stdout
    };
    let mut server = world.answering(&merged);
    let address = server.address();
    let kit = world.path("certs/client").display().to_string();
    assert_eq!(asked(&["--split", &address, "--tls", &kit]), asked(&[]));
}

fn pictures(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.path("test").join("images")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
