//! Vision towers against the reference.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use qtl_model::config::{Fields, TinyLlavaConfig};
use qtl_model::vision::{FAMILIES, FeatureSelect, Strategy, VisionSpec, VisionTower};
use qtl_model::weights::{Checkpoint, initialize, load_into, parameters, unheld};

use crate::golden::{Case, each, floats};
use crate::set;

fn select(layer: i64, strategy: Strategy) -> FeatureSelect {
    FeatureSelect { layer, strategy }
}

fn spec(file: &Path) -> VisionSpec {
    VisionSpec::from_config(&Fields::read(file).unwrap()).unwrap()
}

fn load(dir: &Path, spec: &VisionSpec, select: FeatureSelect, device: &Device) -> VisionTower {
    let tower = VisionTower::new(spec.clone(), select, device);
    let file = Checkpoint::open(dir).unwrap();
    let keys = tower.keys();
    load_into(tower, &file, &keys).unwrap()
}

/// The case's tower for the size of its pictures.
fn supported(case: &Case) -> Result<VisionSpec, String> {
    let known = FAMILIES.iter().any(|(name, _)| *name == case.family());
    if !known {
        return Err(format!("family {} is not supported", case.family()));
    }
    let spec = spec(&case.dir);
    let config = case.dir.join("config.v5.json");
    if config.exists() {
        assert_eq!(spec, self::spec(&config));
    }
    let pixels: Tensor<4> = case.tensor("in.pixel_values", &Device::default());
    Ok(spec.resized(pixels.dims()[3]).unwrap())
}

#[test]
fn golden_vision() {
    let device = Device::default();
    each(&["vision_"], |case| {
        let spec = supported(case)?;
        let pixels: Tensor<4> = case.tensor("in.pixel_values", &device);
        let tower = load(&case.dir, &spec, select(-2, Strategy::Patch), &device);
        if spec.partner.is_some() {
            let mut forward = 0.0f32;
            let outs = ["out.feat_clip", "out.feat_dinov2"];
            for (vit, name) in tower.vits().into_iter().zip(outs) {
                forward = forward.max(case.check(name, vit.forward(pixels.clone())));
            }
            return Ok(format!("outputs within {forward:.1e}"));
        }
        let whole = load(&case.dir, &spec, select(-1, Strategy::Patch), &device);
        let vit = whole.vits()[0];
        let mut forward = 0.0f32;
        for (i, state) in vit.hidden_states(pixels.clone()).into_iter().enumerate() {
            forward = forward.max(case.check(&format!("out.hidden_states.{i}"), state));
        }
        forward = forward.max(case.check("out.feat_patch", tower.forward(pixels.clone())));
        let all = load(&case.dir, &spec, select(-2, Strategy::ClsPatch), &device);
        forward = forward.max(case.check("out.feat_cls_patch", all.forward(pixels.clone())));
        if case.names().any(|name| name == "out.v5.feat_patch") {
            // The rule of transformers 5 for the same file.
            let mut spec = spec.clone();
            spec.interpolate_offset = Some(0.0);
            let newer = load(&case.dir, &spec, select(-2, Strategy::Patch), &device);
            let first = newer.vits()[0].embed(pixels.clone());
            forward = forward.max(case.check("out.v5.hidden_states.0", first));
            forward = forward.max(case.check("out.v5.feat_patch", newer.forward(pixels.clone())));
        }

        let tower = tower.train();
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
    let device = Device::default();
    each(&["ckpt_vision_composite"], |case| {
        let spec = supported(case)?;
        let tower = load(&case.dir, &spec, select(-2, Strategy::Patch), &device);
        let pixels: Tensor<4> = case.tensor("in.pixel_values", &device);
        let mut states = tower.vits()[0].hidden_states(pixels.clone());
        let error = case.check("out.hidden_states_m2", states.remove(states.len() - 1));
        let error = error.max(case.check("out.feat_patch", tower.forward(pixels)));
        Ok(format!("within {error:.1e}"))
    });
}

#[test]
fn golden_merged_checkpoint_vision_half() {
    let device = Device::default();
    each(&["ckpt_tinyllava_merged"], |case| {
        let config = TinyLlavaConfig::read(&case.dir).unwrap();
        let tower = load(&case.dir, &config.vision, config.select, &device);
        let dropped = usize::from(config.select.strategy == Strategy::Patch);
        assert_eq!(tower.feature_tokens(), config.vision.tokens() - dropped);
        let grid = tower.grid().unwrap();
        assert_eq!(
            grid.width,
            config.vision.image_size / config.vision.patch_size
        );
        // SigLIP's dropped token was a patch; a class token is none.
        let first = match case.family().contains("siglip") {
            true => dropped,
            false => 0,
        };
        assert_eq!((grid.tokens, grid.first), (tower.feature_tokens(), first));
        Ok("all names found".to_owned())
    });
}

#[test]
fn golden_mixture_as_tinyllava_writes_it() {
    each(&["vision_mof"], |case| {
        let want = spec(&case.dir);
        let read = |file: &Path| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
        };
        let both = read(&case.dir.join("config.json"));
        let whole = crate::set::fixture("model/full_llama_siglip/config.json");
        let mut whole = read(&whole);
        whole["connector_type"] = "mof_mlp".into();
        whole["vision_config"] = both["clip"].clone();
        whole["vision_model_name_or_path"] = "mof:clip".into();
        whole["vision_model_name_or_path2"] = "mof:second".into();
        let dir = tempfile::tempdir().unwrap();
        let open = |config: &serde_json::Value| {
            std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
            TinyLlavaConfig::read(dir.path())
        };
        let error = open(&whole).unwrap_err().to_string();
        assert!(
            error.contains("vision_model_name_or_path2") && error.contains("DINOv2's config.json"),
            "{error}"
        );
        // Where the path points, from the model's folder on; or in CLIP's own configuration.
        std::fs::create_dir(dir.path().join("second")).unwrap();
        let second = dir.path().join("second/config.json");
        std::fs::write(&second, both["dinov2"].to_string()).unwrap();
        assert_eq!(open(&whole).unwrap().vision, want);
        std::fs::remove_file(second).unwrap();
        whole["vision_config"]["dinov2"] = both["dinov2"].clone();
        assert_eq!(open(&whole).unwrap().vision, want);
        // Our own form, paths or not.
        whole["vision_config"] = both;
        assert_eq!(open(&whole).unwrap().vision, want);
        Ok("one tower and its partner".to_owned())
    });
}

fn tiny() -> VisionSpec {
    let text = r#"{"model_type": "siglip_vision_model", "hidden_size": 8, "image_size": 6, "patch_size": 2,
        "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2}"#;
    VisionSpec::from_config(&Fields::parse(Path::new("tiny"), text).unwrap()).unwrap()
}

fn random(select: FeatureSelect) -> VisionTower {
    let tower = VisionTower::new(tiny(), select, &Device::default());
    initialize(tower, "", 5, |name, shape| tiny().fill(name, shape))
}

fn picture() -> Tensor<4> {
    let mut stream = qtl_model::weights::Stream::new(1, "picture");
    let values: Vec<f32> = (0..2 * 3 * 36).map(|_| stream.normal() as f32).collect();
    Tensor::from_data(
        burn::tensor::TensorData::new(values, [2, 3, 6, 6]),
        &Device::default(),
    )
}

#[test]
fn layers_are_counted_from_either_end() {
    let states = random(select(-1, Strategy::Patch)).vits()[0].hidden_states(picture());
    assert_eq!(states.len(), 4);
    for (layer, state) in [(-1, 3), (-2, 2), (-4, 0), (0, 0), (3, 3)] {
        let tower = random(select(layer, Strategy::ClsPatch));
        assert_eq!(tower.vits()[0].depth(), state);
        assert_eq!(
            floats(tower.forward(picture())),
            floats(states[state].clone())
        );
    }
    assert_eq!(select(-5, Strategy::Patch).depth(3), None);
    assert_eq!(select(4, Strategy::Patch).depth(3), None);
}

/// Blocks of a tower by their number, from the names of its parameters.
fn blocks<'a>(names: impl Iterator<Item = &'a str>) -> std::collections::BTreeSet<usize> {
    let number = |name: &str| {
        let (_, rest) = name.split_once(".layers.").or(name.split_once(".layer."))?;
        rest.split('.').next()?.parse().ok()
    };
    names.filter_map(number).collect()
}

