//! Several sites that train one model, in one process.

mod asking;
mod averages;
mod midway;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use qtl_data::loader::Source;
use qtl_data::{DataError, Example};
use qtl_model::Device;
use qtl_train::client::{Client, Ended, Event};
use qtl_train::roster::RosterFile;
use qtl_train::start::Start;
use qtl_train::tune::Part;
use qtl_train::{Recipe, ServerWork, digest};
use qtl_wire::{Key, LocalLink, Shared};

use crate::deltas::Words;
use crate::world::{Drawn, blueprint, recipe, saved};

/// Of every `count` examples one, from `first` on: a new one at each reading, so that the order of reading is all there is.
struct Dealt {
    first: u64,
    count: u64,
    /// Of few different tokens.
    words: bool,
}

impl Source for Dealt {
    fn lengths(&self) -> Vec<i64> {
        vec![7]
    }

    fn read(&self, _: usize, epoch: u64) -> Result<Example, DataError> {
        let number = (epoch * self.count + self.first) as usize;
        Ok(match self.words {
            true => Words::example(number),
            false => Drawn::example(number),
        })
    }
}

/// Client halves that learn nothing, and draws that show their numbers.
const FROZEN: &str = "vision_tower = 'frozen'\nconnector = 'frozen'\nembed_tokens = 'frozen'\n\
    llm = { kind = 'lora', rank = 2, alpha = 4, dropout = 0.1 }";

fn key(name: &str) -> Key {
    Key::of_public_key(name.as_bytes())
}

const NAMES: [&str; 3] = ["north", "south", "west"];

fn of_sites(tune: &str, count: usize, sets: &[&str]) -> Recipe {
    let mut all = vec!["train.batch=1"];
    let count = format!("sites.count={count}");
    all.push(&count);
    all.extend(sets);
    recipe(tune, &all)
}

fn roster(dir: &Path, names: &[&str]) -> PathBuf {
    let site = |name: &&str| format!("[[site]]\nname = '{name}'\nkeys = ['{}']\n", key(name));
    let path = dir.join("roster.toml");
    std::fs::write(&path, names.iter().map(site).collect::<String>()).unwrap();
    path
}

fn server(recipe: &Recipe, dir: &Path) -> ServerWork {
    let start = Start::from(&blueprint(recipe));
    let run = dir.join("server");
    let mut server =
        ServerWork::open(recipe.clone(), &start, Some(&run), Device::default()).unwrap();
    let spec = recipe.sites.as_ref().unwrap();
    let file = RosterFile::open(&roster(dir, &NAMES[..spec.count]), spec).unwrap();
    server.of_sites(file, "a-run").unwrap();
    server
}

fn client(recipe: &Recipe, dir: &Path, place: usize) -> Client {
    let count = recipe.sites.as_ref().map_or(1, |sites| sites.count) as u64;
    let first = place as u64;
    let source = Arc::new(Dealt {
        first,
        count,
        words: recipe.quantizer.text_deltas,
    });
    let start = Start::from(&blueprint(recipe));
    let run = dir.join(NAMES[place]);
    let device = Device::default();
    let mut client = Client::open(recipe.clone(), &start, source, &run, "unused", device).unwrap();
    client.shares([Part::Connector, Part::Quantizer]);
    client
}

/// All sites at once, in `dir`, to the end; by place the losses by step.
fn run(recipe: &Recipe, dir: &Path) -> Vec<BTreeMap<u64, f64>> {
    let count = recipe.sites.as_ref().unwrap().count;
    let shared = Shared::new(server(recipe, dir));
    thread::scope(|scope| {
        let sites: Vec<_> = (0..count)
            .map(|place| {
                let shared = shared.clone();
                scope.spawn(move || one(recipe, dir, place, &shared, None))
            })
            .collect();
        sites.into_iter().map(|site| site.join().unwrap()).collect()
    })
}

