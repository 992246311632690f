//! Every vision tower.

use burn::tensor::Tensor;
use qtl_model::vision::{FeatureSelect, Strategy, VisionSpec, VisionTower};
use qtl_model::weights::{Checkpoint, SaveType, load_into, save, tensors_of};

use super::{
    exactly_the_trained_get_gradients, gradients_agree, noise, random_tower, rows_are_independent,
    towers,
};

/// The last hidden state, so that every block counts.
const ALL: FeatureSelect = FeatureSelect {
    layer: -1,
    strategy: Strategy::ClsPatch,
};

fn pictures(spec: &VisionSpec, count: usize) -> Tensor<4> {
    let side = spec.image_size;
    noise([count, spec.channels, side, side], "pictures")
}

/// Softmax is blind to a shift of all keys, so a key's bias has no gradient but rounding.
fn is_key_bias(name: &str) -> bool {
    name.ends_with("k_proj.bias") || name.ends_with("key.bias")
}

#[test]
fn gradients_agree_with_finite_differences() {
    for (name, spec) in towers() {
        let tower = random_tower(&spec, ALL, 1);
        gradients_agree(name, &tower, pictures(&spec, 2), VisionTower::forward);
    }
}

#[test]
fn exactly_the_trained_parameters_get_gradients() {
    for (name, spec) in towers() {
        let tower = random_tower(&spec, ALL, 2);
        let input = pictures(&spec, 1);
        let forward = VisionTower::forward;
        exactly_the_trained_get_gradients(name, &tower, input, forward, is_key_bias);
    }
}

#[test]
fn saved_and_loaded_is_the_same_under_every_spelling() {
    for (name, spec) in towers() {
        let saved = tensors_of(&random_tower(&spec, ALL, 3), "");
        // Bare or in a merged file; by transformers 4, or 5 without the first level of CLIP's names.
        let newer = |name: &str| {
            name.strip_prefix("vision_model.")
                .unwrap_or(name)
                .to_owned()
        };
        let merged = |name: &str| format!("vision_tower._vision_tower.{name}");
        let spellings: [&dyn Fn(&str) -> String; 4] = [&str::to_owned, &newer, &merged, &|name| {
            merged(&newer(name))
        }];
        for spelling in spellings {
            let folder = tempfile::tempdir().unwrap();
            let mut written = saved.clone();
            for tensor in &mut written {
                tensor.name = spelling(&tensor.name);
            }
            let file = folder.path().join("model.safetensors");
            save(&file, &written, SaveType::F32).unwrap();
            let tower = random_tower(&spec, ALL, 4);
            let keys = tower.keys();
            let file = Checkpoint::open(folder.path()).unwrap();
            let tower = load_into(tower, &file, &keys).unwrap();
            assert_eq!(tensors_of(&tower, ""), saved, "{name}");
        }
    }
}

#[test]
fn a_pictures_features_do_not_depend_on_its_neighbours() {
    for (name, spec) in towers() {
        let tower = random_tower(&spec, FeatureSelect::default(), 5);
        rows_are_independent(name, pictures(&spec, 3), |x| tower.forward(x));
    }
}

#[test]
fn the_selection_is_what_the_spec_promises() {
    for (name, spec) in towers() {
        let all = random_tower(&spec, ALL, 6);
        let patches = random_tower(&spec, FeatureSelect::default(), 6);
        let [_, tokens, width] = all.forward(pictures(&spec, 1)).dims();
        assert_eq!(
            (tokens, width),
            (spec.tokens(), spec.feature_width()),
            "{name}"
        );
        let chosen = patches.forward(pictures(&spec, 1)).dims()[1];
        assert_eq!(chosen, tokens - 1, "{name}");
        assert_eq!(patches.feature_tokens(), chosen, "{name}");
    }
}
