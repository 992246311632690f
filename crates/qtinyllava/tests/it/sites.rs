//! Several sites, each a process of its own, that train one model over TLS.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::program::{Program, run};
use crate::world::{RESUMABLE, World, base, flags, model};

const NAMES: [&str; 3] = ["north", "south", "west"];

fn sets() -> Vec<&'static str> {
    let mut sets = RESUMABLE.to_vec();
    sets.extend(["train.batch=2", "sites.count=3", "sites.average_every=10"]);
    sets
}

/// A server and its three sites below `dir`.
struct Sites<'a> {
    world: &'a World,
    dir: PathBuf,
    address: String,
    server: Program,
    sites: Vec<Program>,
}

impl<'a> Sites<'a> {
    fn start(world: &'a World, dir: &Path) -> Self {
        let mut this = Self::none_of_them(world, dir);
        this.sites = (0..NAMES.len()).map(|place| this.site(place)).collect();
        this
    }

    /// The server alone, which knows the sites.
    fn none_of_them(world: &'a World, dir: &Path) -> Self {
        let mut roster = String::new();
        for name in NAMES {
            let certs = dir.join("certs");
            let out = certs.display().to_string();
            // One name in all three certificates: a site is its key.
            let made = run(["certs", "--out", &out, "--client", "site"]).succeeds();
            fs::rename(certs.join("site"), certs.join(name)).unwrap();
            let key = made.stdout + &made.stderr;
            let key = key.rsplit("its key is ").next().unwrap();
            let key = key.split_whitespace().next().unwrap();
            roster += &format!("[[site]]\nname = '{name}'\nkeys = ['{key}']\n");
        }
        fs::write(dir.join("roster.toml"), roster).unwrap();
        let server = serve(dir, "127.0.0.1:0");
        let mut this = Self {
            world,
            dir: dir.to_owned(),
            address: String::new(),
            server,
            sites: Vec::new(),
        };
        this.address = this.server.address();
        this
    }

    fn site(&self, place: usize) -> Program {
        let mut args = model(&sets());
        args.insert(0, "train".to_owned());
        args.extend(flags(&[
            ("--run", &self.dir.join(NAMES[place])),
            ("--tls", &self.dir.join("certs").join(NAMES[place])),
            ("--data", &self.world.path("train/llava.json")),
        ]));
        args.extend(["--connect", &self.address, "--share", "connector"].map(str::to_owned));
        Program::start(args)
    }

    /// Kills one of the four, and starts it again.
    fn kill(&mut self, which: usize) {
        match which {
            3 => {
                let (dir, address) = (self.dir.clone(), self.address.clone());
                let gone = std::mem::replace(&mut self.server, Program::start(["--version"]));
                gone.kill();
                self.server = serve(&dir, &address);
                self.server.address();
            }
            place => {
                let gone = self.sites.remove(place);
                gone.kill();
                let again = self.site(place);
                self.sites.insert(place, again);
            }
        }
    }

    /// What each of the four has after the last step.
    fn end(self) -> Vec<Vec<u8>> {
        for site in self.sites {
            site.finish().succeeds();
        }
        let weights = "checkpoints/step-00000020/model.safetensors";
        let of = |name: &&str| fs::read(self.dir.join(name).join(weights)).unwrap();
        ["server"].iter().chain(&NAMES).map(of).collect()
    }
}

fn serve(dir: &Path, listen: &str) -> Program {
    let mut args = model(&sets());
    args.insert(0, "serve".to_owned());
    args.extend(flags(&[
        ("--run", &dir.join("server")),
        ("--tls", &dir.join("certs/server")),
        ("--sites", &dir.join("roster.toml")),
    ]));
    args.extend(["--listen", listen].map(str::to_owned));
    Program::start(args)
}

