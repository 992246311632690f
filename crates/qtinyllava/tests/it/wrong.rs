//! What people get wrong: each ends with a message that names it, without a panic and without half-written files.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use qtl_train::digest;
use qtl_wire::certs::{Ca, Issue, make_client_kit, make_server_kit};
use serde_json::{Value, json};

use crate::program::{Ended, run};
use crate::world::{TINY, World, base, flags, local, recipe};

/// No file or directory of an unfinished write anywhere below.
#[track_caller]
fn nothing_partial(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            !name.contains("partial") && !name.contains(".tmp"),
            "left behind: {}",
            path.display()
        );
        if path.is_dir() {
            nothing_partial(&path);
        }
    }
}

#[test]
fn an_unknown_recipe_field_is_named_with_its_nearest_neighbour() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(recipe())
        .unwrap()
        .replace("save_every", "safe_every");
    let path = dir.path().join("typo.toml");
    fs::write(&path, text).unwrap();
    let out = dir.path().join("run");
    let mut args = vec!["train".to_owned(), "--local".to_owned()];
    let data = world.path("train/llava.json");
    args.extend(flags(&[
        ("--model", &base()),
        ("--recipe", &path),
        ("--run", &out),
        ("--data", &data),
    ]));
    run(args).fails_naming(&["typo.toml", "`safe_every`", "did you mean `save_every`"]);
    assert!(!out.exists());
}

#[test]
fn peers_with_different_recipes_are_told_the_field() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = world.serve(&dir.path().join("server"), "127.0.0.1:0", TINY);
    let other = [TINY, &["train.lr=1e-3"]].concat();
    world
        .connect(&dir.path().join("client"), &address, "certs", &other)
        .finish()
        .fails_naming(&["refused", "train.lr"]);
    nothing_partial(dir.path());
}

#[test]
fn a_foreign_certificate_is_refused() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = world.serve(&dir.path().join("server"), "127.0.0.1:0", TINY);
    let ended = world
        .connect(&dir.path().join("client"), &address, "foreign", TINY)
        .finish();
    ended.fails_naming(&[&address, "secure connection", "certificate"]);
    drop(server);
    nothing_partial(dir.path());
}

#[test]
fn expired_certificates_are_refused_on_either_side() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::load(&world.path("certs/ca")).unwrap();
    let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
    let issue = Issue {
        from: now - 2 * day,
        until: now - day,
        overwrite: false,
    };
    let [client, server] = ["client", "server"].map(|side| dir.path().join("kits").join(side));
    make_client_kit(&ca, &client, "clinic", &issue).unwrap();
    make_server_kit(&ca, &server, &["localhost".to_owned()], &issue).unwrap();

    let mut args = vec!["serve".to_owned()];
    args.extend(flags(&[
        ("--model", &base()),
        ("--recipe", &recipe()),
        ("--tls", &server),
    ]));
    let named = server.join("server.pem").display().to_string();
    run(args).fails_naming(&[&named, "expired on", "make a new kit"]);

    let (_server, address) = world.serve(&dir.path().join("server"), "127.0.0.1:0", TINY);
    let kits = dir.path().join("kits").display().to_string();
    let ended = world.connect(&dir.path().join("run"), &address, &kits, TINY);
    let named = client.join("client.pem").display().to_string();
    let ended = ended.finish();
    ended.fails_naming(&[&named, "expired on", "make a new kit"]);
    nothing_partial(dir.path());
}

#[test]
fn a_port_in_use_is_named() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut args = vec!["serve".to_owned(), "--listen".to_owned(), address.clone()];
    let out = dir.path().join("server");
    args.extend(flags(&[
        ("--model", &base()),
        ("--recipe", &recipe()),
        ("--run", &out),
    ]));
    args.extend(flags(&[("--tls", &world.path("certs/server"))]));
    run(args).fails_naming(&[&address, "in use"]);
    assert!(!out.exists());
}

