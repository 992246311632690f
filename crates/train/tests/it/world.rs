//! What the tests share: the shipped base, generated examples, runs of both halves in one process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qtl_data::example::{IGNORED, PLACEHOLDER, Pixels, TokenSpan};
use qtl_data::loader::Source;
use qtl_data::{DataError, Example};
use qtl_model::Device;
use qtl_model::pretrained::Blueprint;
use qtl_model::weights::Stream;
use qtl_train::client::{Client, Ended, Event};
use qtl_train::metrics::StepRecord;
use qtl_train::start::Start;
use qtl_train::{Recipe, ServerWork};
use qtl_wire::verb::{Answer, Finish, Request};
use qtl_wire::{Exchange, LocalLink, Meter, Purpose, Reply, Resume, Standing, Terms, WireError};

/// Every way of tuning that the conformance tests go through: the lines of `[tune]`.
pub const KINDS: &[(&str, &str)] = &[
    ("full", "vision_tower = 'full'"),
    ("frozen", "llm = 'frozen'\nembed_tokens = 'frozen'"),
    (
        "from_layer",
        "vision_tower = { kind = 'from_layer', layer = 1 }\nllm = { kind = 'from_layer', layer = 1, base = 'bf16' }",
    ),
    (
        "lora",
        "vision_tower = { kind = 'lora', rank = 2, alpha = 4, dropout = 0.1, base = 'bf16' }\n\
         connector = { kind = 'lora', rank = 3, alpha = 3, lr = 1e-2 }\n\
         llm = { kind = 'lora', rank = 4, alpha = 8, dropout = 0.1, rslora = true }\nembed_tokens = 'frozen'",
    ),
    (
        "lora on some maps",
        "llm = { kind = 'lora', rank = 4, alpha = 8, targets = ['q_proj', 'v_proj', 'lm_head'], base = 'bf16' }",
    ),
    (
        "qlora",
        "llm = { kind = 'lora', rank = 4, alpha = 8, dropout = 0.05, base = 'nf4' }\nembed_tokens = 'frozen'",
    ),
];

/// The tuning of that name.
pub fn kind(name: &str) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == name).unwrap().1
}

/// The base that the demo starts from.
pub fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../qtinyllava/assets/demo-base")
}

/// Six steps of two samples with these lines of `[tune]`.
pub fn recipe(tune: &str, sets: &[&str]) -> Recipe {
    let text = format!(
        "name = 'test'\nseed = 3\n[data]\ntemplate = 'qa'\nmax_length = 256\n\
         [train]\nsteps = 6\nbatch = 2\nlr = 1e-3\nsave_every = 2\nkeep = 9\n[tune]\n{tune}\n"
    );
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Recipe::parse(&text, &sets, Path::new("test.toml")).unwrap()
}

