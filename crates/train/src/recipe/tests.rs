use qtl_model::quant::{FsqSpec, QuantizerSpec};

use super::*;

const MINIMAL: &str = "name = 'x'\n[data]\ntemplate = 'qa'\nmax_length = 64\n[train]\nsteps = 10\nbatch = 8\nlr = 1e-3\n";

fn parse(text: &str, sets: &[&str]) -> Result<Recipe, RecipeError> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    Recipe::parse(text, &sets, Path::new("r.toml"))
}

#[test]
fn an_unknown_field_is_named_with_its_nearest_neighbour() {
    let error = parse(&MINIMAL.replace("lr =", "lrr ="), &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("r.toml") && error.contains("`lrr`") && error.contains("did you mean `lr`"),
        "{error}"
    );
    let error = parse(MINIMAL, &["train.bach=4"]).unwrap_err().to_string();
    assert!(error.contains("did you mean `batch`"), "{error}");
    for far in ["epochs", "x", "gradient_clipping"] {
        let error = parse(MINIMAL, &[&format!("train.{far}=4")]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(far) && error.contains("`steps`"), "{error}");
        assert!(!error.contains("did you mean"), "{error}");
    }
}

#[test]
fn numbers_that_make_no_sense_are_refused_by_field() {
    for field in ["steps", "batch", "accumulate", "save_every", "keep", "lr"] {
        for value in ["0", "-1", "1e400", "nan", "99999999999999999999"] {
            let error = parse(MINIMAL, &[&format!("train.{field}={value}")]);
            let error = error.expect_err(field).to_string();
            assert!(error.contains(field), "{field}={value}: {error}");
        }
    }
    for (set, field) in [
        ("train.batch=1000000000", "train.batch"),
        ("train.steps=9000000000000000000", "train.steps"),
        ("train.save_every=9000000000000000000", "train.save_every"),
        ("train.warmup=-0.1", "train.warmup"),
        ("train.weight_decay=-1", "train.weight_decay"),
        ("train.weight_decay=nan", "train.weight_decay"),
        ("train.betas=[0.9, 1.0]", "train.betas"),
        ("train.betas=[-0.1, 0.9]", "train.betas"),
        ("train.epsilon=0", "train.epsilon"),
        ("train.epsilon=inf", "train.epsilon"),
        ("train.clip=-1", "train.clip"),
        ("train.clip=inf", "train.clip"),
        ("data.max_length=0", "data.max_length"),
        ("data.max_length=9000000000000", "data.max_length"),
        ("quantizer.calibration_batches=-1", "calibration_batches"),
        (
            "quantizer.calibration_batches=1000000",
            "quantizer.calibration_batches",
        ),
        (
            "quantizer.image={kind='fsq', levels=4, code_dim=1000000000}",
            "quantizer.code_dim",
        ),
        (
            "quantizer.image={kind='fsq', levels=4, width=nan}",
            "quantizer.width",
        ),
    ] {
        let error = parse(MINIMAL, &[set]).expect_err(set).to_string();
        assert!(error.contains(field), "{set}: {error}");
    }
}

#[test]
fn quantizers_that_start_from_features_get_to_see_some() {
    let vq = "quantizer.image={kind='vq', dims=4, codes=8}";
    let hidden = [
        "split.labels='client'",
        "quantizer.hidden={kind='pca', dims=4, bits=8.0}",
    ];
    let sites = "sites.count=2";
    let noise = [
        "privacy.clip=1",
        "privacy.noise=1",
        "quantizer.text_rows=all",
    ];
    let none = "quantizer.calibration_batches=0";
    for sets in [&[vq, sites][..], &hidden, &[hidden[0], hidden[1], sites]] {
        assert!(parse(MINIMAL, sets).is_ok(), "{sets:?}");
    }
    assert!(parse(MINIMAL, &[&[vq], &noise[..]].concat()).is_ok());
    for (sets, field) in [
        (vec![vq, none], "quantizer.image"),
        ([&hidden[..], &[none]].concat(), "quantizer.hidden"),
        ([&[vq, sites], &noise[..]].concat(), "quantizer.image"),
    ] {
        let error = parse(MINIMAL, &sets).unwrap_err().to_string();
        let says = "only quantizers that start from means and deviations";
        assert!(error.contains(field) && error.contains(says), "{error}");
    }
}