/// Trains on the shared scenes with entry 5 replaced by `spoil` of it.
fn spoiled(world: &World, dir: &Path, sets: &[&str], spoil: impl Fn(&mut Value)) -> Ended {
    let mut entries: Value =
        serde_json::from_slice(&fs::read(world.path("train/llava.json")).unwrap()).unwrap();
    spoil(&mut entries[5]);
    let data = dir.join("spoiled.json");
    fs::write(&data, serde_json::to_vec(&entries).unwrap()).unwrap();
    let images = dir.join("images");
    if !images.exists() {
        fs::create_dir(&images).unwrap();
        for entry in fs::read_dir(world.path("train/images")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, images.join(path.file_name().unwrap())).unwrap();
        }
        fs::write(
            images.join("corrupt.png"),
            b"\x89PNG\r\n\x1a\nnot a picture",
        )
        .unwrap();
    }
    let run = dir.join(if sets.contains(&"data.strict=true") {
        "strict"
    } else {
        "lenient"
    });
    fs::remove_dir_all(&run).ok();
    local(&run, &data, sets).finish()
}

/// A bad entry is left out with a counted warning, or ends the run if the recipe is strict.
fn bad_entry(warning: &str, words: &[&str], spoil: impl Fn(&mut Value)) {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    // Eight batches: one whole epoch, so that every entry is read.
    let sets = [
        "train.steps=8",
        "train.save_every=8",
        "quantizer.calibration_batches=0",
    ];
    let ended = spoiled(&world, dir.path(), &sets, &spoil).succeeds();
    assert!(
        ended.stderr.contains(warning),
        "no {warning:?} in:\n{}",
        ended.stderr
    );
    let strict = [&sets[..], &["data.strict=true"]].concat();
    let mut all = vec!["spoiled.json", "entry 5"];
    all.extend(words);
    spoiled(&world, dir.path(), &strict, &spoil).fails_naming(&all);
    nothing_partial(dir.path());
}

#[test]
fn a_missing_image_is_counted_or_named() {
    bad_entry("1 x missing image", &["`image`", "absent.png"], |entry| {
        entry["image"] = json!("absent.png")
    });
}

#[test]
fn a_corrupt_image_is_counted_or_named() {
    bad_entry("1 x corrupt image", &["`image`", "corrupt.png"], |entry| {
        entry["image"] = json!("corrupt.png")
    });
}

#[test]
fn an_entry_without_conversations_is_counted_or_named() {
    bad_entry("1 x no conversation", &["`conversations`"], |entry| {
        entry.as_object_mut().unwrap().remove("conversations");
    });
}

#[test]
fn two_image_tags_are_counted_or_named() {
    bad_entry(
        "1 x more <image> tags than pictures",
        &["conversations", "<image>"],
        |entry| {
            // Two turns; two tags in one turn are one picture by the templates' rule.
            let question = entry["conversations"][2]["value"]
                .as_str()
                .unwrap()
                .to_owned();
            entry["conversations"][2]["value"] = json!(format!("<image>\n{question}"));
        },
    );
}

/// Turns the shape of one tensor of a safetensors file round and returns its name: the same bytes, another model.
fn turn_a_tensor(path: &Path) -> String {
    let mut bytes = fs::read(path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..end].to_vec()).unwrap();
    let tensors: serde_json::Map<String, Value> = serde_json::from_str(&header).unwrap();
    let (name, rows, cols) = tensors
        .iter()
        .find_map(
            |(name, entry)| match entry["shape"].as_array()?.as_slice() {
                [rows, cols] if rows != cols => Some((name.clone(), rows.clone(), cols.clone())),
                _ => None,
            },
        )
        .unwrap();
    let at = header.find(&format!("\"{name}\"")).unwrap();
    let turned = header[at..].replacen(&format!("[{rows},{cols}]"), &format!("[{cols},{rows}]"), 1);
    bytes[8 + at..end].copy_from_slice(turned.as_bytes());
    fs::write(path, bytes).unwrap();
    name
}

/// As if the checkpoint had been written so.
fn renew_digests(checkpoint: &Path) {
    let path = checkpoint.join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let weights = checkpoint.join("model.safetensors");
    state["files"]["model.safetensors"] = json!(digest::of_file(&weights).unwrap());
    fs::write(&path, state.to_string()).unwrap();
    let line = digest::line(&digest::of_file(&path).unwrap(), "state.json");
    fs::write(checkpoint.join("state.b3"), line).unwrap();
}

