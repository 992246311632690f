//! Several sites that train one model, in one process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use qtl_data::loader::Source;
use qtl_data::{DataError, Example};
use qtl_model::Device;
use qtl_model::weights::SaveType;
use qtl_train::average;
use qtl_train::client::{Client, Ended, Event};
use qtl_train::merge::merge_sites;
use qtl_train::roster::RosterFile;
use qtl_train::start::Start;
use qtl_train::tune::Part;
use qtl_train::{Recipe, ServerWork};
use qtl_wire::{Key, LocalLink, Shared};

use crate::deltas::Words;
use crate::world::{Drawn, base, blueprint, recipe, saved};

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
    let turns = [&["sites.mode=turns", "train.save_every=3"], &sets[..]].concat();
    let losses = run(&of_sites(FROZEN, 3, &turns), sites);
    let want = alone(
        &recipe(FROZEN, &[&["train.batch=1"], &sets[..]].concat()),
        one,
    );
    for (step, want) in want.iter().enumerate() {
        assert_eq!(losses[step % 3][&(step as u64)], *want, "{step}");
    }
    same(sites, one, 6);
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

#[test]
fn what_sites_average_is_the_same_for_all_afterwards_and_the_rest_is_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let sets = [
        "sites.average_every=3",
        "quantizer.image.kind=fsq",
        "quantizer.image.levels=4",
    ];
    run(&of_sites("", 2, &sets), dir.path());
    let weights = |place: usize| {
        let path = dir
            .path()
            .join(NAMES[place])
            .join("checkpoints/step-00000006/model.safetensors");
        let file = qtl_model::weights::Checkpoint::open(&path).unwrap();
        let names: Vec<String> = file.names().map(str::to_owned).collect();
        names
            .into_iter()
            .map(|name| (name.clone(), file.read(&name).unwrap()))
            .collect::<BTreeMap<_, _>>()
    };
    let [north, south] = [weights(0), weights(1)];
    let out = dir.path().join("merged");
    let halves = [0, 1].map(|place| dir.path().join(NAMES[place]));
    let halves: Vec<&Path> = halves.iter().map(PathBuf::as_path).collect();
    let server = dir.path().join("server");
    merge_sites(&halves, &server, &base(), &out, SaveType::F32).unwrap();
    let merged = qtl_model::weights::Checkpoint::open(&out).unwrap();
    let table = north
        .keys()
        .find(|name| Part::of(name) == Part::EmbedTokens)
        .unwrap();
    let got = merged.read(table).unwrap();
    let want = north[table]
        .iter()
        .zip(&south[table])
        .map(|(a, b)| f32::midpoint(*a, *b));
    assert!(
        got.iter()
            .zip(want)
            .all(|(got, want)| (got - want).abs() < 1e-6)
    );
    let (mut shared, mut own) = (0, 0);
    for (name, value) in &north {
        let same = south[name] == *value;
        match Part::of(name) {
            Part::Connector => {
                assert!(same, "{name}");
                shared += 1;
            }
            Part::EmbedTokens => own += usize::from(!same),
            _ => {}
        }
    }
    assert!(shared > 0 && own > 0);
}

/// All sites until each ends or waits, in processes of their own; the server is another one each time, too.
fn until_they_wait(recipe: &Recipe, dir: &Path, given: Option<&Path>) -> Vec<Ended> {
    let shared = Shared::new(server(recipe, dir));
    let one = |place: usize| {
        let mut client = client(recipe, dir, place);
        if let Some(given) = given {
            client.is_given(given.to_owned());
        }
        let mut link = shared.client(key(NAMES[place]));
        let never = AtomicBool::new(false);
        client.train(&mut link, &never, &mut |_| {}).unwrap()
    };
    thread::scope(|scope| {
        let sites: Vec<_> = (0..2)
            .map(|place| scope.spawn(move || one(place)))
            .collect();
        sites.into_iter().map(|site| site.join().unwrap()).collect()
    })
}