#[test]
fn overrides_are_typed_and_ranges_are_checked() {
    let recipe = parse(
        MINIMAL,
        &[
            "train.lr=1e-4",
            "quantizer.image={kind='fsq', levels=4}",
            "name=other",
        ],
    )
    .unwrap();
    assert_eq!((recipe.train.lr, recipe.name.as_str()), (1e-4, "other"));
    assert!(matches!(
        recipe.quantizer.image,
        QuantizerSpec::Fsq(FsqSpec { levels: 4, .. })
    ));
    let error = parse(MINIMAL, &["quantizer.text={kind='fsq', levels=1}"])
        .unwrap_err()
        .to_string();
    assert!(error.contains("levels = 1"), "{error}");
    assert!(matches!(
        parse(MINIMAL, &["train.batch=0"]),
        Err(RecipeError::Range {
            field: "train.batch",
            ..
        })
    ));
    assert!(matches!(
        parse(MINIMAL, &["train.batch"]),
        Err(RecipeError::Set(_))
    ));
}

#[test]
fn a_gradient_codec_is_a_name_or_a_table() {
    let codec = |set: &str| parse(MINIMAL, &[set]).map(|recipe| recipe.gradient.codec);
    assert_eq!(
        codec("gradient.codec=int8").unwrap(),
        codec("gradient.codec={kind='int8'}").unwrap()
    );
    let tiled = "gradient.codec={kind='tiled', bits=4}";
    let recipe = parse(MINIMAL, &[tiled]).unwrap();
    assert_eq!(parse(&recipe.to_toml(), &[]).unwrap(), recipe);
    let terms = recipe.terms();
    assert_eq!(terms["gradient.codec.bits"], "4");
    assert_eq!(terms["gradient.codec.hadamard"], "true");
    for (set, what) in [
        ("gradient.codec=int9", "did you mean `int8`"),
        (
            "gradient.codec={kind='tiled', bits=4, tiles=8}",
            "did you mean `tile`",
        ),
        (
            "gradient.codec={kind='tiled', bits=9}",
            "gradient.codec.bits = 9",
        ),
        (
            "gradient.codec={kind='tiled', bits=4, tile=33}",
            "gradient.codec.tile = 33",
        ),
        (
            "gradient.codec={kind='tiled', bits=4, even=-1}",
            "gradient.codec.even = -1",
        ),
    ] {
        let error = codec(set).unwrap_err().to_string();
        assert!(error.contains(what), "{set}: {error}");
    }
}

#[test]
fn what_is_written_is_read_back_and_the_data_section_stays_home() {
    let recipe = parse(MINIMAL, &[]).unwrap();
    assert_eq!(parse(&recipe.to_toml(), &[]).unwrap(), recipe);
    let terms = recipe.terms();
    assert_eq!(terms["train.lr"], "0.001");
    let data: Vec<_> = terms
        .keys()
        .filter(|key| key.starts_with("data."))
        .collect();
    assert_eq!(data, ["data.max_length"], "it bounds what the server takes");
}

#[test]
fn a_recipe_may_come_from_windows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.toml");
    std::fs::write(&path, format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n"))).unwrap();
    let plain = Recipe::parse(MINIMAL, &[], &path).unwrap();
    assert_eq!(Recipe::load(&path, &[]).unwrap(), plain);
    let set = ["train.batch=8".to_owned()];
    assert_eq!(Recipe::load(&path, &set).unwrap(), plain);
    let wide: Vec<u8> = MINIMAL.encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(&path, wide).unwrap();
    let error = Recipe::load(&path, &[]).unwrap_err().to_string();
    assert!(
        error.contains("r.toml") && error.contains("UTF-16"),
        "{error}"
    );
}
