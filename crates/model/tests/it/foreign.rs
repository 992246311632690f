//! Weights as other programs leave them: under wrapped names, in other types, in pieces, with values that are none.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use qtl_model::config::Fields;
use qtl_model::llm::{Decoder, DecoderSpec, TokenEmbedding};
use qtl_model::tuning::Storage;
use qtl_model::weights::{
    Checkpoint, CheckpointError, LoadError, NamedTensor, SaveType, Tensors, load_into,
    load_keeping, save, tensors_of,
};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};

fn spec() -> DecoderSpec {
    let text = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "vocab_size": 10}"#;
    DecoderSpec::from_config(&Fields::parse(Path::new("tiny"), text).unwrap()).unwrap()
}

/// A language model as its own files have it.
fn model() -> Vec<NamedTensor> {
    let device = Device::default();
    let mut all = tensors_of(&TokenEmbedding::init(&spec(), 1, &device), "");
    all.extend(tensors_of(&Decoder::init(spec(), 1, &device), ""));
    all
}

fn load(place: &Path) -> Result<Vec<NamedTensor>, LoadError> {
    let (file, device) = (Checkpoint::open(place)?, Device::default());
    let table = TokenEmbedding::new(&spec(), &device);
    let mut all = tensors_of(&load_into(table, &file, &spec().embedding_keys())?, "");
    let decoder = load_into(Decoder::new(spec(), &device), &file, &spec().decoder_keys())?;
    all.extend(tensors_of(&decoder, ""));
    Ok(all)
}

fn renamed(rename: &dyn Fn(&str) -> String) -> Vec<NamedTensor> {
    let mut all = model();
    for tensor in &mut all {
        tensor.name = rename(&tensor.name);
    }
    all
}

/// Name, type, shape and bytes.
type Raw<N> = (N, Dtype, Vec<usize>, Vec<u8>);

/// A file with values of any type.
fn write(path: &Path, tensors: &[Raw<String>]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    serialize_to_file(views, None, path).unwrap();
}

#[test]
fn names_that_tools_have_wrapped_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    for (rename, says) in [
        (
            &|name: &str| format!("_orig_mod.{name}") as String,
            "_orig_mod",
        ),
        (
            &|name: &str| name.replace("layers.1.", "layers.1._checkpoint_wrapped_module."),
            "_checkpoint_wrapped_module",
        ),
        (&|name: &str| format!("module.{name}"), "module."),
        (&|name: &str| format!("model.{name}"), "model."),
        (
            &|name: &str| name.replace("q_proj.", "q_proj.base_layer."),
            "base_layer",
        ),
    ] as [(&dyn Fn(&str) -> String, &str); 5]
    {
        save(&file, &renamed(rename), SaveType::F32).unwrap();
        assert_eq!(load(dir.path()).unwrap(), model(), "{says}");
        let remarks = Checkpoint::open(dir.path()).unwrap().remarks().to_vec();
        assert!(
            remarks.len() == 1 && remarks[0].contains(says),
            "{remarks:?}"
        );
    }
    save(&file, &model(), SaveType::F32).unwrap();
    assert!(Checkpoint::open(dir.path()).unwrap().remarks().is_empty());
}

#[test]
fn float64_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    let wide: Vec<_> = model()
        .into_iter()
        .map(|tensor| {
            let bytes = tensor.data.iter().flat_map(|v| f64::from(*v).to_le_bytes());
            (tensor.name, Dtype::F64, tensor.shape, bytes.collect())
        })
        .collect();
    write(&file, &wide);
    assert_eq!(load(dir.path()).unwrap(), model());
}

