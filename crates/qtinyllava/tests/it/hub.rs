//! Models by their hub id: from the cache, from a hub, and what is said where there is neither.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::program::{Ended, Program};
use crate::world::{TINY, World, base, flags, recipe};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Trains two steps on the model `id` with the hub's variables set.
fn train(id: &str, run: &Path, variables: &[(&str, &OsStr)]) -> Ended {
    let world = World::shared();
    let mut args = vec!["train".to_owned(), "--local".to_owned()];
    let data = world.path("train/llava.json");
    args.extend(flags(&[
        ("--model", Path::new(id)),
        ("--recipe", &recipe()),
        ("--run", run),
        ("--data", &data),
    ]));
    for set in TINY {
        args.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    Program::start_in(variables, args).finish()
}

/// The demo's base as the hub's own programs lay it out in their cache.
fn lay_out(cache: &Path) {
    let folder = cache.join("models--someone--base");
    let snapshot = folder.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(folder.join("blobs")).unwrap();
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), COMMIT).unwrap();
    for entry in fs::read_dir(base()).unwrap() {
        let from = entry.unwrap().path();
        let name = from.file_name().unwrap();
        let blob = folder.join("blobs").join(name);
        fs::copy(&from, &blob).unwrap();
        std::os::unix::fs::symlink(Path::new("../../blobs").join(name), snapshot.join(name))
            .unwrap();
    }
}

#[test]
fn a_cached_model_is_used_offline_and_an_absent_one_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("hf");
    lay_out(&home.join("hub"));
    let offline = [
        ("HF_HOME", home.as_os_str()),
        ("HF_HUB_OFFLINE", OsStr::new("1")),
    ];
    train("someone/base", &dir.path().join("one"), &offline).succeeds();
    let by_commit = format!("someone/base@{COMMIT}");
    train(&by_commit, &dir.path().join("two"), &offline).succeeds();

    let cache = home.join("hub").display().to_string();
    let run = dir.path().join("three");
    train("someone/else", &run, &offline).fails_naming(&[
        "someone/else",
        &cache,
        "HF_HUB_OFFLINE",
        "give a local directory",
    ]);
    train("someone/base@v2", &run, &offline).fails_naming(&["someone/base@v2", &cache]);
    train("no/such/directory", &run, &offline).fails_naming(&["no/such/directory", "hub id"]);
    assert!(!run.exists());
}

/// A hub of one repository: answers what the hub answers, and keeps what it was asked.
struct TinyHub {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl TinyHub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                std::thread::spawn(move || while answer(&stream, &log).is_some() {});
            }
        });
        Self { endpoint, asked }
    }
}

/// One request and its answer; `None` when the connection is over.
fn answer(mut stream: &TcpStream, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let mut head: Vec<String> = Vec::new();
    loop {
        let line = lines.next()?.ok()?;
        if line.is_empty() {
            break;
        }
        head.push(line.to_lowercase());
    }
    let path = head.first()?.split(' ').nth(1)?.to_owned();
    log.lock().unwrap().push(head.join("\n"));
    let names: Vec<PathBuf> = fs::read_dir(base())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    let (status, range, body) = if path.starts_with("/api/models/someone/base") {
        let siblings: Vec<String> = names
            .iter()
            .map(|p| format!("{{\"rfilename\": {:?}}}", p.file_name().unwrap()))
            .collect();
        let body = format!(
            "{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}",
            siblings.join(",")
        );
        ("200 OK", None, body.into_bytes())
    } else {
        let wanted = path.strip_prefix("/someone/base/resolve/main/");
        let file = wanted.and_then(|name| names.iter().find(|p| p.ends_with(name)));
        match file {
            None => ("404 Not Found", None, Vec::new()),
            Some(file) => {
                let all = fs::read(file).unwrap();
                let range = head.iter().find_map(|l| l.strip_prefix("range: bytes="));
                let (from, to) = range.and_then(|r| r.split_once('-')).unwrap_or(("0", ""));
                let from: usize = from.parse().unwrap();
                let to = to.parse().unwrap_or(all.len() - 1).min(all.len() - 1);
                let range = format!("bytes {from}-{to}/{}", all.len());
                ("206 Partial Content", Some(range), all[from..=to].to_vec())
            }
        }
    };
    let mut reply = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-Repo-Commit: {COMMIT}\r\nETag: \"{}\"\r\n",
        body.len(),
        path.replace('/', "-")
    );
    if let Some(range) = range {
        reply += &format!("Content-Range: {range}\r\n");
    }
    reply += "\r\n";
    stream.write_all(reply.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}

#[test]
fn a_hub_is_asked_through_the_proxy_of_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        for line in BufReader::new(&stream).lines() {
            match line.unwrap() {
                line if line.is_empty() => break,
                line => head.push(line),
            }
        }
        (&stream).write_all(b"HTTP/1.1 503 Busy\r\n\r\n").unwrap();
        head
    });
    // A name that only the proxy could look up.
    let proxy = format!("http://someone:secret@{address}");
    let home = dir.path().join("hf");
    let environment = [
        ("HF_HOME", home.as_os_str()),
        ("HF_ENDPOINT", OsStr::new("https://hub.invalid")),
        ("HTTPS_PROXY", OsStr::new(&proxy)),
        ("ALL_PROXY", OsStr::new("")),
        ("all_proxy", OsStr::new("")),
        ("NO_PROXY", OsStr::new("")),
        ("no_proxy", OsStr::new("")),
    ];
    let ended = Program::start_in(&environment, ["inspect", "someone/base"]).finish();
    assert!(
        ended.stderr.contains("the proxy in HTTPS_PROXY"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    ended.fails_naming(&["someone/base"]);
    let head = asked.join().unwrap();
    assert_eq!(head[0], "CONNECT hub.invalid:443 HTTP/1.1");
    assert!(
        head.iter()
            .any(|line| line.starts_with("Proxy-Authorization: Basic ")),
        "{head:?}"
    );
}

#[test]
fn a_model_is_downloaded_once_with_the_token_and_then_cached() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let hub = TinyHub::start();
    let online = [
        ("HF_HUB_CACHE", cache.as_os_str()),
        ("HF_ENDPOINT", OsStr::new(&hub.endpoint)),
        ("HF_TOKEN", OsStr::new("hf_secret")),
    ];
    train("someone/base", &dir.path().join("one"), &online).succeeds();
    let first = hub.asked.lock().unwrap().clone();
    assert!(
        first
            .iter()
            .all(|head| head.contains("authorization: bearer hf_secret"))
    );
    assert!(first.iter().any(|head| head.contains("model.safetensors")));
    // Nothing but models travels.
    assert!(!first.iter().any(|head| head.contains("licenses.md")));

    train("someone/base", &dir.path().join("two"), &online).succeeds();
    let asked = hub.asked.lock().unwrap().clone();
    let again = &asked[first.len()..];
    assert!(
        !again.iter().any(|head| head.contains("model.safetensors")),
        "{again:?}"
    );

    // A hub that is gone: what is cached is used, what is not is explained.
    let gone = [
        ("HF_HUB_CACHE", cache.as_os_str()),
        ("HF_ENDPOINT", OsStr::new("http://127.0.0.1:9")),
    ];
    train("someone/base", &dir.path().join("three"), &gone).succeeds();
    train("someone/else", &dir.path().join("four"), &gone).fails_naming(&[
        "someone/else",
        &cache.display().to_string(),
        "downloading failed",
    ]);
}
