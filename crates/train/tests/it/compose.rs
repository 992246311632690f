//! A model directory out of a language model and a tower, fresh or pretrained.

use std::fs;
use std::path::{Path, PathBuf};

use qtl_model::Device;
use qtl_model::llm::{Decoder, TokenEmbedding};
use qtl_model::pretrained::Blueprint;
use qtl_model::quant::QuantizerSpec;
use qtl_model::weights::{Checkpoint, SaveType, save, tensors_of};
use qtl_train::compose::{Parts, Tower, compose};

use crate::world::{base, blueprint, recipe};

#[test]
fn a_composed_model_has_the_language_model_s_values_and_loads_in_both_halves() {
    let device = Device::default();
    let spec = blueprint(&recipe("", &[])).config.text;
    let dir = tempfile::tempdir().unwrap();
    let (text, out) = (dir.path().join("text"), dir.path().join("out"));
    std::fs::create_dir(&text).unwrap();
    let config = std::fs::read(base().join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let write = |name: &str, part: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, config[part].to_string()).unwrap();
        path
    };
    write("text/config.json", "text_config");
    let vision = write("vision.json", "vision_config");
    let decoder = Decoder::init(spec.clone(), 5, &device);
    let mut tensors = tensors_of(&decoder, "");
    tensors.extend(tensors_of(&TokenEmbedding::init(&spec, 5, &device), ""));
    let file = text.join("model.safetensors");
    save(&file, &tensors, SaveType::F32).unwrap();
    let parts = Parts {
        language_model: &text,
        tower: Tower::Fresh(&vision),
        connector: "mlp2x_gelu",
        seed: 1,
    };
    compose(parts, &out).unwrap();
    let none = QuantizerSpec::NONE;
    let composed = Blueprint::read(&out, none.clone(), none, 0).unwrap();
    let server = composed.server(&device).unwrap().partition;
    assert_eq!(
        tensors_of(&server.language_model().unwrap(), ""),
        tensors_of(&decoder, "")
    );
    let client = composed.client(&device).unwrap().partition;
    let spread = tensors_of(&*client.bottom.connector, "");
    assert!(spread[0].data.iter().any(|v| *v != 0.0));

    // A language model that is not whole is named, and nothing is left behind.
    tensors.remove(3);
    save(&file, &tensors, SaveType::F32).unwrap();
    let broken = dir.path().join("broken");
    let error = compose(parts, &broken).unwrap_err().to_string();
    assert!(error.contains("missing in the file (1)"), "{error}");
    let left = fs::read_dir(dir.path()).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("broken"));
    assert_eq!(left.count(), 0);
}

/// A copy of a golden case with these files beside.
pub fn with_files(case: &str, into: &Path, files: &[(&str, &str)]) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden");
    fs::create_dir(into).unwrap();
    for entry in fs::read_dir(golden.join("model").join(case)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, into.join(path.file_name().unwrap())).unwrap();
    }
    for (name, text) in files {
        fs::write(into.join(name), text).unwrap();
    }
    into.to_owned()
}

#[test]
fn pretrained_parts_keep_their_values_and_what_belongs_to_them() {
    let dir = tempfile::tempdir().unwrap();
    // A language model in .bin, and a tower inside a whole SigLIP.
    let text = with_files(
        "ckpt_tinyllava_recipe/language_model",
        &dir.path().join("text"),
        &[
            ("tokenizer.json", "{}"),
            ("chat_template.jinja", "{{ x }}"),
            ("generation_config.json", r#"{"eos_token_id": 2}"#),
            ("LICENSE", "of the text"),
            ("optimizer.pt", "not a part"),
        ],
    );
    let licence = [("LICENSE.md", "of the tower")];
    let tower = with_files("ckpt_vision_composite", &dir.path().join("tower"), &licence);
    let out = dir.path().join("out");
    let parts = Parts {
        language_model: &text,
        tower: Tower::Pretrained(&tower),
        connector: "mlp2x_gelu",
        seed: 1,
    };
    compose(parts, &out).unwrap();
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(read("chat_template.jinja"), "{{ x }}");
    assert_eq!(read("generation_config.json"), r#"{"eos_token_id": 2}"#);
    assert_eq!(read("LICENSE"), "of the text");
    assert_eq!(read("LICENSE-vision-tower.md"), "of the tower");
    assert!(!out.join("optimizer.pt").exists());
    let same = |file: &str, from: &Path| {
        let name = Path::new(file).file_name().unwrap();
        fs::read(out.join(file)).unwrap() == fs::read(from.join(name)).unwrap()
    };
    assert!(same("language_model/pytorch_model.bin", &text));
    assert!(same("language_model/config.json", &text));
    assert!(same("vision_tower/model.safetensors", &tower));

    let none = QuantizerSpec::NONE;
    let composed = Blueprint::read(&out, none.clone(), none, 0).unwrap();
    // Without a preprocessor_config.json of its own: the size of the tower's configuration.
    assert_eq!(composed.config.vision.image_size, 28);
    assert!(read("preprocessor_config.json").contains("SiglipImageProcessor"));
    let client = composed.client(&Device::default()).unwrap().partition;
    let file = Checkpoint::open(&tower).unwrap();
    for tensor in tensors_of(&*client.bottom.vision_tower, "") {
        assert_eq!(
            file.read(&tensor.name).unwrap(),
            tensor.data,
            "{}",
            tensor.name
        );
    }

    // The tower's own preprocessing goes before what its configuration would give.
    let own = qtl_data::Processor::clip(28).to_json().to_string();
    fs::write(tower.join("preprocessor_config.json"), &own).unwrap();
    compose(parts, &out).unwrap();
    assert_eq!(read("preprocessor_config.json"), own);
}

#[test]
fn a_fresh_tower_of_another_size_keeps_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let text = with_files(
        "ckpt_tinyllava_recipe/language_model",
        &dir.path().join("text"),
        &[],
    );
    let vision = dir.path().join("vision.json");
    let config = serde_json::json!({
        "model_type": "dinov2", "hidden_size": 16, "image_size": 64, "patch_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2,
    });
    fs::write(&vision, config.to_string()).unwrap();
    let out = dir.path().join("out");
    let parts = Parts {
        language_model: &text,
        tower: Tower::Fresh(&vision),
        connector: "linear",
        seed: 1,
    };
    compose(parts, &out).unwrap();
    let none = QuantizerSpec::NONE;
    let composed = Blueprint::read(&out, none.clone(), none, 0).unwrap();
    assert_eq!(composed.config.vision.image_size, 64);
    assert_eq!(composed.config.vision.tokens(), 17);
}
