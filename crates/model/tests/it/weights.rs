//! Names, files and starting values.

use std::fs;
use std::path::Path;

use burn::tensor::{DType, Device};
use qtl_model::config::Fields;
use qtl_model::connector::{Connector, ConnectorSpec};
use qtl_model::llm::{Decoder, DecoderSpec, TokenEmbedding};
use qtl_model::tuning::{Matrix, Storage};
use qtl_model::weights::{
    Checkpoint, CheckpointError, Fill, Keep, LoadError, NamedTensor, SaveType, Tensors, initialize,
    load_into, load_keeping, param_id, parameters, rename_ids, save, tensors_of,
};

fn spec() -> DecoderSpec {
    let text = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "vocab_size": 10}"#;
    DecoderSpec::from_config(&Fields::parse(Path::new("tiny"), text).unwrap()).unwrap()
}

fn connector(seed: u64) -> Connector {
    let spec = ConnectorSpec::new("mlp2x_gelu", 3, 4);
    let connector = Connector::new(&spec, &Device::default()).unwrap();
    let rule = connector.clone();
    initialize(connector, "", seed, |name, shape| rule.fill(name, shape))
}

fn tensor(name: &str, shape: &[usize]) -> NamedTensor {
    let count = shape.iter().product::<usize>();
    NamedTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data: (0..count).map(|i| i as f32 / 3.0).collect(),
    }
}

#[test]
fn matrices_stay_in_the_file_s_bfloat16_where_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let (file, device) = (folder.path().join("model.safetensors"), Device::default());
    let mut all = tensors_of(&TokenEmbedding::init(&spec(), 1, &device), "");
    all.extend(tensors_of(&Decoder::init(spec(), 1, &device), ""));
    let embedding = |kind, keep: Keep<'_>| {
        save(&file, &all, kind).unwrap();
        let table = TokenEmbedding::new(&spec(), &device);
        let file = Checkpoint::open(folder.path()).unwrap();
        load_keeping(table, &file, &spec().embedding_keys(), keep).unwrap()
    };
    let wide = embedding(SaveType::Bf16, &|_, _| Storage::F32);
    assert_eq!(wide.table().dtype(), DType::F32);
    for storage in [Storage::Bf16, Storage::Nf4] {
        let kept = embedding(SaveType::Bf16, &|name, kind| {
            assert_eq!((name, kind), ("model.embed_tokens.weight", Matrix::Table));
            storage
        });
        assert_eq!(kept.table().dtype(), DType::BF16);
        // A view of a file outlives its name, and the next file of that name.
        fs::remove_file(&file).unwrap();
        save(&file, &[tensor("another", &[1000])], SaveType::F32).unwrap();
        assert_eq!(tensors_of(&kept, ""), tensors_of(&wide, ""));
    }
    // Nothing is rounded on the way in.
    let exact = embedding(SaveType::F32, &|_, _| Storage::Bf16);
    assert_eq!(exact.table().dtype(), DType::F32);
    // Norms are no matrices.
    save(&file, &all, SaveType::Bf16).unwrap();
    let decoder = Decoder::new(spec(), &device);
    let source = Checkpoint::open(folder.path()).unwrap();
    let asked = std::cell::RefCell::new(Vec::new());
    let decoder = load_keeping(decoder, &source, &spec().decoder_keys(), &|name, _| {
        asked.borrow_mut().push(name.to_owned());
        Storage::Bf16
    });
    let asked = asked.into_inner();
    assert_eq!(
        asked.len(),
        2 * 7 + 1,
        "seven maps in two blocks, and the head"
    );
    assert!(!asked.iter().any(|name| name.contains("norm")));
    for tensor in tensors_of(&decoder.unwrap(), "") {
        assert_eq!(source.read(&tensor.name).unwrap(), tensor.data);
    }
}

#[test]
fn a_folder_holds_one_file_or_shards_of_a_limited_size_with_an_index() {
    let tensors = [
        tensor("a", &[10]),
        tensor("b", &[30]),
        tensor("c", &[10]),
        tensor("d", &[10]),
    ];
    let files = |folder: &Path| {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let one = tempfile::tempdir().unwrap();
    let all = Tensors::from(tensors.as_slice());
    all.save_folder(one.path(), &|_| SaveType::F32, 240)
        .unwrap();
    assert_eq!(files(one.path()), ["model.safetensors"]);
    // b alone is above the limit; c and d fill theirs to the last byte.
    let several = tempfile::tempdir().unwrap();
    all.save_folder(several.path(), &|_| SaveType::F32, 80)
        .unwrap();
    let shards = [1, 2, 3].map(|i| format!("model-0000{i}-of-00003.safetensors"));
    let mut wanted = shards.to_vec();
    wanted.push("model.safetensors.index.json".to_owned());
    assert_eq!(files(several.path()), wanted);
    let held = |shard: &str| {
        let file = Checkpoint::open(&several.path().join(shard)).unwrap();
        file.names().collect::<String>()
    };
    assert_eq!(shards.map(|shard| held(&shard)), ["a", "b", "cd"]);
    let index = fs::read_to_string(several.path().join(&wanted[3])).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["metadata"]["total_size"], 240);
    for folder in [one.path(), several.path()] {
        let file = Checkpoint::open(folder).unwrap();
        for tensor in &tensors {
            assert_eq!(file.read(&tensor.name).unwrap(), tensor.data);
        }
    }
    // In half the bytes, half the shards are enough for c and d.
    let halves = tempfile::tempdir().unwrap();
    all.save_folder(halves.path(), &|_| SaveType::Bf16, 80)
        .unwrap();
    assert_eq!(files(halves.path()).len(), 3, "ab, cd and the index");
    let nothing = tempfile::tempdir().unwrap();
    let none = Tensors::from([].as_slice());
    none.save_folder(nothing.path(), &|_| SaveType::F32, 1)
        .unwrap();
    assert_eq!(Checkpoint::open(nothing.path()).unwrap().names().count(), 0);
}

