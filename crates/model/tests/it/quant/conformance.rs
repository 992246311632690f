//! The laws that every quantizer of the list keeps.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor};
use qtl_codec::{Code, Limits, Options, Plane, ScalarData, Scalars, Symbols};
use qtl_model::params::{self, Named};
use qtl_model::quant::gradient::GradientCodec;
use qtl_model::quant::{
    AdsqSpec, Decoder, EcsqSpec, Encoder, ExactSpec, FedbatSpec, FsqSpec, FsqTanhSpec,
    NormalFloatSpec, PcaSpec, Phase, PqSpec, QuantizerSpec, RandTopkSpec, RvqSpec, SplitfcSpec,
    Statistics, TopkSpec, VqSpec,
};
use qtl_model::recompute::leaf;

use super::through_the_container;
use crate::golden::floats;

/// At least one of every kind.
fn specs() -> Vec<QuantizerSpec> {
    let fsq = |levels, statistics, rate| {
        QuantizerSpec::Fsq(FsqSpec {
            levels,
            width: 1.5,
            statistics,
            rate,
            ..FsqSpec::paper(levels)
        })
    };
    let all = vec![
        QuantizerSpec::NONE,
        fsq(2, Statistics::Channel, 0.0),
        fsq(3, Statistics::Batch, 0.0),
        fsq(5, Statistics::Calibrated, 0.1),
        fsq(256, Statistics::Channel, 0.0),
        QuantizerSpec::FsqTanh(FsqTanhSpec {
            levels: 9,
            code_dim: 0,
        }),
        QuantizerSpec::Adsq(AdsqSpec(FsqSpec {
            levels: 6,
            width: 1.5,
            statistics: Statistics::Channel,
            code_dim: 0,
            penalty: 0.25,
            rate: 0.05,
        })),
        QuantizerSpec::Ecsq(EcsqSpec {
            bits: 2.0,
            statistics: Statistics::Channel,
            code_dim: 0,
            penalty: 0.25,
            rate: 0.1,
        }),
        QuantizerSpec::NormalFloat(NormalFloatSpec { bits: 1 }),
        QuantizerSpec::NormalFloat(NormalFloatSpec { bits: 4 }),
        QuantizerSpec::Topk(TopkSpec {
            keep: 0.2,
            rescale: false,
        }),
        QuantizerSpec::RandTopk(RandTopkSpec {
            keep: 0.5,
            random: 0.1,
            rescale: true,
        }),
        QuantizerSpec::Exact(ExactSpec {}),
        QuantizerSpec::Splitfc(SplitfcSpec { bits: 3.0 }),
        QuantizerSpec::Fedbat(FedbatSpec {}),
        QuantizerSpec::Pca(PcaSpec {
            dims: 48,
            bits: 60.0,
        }),
        QuantizerSpec::Vq(VqSpec {
            dims: 24,
            codes: 8,
            penalty: 0.02,
            learned: false,
        }),
        QuantizerSpec::Vq(VqSpec {
            dims: 3,
            codes: 16,
            penalty: 0.02,
            learned: true,
        }),
        QuantizerSpec::Rvq(RvqSpec {
            dims: 30,
            stages: 3,
            codes: 8,
            penalty: 0.02,
        }),
        QuantizerSpec::Pq(PqSpec {
            dims: 36,
            groups: 12,
            codes: 300,
            penalty: 0.02,
        }),
    ];
    let kinds: BTreeSet<_> = all
        .iter()
        .map(std::mem::discriminant)
        .map(|d| format!("{d:?}"))
        .collect();
    assert_eq!(
        kinds.len(),
        QuantizerSpec::ALL.len(),
        "not every kind of {:?} is tested",
        QuantizerSpec::ALL
    );
    all.into_iter()
        .inspect(|spec| spec.check().unwrap())
        .collect()
}

const ROWS: usize = 40;
/// Not a multiple of a block.
const DIM: usize = 72;

/// Features of channels with different means and deviations.
fn features(seed: u64, device: &Device) -> Tensor<2> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    // The sum of twelve uniform numbers is nearly normal.
    let mut normal = || (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
    let channel = |j: usize| (0.3 * (j % 5) as f32 - 0.6, 0.5 + 0.2 * (j % 7) as f32);
    let values: Vec<f32> = (0..ROWS * DIM)
        .map(|i| {
            let (mean, deviation) = channel(i % DIM);
            mean + deviation * normal()
        })
        .collect();
    Tensor::<1>::from_data(values.as_slice(), device).reshape([ROWS, DIM])
}