#[test]
fn checkpoints_of_another_model_are_refused_by_tensor() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    for half in ["", "server/"] {
        let run = dir.path().join(format!("run-{}", half.len()));
        world.local(&run, TINY).finish().succeeds();
        let checkpoint = run.join(format!("{half}checkpoints/step-00000002"));
        let name = turn_a_tensor(&checkpoint.join("model.safetensors"));
        renew_digests(&checkpoint);
        world
            .local(&run, TINY)
            .finish()
            .fails_naming(&["step-00000002", &name]);
    }
    nothing_partial(dir.path());
}

#[test]
fn halves_of_two_runs_are_not_merged_and_eval_wants_questions() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let [one, two, out, absent] = ["one", "two", "out", "absent"].map(|name| dir.path().join(name));
    world.local(&one, TINY).finish().succeeds();
    world.local(&two, TINY).finish().succeeds();
    let merge_into = |client: &Path, server: &Path, out: &Path| {
        let mut args = vec!["merge".to_owned()];
        args.extend(flags(&[
            ("--client", client),
            ("--server", server),
            ("--model", &base()),
            ("--out", out),
        ]));
        run(args)
    };
    let merge = |client: &Path, server: &Path| merge_into(client, server, &out);
    let show = |path: &Path| path.display().to_string();
    merge(&one, &two.join("server")).fails_naming(&[&show(&one), &show(&two), "not of one run"]);
    merge_into(&one, &one.join("server"), &one).fails_naming(&[&show(&one), "--out"]);
    merge(&one, &absent).fails_naming(&[&show(&absent)]);
    assert!(!absent.exists(), "merge only reads what it joins");
    assert!(!out.exists());
    nothing_partial(dir.path());

    merge(&one, &one.join("server")).succeeds();
    let json = dir.path().join("scores.json");
    let mut args = vec!["eval".to_owned()];
    args.extend(flags(&[
        ("--checkpoint", &out),
        ("--data", &world.path("train")),
        ("--json", &json),
    ]));
    run(args).fails_naming(&[&show(&world.path("train"))]);
    assert!(!json.exists());
    nothing_partial(dir.path());
}

/// The base with `rows` rows in its embedding, as its configuration has it, and as many tokens as `surplus` more than the words.
fn train_with_tokens(world: &World, dir: &Path, surplus: usize, rows: usize) -> Ended {
    let model = dir.join("model");
    fs::create_dir_all(&model).unwrap();
    for entry in fs::read_dir(base()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    let edit = |name: &str, change: &dyn Fn(&mut Value)| {
        let path = model.join(name);
        let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        fs::write(&path, value.to_string()).unwrap();
    };
    edit("tokenizer.json", &|tokenizer| {
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        let known = vocabulary.len();
        vocabulary.extend((known..known + surplus).map(|id| (format!("word{id}"), json!(id))));
    });
    edit("config.json", &|config| {
        config["text_config"]["vocab_size"] = json!(rows)
    });
    let mut args = vec!["train".to_owned(), "--local".to_owned()];
    args.extend(flags(&[
        ("--model", &model),
        ("--recipe", &recipe()),
        ("--run", &dir.join("run")),
        ("--data", &world.path("train/llava.json")),
    ]));
    run(args)
}

#[test]
fn a_tokenizer_that_is_not_the_embedding_s_is_refused_or_said() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let files = [at("model/tokenizer.json"), at("model/config.json")];
    let says = |surplus, rows, words: &[&str]| {
        let mut all: Vec<&str> = files.iter().map(String::as_str).collect();
        all.extend(words);
        train_with_tokens(world.as_ref(), dir.path(), surplus, rows).fails_naming(&all);
        assert!(!dir.path().join("run").exists());
    };
    says(1, 114, &["115 tokens", "114 rows", "no row", "vocab_size"]);
    // Much padding is worth a word, a little is not.
    let far = train_with_tokens(world.as_ref(), dir.path(), 0, 1138).stderr;
    for word in [
        "114 tokens",
        "1138 rows",
        "1024 rows",
        "of another model",
        &files[0],
    ] {
        assert!(far.contains(word), "{word}: {far}");
    }
    let near = train_with_tokens(world.as_ref(), dir.path(), 0, 1137).stderr;
    assert!(!near.contains("of another model"), "{near}");
    // Padding is no reason: what stops this is the weights, which have other rows than the configuration.
    train_with_tokens(world.as_ref(), dir.path(), 0, 1137).fails_naming(&[
        "embed_tokens.weight",
        "[114, 128]",
        "[1137, 128]",
    ]);
}
