//! `bench` and `plan`: what they print and write.

use std::fs;
use std::path::Path;

use qtl_train::Recipe;
use serde_json::Value;

use crate::program::run;
use crate::world::{self, World, base, flags, recipe};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A safetensors file of one f32 tensor.
fn safetensors(path: &Path, shape: [usize; 3], values: &[f32]) {
    let bytes = 4 * values.len();
    let header = format!(
        "{{\"features\":{{\"dtype\":\"F32\",\"shape\":{shape:?},\"data_offsets\":[0,{bytes}]}}}}"
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.into_bytes());
    file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    fs::write(path, file).unwrap();
}

#[test]
fn bench_codec_writes_a_row_for_every_operation() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("codec.json");
    let args = "bench codec --shape 2,64,32 --scenes 8 --seconds 0 --json";
    let args = args.split(' ').map(str::to_owned);
    let ended = run(args.chain([file.display().to_string()])).succeeds();
    let rows = json(&file)["rows"].as_array().unwrap().clone();
    for data in ["gaussian-l4", "ar1-l4", "channel-l4", "demo"] {
        assert!(ended.stdout.contains(data), "{}", ended.stdout);
        for op in [
            "quantize",
            "pack",
            "unpack",
            "rans_encode",
            "rans_decode",
            "context_encode",
            "context_decode",
            "constriction_encode",
            "memcpy",
        ] {
            let row = rows.iter().find(|r| r["data"] == data && r["op"] == op);
            let row = row.unwrap_or_else(|| panic!("no {op} of {data}"));
            let number = |key: &str| row[key].as_f64().unwrap();
            assert!(number("gelem_per_s") > 0.0 && number("bits_per_element") > 0.0);
            assert_eq!(row.as_object().unwrap().len(), 4);
            if op.ends_with("pack") {
                assert_eq!(number("bits_per_element"), 2.0);
            }
        }
    }
    run(["bench", "codec", "--shape", "8,0,8"]).fails_naming(&["--shape 8,0,8: expected"]);
}

#[test]
fn bench_communication_measures_what_the_wire_takes() {
    let dir = tempfile::tempdir().unwrap();
    let [file, markdown] = ["c.json", "c.md"].map(|name| dir.path().join(name));
    let args = "bench communication --shape 2,15,10,64 --batches 1 --only topk --json";
    let args = args.split(' ').map(str::to_owned);
    let files = [
        file.display().to_string(),
        "--markdown".to_owned(),
        markdown.display().to_string(),
    ];
    let ended = run(args.chain(files)).succeeds();
    let found = json(&file);
    let number = |row: &Value, place: &str| row.pointer(place).and_then(Value::as_f64).unwrap();
    for data in found["data"].as_array().unwrap() {
        let rows = data["quantizers"].as_array().unwrap();
        // No quantizer, and four settings each of topk and rand_topk.
        assert_eq!(rows.len(), 1 + 8);
        let elements =
            (number(data, "/rows/0") + number(data, "/rows/1")) * number(data, "/rows/2");
        let plain = &rows[0];
        // Headers and layout come on top of the numbers themselves, and little else.
        for (way, bits) in [("up", 16.0), ("down", 32.0)] {
            let sent = |field: &str| number(plain, &format!("/{way}/{field}"));
            let bits = sent("bytes") * 8.0 / elements - bits;
            assert!((0.0..0.5).contains(&bits), "{way}: {bits}");
            let socket = sent("socket_bits_per_element");
            assert!((sent("socket_bytes") * 8.0 / elements - socket).abs() < 1e-9);
            assert!(socket > sent("bits_per_element"), "{way}: {socket}");
        }
        assert_eq!(plain["codec"], "f32");
        for row in &rows[1..] {
            // A mask and a quarter of the entries at most, and only these come back.
            assert!(
                number(row, "/up/bytes") < 0.6 * number(plain, "/up/bytes"),
                "{row}"
            );
            assert!(
                number(row, "/down/bytes") < 0.1 * number(plain, "/down/bytes"),
                "{row}"
            );
            assert!((0.0..1.0).contains(&number(row, "/up/error")), "{row}");
            assert!(number(row, "/up/side_percent") > number(plain, "/up/side_percent"));
            let seconds = row["step_seconds"].as_array().unwrap();
            assert_eq!(seconds.len(), found["lines"].as_array().unwrap().len());
            // 10 Mbit/s and a round trip of 1 ms.
            let bytes = number(row, "/up/socket_bytes") + number(row, "/down/socket_bytes");
            let coding = number(row, "/up/seconds") + number(row, "/down/seconds");
            let want = 8.0 * bytes / 1e7 + 1e-3 + coding;
            assert!((seconds[0].as_f64().unwrap() - want).abs() < 1e-9);
        }
        let codecs = data["gradients"].as_array().unwrap();
        let bytes = |name: &str| {
            let row = codecs.iter().find(|row| row["codec"] == name);
            number(row.unwrap_or_else(|| panic!("no {name}")), "/down/bytes")
        };
        assert!(bytes("f32") > bytes("f16") && bytes("f16") > bytes("int8"));
        assert!(
            bytes("int8") > bytes("tiled bits=4") && bytes("tiled bits=4") > bytes("tiled bits=2")
        );
        for text in [&ended.stdout, &fs::read_to_string(&markdown).unwrap()] {
            assert!(
                text.contains("reference FSQ L=4") && text.contains("topk keep=0.125"),
                "{text}"
            );
        }
    }
    run(["bench", "communication", "--shape", "8,0,8,8"])
        .fails_naming(&["--shape 8,0,8,8: expected"]);
    run(["bench", "communication", "--batches", "0"]).fails_naming(&["--batches 0"]);
    run(["bench", "communication", "--only", "fsqq"])
        .fails_naming(&["--only fsqq", "fsq levels=4"]);
}

