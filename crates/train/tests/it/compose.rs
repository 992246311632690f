//! A model directory out of a language model and a fresh tower.

use qtl_model::Device;
use qtl_model::llm::{Decoder, TokenEmbedding};
use qtl_model::pretrained::Blueprint;
use qtl_model::quant::QuantizerSpec;
use qtl_model::weights::{SaveType, save, tensors_of};
use qtl_train::compose::{Parts, compose};

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
        vision_config: &vision,
        connector: "mlp2x_gelu",
        seed: 1,
    };
    compose(parts, &out).unwrap();
    let none = QuantizerSpec::NONE;
    let composed = Blueprint::read(&out, none.clone(), none, 0).unwrap();
    let server = composed.server(&device).unwrap().partition;
    assert_eq!(
        tensors_of(&server.language_model, ""),
        tensors_of(&decoder, "")
    );
    let client = composed.client(&device).unwrap().partition;
    let spread = tensors_of(&client.connector, "");
    assert!(spread[0].data.iter().any(|v| *v != 0.0));

    // A language model that is not whole is named, and nothing is left behind.
    tensors.remove(3);
    save(&file, &tensors, SaveType::F32).unwrap();
    let broken = dir.path().join("broken");
    let error = compose(parts, &broken).unwrap_err().to_string();
    assert!(error.contains("missing in the file (1)"), "{error}");
    assert_eq!(broken.exists(), dir.path().join("broken.partial").exists());
    assert!(!broken.exists());
}