/// Five kills. `QTL_KILLS=20 cargo test --workspace --tests --locked killed_at_any_moment -- --nocapture` has twenty, and says
/// which of the four each one was.
#[test]
fn killed_at_any_moment_a_run_of_three_sites_ends_in_the_same_bits() {
    let world = World::shared();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let want = Sites::start(&world, dirs[0].path()).end();
    let random = |below: u64| RandomState::new().build_hasher().finish() % below;
    let mut sites = Sites::start(&world, dirs[1].path());
    let kills = std::env::var("QTL_KILLS").ok().and_then(|n| n.parse().ok());
    for _ in 0..kills.unwrap_or(5) {
        std::thread::sleep(Duration::from_millis(100 + random(1500)));
        let which = random(4) as usize;
        println!("killed {which}");
        sites.kill(which);
    }
    for (name, same) in ["server"]
        .iter()
        .chain(&NAMES)
        .zip(sites.end().iter().zip(&want))
    {
        assert!(same.0 == same.1, "{name}");
    }

    // What it ends in is one half per site, and one model.
    let dir = dirs[1].path();
    let merge = |out: &str, clients: &[&str], more: &[&str]| {
        let out = dir.join(out);
        let mut args = vec!["merge".to_owned()];
        args.extend(flags(&[("--out", &out), ("--server", &dir.join("server"))]));
        args.extend(flags(&[("--model", &base())]));
        for client in clients {
            args.extend(flags(&[("--client", &dir.join(client))]));
        }
        args.extend(more.iter().map(|word| (*word).to_owned()));
        (run(&args), out.join("model.safetensors"))
    };
    let both = ["south", "north"];
    let (program, _) = merge("merged", &both, &[]);
    program.fails_naming(&["--average", "--site NAME", "2 times"]);
    let (program, _) = merge("merged", &both, &["--average"]);
    program.succeeds();
    let named = [
        merge("named", &both, &["--site", "north"]),
        merge("alone", &["north"], &[]),
    ];
    let [named, alone] = named.map(|(program, file)| {
        program.succeeds();
        std::fs::read(file).unwrap()
    });
    assert!(named == alone);
    let (program, _) = merge("no", &["south"], &["--site", "north"]);
    program.fails_naming(&["none of the directories", "north"]);
    let (program, _) = merge("no", &both, &["--site", "nowhere"]);
    program.fails_naming(&["nowhere", "north, south"]);
}

/// One site is there and waits for the others; nobody says anything when its key is taken out of the file.
#[test]
fn a_key_that_is_taken_out_of_the_roster_is_shut_out_while_nothing_happens() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let sites = Sites::none_of_them(&world, dir.path());
    let north = sites.site(0);
    let begun = std::time::Instant::now();
    let record = dir.path().join("north/run.json");
    while !fs::read_to_string(&record).is_ok_and(|text| text.contains("\"place\"")) {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
    let roster = dir.path().join("roster.toml");
    let text = fs::read_to_string(&roster).unwrap();
    let keys = text.lines().find(|line| line.starts_with("keys")).unwrap();
    fs::write(&roster, text.replacen(keys, "keys = []", 1)).unwrap();
    north
        .finish()
        .fails_naming(&["holds nothing for this client's key"]);
}

#[test]
fn what_does_not_go_with_several_sites_is_named() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let serving = |sets: &[&str], more: &[(&str, &Path)]| {
        let mut args = model(sets);
        args.insert(0, "serve".to_owned());
        args.extend(flags(&[
            ("--tls", &world.path("certs/server")),
            ("--run", &at("server")),
        ]));
        args.extend(flags(more));
        args.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
        run(args)
    };
    fs::write(at("roster.toml"), "[[site]]\nname = 'a'\nkeys = []\n").unwrap();
    let roster = at("roster.toml");
    let with: &[(&str, &Path)] = &[("--sites", &roster)];
    serving(RESUMABLE, with).fails_naming(&["[sites]", "roster.toml"]);
    serving(&sets(), &[]).fails_naming(&["--sites FILE"]);
    let odd = [&sets()[..], &["train.accumulate=2"]].concat();
    serving(&odd, with).fails_naming(&["train.accumulate = 2"]);
    fs::write(&roster, "[[site]]\nname = 'a'\nkeys = ['b']\n").unwrap();
    serving(&sets(), with).fails_naming(&["roster.toml", "site a", "is no key"]);
    world
        .local(&at("client"), &sets())
        .finish()
        .fails_naming(&["--local", "[sites]"]);
    assert!(!at("client").exists() && !at("server/rounds.jsonl").exists());
    let mut args = model(&sets());
    args.insert(0, "train".to_owned());
    args.extend(flags(&[
        ("--run", &at("client")),
        ("--tls", &world.path("certs/client")),
        ("--data", &world.path("train/llava.json")),
    ]));
    args.extend(["--connect", "127.0.0.1:9"].map(str::to_owned));
    run(&args).fails_naming(&["sites.average_every = 10", "--share"]);
    args.extend(["--share", "conector"].map(str::to_owned));
    run(&args).fails_naming(&["conector", "connector"]);
}

/// In rounds a micro-batch of each site waits for its second trip at the same time.
#[test]
fn inspect_counts_what_waits_for_every_site() {
    let server = |more: &[&str]| {
        let mut args = model(&[&["split.labels=client"], more].concat());
        args.splice(0..2, ["inspect".to_owned(), base().display().to_string()]);
        args.push("--json".to_owned());
        let told: serde_json::Value = serde_json::from_str(&run(args).succeeds().stdout).unwrap();
        ["waiting", "training"].map(|name| told["cost"]["server"][name].as_u64().unwrap())
    };
    let [waiting, one] = server(&[]);
    let [_, five] = server(&["sites.count=5"]);
    let [_, turns] = server(&["sites.count=5", "sites.mode=turns"]);
    assert!(waiting > 0 && turns == one);
    assert!(five >= one + 4 * waiting, "{one} {five} {waiting}");
}