#[test]
fn saved_and_loaded_is_the_same_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let saved = tensors_of(
        &Decoder::init(spec(), 1, &Device::default()),
        "language_model.",
    );
    save(&file, &saved, SaveType::F32).unwrap();
    let decoder = Decoder::new(spec(), &Device::default());
    let decoder = load_into(
        decoder,
        &Checkpoint::open(folder.path()).unwrap(),
        &spec().decoder_keys(),
    );
    assert_eq!(tensors_of(&decoder.unwrap(), "language_model."), saved);
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["model.safetensors"]);
}

#[test]
fn bfloat16_files_hold_the_nearest_values() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("half.safetensors");
    let stored = [tensor("a", &[7]), tensor("empty", &[0])];
    save(&file, &stored, SaveType::Bf16).unwrap();
    let read = Checkpoint::open(&file).unwrap().read("a").unwrap();
    for (read, value) in read.iter().zip(&stored[0].data) {
        assert_eq!(*read, half::bf16::from_f32(*value).to_f32());
    }
}

#[test]
fn a_failed_save_leaves_the_old_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    save(&file, &[tensor("a", &[2])], SaveType::F32).unwrap();
    let before = fs::read(&file).unwrap();
    // The place for the new file is taken by a folder.
    fs::create_dir(folder.path().join("weights.safetensors.partial")).unwrap();
    let error = save(&file, &[tensor("b", &[2])], SaveType::F32).unwrap_err();
    assert!(error.to_string().contains("weights.safetensors"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn one_error_lists_all_that_is_missing_surplus_or_misshapen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let mut stored = tensors_of(&Decoder::init(spec(), 1, &Device::default()), "");
    for tensor in &mut stored {
        match tensor.name.as_str() {
            "model.layers.0.self_attn.q_proj.weight" => {
                tensor.name = "model.layers.0.self_attn.q_prj.weight".into()
            }
            "model.norm.weight" => (tensor.shape, tensor.data) = (vec![9], vec![0.0; 9]),
            _ => {}
        }
    }
    stored.retain(|t| t.name != "model.layers.1.mlp.up_proj.weight");
    stored.push(tensor("model.layers.2.mlp.up_proj.weight", &[12, 8]));
    // Somebody else's, and buffers of old files: no reason to complain.
    stored.push(tensor("model.embed_tokens.weight", &[10, 8]));
    stored.push(tensor("vision_model.x", &[1]));
    stored.push(tensor("model.layers.0.self_attn.rotary_emb.inv_freq", &[2]));
    save(&file, &stored, SaveType::F32).unwrap();
    let module = Decoder::new(spec(), &Device::default());
    let error = load_into(
        module,
        &Checkpoint::open(&file).unwrap(),
        &spec().decoder_keys(),
    )
    .unwrap_err();
    let text = error.to_string();
    let LoadError::Mismatch {
        missing,
        surplus,
        misshaped,
        ..
    } = error
    else {
        panic!("{text}");
    };
    assert_eq!(
        missing,
        [
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.1.mlp.up_proj.weight"
        ]
    );
    assert_eq!(
        surplus,
        [
            "model.layers.0.self_attn.q_prj.weight",
            "model.layers.2.mlp.up_proj.weight"
        ]
    );
    assert_eq!(
        misshaped,
        ["model.norm.weight: [9] in the file, [8] in the model"]
    );
    assert!(
        text.contains("q_proj.weight (nearest in the file: model.layers.0.self_attn.q_prj.weight)"),
        "{text}"
    );
}

#[test]
fn shards_are_read_through_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |json: &str| fs::write(path("model.safetensors.index.json"), json).unwrap();
    save(
        &path("one.safetensors"),
        &[tensor("a", &[2]), tensor("b", &[3])],
        SaveType::F32,
    )
    .unwrap();
    save(
        &path("two.safetensors"),
        &[tensor("c", &[2, 2])],
        SaveType::F32,
    )
    .unwrap();
    write(
        r#"{"weight_map": {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}}"#,
    );
    let file = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(file.entry("c").unwrap().shape, [2, 2]);
    assert_eq!(file.read("b").unwrap(), tensor("b", &[3]).data);
    assert!(matches!(
        file.read("d"),
        Err(CheckpointError::Unknown { .. })
    ));

    for (json, says) in [
        (
            r#"{"weight_map": {"c": "one.safetensors"}}"#,
            "should hold c",
        ),
        (
            r#"{"weight_map": {"a": "../one.safetensors"}}"#,
            "not a plain file name",
        ),
        (r#"{"weight_map": {"a": ".."}}"#, "not a plain file name"),
        (
            r#"{"weight_map": {"a": "three.safetensors"}}"#,
            "three.safetensors",
        ),
        (r#"{"weights": {}}"#, "weight_map"),
    ] {
        write(json);
        // Shards are opened when something in them is asked for.
        let all = |file: Checkpoint| {
            let names: Vec<String> = file.names().map(str::to_owned).collect();
            names.iter().try_for_each(|name| file.entry(name).map(drop))
        };
        let error = Checkpoint::open(folder.path()).and_then(all);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(says) && error.contains("index.json"),
            "{error}"
        );
    }
}

#[test]
fn a_header_s_length_is_no_pickle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    // Headers are padded to eights: 384, 640 and 896 begin like pickles of the protocols 1 to 3.
    let mut met = std::collections::BTreeSet::new();
    for count in 1..12 {
        let tensors: Vec<NamedTensor> = (0..count)
            .map(|i| tensor(&"n".repeat(8 + i), &[1]))
            .collect();
        save(&path, &tensors, SaveType::F32).unwrap();
        let bytes = fs::read(&path).unwrap();
        met.insert([bytes[0], bytes[1]]);
        assert_eq!(Checkpoint::open(&path).unwrap().names().count(), count);
        // The same file with a header of 640 bytes.
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        if length <= 640 {
            let mut padded = 640u64.to_le_bytes().to_vec();
            padded.extend(&bytes[8..8 + length]);
            padded.resize(8 + 640, b' ');
            padded.extend(&bytes[8 + length..]);
            fs::write(&path, padded).unwrap();
            assert_eq!(Checkpoint::open(&path).unwrap().names().count(), count);
        }
    }
    assert!(met.len() > 3, "{met:?}");
}

