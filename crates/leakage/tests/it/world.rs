//! The demo's base and generated scenes, as attackers meet them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qtl_data::scenes::{Plan, write_train};
use qtl_data::{Aspect, Dataset, Reader, ReaderOptions, Strictness, Tokenizer, template};
use qtl_leakage::attack::{Case, World};
use qtl_leakage::finding::Setting;
use qtl_leakage::halves::Halves;
use qtl_leakage::questions::{Asked, Catalogue};
use qtl_leakage::seen::{Seen, capture};
use qtl_model::Device;
use qtl_train::Recipe;

pub fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../qtinyllava/assets/demo-base")
}

pub fn recipe(sets: &[&str]) -> Recipe {
    let text = "name = 'test'\nseed = 3\n[data]\ntemplate = 'qa'\nturns = 'independent'\nmax_length = 256\n\
                [train]\nsteps = 6\nbatch = 8\nlr = 1e-3\n";
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Recipe::parse(text, &sets, Path::new("test.toml")).unwrap()
}

/// A model with random weights on small pictures: a row has more numbers than its patch.
pub fn fine_base(dir: &Path) -> PathBuf {
    let start = dir.join("start");
    std::fs::create_dir_all(&start).unwrap();
    for file in std::fs::read_dir(base()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|end| end == "json") {
            std::fs::copy(&path, start.join(path.file_name().unwrap())).unwrap();
        }
    }
    let change = |name: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let text = std::fs::read_to_string(base().join(name)).unwrap();
        let mut value = serde_json::from_str(&text).unwrap();
        change(&mut value);
        std::fs::write(start.join(name), value.to_string()).unwrap();
    };
    change("config.json", &|config| {
        config["vision_config"]["image_size"] = 16.into();
        config["vision_config"]["patch_size"] = 4.into();
        config["vision_config"]["num_hidden_layers"] = 1.into();
    });
    change("preprocessor_config.json", &|config| {
        config["size"] = serde_json::json!({ "height": 16, "width": 16 });
    });
    let out = dir.join("base");
    qtl_train::random::random_model(&start, &out, 1, qtl_model::weights::SaveType::F32).unwrap();
    out
}

/// So many scenes of a seed.
pub fn scenes(dir: &Path, recipe: &Recipe, seed: u64, count: u64) -> Arc<Reader> {
    scenes_for(&base(), dir, recipe, seed, count)
}

/// The same for another model.
pub fn scenes_for(base: &Path, dir: &Path, recipe: &Recipe, seed: u64, count: u64) -> Arc<Reader> {
    let dir = dir.join(seed.to_string());
    write_train(&dir, &Plan::new(seed, count), &|_, _| {}).unwrap();
    let blueprint = recipe.blueprint(base).unwrap();
    let options = ReaderOptions {
        turns: recipe.data.turns(),
        max_length: recipe.data.max_length,
        picture_rows: 16,
        aspect: Aspect::Square,
        strictness: Strictness::Stop,
        seed: recipe.seed,
        ..ReaderOptions::default()
    };
    let data = Dataset::open(
        &dir.join("llava.json"),
        &dir.join("images"),
        Strictness::Stop,
    );
    let reader = Reader::new(
        data.unwrap(),
        template::open("qa", base).unwrap(),
        Tokenizer::open(base).unwrap(),
        blueprint.processor,
        options,
    );
    Arc::new(reader.unwrap())
}

/// Everything that an attack is tried on.
pub struct Scene {
    pub recipe: Recipe,
    pub victims: Arc<Reader>,
    pub auxiliary: Arc<Reader>,
    pub halves: Halves,
    pub seen: Seen,
    pub own: Seen,
    /// Samples that the model was trained on.
    pub members: Option<Arc<Reader>>,
    base: PathBuf,
    catalogue: Catalogue,
    asked: Vec<Asked>,
    _dir: tempfile::TempDir,
}

impl Scene {
    /// `[victims, auxiliary]` scenes that cross the base under a recipe.
    pub fn new(sets: &[&str], counts: [u64; 2]) -> Self {
        Self::of(&base(), sets, counts)
    }

    /// The same for another model.
    pub fn of(base: &Path, sets: &[&str], counts: [u64; 2]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let recipe = recipe(sets);
        let victims = scenes_for(base, dir.path(), &recipe, 11, counts[0]);
        let auxiliary = scenes_for(base, dir.path(), &recipe, 12, counts[1]);
        let device = Device::default();
        let halves = Halves::open(base, &recipe, &auxiliary, &device).unwrap();
        let all = |reader: &Reader| (0..reader.entries().len()).collect::<Vec<_>>();
        let seen = capture(&halves, &recipe, &victims, &all(&victims)).unwrap();
        let own = capture(&halves, &recipe, &auxiliary, &all(&auxiliary)).unwrap();
        let catalogue = Catalogue::of(&own, &auxiliary);
        let asked = catalogue.asked(&seen, &victims);
        Self {
            recipe,
            victims,
            auxiliary,
            halves,
            seen,
            own,
            members: None,
            base: base.to_owned(),
            catalogue,
            asked,
            _dir: dir,
        }
    }

    /// What `then` makes of it.
    pub fn with<T>(&self, then: impl FnOnce(&Case<'_>) -> T) -> T {
        let world = World {
            recipe: &self.recipe,
            victims: &self.victims,
            auxiliary: &self.auxiliary,
            members: self.members.as_ref(),
            base: Some(&self.base),
            victim: &self.halves,
            catalogue: &self.catalogue,
            asked: &self.asked,
            seed: 1,
            device: Device::default(),
        };
        then(&Case {
            world: &world,
            setting: Setting::Insider,
            seen: &self.seen,
            own: &self.own,
            known: &self.halves,
            victim: &self.halves,
        })
    }
}
