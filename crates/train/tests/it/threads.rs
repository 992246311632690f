//! A step's bits do not depend on how many threads compute it.

use std::path::{Path, PathBuf};

use qtl_data::Processor;
use qtl_model::config::{Fields, TinyLlavaConfig};
use qtl_model::pretrained::Blueprint;
use qtl_train::Recipe;
use qtl_train::start::Start;

use crate::placement::weights;
use crate::world::{blueprint, kind, recipe, train_from};

/// Trains with 1, 2 and 5 threads and compares all bits.
fn same_with_any_number(recipe: &Recipe, blueprint: &Blueprint, last: u64) {
    let start = Start::from(blueprint);
    let run = |threads| {
        let dir = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        let losses = pool.install(|| train_from(&start, recipe, dir.path(), None));
        (losses, weights(dir.path(), last))
    };
    let want = run(1);
    assert!(want.0.iter().all(|loss| loss.is_finite()));
    for threads in [2, 5] {
        let got = run(threads);
        assert_eq!(got.0, want.0, "losses with {threads} threads");
        let differs = want.1.iter().find(|(name, value)| got.1[*name] != **value);
        let name = differs.map(|(name, _)| name);
        assert!(name.is_none(), "{name:?} differs with {threads} threads");
    }
}

#[test]
fn the_demo_s_steps_are_the_same_with_any_number_of_threads() {
    for name in ["full", "lora"] {
        let recipe = recipe(kind(name), &["train.batch=8", "train.steps=4"]);
        same_with_any_number(&recipe, &blueprint(&recipe), 4);
    }
}

/// So wide that every operation is divided among threads, the framework's elementwise ones of 4.2 million numbers included.
#[test]
fn a_wide_step_is_the_same_with_any_number_of_threads() {
    let config = r#"{"model_type": "tinyllava", "connector_type": "mlp2x_gelu",
        "vision_feature_layer": -1, "vision_feature_select_strategy": "cls_patch",
        "text_config": {"model_type": "llama", "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 1,
            "num_attention_heads": 12, "num_key_value_heads": 12, "vocab_size": 5632, "max_position_embeddings": 256},
        "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 384, "intermediate_size": 1536,
            "num_hidden_layers": 1, "num_attention_heads": 6, "image_size": 64, "patch_size": 8}}"#;
    let fields = Fields::parse(Path::new("wide.json"), config).unwrap();
    let sets = ["train.batch=4", "train.steps=1", "train.accumulate=2"];
    let recipe = recipe("vision_tower = 'frozen'", &sets);
    let blueprint = Blueprint {
        dir: PathBuf::new(),
        config: TinyLlavaConfig::from_fields(&fields).unwrap(),
        processor: Processor::siglip(64),
        image: recipe.quantizer.image.clone(),
        text: recipe.quantizer.text.clone(),
        seed: 1,
        fresh: true,
        hidden: recipe.quantizer.hidden.clone(),
        placement: recipe.split,
    };
    same_with_any_number(&recipe, &blueprint, 1);
}