/// Both halves, calibrated on features like those of the tests.
fn pair(spec: &QuantizerSpec, device: &Device) -> (Encoder, Decoder) {
    let mut encoder = Encoder::init(spec, DIM, 5, device);
    let mut decoder = Decoder::init(spec, DIM, 6, device);
    let mut seen = encoder.accumulator();
    (10..20).for_each(|seed| seen.add(encoder.seen(features(seed, device))));
    let told = through_the_container(&encoder.start(&seen).unwrap());
    decoder.start(&told).unwrap();
    (encoder, decoder)
}

fn coded(encoder: &Encoder, x: Tensor<2>, phase: Phase) -> Code {
    encoder.quantize(encoder.bound(encoder.input(x)), phase)
}

#[test]
fn tables_show_every_kind_by_a_name_of_its_own() {
    let all = QuantizerSpec::settings();
    all.iter().for_each(|spec| spec.check().unwrap());
    let kinds: BTreeSet<_> = all
        .iter()
        .map(|spec| format!("{:?}", std::mem::discriminant(spec)))
        .collect();
    assert_eq!(kinds.len(), QuantizerSpec::ALL.len());
    let names: BTreeSet<String> = all.iter().map(QuantizerSpec::to_string).collect();
    assert_eq!(names.len(), all.len(), "{names:?}");
    let codecs = GradientCodec::settings();
    codecs.iter().for_each(|codec| codec.check().unwrap());
    let names: BTreeSet<String> = codecs.iter().map(GradientCodec::to_string).collect();
    assert_eq!(names.len(), codecs.len(), "{names:?}");
}

#[test]
fn recipes_are_read_back_and_unknown_fields_are_named() {
    for spec in specs() {
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<QuantizerSpec>(&text).unwrap(), spec);
        let wrong = text.replacen('{', "{\"no_such_field\":1,", 1);
        let error = serde_json::from_str::<QuantizerSpec>(&wrong).unwrap_err();
        assert!(
            error.to_string().contains("no_such_field"),
            "{spec:?}: {error}"
        );
    }
    for (text, field) in [
        ("{\"kind\":\"fsq\",\"levels\":1}", "levels"),
        ("{\"kind\":\"fsq\",\"levels\":4,\"rate\":-1.0}", "rate"),
        ("{\"kind\":\"fsq_tanh\",\"levels\":257}", "levels"),
        ("{\"kind\":\"adsq\",\"levels\":4,\"width\":0.0}", "width"),
        ("{\"kind\":\"ecsq\",\"bits\":9.0}", "bits"),
        ("{\"kind\":\"ecsq\",\"bits\":0.0}", "bits"),
        ("{\"kind\":\"normal_float\",\"bits\":5}", "bits"),
        ("{\"kind\":\"topk\",\"keep\":1.5}", "keep"),
        (
            "{\"kind\":\"rand_topk\",\"keep\":0.5,\"random\":2.0}",
            "random",
        ),
        ("{\"kind\":\"splitfc\",\"bits\":0.0}", "bits"),
        ("{\"kind\":\"pca\",\"dims\":0,\"bits\":1.0}", "dims"),
        ("{\"kind\":\"pca\",\"dims\":4,\"bits\":25.0}", "bits"),
        ("{\"kind\":\"vq\",\"dims\":4,\"codes\":1}", "codes"),
        (
            "{\"kind\":\"rvq\",\"dims\":4,\"stages\":17,\"codes\":2}",
            "stages",
        ),
        (
            "{\"kind\":\"pq\",\"dims\":4,\"groups\":3,\"codes\":2}",
            "groups",
        ),
    ] {
        let spec: QuantizerSpec = serde_json::from_str(text).unwrap();
        let error = spec.check().unwrap_err().to_string();
        assert!(
            error.contains(&format!("quantizer.{field} = ")),
            "{text}: {error}"
        );
    }
}

