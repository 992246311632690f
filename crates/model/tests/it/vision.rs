//! Vision towers against the reference.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use qtl_model::config::{Fields, TinyLlavaConfig};
use qtl_model::vision::{FAMILIES, FeatureSelect, Strategy, VisionSpec, VisionTower, siglip};
use qtl_model::weights::{Checkpoint, KeyMap, initialize, load_into};

use crate::golden::{Case, each, floats};

fn select(layer: i64, strategy: Strategy) -> FeatureSelect {
    FeatureSelect { layer, strategy }
}

fn spec(file: &Path) -> VisionSpec {
    VisionSpec::from_config(&Fields::read(file).unwrap()).unwrap()
}

fn load(dir: &Path, spec: &VisionSpec, select: FeatureSelect, device: &Device) -> VisionTower {
    let tower = VisionTower::new(spec.clone(), select, device);
    let file = Checkpoint::open(dir).unwrap();
    load_into(tower, &file, &KeyMap::vision_tower(siglip::UNUSED)).unwrap()
}

fn supported(case: &Case) -> Result<(), String> {
    let known = FAMILIES.iter().any(|(name, _)| *name == case.family());
    let unsupported = || format!("family {} is not supported", case.family());
    known.then_some(()).ok_or_else(unsupported)
}

#[test]
fn golden_vision() {
    let device = Device::flex();
    each(&["vision_"], |case| {
        supported(case)?;
        let spec = spec(&case.dir);
        if case.dir.join("config.v5.json").exists() {
            assert_eq!(spec, self::spec(&case.dir.join("config.v5.json")));
        }
        let pixels: Tensor<4> = case.tensor("in.pixel_values", &device);
        let patch = load(&case.dir, &spec, select(-2, Strategy::Patch), &device);
        let mut forward = 0.0f32;
        for (i, state) in patch.hidden_states(pixels.clone()).into_iter().enumerate() {
            forward = forward.max(case.check(&format!("out.hidden_states.{i}"), state));
        }
        forward = forward.max(case.check("out.feat_patch", patch.forward(pixels.clone())));
        let all = load(&case.dir, &spec, select(-2, Strategy::ClsPatch), &device);
        forward = forward.max(case.check("out.feat_cls_patch", all.forward(pixels.clone())));

        let tower = patch.train();
        let pixels = pixels.autodiff().require_grad();
        let cotangent: Tensor<3> = case.tensor("in.cotangent", &device);
        let grads = (tower.forward(pixels.clone()) * cotangent).sum().backward();
        let backward = case.check_grad("grad.pixel_values", pixels.grad(&grads));
        let backward = backward.max(case.check_parameters("grad.weight:", &tower, &grads));
        Ok(format!(
            "outputs within {forward:.1e}, gradients within {backward:.1e}"
        ))
    });
}

#[test]
fn golden_composite_checkpoint() {
    let device = Device::flex();
    each(&["ckpt_vision_composite"], |case| {
        supported(case)?;
        let spec = spec(&case.dir);
        let tower = load(&case.dir, &spec, select(-2, Strategy::Patch), &device);
        let pixels: Tensor<4> = case.tensor("in.pixel_values", &device);
        let states = tower.hidden_states(pixels.clone());
        let error = case.check("out.hidden_states_m2", states[states.len() - 2].clone());
        let error = error.max(case.check("out.feat_patch", tower.forward(pixels)));
        Ok(format!("within {error:.1e}"))
    });
}

#[test]
fn golden_merged_checkpoint_vision_half() {
    let device = Device::flex();
    each(&["ckpt_tinyllava_merged"], |case| {
        let config = TinyLlavaConfig::read(&case.dir).unwrap();
        let tower = load(&case.dir, &config.vision, config.select, &device);
        assert_eq!(tower.feature_tokens(), config.vision.tokens() - 1);
        let grid = tower.grid().unwrap();
        assert_eq!(
            grid.width,
            config.vision.image_size / config.vision.patch_size
        );
        // The dropped token was a patch.
        assert_eq!((grid.tokens, grid.first), (tower.feature_tokens(), 1));
        Ok("all names found".to_owned())
    });
}

fn tiny() -> VisionSpec {
    let text = r#"{"model_type": "siglip_vision_model", "hidden_size": 8, "image_size": 6, "patch_size": 2,
        "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2}"#;
    VisionSpec::from_config(&Fields::parse(Path::new("tiny"), text).unwrap()).unwrap()
}

fn random(select: FeatureSelect) -> VisionTower {
    let tower = VisionTower::new(tiny(), select, &Device::flex());
    initialize(tower, "", 5, siglip::fill)
}

fn picture() -> Tensor<4> {
    let mut stream = qtl_model::weights::Stream::new(1, "picture");
    let values: Vec<f32> = (0..2 * 3 * 36).map(|_| stream.normal() as f32).collect();
    Tensor::from_data(
        burn::tensor::TensorData::new(values, [2, 3, 6, 6]),
        &Device::flex(),
    )
}

#[test]
fn layers_are_counted_from_either_end() {
    let states = random(FeatureSelect::default()).hidden_states(picture());
    assert_eq!(states.len(), 4);
    for (layer, state) in [(-1, 3), (-2, 2), (-4, 0), (0, 0), (3, 3)] {
        let tower = random(select(layer, Strategy::ClsPatch));
        assert_eq!(tower.depth(), state);
        assert_eq!(
            floats(tower.forward(picture())),
            floats(states[state].clone())
        );
    }
    assert_eq!(select(-5, Strategy::Patch).depth(3), None);
    assert_eq!(select(4, Strategy::Patch).depth(3), None);
}

#[test]
fn blocks_one_by_one_are_the_tower() {
    let tower = random(FeatureSelect::default());
    let x = (0..tower.depth()).fold(tower.embed(picture()), |x, i| tower.block(i, x));
    assert_eq!(floats(tower.select(x)), floats(tower.forward(picture())));
}

#[test]
fn configuration_errors_name_field_value_and_cure() {
    let read = |text: &str| {
        let fields = Fields::parse(Path::new("dir/config.json"), text).unwrap();
        VisionSpec::from_config(&fields).unwrap_err().to_string()
    };
    let error = read(r#"{"model_type": "clip_vision_model"}"#);
    assert!(
        error.contains("clip_vision_model") && error.contains("siglip_vision_model"),
        "{error}"
    );
    let error = read(r#"{"model_type": "siglip_vision_model", "num_attention_heads": 5}"#);
    assert!(
        error.contains("num_attention_heads = 5") && error.contains("768"),
        "{error}"
    );
    let error = read(r#"{"model_type": "siglip", "vision_config": {"hidden_size": -1}}"#);
    assert!(error.contains("vision_config.hidden_size = -1"), "{error}");
    assert!(error.contains("dir/config.json"), "{error}");
}