#[test]
fn golden_blocks_behind_the_chosen_state_are_not_held_and_not_lost() {
    let device = Device::default();
    each(&["vision_", "ckpt_vision_composite"], |case| {
        let spec = supported(case)?;
        let tower = load(&case.dir, &spec, select(-2, Strategy::Patch), &device);
        let held = parameters(&tower, "");
        let file = Checkpoint::open(&case.dir).unwrap();
        let rest = unheld(&tower, &file, &tower.keys()).unwrap();
        let numbers = blocks(held.iter().map(|p| p.name.as_str()));
        assert_eq!(numbers, (0..spec.layers - 1).collect());
        let numbers = blocks(rest.iter().map(|t| t.name.as_str()));
        assert_eq!(numbers, [spec.layers - 1].into());
        // Together with what comes after the last block they are the whole tower.
        let whole = load(&case.dir, &spec, select(-1, Strategy::Patch), &device);
        for parameter in parameters(&whole, "") {
            let held = held.iter().any(|p| p.name == parameter.name);
            let kept = rest.iter().find(|t| t.name == parameter.name);
            assert!(held != kept.is_some(), "{}", parameter.name);
            assert!(kept.is_none_or(|t| t.shape == parameter.shape));
        }
        let after = rest.len() + held.len() - parameters(&whole, "").len();
        Ok(format!(
            "{} tensors held, {} not, {after} of them behind the last block",
            held.len(),
            rest.len()
        ))
    });
}

#[test]
fn blocks_one_by_one_are_the_tower() {
    let tower = random(FeatureSelect::default());
    let vit = tower.vits()[0];
    let x = (0..vit.depth()).fold(vit.embed(picture()), |x, i| vit.block(i, x));
    assert_eq!(floats(vit.select(x)), floats(tower.forward(picture())));
}

#[test]
fn configuration_errors_name_field_value_and_cure() {
    let read = |text: &str| {
        let fields = Fields::parse(Path::new("dir/config.json"), text).unwrap();
        VisionSpec::from_config(&fields).unwrap_err().to_string()
    };
    let error = read(r#"{"model_type": "eva_clip"}"#);
    assert!(
        error.contains("eva_clip") && error.contains("siglip_vision_model"),
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

#[test]
fn golden_class_defaults() {
    let Some(file) = set::file("model/hf_defaults.json") else {
        return;
    };
    let all: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let mut compared = 0;
    for (family, _) in FAMILIES {
        let Some(mut full) = all.get(*family).cloned() else {
            continue; // Composites and mixtures hold the others.
        };
        full["model_type"] = (*family).into();
        let empty = format!(r#"{{"model_type": "{family}"}}"#);
        let [full, empty] = [full.to_string(), empty]
            .map(|text| VisionSpec::from_config(&Fields::parse(&file, &text).unwrap()).unwrap());
        assert_eq!(full, empty, "{family}");
        compared += 1;
    }
    set::ran(compared, "class defaults of towers");
}