/// A small model with random weights, of so many blocks, whose head may be its token embedding.
pub fn random_base(dir: &Path, blocks: usize, tied: bool) -> PathBuf {
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/demo-base");
    let start = dir.join("start");
    std::fs::create_dir_all(&start).unwrap();
    std::fs::copy(
        small.join("preprocessor_config.json"),
        start.join("preprocessor_config.json"),
    )
    .unwrap();
    let config = std::fs::read_to_string(small.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["text_config"]["tie_word_embeddings"] = tied.into();
    config["text_config"]["num_hidden_layers"] = blocks.into();
    std::fs::write(start.join("config.json"), config.to_string()).unwrap();
    let base = dir.join("base");
    qtl_train::random::random_model(&start, &base, 1, qtl_model::weights::SaveType::F32).unwrap();
    base
}

pub fn blueprint(recipe: &Recipe) -> Blueprint {
    blueprint_of(&base(), recipe)
}

pub fn blueprint_of(base: &Path, recipe: &Recipe) -> Blueprint {
    recipe.blueprint(base).unwrap()
}

/// Examples drawn by number: a picture, three tokens of a question and three of an answer.
pub struct Drawn;

impl Drawn {
    pub fn example(index: usize) -> Example {
        let side = 64;
        let mut stream = Stream::new(index as u64, "example");
        let data = (0..3 * side * side)
            .map(|_| (2.0 * stream.uniform() - 1.0) as f32)
            .collect();
        let mut ids: Vec<i64> = (0..6).map(|_| 4 + (stream.bits() % 110) as i64).collect();
        let labels = [vec![IGNORED; 4], ids[3..].to_vec()].concat();
        ids.insert(0, PLACEHOLDER);
        Example {
            id: index.to_string(),
            pixels: Some(Pixels { side, data }),
            spans: vec![TokenSpan {
                branch: 0,
                ids,
                labels,
            }],
        }
    }
}

impl Source for Drawn {
    fn lengths(&self) -> Vec<i64> {
        vec![7; 16]
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Example, DataError> {
        Ok(Self::example(index))
    }
}

/// Trains both halves in this process, in `dir`, until the end or until the step `stop` was applied; the losses.
pub fn train(recipe: &Recipe, dir: &Path, stop: Option<u64>) -> Vec<f64> {
    train_on(&base(), recipe, dir, stop)
}

/// The same on another base.
pub fn train_on(base: &Path, recipe: &Recipe, dir: &Path, stop: Option<u64>) -> Vec<f64> {
    train_from(&Start::from(&blueprint_of(base, recipe)), recipe, dir, stop)
}

/// The same from a model with an adapter on it.
pub fn train_from(start: &Start, recipe: &Recipe, dir: &Path, stop: Option<u64>) -> Vec<f64> {
    let records = records_of(Arc::new(Drawn), start, recipe, dir, stop);
    records.iter().map(|record| record.loss.unwrap()).collect()
}

/// The same on other examples; all that was measured.
pub fn records_of(
    source: Arc<dyn Source>,
    start: &Start,
    recipe: &Recipe,
    dir: &Path,
    stop: Option<u64>,
) -> Vec<StepRecord> {
    let mut link = LocalLink::local(server_of(start, recipe, dir));
    records_over(&mut link, source, start, recipe, dir, stop)
}

/// The server's side of a run in `dir`.
pub fn server_of(start: &Start, recipe: &Recipe, dir: &Path) -> ServerWork {
    let dir = dir.join("server");
    ServerWork::open(recipe.clone(), start, Some(&dir), Device::default()).unwrap()
}

/// The same with the server at the other end of a link.
pub fn records_over(
    link: &mut dyn Exchange,
    source: Arc<dyn Source>,
    start: &Start,
    recipe: &Recipe,
    dir: &Path,
    stop: Option<u64>,
) -> Vec<StepRecord> {
    let device = Device::default();
    let mut client = Client::open(recipe.clone(), start, source, dir, "test", device).unwrap();
    let stopping = AtomicBool::new(false);
    let mut records = Vec::new();
    let mut watch = |event: &Event| {
        if let Event::Step(record) = event {
            records.push((**record).clone());
            if stop == Some(record.step) {
                stopping.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
    };
    let ended = client.train(link, &stopping, &mut watch).unwrap();
    assert_eq!(ended == Ended::Finished, stop.is_none());
    records
}

/// A file of a checkpoint of the client (`""`) or the server (`"server"`).
pub fn saved(dir: &Path, side: &str, step: u64, file: &str) -> Vec<u8> {
    let path = dir
        .join(side)
        .join(format!("checkpoints/step-{step:08}"))
        .join(file);
    std::fs::read(path).unwrap()
}

/// A link on which each request goes through other hands.
pub struct Tapped<L, F> {
    pub link: L,
    pub ask: F,
}

impl<L, F> Exchange for Tapped<L, F>
where
    L: Exchange,
    F: FnMut(&mut L, Request) -> Result<Reply<Answer>, WireError> + Send,
{
    fn greet(
        &mut self,
        terms: &Terms,
        standing: &Standing,
        purpose: Purpose,
    ) -> Result<Resume, WireError> {
        self.link.greet(terms, standing, purpose)
    }

    fn ask(&mut self, request: Request) -> Result<Reply<Answer>, WireError> {
        (self.ask)(&mut self.link, request)
    }

    fn conclude(&mut self, request: Finish) -> Result<Reply<()>, WireError> {
        self.link.conclude(request)
    }

    fn end(&mut self) -> Result<(), WireError> {
        self.link.end()
    }

    fn holds(&mut self, at: u64) {
        self.link.holds(at);
    }

    fn meter(&self) -> Meter {
        self.link.meter()
    }
}
