//! Names that are no text: on Unix a path is bytes, and a user may have any.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::program::{Program, run};
use crate::world::{TINY, World, base, recipe};

/// `--flag PATH` for each, to the byte.
fn args(command: &[&str], paths: &[(&str, &Path)]) -> Vec<OsString> {
    let mut args: Vec<OsString> = command.iter().map(Into::into).collect();
    for (flag, path) in paths {
        args.extend([(*flag).into(), path.as_os_str().to_owned()]);
    }
    args
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, to).unwrap()),
        }
    }
}

#[test]
fn every_command_takes_paths_that_are_not_utf8() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join(OsStr::from_bytes(b"\xff\xe9"));
    let [model, data, test, kits] = ["model", "data", "test", "kits"].map(|name| odd.join(name));
    copy(&base(), &model);
    copy(&world.path("train"), &data);
    copy(&world.path("test"), &test);
    copy(&world.path("certs"), &kits);
    let at = odd.join("r.toml");
    fs::copy(recipe(), &at).unwrap();
    let data = data.join("llava.json");
    let sets = || {
        TINY.iter()
            .chain(&["tune.llm={kind='lora', rank=2, alpha=4}"])
            .flat_map(|set| ["--set", *set])
    };
    let with_sets = |mut args: Vec<OsString>| {
        args.extend(sets().map(Into::into));
        args
    };

    // Both halves over the wire, then everything that reads what they have written.
    let [server, client, local] = ["server", "client", "local"].map(|name| odd.join(name));
    let common: &[(&str, &Path)] = &[("--model", &model), ("--recipe", &at)];
    let [server_kit, client_kit] = ["server", "client"].map(|name| kits.join(name));
    let owner = client_kit.join("client.pem");
    let served = [
        common,
        &[
            ("--run", &server),
            ("--tls", &server_kit),
            ("--owner", &owner),
        ],
    ]
    .concat();
    let mut serve = Program::start(with_sets(args(
        &["serve", "--once", "--listen", "127.0.0.1:0"],
        &served,
    )));
    let address = serve.address();
    let trained = [
        common,
        &[
            ("--run", &client),
            ("--tls", &client_kit),
            ("--data", &data),
        ],
    ]
    .concat();
    run(with_sets(args(&["train", "--connect", &address], &trained))).succeeds();
    serve.finish().succeeds();
    let trained = [common, &[("--run", &local), ("--data", &data)]].concat();
    run(with_sets(args(&["train", "--local"], &trained))).succeeds();

    let [merged, adapter, folded, plain] =
        ["merged", "adapter", "folded", "plain"].map(|name| odd.join(name));
    let halves: &[(&str, &Path)] = &[
        ("--client", &client),
        ("--server", &server),
        ("--model", &model),
    ];
    run(args(&["merge"], &[halves, &[("--out", &merged)]].concat())).succeeds();
    run(args(
        &["merge", "--adapter"],
        &[halves, &[("--out", &adapter)]].concat(),
    ))
    .succeeds();
    run(args(
        &["merge"],
        &[
            ("--model", &model),
            ("--from-adapter", &adapter),
            ("--out", &folded),
        ],
    ))
    .succeeds();
    let paths = |paths: &[&Path]| paths.iter().map(|p| p.as_os_str().to_owned()).collect();
    let on = |command: &str, path: &Path| -> Vec<OsString> {
        let mut args: Vec<OsString> = paths(&[path]);
        args.insert(0, command.into());
        args
    };
    run(on("inspect", &merged)).succeeds();
    run(on("verify", &merged)).succeeds();
    run(on("verify", &client)).succeeds();
    run(args(
        &["check"],
        &[common, &[("--data", &data), ("--test", &test)]].concat(),
    ))
    .succeeds();
    let json = odd.join("scores.json");
    run(args(
        &["eval"],
        &[
            ("--checkpoint", &merged),
            ("--data", &test),
            ("--json", &json),
        ],
    ))
    .succeeds();
    assert!(json.is_file() && odd.join("scores.answers.jsonl").is_file());
    run(args(
        &["export", "--to", "language-model"],
        &[("--model", &merged), ("--out", &plain)],
    ))
    .succeeds();
    let mut chat = on("chat", &plain);
    chat.extend(["--text-only", "--prompt", "a dog", "--template", "qa"].map(Into::into));
    run(chat).succeeds();

    // What is not there is still told from an id of the hub.
    let ended = run(on("inspect", &odd.join("absent")));
    ended.fails_naming(&["is not a directory"]);
}