/// One site, until the end or the step `stop`; its losses.
fn one(
    recipe: &Recipe,
    dir: &Path,
    place: usize,
    shared: &Shared<ServerWork>,
    stop: Option<u64>,
) -> BTreeMap<u64, f64> {
    let mut client = client(recipe, dir, place);
    let mut link = shared.client(key(NAMES[place]));
    let stopping = AtomicBool::new(false);
    let mut losses = BTreeMap::new();
    let mut watch = |event: &Event| {
        if let Event::Step(record) = event {
            losses.insert(record.step, record.loss.unwrap());
            if stop == Some(record.step) {
                stopping.store(true, Ordering::Relaxed);
            }
        }
    };
    let ended = client.train(&mut link, &stopping, &mut watch).unwrap();
    assert_eq!(ended == Ended::Finished, stop.is_none());
    losses
}

/// What one client does with the examples of all sites, in their order.
fn alone(recipe: &Recipe, dir: &Path) -> Vec<f64> {
    let start = Start::from(&blueprint(recipe));
    let device = Device::default();
    let source = Arc::new(Dealt {
        first: 0,
        count: 1,
        words: false,
    });
    let mut client =
        Client::open(recipe.clone(), &start, source, dir, "test", device.clone()).unwrap();
    let server =
        ServerWork::open(recipe.clone(), &start, Some(&dir.join("server")), device).unwrap();
    let mut losses = Vec::new();
    let mut watch = |event: &Event| {
        if let Event::Step(record) = event {
            losses.push(record.loss.unwrap());
        }
    };
    let stop = AtomicBool::new(false);
    client
        .train(&mut LocalLink::local(server), &stop, &mut watch)
        .unwrap();
    losses
}

fn same(a: &Path, b: &Path, step: u64) {
    for file in ["model.safetensors", "optimizer.safetensors"] {
        assert!(
            saved(a, "server", step, file) == saved(b, "server", step, file),
            "{file} differs"
        );
    }
}

#[test]
fn rounds_of_sites_whose_halves_are_frozen_are_one_client_s_accumulation() {
    let placements: [&[&str]; 2] = [
        &["quantizer.image.kind=exact", "quantizer.text.kind=exact"],
        &["split.labels=client", "quantizer.hidden.kind=exact"],
    ];
    for sets in placements {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [sites, one] = [dirs[0].path(), dirs[1].path()];
        let losses = run(&of_sites(FROZEN, 3, sets), sites);
        let sets = [&["train.batch=1", "train.accumulate=3"], sets].concat();
        let want = alone(&recipe(FROZEN, &sets), one);
        assert_eq!(want.len(), 18);
        for (number, want) in want.iter().enumerate() {
            assert_eq!(losses[number % 3][&(number as u64 / 3)], *want, "{number}");
        }
        same(sites, one, 6);
        let record = std::fs::read_to_string(sites.join("server/rounds.jsonl")).unwrap();
        assert_eq!(record.lines().count(), 6);
        assert!(record.starts_with("{\"step\":0,\"sites\":[\"north\",\"south\",\"west\"]}\n"));
    }
}

#[test]
fn turns_of_sites_whose_halves_are_frozen_are_one_client_s_steps() {
    let sets = ["quantizer.image.kind=exact", "quantizer.text.kind=exact"];
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [sites, one] = [dirs[0].path(), dirs[1].path()];
    let turns = [
        "sites.mode=turns",
        "train.save_every=3",
        "metrics.compare_every=2",
    ];
    let turns = [&turns[..], &sets[..]].concat();
    let losses = run(&of_sites(FROZEN, 3, &turns), sites);
    let want = alone(
        &recipe(FROZEN, &[&["train.batch=1"], &sets[..]].concat()),
        one,
    );
    for (step, want) in want.iter().enumerate() {
        assert_eq!(losses[step % 3][&(step as u64)], *want, "{step}");
    }
    same(sites, one, 6);
    // Each of them compares sizes in every second of its own steps.
    for name in NAMES {
        let metrics = std::fs::read_to_string(sites.join(name).join("metrics.jsonl")).unwrap();
        let compared = |line: &str| line.contains("\"up_16bit\"");
        let compared: Vec<bool> = metrics.lines().map(compared).collect();
        assert_eq!(compared, [true, false], "{name}");
    }
}