#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    assert!(matches!(
        Checkpoint::open(folder.path()),
        Err(CheckpointError::NoWeights { .. })
    ));
    save(&file, &[tensor("a", &[20])], SaveType::F32).unwrap();
    let whole = fs::read(&file).unwrap();
    for length in 0..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        let error = Checkpoint::open(&file).unwrap_err();
        assert!(
            matches!(error, CheckpointError::Damaged { .. }),
            "{length}: {error}"
        );
    }
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&file, &huge).unwrap();
    assert!(matches!(
        Checkpoint::open(&file),
        Err(CheckpointError::Damaged { .. })
    ));
    let mut longer = whole;
    longer.push(0);
    fs::write(&file, &longer).unwrap();
    assert!(matches!(
        Checkpoint::open(&file),
        Err(CheckpointError::Damaged { .. })
    ));
}

#[test]
fn integers_are_not_weights() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ids.safetensors");
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::I32, vec![1], &[1, 0, 0, 0])
            .unwrap();
    safetensors::serialize_to_file([("ids", view)], None, &file).unwrap();
    let error = Checkpoint::open(&file)
        .unwrap()
        .read("ids")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("ids has type I32") && error.contains("BF16"),
        "{error}"
    );
}

#[test]
fn ids_depend_on_names_alone() {
    let decoder = || rename_ids(Decoder::new(spec(), &Device::default()), "language_model.");
    let (one, two) = (parameters(&decoder(), ""), parameters(&decoder(), ""));
    assert_eq!(one, two);
    for parameter in &one {
        assert_eq!(
            parameter.id,
            param_id(&format!("language_model.{}", parameter.name))
        );
    }
    let mut ids: Vec<_> = one.iter().map(|p| p.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), one.len());
}

#[test]
fn starting_values_depend_on_seed_and_name_alone() {
    let values = |seed| tensors_of(&connector(seed), "");
    assert_eq!(values(1), values(1));
    assert_ne!(values(1), values(2));
    // A decoder with one block more starts with the same first blocks.
    let mut deeper = spec();
    deeper.layers.push(deeper.layers[0]);
    let shallow = tensors_of(&Decoder::init(spec(), 4, &Device::default()), "");
    let deep = tensors_of(&Decoder::init(deeper, 4, &Device::default()), "");
    for tensor in &shallow {
        assert!(deep.contains(tensor), "{}", tensor.name);
    }
}

#[test]
fn fills_have_their_spread() {
    let all = tensors_of(&Decoder::init(spec(), 9, &Device::default()), "");
    for tensor in &all {
        let n = tensor.data.len() as f32;
        let deviation = (tensor.data.iter().map(|v| v * v).sum::<f32>() / n).sqrt();
        if tensor.name.contains("norm") {
            assert!(tensor.data.iter().all(|v| *v == 1.0));
        } else {
            assert!(
                (deviation - 0.02).abs() < 0.02 * 4.0 / n.sqrt(),
                "{}: {deviation}",
                tensor.name
            );
        }
    }
    assert_eq!(Fill::xavier(&[2, 4]), Fill::Uniform(1.0));
}
