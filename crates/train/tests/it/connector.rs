//! The connector at the server.

use std::sync::Arc;

use qtl_model::Device;
use qtl_model::weights::Checkpoint;
use qtl_train::start::Start;

use crate::world::{Drawn, base, blueprint, recipe, records_of};

/// A connector at the server maps each row for itself; with a frozen tower and a quantizer that learns nothing, no gradient of
/// image rows comes back, and what crosses has the tower's width.
#[test]
fn a_connector_at_the_server_has_rows_of_the_tower() {
    let recipe = recipe(
        "vision_tower = 'frozen'",
        &["split.connector=server", "train.steps=2"],
    );
    let mut here = blueprint(&recipe);
    let dir = tempfile::tempdir().unwrap();
    let start = Start::from(&here);
    for record in records_of(Arc::new(Drawn), &start, &recipe, dir.path(), None) {
        assert_eq!(record.bytes_gradient, record.bytes_gradient_text);
        assert!(record.bytes_gradient > 0);
    }
    let saved = |side: &str| {
        let name = "checkpoints/step-00000002/model.safetensors";
        let file = Checkpoint::open(&dir.path().join(side).join(name)).unwrap();
        file.names().any(|name| name.starts_with("connector."))
    };
    assert!(saved("server") && !saved(""));
    let device = Device::default();
    here.config.connector.output = 2 * here.config.connector.input;
    here.config.text.hidden_size = here.config.connector.output;
    let width = here.config.connector.input;
    assert_eq!(here.widths(), [width, 2 * width]);
    let client = here.client_without_values(&device).unwrap();
    let server = here.server_without_values(&device);
    assert_eq!([client.widths(), server.widths()], [here.widths(); 2]);
    // Queries look at a whole picture.
    for kind in ["resampler", "qformer"] {
        let dir = tempfile::tempdir().unwrap();
        let mut config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(base().join("config.json")).unwrap()).unwrap();
        config["connector_type"] = kind.into();
        for file in std::fs::read_dir(base()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let error = recipe.blueprint(dir.path()).unwrap_err().to_string();
        assert!(error.contains("split.connector"), "{kind}: {error}");
    }
}