/// With everything that a site has: quantizers that are calibrated, a half that learns.
#[test]
fn one_site_is_a_run_without_sites_to_the_bit() {
    let sets = [
        "quantizer.image.kind=fsq",
        "quantizer.image.levels=4",
        "quantizer.text.kind=fsq",
        "quantizer.text.levels=4",
    ];
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [site, one] = [dirs[0].path(), dirs[1].path()];
    let losses = run(&of_sites("", 1, &sets), site);
    let want = alone(&recipe("", &[&["train.batch=1"], &sets[..]].concat()), one);
    assert_eq!(losses[0].values().copied().collect::<Vec<_>>(), want);
    same(site, one, 6);
    for file in ["model.safetensors", "optimizer.safetensors"] {
        assert!(
            saved(site, "north", 6, file) == saved(one, "", 6, file),
            "{file} differs"
        );
    }
}

/// Quantizers that start from more than ranges: sites whose features differ get the same components and books.
const BOOKS: [&str; 2] = [
    "quantizer.image={kind='rvq', dims=8, stages=2, codes=8}",
    "quantizer.text={kind='pca', dims=8, bits=24}",
];

/// What a half has saved of its quantizers' starts, at the step: what is not trained.
fn starts(dir: &Path, name: &str, step: u64) -> BTreeMap<String, Vec<f32>> {
    let file = format!("{name}/checkpoints/step-{step:08}/model.safetensors");
    let file = qtl_model::weights::Checkpoint::open(&dir.join(file)).unwrap();
    let own = file.names().filter(|name| name.contains(".running_"));
    own.map(|name| (name.to_owned(), file.read(name).unwrap()))
        .collect()
}

#[test]
fn sites_start_from_the_same_components_and_books() {
    let dir = tempfile::tempdir().unwrap();
    let sets = [&BOOKS[..], &["sites.average_every=2"]].concat();
    run(&of_sites("", 3, &sets), dir.path());
    let of = |name| starts(dir.path(), name, 6);
    let [north, south, west] = NAMES.map(of);
    assert!(north == south && north == west, "{:?}", north.keys());
    // The server has the same numbers under names of its own.
    let values = |of: BTreeMap<String, Vec<f32>>| {
        let mut values: Vec<Vec<f32>> = of.into_values().collect();
        values.sort_by_key(Vec::len);
        values
    };
    let north = values(north);
    assert!(
        north
            .iter()
            .any(|books| books.len() > 8 && books.iter().any(|x| *x != 0.0))
    );
    assert_eq!(north, values(of("server")));
}

/// Every process dies once, somewhere; all come back within the patience.
#[test]
fn killed_and_restarted_the_run_ends_in_the_same_bits() {
    let plain = "quantizer.image={kind='fsq', levels=4}";
    let hidden = |spec| ["split.labels=client", spec];
    let few = hidden("quantizer.hidden={kind='fsq',levels=4}");
    let vq = hidden("quantizer.hidden={kind='vq', dims=8, codes=16, learned=true}");
    for (mode, sets) in [
        ("rounds", &[plain][..]),
        ("rounds", &[&[plain], &few[..]].concat()),
        ("turns", &[plain]),
        ("rounds", &[plain, "quantizer.text_deltas=true"]),
        ("turns", &[plain, "quantizer.text_deltas=true"]),
        ("turns", &[&[plain], &few[..]].concat()),
        ("rounds", &[&BOOKS[..], &vq].concat()),
        ("turns", &BOOKS),
    ] {
        let mode = format!("sites.mode={mode}");
        let recipe = of_sites("", 2, &[sets, &["sites.average_every=2", &mode]].concat());
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [whole, broken] = [dirs[0].path(), dirs[1].path()];
        let want = run(&recipe, whole);
        let shared = Shared::new(server(&recipe, broken));
        let lives = thread::scope(|scope| {
            let recipe = &recipe;
            let first = shared.clone();
            let north = scope.spawn(move || one(recipe, broken, 0, &first, None));
            // Stops by itself and comes back; then the server falls.
            let before = one(recipe, broken, 1, &shared, Some(3));
            let again = shared.clone();
            let south = scope.spawn(move || one(recipe, broken, 1, &again, None));
            shared.restart(|| server(recipe, broken));
            [north.join().unwrap(), before, south.join().unwrap()]
        });
        for (life, place) in lives.iter().zip([0, 1, 1]) {
            for (step, loss) in life {
                assert_eq!(want[place][step], *loss, "{mode} {place} {step}");
            }
        }
        same(whole, broken, 6);
        for name in &NAMES[..2] {
            let file = "model.safetensors";
            let of = |dir: &Path| saved(dir, name, 6, file);
            assert!(of(whole) == of(broken), "{mode} {}", name);
        }
    }
}