#[test]
fn codes_survive_the_wire_and_every_byte_is_accounted_for() {
    let device = Device::default();
    for spec in specs() {
        let (encoder, decoder) = pair(&spec, &device);
        let x = features(1, &device);
        let code = coded(&encoder, x.clone(), Phase::Evaluate);
        let back = through_the_container(&code);
        let (bytes, account) = qtl_codec::encode_accounted(&code, &Options::default());
        if spec.starts_from_ranges() {
            assert_eq!(account.elements, (ROWS * DIM) as u64, "{spec:?}");
        }
        let whole = 8.0 * bytes.len() as f64 / account.elements as f64;
        assert!((account.bits_per_element() - whole).abs() < 1e-12);
        let leaf = decoder.dequantize(&back, &device).unwrap();
        assert_eq!(leaf.dims(), [ROWS, decoder.code_dim()]);
        // It is a code of these features, not of anything.
        let y = decoder.expand(leaf);
        let centred = x.clone() - x.clone().mean_dim(0);
        let square = |x: Tensor<2>| (x.clone() * x).sum().into_scalar::<f32>();
        let (error, power) = (square(y - x.clone()), square(centred).max(square(x)));
        println!("{spec:?}: {whole:.3} bits, error {:.4}", error / power);
        let limit = match &spec {
            // One bit of the reference's table is a block's minimum or maximum.
            QuantizerSpec::NormalFloat(NormalFloatSpec { bits: 1 }) => 8.0,
            // Rescaling keeps the mean, not the values.
            QuantizerSpec::RandTopk(_) => 2.0,
            _ => 1.0,
        };
        assert!(error < limit * power, "{spec:?}: {}", error / power);
    }
}

#[test]
fn codes_repeat_and_only_training_draws() {
    let device = Device::default();
    for spec in specs() {
        let (encoder, _) = pair(&spec, &device);
        let code = |phase| coded(&encoder, features(2, &device), phase);
        assert_eq!(code(Phase::Train(7)), code(Phase::Train(7)), "{spec:?}");
        assert_eq!(code(Phase::Evaluate), code(Phase::Evaluate), "{spec:?}");
        let draws = matches!(spec, QuantizerSpec::RandTopk(_) | QuantizerSpec::Fedbat(_));
        assert_eq!(
            code(Phase::Train(7)) != code(Phase::Train(8)),
            draws,
            "{spec:?}"
        );
        assert_eq!(
            code(Phase::Train(7)) != code(Phase::Evaluate),
            draws,
            "{spec:?}"
        );
        let other = Encoder::init(&spec, DIM, 99, &device);
        let codes = [&encoder, &other].map(|e| coded(e, features(2, &device), Phase::Train(7)));
        if matches!(spec, QuantizerSpec::RandTopk(_)) {
            assert_ne!(
                codes[0], codes[1],
                "streams of other seeds draw other numbers"
            );
        }
    }
}

#[test]
fn a_row_codes_the_same_alone_where_it_is_said_to() {
    let device = Device::default();
    for spec in specs() {
        let (encoder, decoder) = pair(&spec, &device);
        let x = features(3, &device);
        let read = |x: Tensor<2>| {
            let code = coded(&encoder, x, Phase::Evaluate);
            floats(decoder.dequantize(&code, &device).unwrap())
        };
        let whole = read(x.clone());
        let alone = read(x.slice([4..5, 0..DIM]));
        if encoder.is_rowwise() {
            let width = decoder.code_dim();
            assert_eq!(&whole[4 * width..5 * width], alone, "{spec:?}");
        }
        assert_eq!(
            encoder.is_rowwise(),
            !matches!(&spec, QuantizerSpec::Splitfc(_))
                && !matches!(&spec, QuantizerSpec::Fsq(f) if f.statistics == Statistics::Batch)
        );
    }
}