#[test]
fn what_an_index_names_and_no_file_holds_is_missed_only_where_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    save(&dir.path().join("one.safetensors"), &model(), SaveType::F32).unwrap();
    let index = |more: &[(&str, &str)]| {
        let own = model();
        let own = own.iter().map(|t| (t.name.as_str(), "one.safetensors"));
        let map: std::collections::BTreeMap<_, _> = own.chain(more.iter().copied()).collect();
        let json = serde_json::json!({ "weight_map": map }).to_string();
        fs::write(dir.path().join("model.safetensors.index.json"), json).unwrap();
    };
    index(&[
        (
            "model.layers.0.self_attn.rotary_emb.inv_freq",
            "two.safetensors",
        ),
        ("model.layers.0.extra", "one.safetensors"),
    ]);
    assert_eq!(load(dir.path()).unwrap(), model());
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let held: Vec<_> = checkpoint
        .by_file()
        .map(|(_, held)| held.map(|h| h.len()).ok())
        .collect();
    assert_eq!(held, [Some(model().len()), None]);
    for (name, file) in [
        ("model.norm.weight", "two.safetensors"),
        ("lm_head.weight", "three.safetensors"),
    ] {
        index(&[(name, file)]);
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
    }
}

#[test]
fn weights_that_are_none_yet_are_named_in_one_short_message() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    let floats = |t: &NamedTensor| t.data.iter().flat_map(|v| v.to_le_bytes()).collect();
    // Every matrix of a block in another form, the rest as it is.
    let packed = |pack: &dyn Fn(&NamedTensor) -> Vec<Raw<&'static str>>| {
        let mut all = Vec::new();
        for tensor in model() {
            if tensor.name.contains("_proj.") {
                let module = tensor.name.strip_suffix("weight").unwrap();
                let parts = pack(&tensor).into_iter();
                all.extend(parts.map(|(end, d, s, b)| (format!("{module}{end}"), d, s, b)));
            } else {
                let bytes = floats(&tensor);
                all.push((tensor.name, Dtype::F32, tensor.shape, bytes));
            }
        }
        write(&file, &all);
        load(dir.path()).unwrap_err()
    };
    let some = |end, dtype: Dtype, bytes| {
        let count = 8 * bytes / dtype.bitsize();
        (end, dtype, vec![count], vec![1; bytes])
    };
    for (error, says) in [
        (
            packed(&|_| {
                let absmax = some("weight.absmax", Dtype::F32, 8);
                vec![
                    some("weight", Dtype::U8, 6),
                    absmax,
                    some("weight.quant_map", Dtype::F32, 4),
                ]
            }),
            &["bitsandbytes (4 bits)", "model.dequantize()"][..],
        ),
        (
            packed(&|t| {
                let bytes = vec![1; t.data.len()];
                vec![
                    ("weight", Dtype::I8, t.shape.clone(), bytes),
                    some("SCB", Dtype::F32, 4),
                ]
            }),
            &["bitsandbytes (8 bits)"],
        ),
        (
            packed(&|_| vec![some("qweight", Dtype::I32, 8), some("g_idx", Dtype::I32, 8)]),
            &["GPTQ", "float16 or bfloat16"],
        ),
        (
            packed(&|_| {
                vec![
                    some("qweight", Dtype::I32, 8),
                    some("qzeros", Dtype::I32, 8),
                ]
            }),
            &["AWQ"],
        ),
        (
            packed(&|t| {
                let bytes = vec![1; t.data.len()];
                vec![("weight", Dtype::F8_E4M3, t.shape.clone(), bytes)]
            }),
            &["8-bit floats: 14 tensors"],
        ),
        (
            packed(&|_| vec![("weight", Dtype::F32, vec![0], Vec::new())]),
            &["14 tensors without a value", "ZeRO-3", "zero_to_fp32.py"],
        ),
        (
            packed(&|t| {
                vec![
                    ("base_layer.weight", Dtype::F32, t.shape.clone(), floats(t)),
                    some("lora_A.default.weight", Dtype::F32, 8),
                ]
            }),
            &["low-rank branches", "merge_and_unload()"],
        ),
    ] {
        let text = error.to_string();
        assert!(matches!(error, LoadError::Form { .. }), "{text}");
        for word in says {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
        assert!(text.lines().count() == 1 && text.len() < 500, "{text}");
    }
}