#[test]
fn plan_reads_features_draws_and_writes_the_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let values = qtl_codec::samples::gaussian(20 * 16, 24, 4);
    safetensors(&at("x.safetensors"), [20, 16, 24], &values);
    let recipe = "name = 'x' # a name\n[quantizer.image]\nkind = 'fsq'\nlevels = 4 # per channel\n\
                  [data]\ntemplate = 'qa'\nmax_length = 64\n[train]\nsteps = 10\nbatch = 8\nlr = 1e-3\n";
    fs::write(at("r.toml"), recipe).unwrap();
    let path = |name: &str| at(name).display().to_string();
    let plan = |more: &[&str]| {
        let fixed = ["plan", "--features"].map(str::to_owned);
        let file = [path("x.safetensors")];
        let more = more.iter().map(|s| (*s).to_owned());
        let widths = ["--widths", "2,4,0.5"].map(str::to_owned);
        run(fixed.into_iter().chain(file).chain(widths).chain(more))
    };
    let (svg, file, toml) = (path("p.svg"), path("p.json"), path("r.toml"));
    let ended = plan(&[
        "--recipe", &toml, "--svg", &svg, "--json", &file, "--bits", "2", "--kind", "fsq",
        "--write",
    ])
    .succeeds();
    // 320 tokens are few, and it says so.
    assert!(
        ended.stdout.contains("too small for the third digit"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("left + above"), "{}", ended.stdout);
    let found = json(&at("p.json"))["plans"][0].clone();
    let chosen = &found["chosen"];
    let bits = chosen["bits"]["order-0"].as_f64().unwrap();
    assert!((1.7..2.05).contains(&bits), "{chosen}");
    // 5 widths, 31 numbers of levels.
    assert_eq!(found["candidates"].as_array().unwrap().len(), 155);
    assert!(fs::read_to_string(at("p.svg")).unwrap().starts_with("<svg"));
    let text = fs::read_to_string(at("r.toml")).unwrap();
    let levels = chosen["levels"].as_u64().unwrap();
    assert!(
        text.contains(&format!("levels = {levels} # per channel")),
        "{text}"
    );
    assert!(
        text.contains("name = 'x' # a name") && text.contains("width = "),
        "{text}"
    );

    let paper = plan(&["--rule", "shannon", "--json", &file]).succeeds();
    assert!(
        paper.stdout.contains("image: 16 levels at 3.00 deviations"),
        "{}",
        paper.stdout
    );
    let none = plan(&["--rule", "tolerance", "--mse", "1e-9"]).succeeds();
    assert!(none.stdout.contains("nothing fits"), "{}", none.stdout);
}

