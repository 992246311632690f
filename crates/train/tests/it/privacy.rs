//! What a client adds to its rows: from a secret that nobody else has, the same when the run is interrupted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qtl_data::loader::Source;
use qtl_model::Device;
use qtl_train::client::{Client, Event};
use qtl_train::dry::{self, Messages};
use qtl_train::{Recipe, ServerWork};
use qtl_wire::verb::Request;
use qtl_wire::{Exchange, LocalLink, Reply};

use crate::world::{Drawn, blueprint, recipe, saved, train};

const NOISE: [&str; 6] = [
    "quantizer.image={ kind = 'fsq', levels = 4 }",
    "quantizer.text={ kind = 'fsq', levels = 4 }",
    "quantizer.text_rows='all'",
    "privacy.clip=8.0",
    "privacy.noise=0.05",
    "privacy.dither=true",
];

fn noisy() -> Recipe {
    recipe("", &NOISE)
}

/// What a run of so many steps says, byte for byte.
fn messages(recipe: &Recipe, run: &Path, out: &Path, steps: u64) -> Vec<(dry::Line, Vec<u8>)> {
    let source: Arc<dyn Source> = Arc::new(Drawn);
    let start = blueprint(recipe);
    let device = Device::default;
    let mut client = Client::open(
        recipe.clone(),
        &start,
        Arc::clone(&source),
        run,
        "run",
        device(),
    )
    .unwrap();
    let server = ServerWork::open(recipe.clone(), &start, Some(&run.join("server")), device());
    let mut link = LocalLink::local(server.unwrap());
    let messages = Messages::into_dir(out).unwrap();
    link.listened(messages.listener());
    let enough = AtomicBool::new(false);
    let ended = client.train(&mut link, &enough, &mut |event| {
        if let Event::Step(record) = event {
            enough.store(record.step + 1 >= steps, Ordering::Relaxed);
        }
    });
    ended.unwrap();
    let lines = messages.close(recipe, &source).unwrap();
    assert_eq!(dry::read(out).unwrap(), lines);
    let read = |line: dry::Line| {
        let bytes = std::fs::read(out.join(&line.file)).unwrap();
        (line, bytes)
    };
    lines.into_iter().map(read).collect()
}

/// The containers of image and text rows of the first step.
fn first(messages: &[(dry::Line, Vec<u8>)]) -> Vec<u8> {
    messages
        .iter()
        .find(|(line, _)| line.is_step())
        .unwrap()
        .1
        .clone()
}

#[test]
fn the_secret_decides_and_nothing_else() {
    let dirs: Vec<tempfile::TempDir> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let recipe = noisy();
    let say = |i: usize| {
        let dir: &Path = dirs[i].path();
        messages(&recipe, &dir.join("run"), &dir.join("out"), 1)
    };
    let one = say(0);
    let key = dirs[0].path().join("run/privacy.key");
    let secret = std::fs::read(&key).unwrap();
    assert_eq!(secret.len(), 32);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    // Recipe and seed are the same, which is all that a server knows: what is drawn is not.
    let two = say(1);
    assert_ne!(
        std::fs::read(dirs[1].path().join("run/privacy.key")).unwrap(),
        secret
    );
    assert_ne!(first(&one), first(&two));
    // With the secret it is, to the byte.
    std::fs::create_dir_all(dirs[2].path().join("run")).unwrap();
    std::fs::copy(&key, dirs[2].path().join("run/privacy.key")).unwrap();
    assert_eq!(first(&one), first(&say(2)));
    // Nor is the secret made of the seed, or sent.
    let guess = |bytes: &[u8]| {
        one.iter()
            .any(|(_, message)| message.windows(8).any(|w| w == bytes))
    };
    assert!(!guess(&secret[..8]), "the secret has crossed");
    let again = || {
        let again = Client::open(
            recipe.clone(),
            &blueprint(&recipe),
            Arc::new(Drawn),
            &dirs[0].path().join("run"),
            "run",
            Device::default(),
        );
        again.err().unwrap().to_string()
    };
    // One that others may read is none.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = again();
        assert!(
            error.contains("mode 0644") && error.contains("chmod 600"),
            "{error}"
        );
    }
    // A missing secret of a run that has begun is told, and nothing is drawn anew.
    std::fs::remove_file(&key).unwrap();
    let error = again();
    assert!(error.contains("privacy.key is missing"), "{error}");
}