#[test]
fn hundreds_of_names_are_a_short_message() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    save(
        &file,
        &renamed(&|name| name.replace("proj", "projection")),
        SaveType::F32,
    )
    .unwrap();
    let error = load(dir.path()).unwrap_err();
    let text = error.to_string();
    let LoadError::Mismatch { missing, .. } = error else {
        panic!("{text}");
    };
    assert_eq!(missing.len(), 14);
    assert!(
        text.contains("and 6 more") && text.lines().count() < 24,
        "{text}"
    );
}

#[test]
fn values_that_are_none_are_named_however_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    let mut all = model();
    let (q, up) = (
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.mlp.up_proj.weight",
    );
    for tensor in &mut all {
        match tensor.name.as_str() {
            name if name == q => (tensor.data[11], tensor.data[20]) = (f32::NAN, f32::INFINITY),
            name if name == up => tensor.data[95] = f32::NEG_INFINITY,
            _ => {}
        }
    }
    for kind in [SaveType::F32, SaveType::Bf16] {
        save(&file, &all, kind).unwrap();
        for storage in [Storage::F32, Storage::Bf16, Storage::Nf4] {
            let (source, device) = (Checkpoint::open(dir.path()).unwrap(), Device::default());
            let decoder = Decoder::new(spec(), &device);
            let keys = spec().decoder_keys();
            let error = load_keeping(decoder, &source, &keys, &|_, _| storage).unwrap_err();
            let text = error.to_string();
            for word in [
                "NaN or infinite",
                "model.safetensors",
                &format!("{q}: 2 of 64 values, the first at [1, 3]"),
                &format!("{up}: 1 of 96 values, the first at [11, 7]"),
            ] {
                assert!(
                    text.contains(word),
                    "{kind:?}, {storage:?}: no {word:?} in {text}"
                );
            }
        }
    }
    // Within float64, not within float32.
    let bytes = [1.0, 1e300]
        .iter()
        .flat_map(|v: &f64| v.to_le_bytes())
        .collect();
    write(&file, &[("a".to_owned(), Dtype::F64, vec![2], bytes)]);
    let error = Checkpoint::open(&file).unwrap().read("a").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a: 1 of 2 values, the first at [1]"),
        "{error}"
    );
}

#[test]
fn each_tensor_is_written_in_its_type() {
    let dir = tempfile::tempdir().unwrap();
    let tensor = |name: &str, data: Vec<f32>| NamedTensor {
        name: name.to_owned(),
        shape: vec![data.len()],
        data,
    };
    let all = [
        tensor("half", vec![0.1, 65504.0]),
        tensor("brain", vec![0.1, 3e38]),
        tensor("whole", vec![0.1]),
    ];
    let kind = |name: &str| match name {
        "half" => SaveType::F16,
        "brain" => SaveType::Bf16,
        _ => SaveType::F32,
    };
    Tensors::from(&all[..])
        .save_folder(dir.path(), &kind, 1 << 20)
        .unwrap();
    let file = Checkpoint::open(dir.path()).unwrap();
    for (name, dtype, first) in [
        ("half", Dtype::F16, 0.099_975_586),
        ("brain", Dtype::BF16, 0.100_097_656),
        ("whole", Dtype::F32, 0.1),
    ] {
        assert_eq!(file.entry(name).unwrap().dtype, dtype);
        assert_eq!(file.read(name).unwrap()[0], first);
    }
    let large = [tensor("half", vec![1.0, 1e5])];
    let error = Tensors::from(&large[..])
        .save_folder(dir.path(), &kind, 1 << 20)
        .unwrap_err();
    assert!(matches!(error, CheckpointError::TooLarge { .. }), "{error}");
    assert!(error.to_string().contains("half holds 100000"), "{error}");
}

#[test]
fn a_folder_without_weights_says_what_it_holds_instead() {
    for (name, says) in [
        ("adapter_model.bin", "--from-adapter"),
        ("zero_to_fp32.py", "DeepSpeed"),
        ("model-q4.gguf", "llama.cpp"),
        (
            "README.md",
            "give a folder with one of model.safetensors.index.json",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), "").unwrap();
        let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("holds no weights") && error.contains(says),
            "{error}"
        );
    }
}