/// From a recipe and its data to a choice in the recipe, and a run that costs what was planned.
#[test]
fn a_plan_is_written_into_the_recipe_and_trains() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let before = fs::read_to_string(world::recipe()).unwrap();
    fs::write(at("r.toml"), &before).unwrap();
    let data = world.path("train/llava.json");
    let common = |command: &str| -> Vec<String> {
        let paths = [
            ("--model", world::base()),
            ("--recipe", at("r.toml")),
            ("--data", data.clone()),
        ];
        let mut args: Vec<String> = command.split(' ').map(str::to_owned).collect();
        for (flag, path) in paths {
            args.extend([flag.to_owned(), path.display().to_string()]);
        }
        args
    };
    let spoken = |more: &str| more.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let quantizer = |modality: &str| {
        let recipe = Recipe::load(&at("r.toml"), &[]).unwrap();
        serde_json::to_value(&recipe.quantizer).unwrap()[modality].clone()
    };
    let plan = |more: &str| {
        let [svg, file] = ["p.svg", "p.json"].map(|name| at(name).display().to_string());
        let mut args = common("plan");
        args.extend(spoken("--batches 4 --widths 1.5,3,1.5 --write --svg"));
        args.extend([svg, "--json".to_owned(), file]);
        args.extend(spoken(more));
        run(args).succeeds()
    };

    let ended = plan("--kind ecsq --bits 2");
    assert!(ended.stdout.contains("ecsq for"), "{}", ended.stdout);
    for name in ["p-image.svg", "p-text.svg"] {
        assert!(fs::read_to_string(at(name)).unwrap().starts_with("<svg"));
    }
    let plans = json(&at("p.json"))["plans"].as_array().unwrap().clone();
    assert_eq!(plans.len(), 2);
    for plan in &plans {
        let own = quantizer(plan["modality"].as_str().unwrap());
        assert_eq!(own["kind"], "ecsq");
        assert_eq!(own["bits"], plan["chosen"]["design_bits"]);
        // What else was set is kept.
        assert_eq!(own["penalty"].as_f64(), Some(f64::from(0.02f32)));
    }
    // Nothing but the two quantizers has changed.
    let after = fs::read_to_string(at("r.toml")).unwrap();
    let others = |text: &str| -> Vec<String> {
        let own = ["kind", "levels", "width", "bits"];
        let lines = text.lines().map(str::to_owned);
        lines
            .filter(|line| !own.iter().any(|key| line.starts_with(key)))
            .collect()
    };
    assert_eq!(others(&after), others(&before));

    let mut train = common("train --local");
    train.extend(["--run".to_owned(), at("run").display().to_string()]);
    train.extend(spoken(
        "--set train.steps=2 --set train.save_every=1 --set quantizer.calibration_batches=4",
    ));
    run(train).succeeds();
    let metrics = fs::read_to_string(at("run/metrics.jsonl")).unwrap();
    let first: Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
    let number = |field: &str| first[field].as_f64().unwrap();
    let bits = 8.0 * number("bytes_image") / number("elements_image");
    let coded = plans[0]["chosen"]["coded_bits"].as_f64().unwrap();
    assert_eq!(plans[0]["modality"], "image");
    // One batch in place of four: contexts are learned within a message.
    assert!(
        (bits - coded).abs() < 0.15 * coded,
        "{bits} for {coded} bits"
    );

    plan("--kind any --rule tolerance --mse 0.05");
    plan("--kind fsq --rule tolerance --mse 0.05");
    let chosen = json(&at("p.json"))["plans"][0]["chosen"].clone();
    let own = quantizer("image");
    assert_eq!(
        (&own["kind"], &own["levels"]),
        (&"fsq".into(), &chosen["levels"])
    );
    let after = fs::read_to_string(at("r.toml")).unwrap();
    assert_eq!(others(&after), others(&before));
}

