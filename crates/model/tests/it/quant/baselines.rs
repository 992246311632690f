//! The baselines of the paper's tables against the reference.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use qtl_codec::{Account, Code, Options, Plane, Ragged, ScalarData, Scalars, SymbolData, Symbols};
use qtl_model::quant::{
    ClientHalf, Columns, FedbatSpec, FsqSpec, NoneSpec, NormalFloatSpec, Phase, ServerHalf, Spec,
    TopkSpec, allocate, binarize, closed_root, kept_channels, largest, normal_float_table, sparse,
    splitfc_encode, straight_through,
};
use qtl_model::recompute::leaf;

use super::{each, symbols, through_the_container};
use crate::golden::floats;
use crate::set;

fn scalars(plane: &Plane) -> Vec<f32> {
    match plane {
        Plane::Scalars(plane) => plane.to_f32(),
        other => panic!("{other:?}"),
    }
}

fn tensor(values: Vec<f32>, device: &Device) -> Tensor<1> {
    Tensor::from_data(values.as_slice(), device)
}

#[test]
fn golden_normal_float() {
    let device = Device::default();
    each(
        |name| name.starts_with("nf_"),
        |case| {
            let bits = case.json["config"]["bits"].as_u64().unwrap() as u32;
            case.check("table", tensor(normal_float_table(bits), &device));
            let spec = NormalFloatSpec { bits };
            let run = |x: Tensor<2>| {
                let dim = x.dims()[1];
                let code = spec.client(dim, 0, &device).quantize(x, Phase::Evaluate);
                let code = through_the_container(&code);
                let back = spec.server(dim, 0, &device).dequantize(&code, &device);
                (code, back.unwrap())
            };
            let packed = |code: &Code| match &code.planes[0] {
                Plane::Symbols(plane) => {
                    let bytes = qtl_codec::pack::pack(plane);
                    tensor(bytes.into_iter().map(f32::from).collect(), &device)
                }
                other => panic!("{other:?}"),
            };
            let x = case.rows("x", &device);
            let (code, back) = run(x.clone());
            case.check("indices", tensor(symbols(&code), &device));
            case.check("packed", packed(&code));
            case.check("scales_q", tensor(scalars(&code.planes[1]), &device));
            case.check("mins", tensor(scalars(&code.planes[2]), &device));
            let bounds = scalars(&code.planes[3]);
            let every_second =
                |first: usize| bounds.iter().skip(first).step_by(2).copied().collect();
            case.check("s_min", tensor(every_second(0), &device));
            case.check("s_max", tensor(every_second(1), &device));
            case.check("dequantised", back.clone());
            case.check("output_monolith", back);
            for edge in case.between("edge_", "_x") {
                let edge = format!("edge_{edge}");
                let (code, back) = run(case.rows(&format!("{edge}_x"), &device));
                case.check(&format!("{edge}_packed"), packed(&code));
                let scales = tensor(scalars(&code.planes[1]), &device);
                case.check(&format!("{edge}_scales_q"), scales);
                case.check(&format!("{edge}_dequantised"), back);
            }
            let x = leaf(x);
            let client = spec.client(x.dims()[1], 0, &device);
            let g = case.rows("cotangent", &device);
            let grads = (client.surrogate(x.clone(), &code) * g).sum().backward();
            case.check("grad_x", x.grad(&grads).unwrap());
        },
    );
}