/// With draws of its own, and with an inverse network that is trained along.
#[test]
fn a_run_that_hides_and_is_interrupted_ends_in_the_same_bits() {
    for recipe in [noisy(), recipe("", &["privacy.adversary=3.0"])] {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [whole, broken] = [dirs[0].path(), dirs[1].path()];
        let losses = train(&recipe, whole, None);
        std::fs::copy(whole.join("privacy.key"), broken.join("privacy.key")).unwrap();
        train(&recipe, broken, Some(2));
        // As if it had been killed behind the checkpoint of step 2.
        for side in ["", "server"] {
            let checkpoints = broken.join(side).join("checkpoints");
            std::fs::remove_dir_all(checkpoints.join("step-00000003")).unwrap();
        }
        assert_eq!(train(&recipe, broken, None), losses[2..]);
        for (side, file) in [
            ("", "model.safetensors"),
            ("", "optimizer.safetensors"),
            ("server", "model.safetensors"),
        ] {
            let [whole, broken] = [whole, broken].map(|dir| saved(dir, side, 6, file));
            assert!(whole == broken, "{side} {file}");
        }
    }
}

#[test]
fn the_server_is_not_told() {
    let terms = noisy().terms();
    assert!(
        terms.keys().all(|key| !key.starts_with("privacy")),
        "{terms:?}"
    );
    assert!(noisy().fields().contains_key("privacy.noise"));
}

#[test]
fn what_cannot_be_is_named() {
    for (sets, field) in [
        (vec!["privacy.noise=1.0"], "privacy.clip"),
        (vec!["privacy.clip=-1.0"], "privacy.clip"),
        (vec!["privacy.dither=true"], "quantizer.text_rows"),
        (
            vec!["privacy.dither=true", "quantizer.text_rows='all'"],
            "privacy.dither",
        ),
        (vec!["privacy.gradient_noise=1.0"], "privacy.gradient_noise"),
        (vec!["privacy.nopeek=1.0"], "privacy.nopeek"),
        (
            vec!["privacy.adversary=1.0", "split.bottom_blocks=1"],
            "privacy.adversary",
        ),
        (vec!["privacy.adversary=-1.0"], "privacy.adversary"),
    ] {
        let sets: Vec<String> = sets.into_iter().map(str::to_owned).collect();
        let plain = recipe("", &[]).to_toml();
        let error = Recipe::parse(&plain, &sets, Path::new("r.toml"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn an_account_says_what_crossed() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe("", &[]);
    let said = messages(&recipe, &dir.path().join("run"), &dir.path().join("out"), 2);
    let lines: Vec<&dry::Line> = said.iter().map(|(line, _)| line).collect();
    assert!(said.iter().all(|(line, bytes)| line.bytes == bytes.len()));
    assert_eq!(lines[0].kind, "greeting");
    let steps: Vec<&&dry::Line> = lines.iter().filter(|line| line.is_step()).collect();
    assert_eq!(steps.len(), 2);
    for step in steps {
        // Two pictures of 16 rows and two texts of six tokens.
        assert_eq!((step.rows, step.samples.len()), ([32, 12], 2));
        assert!(step.image > 0 && step.text > 0 && step.targets > 0);
    }
    let table = std::fs::read_to_string(dir.path().join("out/account.txt")).unwrap();
    assert!(
        table.lines().count() == lines.len() + 1 && table.contains("forward"),
        "{table}"
    );
    assert!(
        Messages::into_dir(&dir.path().join("out")).is_err(),
        "it is not empty"
    );
}

/// Rows from which only the hidden states' ranges are wanted are somebody's as well.
#[test]
fn an_account_names_the_samples_of_what_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe(
        "",
        &[
            "split.labels=client",
            "quantizer.hidden={kind='fsq', levels=4, statistics='channel'}",
            "quantizer.calibration_batches=2",
        ],
    );
    let said = messages(&recipe, &dir.path().join("run"), &dir.path().join("out"), 2);
    let of = |kind: &str| -> Vec<&dry::Line> {
        let lines = said.iter().map(|(line, _)| line);
        lines.filter(|line| line.kind == kind).collect()
    };
    let (measured, steps) = (of("measure-hidden"), of("forward-hidden"));
    assert_eq!((measured.len(), steps.len()), (2, 2));
    for (measured, step) in measured.into_iter().zip(steps) {
        assert_eq!(measured.samples.len(), 2);
        assert_eq!(measured.samples, step.samples);
        assert!(step.hidden > 0 && step.targets == 0);
    }
    assert!(of("backward-hidden").iter().all(|line| line.hidden > 0));
}

/// What goes back for hidden states carries noise of the secret, and what went up before it does not change.
#[test]
fn the_gradient_of_hidden_states_has_noise_of_the_secret() {
    let labels = "split.labels=client";
    let said = |sets: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let recipe = recipe("", sets);
        messages(&recipe, &dir.path().join("run"), &dir.path().join("out"), 1)
    };
    let back = |said: &[(dry::Line, Vec<u8>)]| {
        let found = said.iter().find(|(line, _)| line.kind == "backward-hidden");
        found.unwrap().1.clone()
    };
    let forward = |said: &[(dry::Line, Vec<u8>)]| first(said);
    let (plain, one, two) = (
        said(&[labels]),
        said(&[labels, "privacy.gradient_noise=0.5"]),
        said(&[labels, "privacy.gradient_noise=0.5"]),
    );
    assert!(forward(&plain) == forward(&one) && forward(&one) == forward(&two));
    assert!(back(&plain) != back(&one) && back(&one) != back(&two));
}

/// The penalty is in the loss of the client's half, which takes another course.
#[test]
fn nopeek_is_part_of_what_the_client_learns() {
    let run = |sets: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let recipe = recipe("", &[&["train.batch=4", "train.steps=3"], sets].concat());
        let start = qtl_train::start::Start::from(&blueprint(&recipe));
        crate::world::records_of(Arc::new(Drawn), &start, &recipe, dir.path(), None)
    };
    let (plain, weighed) = (run(&[]), run(&["privacy.nopeek=5.0"]));
    assert!(weighed[0].penalty > plain[0].penalty, "{weighed:?}");
    assert_eq!(weighed[0].loss, plain[0].loss);
    assert_ne!(weighed[2].loss, plain[2].loss);
}