/// One graph through both halves, rounding replaced by its surrogate, against the two halves with the gradient of the
/// leaf carried between them.
#[test]
fn split_gradients_are_those_of_one_graph() {
    let device = Device::default();
    for spec in specs() {
        let (encoder, decoder) = pair(&spec, &device);
        let trained = |name: &str| !name.contains("running_");
        let g = features(4, &device);
        let gradients = |split: bool| {
            let encoder = params::track(&encoder, "client.", &trained);
            let decoder = params::track(&decoder, "server.", &trained);
            let x = leaf(features(3, &device));
            let z = encoder.bound(encoder.input(x.clone()));
            let penalty = encoder.penalty(z.clone());
            let code = encoder.quantize(z.clone().inner(), Phase::Train(1));
            let code = through_the_container(&code);
            let hard = decoder.dequantize(&code, &device).unwrap();
            let soft = encoder.surrogate(z, &code);
            let mut named = Named::new();
            let task = if split {
                let q = leaf(hard);
                let mut grads = (decoder.expand(q.clone()) * g.clone()).sum().backward();
                params::collect(&decoder, "server.", &mut grads, &mut named);
                let mut g = q.grad_remove(&mut grads).unwrap();
                // What the code keeps is all that backward reads.
                assert_eq!(encoder.kept(&code), decoder.kept(&code), "{spec:?}");
                if let (Some(server), Some(client)) = (decoder.kept(&code), encoder.kept(&code)) {
                    let sent = server.take(g);
                    assert_eq!(sent.dims(), client.shape(), "{spec:?}");
                    assert!(sent.dims()[1] < DIM, "{spec:?}: nothing is left out");
                    g = client.spread(sent);
                }
                (soft * g).sum()
            } else {
                let q = soft.clone() - soft.inner() + hard;
                (decoder.expand(q) * g.clone()).sum()
            };
            let mut grads = penalty.into_iter().fold(task, |a, b| a + b).backward();
            params::collect(&decoder, "server.", &mut grads, &mut named);
            params::collect(&encoder, "client.", &mut grads, &mut named);
            named.insert(
                "x".to_owned(),
                x.grad(&grads).unwrap().reshape([ROWS * DIM]),
            );
            named
        };
        let (one, two) = (gradients(false), gradients(true));
        assert_eq!(
            one.keys().collect::<Vec<_>>(),
            two.keys().collect::<Vec<_>>()
        );
        for (name, one) in one {
            let (one, two) = (floats(one), floats(two[&name].clone()));
            let largest = one.iter().fold(1e-6f32, |m, g| m.max(g.abs()));
            for (a, b) in one.iter().zip(&two) {
                assert!(
                    (a - b).abs() <= 1e-5 * largest,
                    "{spec:?}: {name}: {a} and {b}"
                );
            }
            assert!(
                one.iter().any(|g| *g != 0.0),
                "{spec:?}: {name} learns nothing"
            );
        }
    }
}

/// The client's differentiable part, with the code held, against central differences along random directions.
#[test]
fn surrogates_agree_with_finite_differences() {
    let device = Device::default();
    for spec in specs() {
        if spec == QuantizerSpec::Fedbat(FedbatSpec {}) {
            println!(
                "fedbat: its derivative is a definition, not that of a function; see its golden case"
            );
            continue;
        }
        let (encoder, decoder) = pair(&spec, &device);
        let g = features(4, &device).slice([0..ROWS, 0..decoder.code_dim()]);
        let code = coded(&encoder, features(3, &device), Phase::Train(1));
        let value = |x: Tensor<2>| {
            let z = encoder.bound(encoder.input(x));
            (encoder.surrogate(z, &code) * g.clone()).sum()
        };
        let x = leaf(features(3, &device));
        let grad = x.grad(&value(x.clone()).backward()).unwrap();
        for seed in 20..23 {
            let v = features(seed, &device);
            let want = (grad.clone() * v.clone()).sum().into_scalar::<f32>();
            let step = 1e-3;
            let at = |s: f32| {
                let x = features(3, &device) + v.clone().mul_scalar(s);
                f64::from(value(x).into_scalar::<f32>())
            };
            let got = ((at(step) - at(-step)) / (2.0 * f64::from(step))) as f32;
            // The directions have entries of order 1, so `want` is of the order of the gradient's norm.
            let norm = (grad.clone() * grad.clone())
                .sum()
                .sqrt()
                .into_scalar::<f32>();
            assert!(
                (got - want).abs() < 0.05 * norm,
                "{spec:?}: {got}, not {want}"
            );
        }
    }
}