#[test]
fn golden_topk() {
    let device = Device::default();
    each(
        |name| name.starts_with("topk_"),
        |case| {
            let config = &case.json["config"];
            let keep = config["ratio"].as_f64().unwrap();
            let x = leaf(case.rows("x", &device));
            let [rows, cols] = x.dims();
            let values = floats(x.clone().inner());
            let count = kept_channels(keep, cols);
            assert_eq!(count as u64, config["k"].as_u64().unwrap(), "{}", case.name);
            let random = config["randomized"] == true;
            let drawn_below = config["random_p"].as_f64().unwrap_or(0.1);
            let check_mask = |name: &str, mask: &[bool]| {
                let bits = mask.iter().map(|bit| f32::from(u8::from(*bit)));
                case.check(name, tensor(bits.collect(), &device));
            };

            // One machine: rescaled, a position is drawn by its uniform number.
            let uniform = random.then(|| &case.get("rand_uniform").1);
            let mask = largest(&values, cols, count, |i| {
                uniform.is_some_and(|u| f64::from(u[i]) < drawn_below)
            });
            check_mask("mask_monolith", &mask);
            let code = sparse(&values, [rows, cols], &mask);
            let spec = |rescale| TopkSpec { keep, rescale };
            let output = spec(true)
                .client(cols, 0, &device)
                .surrogate(x.clone(), &code);
            case.check("output_monolith", output.clone().inner());
            let g = case.rows("cotangent", &device);
            let grads = (output * g.clone()).sum().backward();
            case.check("grad_x_monolith", x.grad(&grads).unwrap());

            // Split: not rescaled, columns drawn with replacement.
            let drawn = random.then(|| case.get("rand_indices"));
            let extra = |i: usize| {
                drawn.is_some_and(|(shape, indices)| {
                    let row = indices
                        .chunks(*shape.last().unwrap())
                        .nth(i / cols)
                        .unwrap();
                    row.contains(&((i % cols) as f32))
                })
            };
            let mask = largest(&values, cols, count, extra);
            check_mask("mask_split", &mask);
            let code = through_the_container(&sparse(&values, [rows, cols], &mask));
            let Plane::Scalars(Scalars {
                data: ScalarData::F16(kept),
                ..
            }) = &code.planes[1]
            else {
                panic!("{code:?}");
            };
            let bytes = kept.iter().flat_map(|v| v.to_le_bytes()).map(f32::from);
            case.check("values_f16_bytes_split", tensor(bytes.collect(), &device));
            case.check("values_split", tensor(scalars(&code.planes[1]), &device));
            let back = spec(false)
                .server(cols, 0, &device)
                .dequantize(&code, &device);
            case.check("output_split", back.unwrap());
            // Where the reference lets the whole gradient through, ours passes at kept positions only.
            let output = spec(false)
                .client(cols, 0, &device)
                .surrogate(x.clone(), &code);
            let grads = (output * g).sum().backward();
            let (_, all) = case.get("grad_x_split");
            let want = all
                .iter()
                .zip(&mask)
                .map(|(g, kept)| if *kept { *g } else { 0.0 });
            assert_eq!(floats(x.grad(&grads).unwrap()), want.collect::<Vec<_>>());
            if !random {
                let made = spec(false)
                    .client(cols, 0, &device)
                    .quantize(x.inner(), Phase::Train(3));
                assert_eq!(made, code, "topk draws nothing");
            }
        },
    );
}

/// The reference's closed form, which knows one branch only.
fn reference_root(u: f64) -> f64 {
    if u > 6.75 { f64::NAN } else { closed_root(u) }
}

/// What a splitfc code stands for, with entries and means divided by Q - `less`: the reference divides by Q.
fn rebuilt(code: &Code, less: f32) -> Vec<f32> {
    let [Plane::Ragged(ragged), means, ends, bounds] = code.planes.as_slice() else {
        panic!("{code:?}");
    };
    let (means, ends, bounds) = (scalars(means), scalars(ends), scalars(bounds));
    let value = |i: f32, pair: usize, steps: f32| {
        let (low, high) = (bounds[2 * pair], bounds[2 * pair + 1]);
        i / steps * (high - low) + low
    };
    let fine = ends.len() / 2;
    let (mut next_mean, mut next_fine) = (1, 0);
    let mut columns: Vec<Box<dyn Fn(f32) -> f32>> = Vec::new();
    for alphabet in &ragged.alphabets {
        if *alphabet == 1 {
            let mean = value(means[next_mean], 0, means[0] + 1.0 - less);
            columns.push(Box::new(move |_| mean));
            next_mean += 1;
        } else {
            let low = value(ends[next_fine], 1, 199.0);
            let high = value(ends[fine + next_fine], 2, 199.0);
            let steps = f32::from(*alphabet) - less;
            columns.push(Box::new(move |i| i / steps * (high - low) + low));
            next_fine += 1;
        }
    }
    let cols = columns.len();
    let all = ragged.data.iter().enumerate();
    all.map(|(i, symbol)| columns[i % cols](f32::from(*symbol)))
        .collect()
}