#[test]
fn another_program_averages_as_the_server_would() {
    for mode in ["sites.mode=rounds", "sites.mode=turns"] {
        let sets = [mode, "sites.average_every=2", "train.save_every=6"];
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [inside, outside] = [dirs[0].path(), dirs[1].path()];
        run(&of_sites("", 2, &sets), inside);
        let recipe = of_sites("", 2, &[&sets[..], &["sites.average=outside"]].concat());
        let given = outside.join("mean.safetensors");
        let mut averaged = None;
        for due in [2, 4] {
            // The second time without a new average, as if someone had been too early.
            for _ in 0..2 {
                let waits = until_they_wait(&recipe, outside, averaged);
                let of: Vec<_> = waits
                    .iter()
                    .map(|ended| {
                        let Ended::Waits { step, file } = ended else {
                            panic!("{ended:?}");
                        };
                        assert_eq!(*step, due);
                        let bytes = std::fs::read(file).unwrap();
                        assert_eq!(average::step_of(&bytes), Some(due));
                        (average::from_bytes(&bytes).unwrap(), 1)
                    })
                    .collect();
                let mean = average::mean(&of).unwrap();
                std::fs::write(
                    outside.join("next"),
                    average::to_bytes(&mean, None).unwrap(),
                )
                .unwrap();
            }
            std::fs::rename(outside.join("next"), &given).unwrap();
            averaged = Some(given.as_path());
        }
        let ended = until_they_wait(&recipe, outside, averaged);
        assert_eq!(ended, [Ended::Finished, Ended::Finished]);
        same(inside, outside, 6);
    }
}

#[test]
fn what_is_no_average_of_a_site_s_half_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let sets = ["sites.average_every=2", "sites.average=outside"];
    let recipe = of_sites("", 2, &sets);
    let waits = until_they_wait(&recipe, dir.path(), None);
    let Ended::Waits { file, .. } = &waits[0] else {
        panic!("{waits:?}");
    };
    let mut weights = average::from_bytes(&std::fs::read(file).unwrap()).unwrap();
    weights.pop_first();
    let given = dir.path().join("mean.safetensors");
    std::fs::write(&given, average::to_bytes(&weights, None).unwrap()).unwrap();
    let shared = Shared::new(server(&recipe, dir.path()));
    let mut client = client(&recipe, dir.path(), 0);
    client.is_given(given);
    let mut link = shared.client(key(NAMES[0]));
    let never = AtomicBool::new(false);
    let error = client.train(&mut link, &never, &mut |_| {}).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("mean.safetensors") && error.contains("is missing there"),
        "{error}"
    );
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
    let shared = Shared::new(server(&recipe, dir.path()));
    let mut link = shared.client(key(NAMES[0]));
    let stop = AtomicBool::new(false);
    let ended = client(&recipe, dir.path(), 0).train(&mut link, &stop, &mut |_| {});
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("rounds.jsonl"), "{error}");
}

/// What a site had trained on since the last average counts in the next one, wherever it was in between.
#[test]
fn a_site_that_leaves_between_two_averages_weighs_as_if_it_had_stayed() {
    let recipe = of_sites("", 2, &["sites.average_every=3"]);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [whole, broken] = [dirs[0].path(), dirs[1].path()];
    run(&recipe, whole);
    let shared = Shared::new(server(&recipe, broken));
    thread::scope(|scope| {
        let (recipe, first) = (&recipe, shared.clone());
        let north = scope.spawn(move || one(recipe, broken, 0, &first, None));
        one(recipe, broken, 1, &shared, Some(3));
        one(recipe, broken, 1, &shared, None);
        north.join().unwrap();
    });
    same(whole, broken, 6);
    for name in &NAMES[..2] {
        let of = |dir: &Path| saved(dir, name, 6, "model.safetensors");
        assert!(of(whole) == of(broken), "{name}");
    }
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