#[test]
fn plan_names_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.safetensors");
    let mut values = vec![0.5; 2 * 3 * 4];
    values[7] = f32::NAN;
    safetensors(&file, [2, 3, 4], &values);
    let file = file.display().to_string();
    let wrong = |args: &[&str], says: &str| {
        run(["plan"].iter().chain(args)).fails_naming(&[says]);
    };
    wrong(
        &["--features", &file],
        "features: 1 of 24 values, the first at [0, 1, 3]",
    );
    wrong(&["--features", &file, "--tensor", "y"], "no tensor y");
    wrong(&["--features", &file, "--grid", "3"], "--grid 3: expected");
    wrong(&["--features", &file, "--bits=-1"], "'-1' for '--bits");
    wrong(
        &["--features", &file, "--widths", "3,1,0.5"],
        "--widths takes",
    );
    wrong(&["--features", "nowhere"], "nowhere");
    wrong(&[], "--model and --data");
}

/// A user's own data: what crosses per sample, beside the pictures themselves and federated averaging.
#[test]
fn bench_communication_compares_on_the_user_s_own_data() {
    let world = World::shared();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.json");
    let mut args = [
        "bench",
        "communication",
        "--batches",
        "1",
        "--only",
        "fsq levels=4",
        "--link",
        "10mbit,100ms",
    ]
    .map(str::to_owned)
    .to_vec();
    args.extend(flags(&[
        ("--model", &base()),
        ("--recipe", &recipe()),
        ("--data", &world.path("train/llava.json")),
        ("--json", &file),
    ]));
    let said = run(args.clone()).succeeds().stdout;
    assert!(
        said.contains("One pass over") && said.contains("at 10 Mbit/s and 100 ms"),
        "{said}"
    );
    let placed = ["--set", "split.labels=client"].map(str::to_owned);
    run([args.clone(), placed.to_vec()].concat()).fails_naming(&["split.labels", "one trip"]);
    let found = json(&file);
    let compared = &found["compared"];
    let way = |name: &str| {
        let ways = compared["ways"].as_array().unwrap().iter();
        let mut ways = ways.filter(|way| way["name"].as_str().unwrap().contains(name));
        ways.next()
            .unwrap_or_else(|| panic!("{name} is not in {compared}"))
            .clone()
    };
    let number = |value: &Value| value.as_f64().unwrap();
    let (plain, coded) = (way("none, every row"), way("fsq levels=4"));
    assert!(
        4.0 * number(&coded["up"]) < number(&plain["up"]),
        "{compared}"
    );
    // The files themselves.
    let files = fs::read_dir(world.path("train/images")).unwrap();
    let sizes: Vec<u64> = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .collect();
    let mean = sizes.iter().sum::<u64>() as f64 / sizes.len() as f64;
    let pictures = way("the pictures as they are");
    assert!((number(&pictures["up"]) - mean).abs() < 1e-6, "{compared}");
    let samples = number(&compared["samples"]);
    assert_eq!(samples, sizes.len() as f64);
    let seconds = 8.0 * mean * samples / 1e7 + 0.1;
    assert!((number(&pictures["seconds"]) - seconds).abs() < 1e-6);
    // Every trained parameter in 32 bits, each way.
    let averaging = way("federated averaging");
    assert!((number(&averaging["up"]) * samples - 4.0 * number(&compared["trained"])).abs() < 1.0);
    assert!(number(&compared["trained"]) > 0.0);

    args[7] = "fast".to_owned();
    run(args).fails_naming(&["--link", "100mbit,20ms"]);
}