#[test]
fn golden_splitfc() {
    let device = Device::default();
    each(
        |name| name == "fwq",
        |case| {
            let x = case.rows("x", &device);
            let [rows, cols] = x.dims();
            let columns = Columns::measure(&floats(x), rows, cols);
            let mut ran = 0;
            for (budget, entry) in case.json["budgets"].as_object().unwrap() {
                if entry["works"] != true {
                    println!("skipped budget {budget}: the reference fails");
                    continue;
                }
                // The reference counts each level once, whatever it is used for, and exceeds budgets silently.
                let bits: f64 = budget.parse().unwrap();
                let choice = allocate(
                    &columns,
                    cols / 2,
                    case.json["config"]["M_candidates"]
                        .as_array()
                        .map_or(8, Vec::len),
                    |_| Some(([1.0, 1.0], bits)),
                    reference_root,
                );
                let levels: Vec<f32> = choice.levels.iter().map(|q| *q as f32).collect();
                case.check(&format!("levels_C{budget}"), tensor(levels, &device));
                let levels: Vec<f64> = choice.levels.iter().map(|q| q.round_ties_even()).collect();
                let code = through_the_container(&splitfc_encode(&columns, &levels));
                case.check(
                    &format!("output_C{budget}"),
                    tensor(rebuilt(&code, 0.0), &device),
                );
                if bits == 2.0 && case.has("module_output_L4") {
                    case.check("module_output_L4", tensor(rebuilt(&code, 0.0), &device));
                }
                // Ours reaches the top of the range.
                let decoder = qtl_model::quant::SplitfcSpec { bits: 1.0 }.server(cols, 0, &device);
                let got = floats(decoder.dequantize(&code, &device).unwrap());
                for (got, want) in got.iter().zip(rebuilt(&code, 1.0)) {
                    assert!((got - want).abs() < 1e-5 * want.abs().max(1.0));
                }
                ran += 1;
            }
            assert!(ran > 0);
        },
    );
}

#[test]
fn golden_fedbat() {
    let device = Device::default();
    each(
        |name| name == "fedbat",
        |case| {
            let rho = case.number("rho").unwrap_or(6.0) as f32;
            for variant in case
                .between("", "_x")
                .into_iter()
                .filter(|v| !v.ends_with("_grad"))
            {
                let get = |name: &str| format!("{variant}_{name}");
                let x = leaf(case.rows(&get("x"), &device));
                let scalar = |name: &str| case.rows(&get(name), &device).reshape([1]);
                let mut client = FedbatSpec {}.client(x.dims()[1], 0, &device);
                let exp = variant != "softplus";
                let alpha = if exp {
                    client.running_alpha = Param::from_tensor(leaf(scalar("alpha_prime")));
                    client.alpha_e = Param::from_tensor(leaf(scalar("alpha_e")));
                    client.alpha()
                } else {
                    // Another parametrisation of the same alpha.
                    leaf(scalar("alpha"))
                };
                let value = alpha.clone().inner().into_scalar::<f32>();
                case.check(&get("alpha"), alpha.clone().inner());
                let mut noise = case.get(&get("noise")).1.iter();
                let values = floats(x.clone().inner());
                let signs = binarize(&values, value, || *noise.next().unwrap());
                let output = signs.iter().map(|s| (2.0 * f32::from(*s) - 1.0) * value);
                case.check(&get("output"), tensor(output.collect(), &device));
                let g = case.rows(&get("cotangent"), &device);
                let surrogate = straight_through(x.clone(), alpha.clone(), &signs);
                let grads = (surrogate * g).sum().backward();
                case.check(&get("grad_x"), x.grad(&grads).unwrap());
                // The reference's derivative for alpha is wrong; this is what the case says it should be.
                let want =
                    case.json["alpha_gradient"][variant]["with_the_forward_draw_and_no_offset"]
                        .as_f64()
                        .unwrap() as f32;
                let close = |got: Tensor<1>, want: f32| {
                    let got = got.into_scalar::<f32>();
                    assert!(
                        (got - want).abs() < 1e-4 * want.abs().max(1.0),
                        "{variant}: {got}, not {want}"
                    );
                };
                if exp {
                    let e = client.alpha_e.val().inner().into_scalar::<f32>();
                    let prime = client.running_alpha.val().grad(&grads).unwrap();
                    close(prime, want * (rho * e).exp());
                    let e = client.alpha_e.val().grad(&grads).unwrap();
                    close(e, want * rho * value);
                } else {
                    close(alpha.grad(&grads).unwrap(), want);
                }
            }
        },
    );
}

