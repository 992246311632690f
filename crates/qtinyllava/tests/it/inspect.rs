//! What `inspect` says, about models and about what is none.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::program::{Ended, run};
use crate::world::{base, recipe};

fn inspect(dir: &Path, more: &[&str]) -> Ended {
    let dir = dir.display().to_string();
    run(["inspect", &dir].iter().chain(more))
}

fn json(dir: &Path, more: &[&str]) -> Value {
    let ended = inspect(dir, &[&["--json"][..], more].concat()).succeeds();
    serde_json::from_str(&ended.stdout).unwrap()
}

/// What it says of a directory with which something is wrong, and that it fails.
fn wrong(dir: &Path) -> String {
    let ended = inspect(dir, &[]);
    assert!(!ended.success, "{}", ended.stdout);
    assert!(ended.stderr.contains("named above"), "{}", ended.stderr);
    ended.stdout
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn parts_add_up_to_the_file_and_the_recipe_decides_what_is_trained() {
    let recipe = recipe().display().to_string();
    let found = json(&base(), &["--recipe", &recipe, "--text-tokens", "20"]);
    assert_eq!(found["problems"].as_array().unwrap().len(), 0, "{found}");
    let sum = |side: &str, field: &str| -> u64 {
        let parts = found["parts"].as_array().unwrap().iter();
        let mine = parts.filter(|part| side.is_empty() || part["side"] == side);
        mine.map(|part| part[field].as_u64().unwrap()).sum()
    };
    let quantizers: u64 = found["parts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|part| part["name"] == "quantizers")
        .map(|part| part["parameters"].as_u64().unwrap())
        .sum();
    let file = &found["contents"]["files"][0];
    let stored: u64 = file["parameters"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(sum("", "parameters"), stored + quantizers);
    assert_eq!(found["tied_head"], false);
    // The demo's recipe freezes the tower and trains all else.
    let tower = &found["parts"][0];
    assert_eq!(
        (&tower["name"], &tower["trained"]),
        (&"vision tower".into(), &0.into())
    );
    assert_eq!(sum("server", "trained"), sum("server", "parameters"));

    let cost = &found["cost"];
    assert_eq!(
        (&cost["batch"], &cost["picture_tokens"]),
        (&8.into(), &16.into())
    );
    let weights = cost["server"]["weights"].as_u64().unwrap();
    assert_eq!(weights, 4 * sum("server", "parameters"));
    assert!(cost["server"]["training"].as_u64().unwrap() > 5 * weights);
    // 36 rows of 128 channels at 16 levels: 4 bits at most, and not nothing.
    let up = cost["traffic"]["up_image"].as_u64().unwrap()
        + cost["traffic"]["up_text"].as_u64().unwrap();
    assert!((36 * 128 / 8..36 * 128 / 2 + 200).contains(&up), "{up}");
}

#[test]
fn a_random_model_is_as_its_configuration_says() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/demo-base");
    let (from, to) = (config.display().to_string(), out.display().to_string());
    let args = [
        "data",
        "random-model",
        "--config",
        &from,
        "--out",
        &to,
        "--bf16",
    ];
    run(args).succeeds();
    let found = json(&out, &[]);
    assert_eq!(found["problems"].as_array().unwrap().len(), 0, "{found}");
    assert_eq!(
        found["contents"]["files"][0]["parameters"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["BF16"]
    );
    let text = inspect(&out, &[]).succeeds().stdout;
    for word in [
        "siglip_vision_model",
        "mlp2x_gelu",
        "llama",
        "token embedding",
        "its own matrix",
        "training",
        "bytes per sample",
    ] {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

#[test]
fn what_is_wrong_with_a_directory_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let show = |path: &Path| path.display().to_string();
    inspect(dir.path(), &[]).fails_naming(&["config.json", "give the model's folder"]);

    let model = dir.path().join("model");
    copy(&base(), &model);
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(config.contains(from));
        fs::write(model.join("config.json"), config.replace(from, to)).unwrap();
    };
    with("\"tinyllava\"", "\"blip\"");
    inspect(&model, &[]).fails_naming(&[
        "config.json",
        "model_type",
        "\"blip\"",
        "\"tinyllava\"",
        "\"llama\"",
        "\"siglip\"",
    ]);
    with("\"model_type\": \"tinyllava\",", "");
    inspect(&model, &[]).fails_naming(&["config.json", "model_type is missing", "tinyllava"]);
    with("\"siglip_vision_model\"", "\"resnet\"");
    inspect(&model, &[]).fails_naming(&[
        "vision_config.model_type",
        "resnet",
        "siglip_vision_model",
    ]);

    // Another width: the file no longer fits, and all parts that do not are named.
    with("\"intermediate_size\": 512", "\"intermediate_size\": 256");
    let text = wrong(&model);
    assert!(
        text.contains("problem: ")
            && text.contains("mlp.fc1.weight: [512, 128] in the file, [256, 128] in the model"),
        "{text}"
    );

    fs::write(model.join("config.json"), &config).unwrap();
    let weights = fs::read(model.join("model.safetensors")).unwrap();
    fs::write(
        model.join("model.safetensors"),
        &weights[..weights.len() / 2],
    )
    .unwrap();
    let text = wrong(&model);
    assert!(
        text.contains("model.safetensors is not a valid safetensors file"),
        "{text}"
    );
    fs::remove_file(model.join("model.safetensors")).unwrap();
    let text = wrong(&model);
    assert!(
        text.contains("holds no weights") && text.contains(&show(&model)),
        "{text}"
    );
}

/// What each side has and pays where the cut is elsewhere, against the cut in front of the language model.
#[test]
fn a_part_counts_at_the_side_that_has_it() {
    let recipe = recipe().display().to_string();
    let found = |set: &str| {
        json(
            &base(),
            &[
                "--recipe",
                &recipe,
                "--text-tokens",
                "20",
                "--set",
                "train.recompute=always",
                "--set",
                "tune.quantizer=frozen",
                "--set",
                set,
            ],
        )
    };
    let part = |of: &Value, side: &str, name: &str| {
        let parts = of["parts"].as_array().unwrap().iter();
        let mut mine = parts.filter(|part| part["side"] == side && part["name"] == name);
        let parameters = mine.next().map(|part| part["parameters"].as_u64().unwrap());
        assert!(mine.next().is_none(), "{side} {name} twice");
        parameters
    };
    let cost = |of: &Value, at: &str| {
        let at = format!("/cost/{at}");
        of.pointer(&at).and_then(Value::as_u64).unwrap()
    };
    let usual = found("split.bottom_blocks=0");
    let deeper = found("split.bottom_blocks=1");
    let connected = found("split.connector=server");
    for (of, moved) in [
        (&deeper, part(&deeper, "client", "first blocks").unwrap()),
        (&connected, part(&usual, "client", "connector").unwrap()),
    ] {
        assert_eq!(of["problems"].as_array().unwrap().len(), 0, "{of}");
        assert!(moved > 0);
        let both =
            |of: &Value, at: &str| ["client", "server"].map(|s| cost(of, &format!("{s}/{at}")));
        for at in ["weights", "trained"] {
            let [client, server] = both(&usual, at);
            let to_client = std::ptr::eq(of, &deeper);
            let want = match to_client {
                true => [client + 4 * moved, server - 4 * moved],
                false => [client - 4 * moved, server + 4 * moved],
            };
            assert_eq!(both(of, at), want, "{at}");
        }
    }
    // A block's activations are with the block; rows behind it are as many and as wide.
    assert_eq!(part(&usual, "client", "first blocks"), None);
    let [before, after] = [&usual, &deeper].map(|of| cost(of, "client/activations"));
    assert!(after > before, "{before} {after}");
    let [before, after] = [&usual, &deeper].map(|of| cost(of, "server/activations"));
    assert!(after < before, "{before} {after}");
    let ways = ["up_image", "up_text", "up_16bit", "down", "down_32bit"];
    let ways = ways.map(|way| format!("traffic/{way}"));
    for way in &ways {
        assert_eq!(cost(&deeper, way), cost(&usual, way), "{way}");
    }
    // In front of the connector are the tower's features, 16 rows of 128 channels for each of 8 pictures; two maps of that width
    // read and give as much, and as many gradients. The frozen tower is sent none.
    assert_eq!(part(&connected, "client", "connector"), None);
    let [before, after] = [&usual, &connected].map(|of| cost(of, "server/activations"));
    assert_eq!(after - before, 2 * 4 * 8 * 16 * (4 * 128));
    for way in &ways[..3] {
        assert_eq!(cost(&connected, way), cost(&usual, way), "{way}");
    }
    let [before, after] = [&usual, &connected].map(|of| cost(of, "traffic/down"));
    // Of 36 rows the 16 of the picture stay away.
    assert!(after < before * 3 / 4, "{before} {after}");
    assert!(
        [&usual, &deeper, &connected]
            .iter()
            .all(|of| of["cost"]["traffic"]["hidden"].is_null())
    );
}