#[test]
fn hostile_codes_are_refused() {
    let device = Device::default();
    for spec in specs() {
        let (encoder, decoder) = pair(&spec, &device);
        let good = coded(&encoder, features(1, &device), Phase::Train(1));
        assert!(decoder.dequantize(&good, &device).is_ok());
        let refused = |what: &str, planes: Vec<Plane>| {
            let result = decoder.dequantize(&Code::new(planes), &device);
            let error = result
                .expect_err(&format!("{spec:?} takes {what}"))
                .to_string();
            assert!(error.contains("this quantizer reads"), "{error}");
        };
        refused("nothing", Vec::new());
        let more = Scalars::new(1, 1, ScalarData::F32(vec![1.0])).unwrap();
        refused(
            "one plane more",
            [good.planes.clone(), vec![more.into()]].concat(),
        );
        for at in 0..good.planes.len() {
            let mut planes = good.planes.clone();
            planes.remove(at);
            refused("one plane less", planes);
            let with = |plane: Plane| {
                let mut planes = good.planes.clone();
                planes[at] = plane;
                planes
            };
            let other = Symbols::from_u32(13, ROWS, DIM, vec![12; ROWS * DIM]).unwrap();
            refused("another alphabet", with(other.into()));
            match &good.planes[at] {
                Plane::Symbols(plane) => {
                    let symbols = plane.data.iter();
                    let turned = Symbols::from_u32(plane.alphabet, plane.cols, plane.rows, symbols);
                    refused("rows for columns", with(turned.unwrap().into()));
                }
                Plane::Scalars(plane) => {
                    let longer = match &plane.data {
                        ScalarData::F32(x) => ScalarData::F32([x.as_slice(), &[0.0]].concat()),
                        ScalarData::F16(x) => ScalarData::F16([x.as_slice(), &x[..1]].concat()),
                        ScalarData::U8(x) => ScalarData::U8([x.as_slice(), &[0]].concat()),
                    };
                    let flat = Scalars::new(1, longer.len(), longer).unwrap();
                    refused("a number too many", with(flat.into()));
                    if let ScalarData::F32(x) = &plane.data {
                        let mut x = x.clone();
                        x[0] = f32::NAN;
                        let poisoned = Scalars::new(plane.rows, plane.cols, ScalarData::F32(x));
                        refused("NaN", with(poisoned.unwrap().into()));
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn empty_batches_have_codes() {
    let device = Device::default();
    for spec in specs() {
        let (encoder, decoder) = pair(&spec, &device);
        let width = decoder.code_dim();
        let z = Tensor::<2>::zeros([0, width], &device);
        let bytes = qtl_codec::encode(&encoder.quantize(z, Phase::Train(0)), &Options::default());
        let (code, _) = qtl_codec::decode(&bytes, &Limits::default()).unwrap();
        assert_eq!(
            decoder.dequantize(&code, &device).unwrap().dims(),
            [0, width],
            "{spec:?}"
        );
    }
}

/// What a client tells is checked before anything of the server's is changed, and a code of other books is no code.
#[test]
fn hostile_starts_are_refused() {
    let device = Device::default();
    for spec in specs() {
        let (mut encoder, decoder) = pair(&spec, &device);
        let mut seen = encoder.accumulator();
        (30..34).for_each(|seed| seen.add(encoder.seen(features(seed, &device))));
        let told = encoder.start(&seen).unwrap();
        let code = coded(&encoder, features(1, &device), Phase::Evaluate);
        for at in 0..told.planes.len() {
            let mut planes = told.planes.clone();
            match &mut planes[at] {
                Plane::Scalars(plane) => match &mut plane.data {
                    ScalarData::F32(x) => x[0] = f32::NAN,
                    ScalarData::F16(x) => x[0] = half::f16::INFINITY,
                    ScalarData::U8(x) => x[0] = 201,
                },
                Plane::Symbols(plane) => {
                    let symbols = plane.data.iter();
                    let (rows, cols) = (plane.cols, plane.rows);
                    *plane = Symbols::from_u32(plane.alphabet, rows, cols, symbols).unwrap();
                }
                _ => {}
            }
            let mut other = decoder.clone();
            assert!(other.start(&Code::new(planes)).is_err(), "{spec:?}: {at}");
            let mut other = decoder.clone();
            let few = Code::new(told.planes[..at].to_vec());
            assert!(other.start(&few).is_err(), "{spec:?}: {at}");
            assert_eq!(other.start_shape(), decoder.start_shape());
        }
        let mut started = decoder.clone();
        started.start(&told).unwrap();
        assert!(started.dequantize(&code, &device).is_ok(), "{spec:?}");
        let books = matches!(
            spec,
            QuantizerSpec::Vq(_) | QuantizerSpec::Rvq(_) | QuantizerSpec::Pq(_)
        );
        if books {
            let error = decoder.dequantize(&code, &device).unwrap_err().to_string();
            assert!(error.contains("checksum"), "{error}");
        }
    }
}