/// The payload of the reference at the paper's width, tensor bytes without its serialisation, against our whole
/// containers with packing only: the same information, and nothing hidden.
#[test]
fn golden_wire_sizes() {
    let device = Device::default();
    let Some(path) = set::file("quant/wire/wire.json") else {
        return;
    };
    let table: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut ran = 0;
    for row in table["rows"].as_array().unwrap() {
        let name = row["quantizer"].as_str().unwrap();
        let dim = row["D"].as_u64().unwrap() as usize;
        let bits = || name.chars().find_map(|c| c.to_digit(10)).unwrap();
        let client: Box<dyn ClientHalf> = match name {
            "none" => Box::new(NoneSpec {}.client(dim, 0, &device)),
            _ if name.starts_with("fsq") => {
                Box::new(FsqSpec::paper(1 << bits()).client(dim, 0, &device))
            }
            _ if name.starts_with("nf") => {
                Box::new(NormalFloatSpec { bits: bits() }.client(dim, 0, &device))
            }
            _ => {
                println!("skipped {name}: its size depends on what was drawn");
                continue;
            }
        };
        let mut total = Account::default();
        // A message holds the rows of all pictures and those of all texts.
        let rows =
            |kind: &str| (table["B"].as_u64().unwrap() * table[kind].as_u64().unwrap()) as usize;
        for rows in ["image_tokens", "text_tokens"].map(rows) {
            let values: Vec<f32> = (0..rows * dim)
                .map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0)
                .collect();
            let x = Tensor::<1>::from_data(values.as_slice(), &device).reshape([rows, dim]);
            let code = client.quantize(x, Phase::Evaluate);
            total += qtl_codec::encode_accounted(&code, &Options { entropy: false }).1;
        }
        assert_eq!(
            total.symbols + total.scalars,
            row["uplink_quantizer_tensor_bytes"].as_u64().unwrap(),
            "{name} {dim}"
        );
        assert!(total.header < 100, "{name}: {total:?}");
        ran += 1;
    }
    set::ran(ran, "payloads of the reference");
}

#[test]
fn hostile_splitfc_codes_are_refused() {
    let device = Device::default();
    let good = || {
        let ragged = Ragged::new(vec![1, 4, 1], 2, vec![0, 3, 0, 0, 1, 0]).unwrap();
        let bytes =
            |rows, cols, data| Plane::from(Scalars::new(rows, cols, ScalarData::U8(data)).unwrap());
        let bounds =
            Scalars::new(3, 2, ScalarData::F32(vec![0.0, 1.0, 0.0, 1.0, 1.0, 2.0])).unwrap();
        vec![
            ragged.into(),
            bytes(1, 3, vec![1, 0, 1]),
            bytes(2, 1, vec![0, 199]),
            bounds.into(),
        ]
    };
    let decoder = qtl_model::quant::SplitfcSpec { bits: 2.0 }.server(3, 0, &device);
    let read = |planes: Vec<Plane>| decoder.dequantize(&Code::new(planes), &device);
    assert_eq!(
        floats(read(good()).unwrap()),
        [0.0, 2.0, 1.0, 0.0, 2.0 / 3.0, 1.0]
    );
    let with = |at: usize, data: ScalarData, rows: usize| {
        let mut planes = good();
        let cols = data.len() / rows;
        planes[at] = Scalars::new(rows, cols, data).unwrap().into();
        read(planes)
    };
    // A mean outside its levels, no level at all, an end point beyond the 200, an infinite bound, the wrong counts.
    assert!(with(1, ScalarData::U8(vec![1, 0, 2]), 1).is_err());
    assert!(with(1, ScalarData::U8(vec![0, 0, 0]), 1).is_err());
    assert!(with(2, ScalarData::U8(vec![0, 200]), 2).is_err());
    assert!(
        with(
            3,
            ScalarData::F32(vec![0.0, f32::INFINITY, 0.0, 1.0, 1.0, 2.0]),
            3
        )
        .is_err()
    );
    assert!(with(1, ScalarData::U8(vec![1, 0]), 1).is_err());
    assert!(with(2, ScalarData::U8(vec![0, 1, 2, 3]), 2).is_err());
    let other = Symbols::new(4, 2, 3, SymbolData::U8(vec![0; 6])).unwrap();
    assert!(read(vec![other.into()]).is_err());
}