#[test]
fn a_calibration_that_is_given_stands_for_what_sites_measure() {
    let sets = ["quantizer.image.kind=fsq", "quantizer.image.levels=4"];
    let recipe = of_sites("", 2, &sets);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = [dirs[0].path(), dirs[1].path()];
    run(&recipe, first);
    let file = first.join("server/calibration.json");
    let given = std::fs::read_to_string(&file).unwrap();
    let mut work = server(&recipe, second);
    work.calibrated_as(&file).unwrap();
    assert_eq!(
        std::fs::read_to_string(second.join("server/calibration.json")).unwrap(),
        given
    );
    let other = second.join("other.json");
    for (text, what) in [
        (given.replace("\"mean\":[", "\"mean\":[0.5,"), "channels"),
        (
            given
                .replace("\"mean\":[", "\"mean\":[1e9,")
                .replace(",", ", "),
            "other.json",
        ),
        ("{}".to_owned(), "other ranges"),
    ] {
        std::fs::write(&other, text).unwrap();
        let error = work.calibrated_as(&other).unwrap_err().to_string();
        assert!(
            error.contains(what) && error.contains("other.json"),
            "{error}"
        );
    }
}

#[test]
fn a_record_that_does_not_go_with_the_checkpoint_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = of_sites(FROZEN, 1, &[]);
    run(&recipe, dir.path());
    std::fs::remove_file(dir.path().join("server/rounds.jsonl")).unwrap();
    // As an earlier server has written it, which said nothing of its own.
    let state = dir
        .path()
        .join("server/checkpoints/step-00000006/state.json");
    let text = std::fs::read_to_string(&state).unwrap();
    let mut told: serde_json::Value = serde_json::from_str(&text).unwrap();
    told.as_object_mut().unwrap().remove("odd").unwrap();
    let text = told.to_string();
    let line = digest::line(&digest::of(text.as_bytes()), "state.json");
    std::fs::write(&state, text).unwrap();
    std::fs::write(state.with_file_name("state.b3"), line).unwrap();
    let shared = Shared::new(server(&recipe, dir.path()));
    let mut link = shared.client(key(NAMES[0]));
    let stop = AtomicBool::new(false);
    let ended = client(&recipe, dir.path(), 0).train(&mut link, &stop, &mut |_| {});
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("rounds.jsonl"), "{error}");
}

#[test]
fn turns_that_leave_some_sites_one_more_than_others_are_refused() {
    for field in [
        "train.steps=7",
        "train.save_every=3",
        "sites.average_every=5",
    ] {
        let sets = ["sites.count=2", "sites.mode=turns", field];
        let sets: Vec<String> = sets.map(str::to_owned).to_vec();
        let error = recipe("", &[]).with(&sets).unwrap_err().to_string();
        let name = field.split('=').next().unwrap();
        assert!(
            error.contains(name) && error.contains("multiple of sites.count"),
            "{error}"
        );
    }
}