/// What is trained along changes what the client learns, and nothing of it crosses.
#[test]
fn an_inverse_network_is_trained_along() {
    let run = |sets: &[&str], dir: &Path| {
        let recipe = recipe("", &[&["train.steps=3"], sets].concat());
        let start = qtl_train::start::Start::from(&blueprint(&recipe));
        let records = crate::world::records_of(Arc::new(Drawn), &start, &recipe, dir, None);
        (recipe, records)
    };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (bare, plain) = run(&[], dirs[0].path());
    let (against, learned) = run(&["privacy.adversary=3.0"], dirs[1].path());
    // What it has read so far is in the loss of the client's half alone.
    assert_eq!(learned[0].loss, plain[0].loss);
    assert!(learned.iter().any(|record| record.penalty > 0.0));
    assert_ne!(learned[2].loss, plain[2].loss);
    assert_eq!(learned[0].bytes_up, plain[0].bytes_up);
    assert_eq!(bare.terms(), against.terms());
    let optimizer = |dir: &Path, side| saved(dir, side, 3, "optimizer.safetensors");
    let names = |bytes: Vec<u8>| {
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let names = file.names().into_iter();
        names.filter(|name| name.starts_with("adversary.")).count()
    };
    assert_eq!(names(optimizer(dirs[1].path(), "")), 16);
    assert_eq!(names(optimizer(dirs[1].path(), "server")), 0);
    assert_eq!(names(optimizer(dirs[0].path(), "")), 0);
    assert!(dirs[1].path().join("privacy.key").exists());
}

/// A batch for whose step the others did not wait crosses once more, with other draws: its samples have been sent once more.
#[test]
fn a_batch_that_is_sent_again_is_counted() {
    let (recipe, dir) = (noisy(), tempfile::tempdir().unwrap());
    let start = qtl_train::start::Start::from(&blueprint(&recipe));
    let mut turned_away = 0;
    let mut link = crate::world::Tapped {
        link: LocalLink::local(crate::world::server_of(&start, &recipe, dir.path())),
        ask: |link: &mut LocalLink<ServerWork>, request: Request| match &request {
            Request::Forward(_) if turned_away < 2 => {
                turned_away += 1;
                Ok(Reply::Moved { to: 0 })
            }
            _ => link.ask(request),
        },
    };
    let device = Device::default();
    let (source, run) = (Arc::new(Drawn), dir.path());
    let mut client = Client::open(recipe, &start, source, run, "test", device).unwrap();
    let enough = AtomicBool::new(false);
    let ended = client.train(&mut link, &enough, &mut |event| {
        enough.fetch_or(matches!(event, Event::Step(_)), Ordering::Relaxed);
    });
    ended.unwrap();
    assert_eq!(client.sent_again(), 2);
    let wire = std::fs::read_to_string(run.join("wire.json")).unwrap();
    assert!(wire.contains("\"batches_sent_again\": 2"), "{wire}");
}
