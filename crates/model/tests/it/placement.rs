//! Where the model is cut makes no difference to a bit: a step in one trip, and in two with the labels at the client.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor};
use qtl_data::{Processor, TokenSpan};
use qtl_model::config::{Fields, TinyLlavaConfig};
use qtl_model::edge::{StepError, TextRows};
use qtl_model::generate::{InProcess, answers};
use qtl_model::params::Named;
use qtl_model::partition::{ClientPartition, Holder, Labels, Placement, ServerPartition, Text};
use qtl_model::parts::{Part, Parts};
use qtl_model::pretrained::Blueprint;
use qtl_model::quant::gradient::{Draw as Numbers, GradientCodec};
use qtl_model::quant::{ExactSpec, FsqSpec, QuantizerSpec, Statistics, TopkSpec};
use qtl_model::sampling::Sampling;
use qtl_model::splice::{IGNORE, IMAGE_TOKEN, Sample, splice};
use qtl_model::stage::{Batch, Pictures};
use qtl_model::targets;
use qtl_model::text::Answering;
use qtl_model::tuning::dropout::{Draw, drawing};
use qtl_model::tuning::{LoraSpec, Storage, Treatment};
use qtl_model::weights::Stream;

use crate::golden::floats;

const EXACT: QuantizerSpec = QuantizerSpec::Exact(ExactSpec {});

/// Blocks at the bottom, blocks at the top, whose the labels are; of three.
const PLACEMENTS: [Placement; 8] = [
    place(0, 0, Labels::Server),
    connected(place(0, 0, Labels::Server)),
    connected(place(0, 1, Labels::Client)),
    place(1, 0, Labels::Server),
    place(0, 0, Labels::Client),
    place(0, 1, Labels::Client),
    place(1, 1, Labels::Client),
    place(0, 2, Labels::Client),
];

const fn place(bottom_blocks: usize, top_blocks: usize, labels: Labels) -> Placement {
    Placement {
        bottom_blocks,
        top_blocks,
        labels,
        connector: Holder::Client,
        text: Text::Rows,
    }
}

/// The same with the connector at the server.
const fn connected(placement: Placement) -> Placement {
    Placement {
        connector: Holder::Server,
        ..placement
    }
}

fn blueprint(family: &str, placement: Placement, spec: &QuantizerSpec) -> Blueprint {
    let text = format!(
        r#"{{"model_type": "tinyllava", "connector_type": "mlp2x_gelu", "tokenizer_model_max_length": 40,
        "text_config": {{"model_type": "{family}", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 4, "vocab_size": 30, "initializer_range": 0.3,
            "hidden_act": "gelu", "max_position_embeddings": 128}},
        "vision_config": {{"model_type": "siglip_vision_model", "hidden_size": 12, "intermediate_size": 20,
            "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 12, "patch_size": 4}}}}"#
    );
    let fields = Fields::parse(Path::new(family), &text).unwrap();
    Blueprint {
        dir: PathBuf::new(),
        processor: Processor::siglip(12),
        config: TinyLlavaConfig::from_fields(&fields).unwrap(),
        image: spec.clone(),
        text: spec.clone(),
        hidden: spec.clone(),
        seed: 7,
        fresh: true,
        placement,
    }
}

/// A picture with two turns that stand alone, whose first answers begin at once, so that one cell predicts two tokens; and a
/// shorter sequence.
fn batch(client: &ClientPartition) -> Batch {
    let span = |branch: u32, ids: &[i64], prompt: usize| {
        let labels = ids.iter().enumerate();
        let label = |(i, id): (usize, &i64)| if i < prompt { IGNORE } else { *id };
        TokenSpan {
            branch,
            ids: ids.to_vec(),
            labels: labels.map(label).collect(),
        }
    };
    let first = [
        span(0, &[1, IMAGE_TOKEN, 4], 3),
        span(1, &[9, 3, 2], 0),
        span(2, &[9, 5], 0),
    ];
    let second = [span(0, &[1, 12, 13, IMAGE_TOKEN, 8], 4)];
    let sample = |spans, picture| Sample {
        spans,
        pictures: picture..picture + 1,
    };
    let mut stream = Stream::new(5, "pixels");
    let values: Vec<f32> = (0..2 * 3 * 12 * 12)
        .map(|_| stream.normal() as f32)
        .collect();
    let pixels = Tensor::<1>::from_floats(values.as_slice(), &Device::default());
    let samples = [sample(&first, 0), sample(&second, 1)];
    Batch {
        pictures: Some(Pictures::Pixels(pixels.reshape([2, 3, 12, 12]))),
        spliced: splice(&samples, client.tokens_per_picture(), 40).unwrap(),
    }
}

struct Halves {
    client: ClientPartition,
    server: ServerPartition,
}

/// How the model is tuned and computes.
#[derive(Clone, Copy, Debug)]
struct Way {
    lora: bool,
    activation: DType,
}

impl Halves {
    fn open(blueprint: &Blueprint, way: Way) -> Self {
        let device = Device::default();
        let mut client = blueprint.client(&device).unwrap().partition;
        client = client.sending(TextRows::All);
        let mut server = blueprint.server(&device).unwrap().partition;
        let blocks = client.bottom.blocks.clone();
        client.bottom.blocks = blocks.with(|blocks| blocks.with_activation(way.activation));
        if let Some(top) = client.top.as_deref_mut() {
            let stage = top.stage.clone();
            top.stage = stage.with(|stage| stage.with_activation(way.activation));
        }
        let trunk = server.trunk.clone();
        server.trunk = trunk.with(|blocks| blocks.with_activation(way.activation));
        let lora = LoraSpec {
            rank: 2,
            alpha: 4.0,
            dropout: 0.2,
            rslora: false,
        };
        let choose = |name: &str, _| match Part::of(name) {
            Part::Llm if way.lora => Treatment {
                storage: Storage::Bf16,
                lora: Some(lora.clone()),
            },
            _ => Treatment::default(),
        };
        Self {
            client: client.adapt(3, &choose),
            server: server.adapt(3, &choose),
        }
    }

    /// Loss and all gradients by name, as a codec sends them.
    fn step(&mut self, batch: &Batch, codec: GradientCodec, way: Way) -> (f64, Named) {
        let device = Device::default();
        let trained = |name: &str| match Part::of(name) {
            Part::Llm if way.lora => name.contains(".lora_"),
            _ => !name.contains("running_"),
        };
        let draw = Draw { seed: 3, step: 4 };
        let sent = |tensor, g: Tensor<2>| {
            let shape = g.dims();
            let numbers = Numbers {
                seed: 3,
                step: 4,
                tensor,
            };
            let code = codec.encode(g, numbers).unwrap();
            codec.decode(&code, shape, numbers, &device).unwrap()
        };
        let Self { client, server } = self;
        drawing(draw, || {
            let (cut, pending) = client.forward(batch, 4, &trained);
            let mut named = Named::new();
            let (loss, rows) = match client.top.as_deref() {
                None => {
                    let targets = targets::encode(&batch.spliced.labels, server.vocab_size());
                    let step = server.step(&cut, &targets, &trained, &device).unwrap();
                    named.extend(step.returned.parameters);
                    (step.loss, step.returned.rows)
                }
                Some(top) => {
                    let wanted = top.wanted(&batch.spliced);
                    let (hidden, waiting) = server
                        .forward_hidden(&cut, wanted.as_ref(), 4, &trained, &device)
                        .unwrap();
                    let learned = top
                        .learn(hidden.as_ref(), &batch.spliced, &trained, &device)
                        .unwrap();
                    named.extend(learned.parameters);
                    let gradient = learned.gradient.map(|g| {
                        assert_eq!(Some(g.dims()), waiting.gradient_shape());
                        sent("hidden", g)
                    });
                    let returned = waiting.backward(gradient).unwrap();
                    named.extend(returned.parameters);
                    (learned.loss, returned.rows)
                }
            };
            let [image, text] = rows;
            let rows = [
                image.map(|g| sent("image", g)),
                text.map(|g| sent("text", g)),
            ];
            for (name, g) in pending.backward(rows) {
                assert!(named.insert(name.clone(), g).is_none(), "{name} twice");
            }
            (loss, named)
        })
    }
}

fn values(named: Named) -> BTreeMap<String, Vec<f32>> {
    let all = named.into_iter();
    all.map(|(name, g)| (name, floats(g))).collect()
}

#[test]
fn with_exact_edges_a_step_is_the_same_wherever_the_model_is_cut() {
    let ways = [
        (false, DType::F32),
        (true, DType::F32),
        (false, DType::BF16),
    ];
    // Gemma's head is tied, its first block scales what it reads.
    for family in ["llama", "gemma"] {
        for (lora, activation) in ways {
            let way = Way { lora, activation };
            let mut first = None;
            for placement in PLACEMENTS {
                let mut halves = Halves::open(&blueprint(family, placement, &EXACT), way);
                let mut batch = batch(&halves.client);
                // A training step hands the pictures over in the type that all compute in.
                if let Some(Pictures::Pixels(pixels)) = &mut batch.pictures {
                    *pixels = pixels.clone().cast(activation);
                }
                let (loss, named) = halves.step(&batch, GradientCodec::F32, way);
                let step = (loss, values(named));
                let head = step.1.keys().any(|name| name.contains("lm_head"));
                assert!(loss.is_finite() && head);
                match &first {
                    None => first = Some(step),
                    Some(first) => {
                        assert_eq!(first.0, step.0, "{family} {way:?} {placement:?}");
                        for (name, values) in &first.1 {
                            let got = step.1.get(name);
                            assert_eq!(got, Some(values), "{family} {way:?} {placement:?} {name}");
                        }
                        assert_eq!(first.1.len(), step.1.len());
                    }
                }
            }
        }
    }
}

/// Quantizers of every kind lie between trunk and top: recorded statistics, those of the batch, entries that are left out.
#[test]
fn a_quantizer_of_hidden_states_learns_on_both_sides() {
    let fsq = |statistics| {
        QuantizerSpec::Fsq(FsqSpec {
            statistics,
            ..FsqSpec::paper(4)
        })
    };
    let way = Way {
        lora: false,
        activation: DType::F32,
    };
    for spec in [
        fsq(Statistics::Channel),
        fsq(Statistics::Batch),
        QuantizerSpec::Topk(TopkSpec {
            keep: 0.5,
            rescale: false,
        }),
    ] {
        for top_blocks in [0, 1] {
            let placement = place(0, top_blocks, Labels::Client);
            let blueprint = Blueprint {
                hidden: spec.clone(),
                ..blueprint("llama", placement, &EXACT)
            };
            let mut halves = Halves::open(&blueprint, way);
            let batch = batch(&halves.client);
            let before = halves.server.tensors();
            let (loss, named) = halves.step(&batch, GradientCodec::Int8, way);
            assert!(loss.is_finite(), "{spec}");
            let learned = named
                .iter()
                .filter(|(name, _)| name.starts_with("VQ.quantizer_hidden"))
                .map(|(name, g)| (name.clone(), floats(g.clone())))
                .collect::<BTreeMap<_, _>>();
            let has = |what: &str| {
                let own = learned.iter().filter(|(name, _)| name.contains(what));
                own.flat_map(|(_, g)| g).any(|g| *g != 0.0)
            };
            let recorded = |tensors: &[qtl_model::weights::NamedTensor]| -> Vec<Vec<f32>> {
                let own = tensors.iter().filter(|t| t.name.contains("running_"));
                own.map(|t| t.data.clone()).collect()
            };
            let after = halves.server.tensors();
            if matches!(spec, QuantizerSpec::Fsq(_)) {
                assert!(has("in_proj") && has("out_proj"), "{spec}");
            }
            let moved = recorded(&before) != recorded(&after);
            let records = spec == fsq(Statistics::Channel);
            assert_eq!(moved, records, "{spec}: what is recorded moves");
        }
    }
}

#[test]
fn what_the_server_is_told_of_the_labels_is_where_they_stand() {
    let way = Way {
        lora: false,
        activation: DType::F32,
    };
    let halves = Halves::open(
        &blueprint("llama", place(0, 0, Labels::Client), &EXACT),
        way,
    );
    let top = halves.client.top.as_deref().unwrap();
    let mut batch = batch(&halves.client);
    let wanted = top.wanted(&batch.spliced).unwrap();
    for label in batch.spliced.labels.iter_mut().filter(|l| **l != IGNORE) {
        *label = (*label + 7) % 30;
    }
    assert_eq!(top.wanted(&batch.spliced).unwrap(), wanted);
    let halves = Halves::open(
        &blueprint("llama", place(0, 1, Labels::Client), &EXACT),
        way,
    );
    let top = halves.client.top.as_deref().unwrap();
    assert_eq!(top.wanted(&batch.spliced), None, "not even that");
}

#[test]
fn nothing_supervised_teaches_nothing() {
    let way = Way {
        lora: false,
        activation: DType::F32,
    };
    for placement in PLACEMENTS {
        let mut halves = Halves::open(&blueprint("llama", placement, &EXACT), way);
        let mut batch = batch(&halves.client);
        batch.spliced.labels.fill(IGNORE);
        let (loss, named) = halves.step(&batch, GradientCodec::F32, way);
        assert_eq!(loss, 0.0);
        for (name, g) in values(named) {
            assert!(g.iter().all(|g| *g == 0.0), "{placement:?} {name}");
        }
    }
}

#[test]
fn a_message_of_another_placement_is_refused() {
    let way = Way {
        lora: false,
        activation: DType::F32,
    };
    let device = Device::default();
    let all = |_: &str| true;
    let open = |top_blocks, labels| {
        Halves::open(
            &blueprint("llama", place(0, top_blocks, labels), &EXACT),
            way,
        )
    };
    let mut here = open(0, Labels::Server);
    let mut there = open(0, Labels::Client);
    let mut behind = open(1, Labels::Client);
    let batch = batch(&here.client);
    let (cut, _) = here.client.forward(&batch, 0, &all);
    let targets = targets::encode(&batch.spliced.labels, 30);
    let error = there
        .server
        .step(&cut, &targets, &all, &device)
        .unwrap_err();
    assert_eq!(error, StepError::Labels { here: "client" });
    let error = here
        .server
        .forward_hidden(&cut, None, 0, &all, &device)
        .err()
        .unwrap();
    assert_eq!(error, StepError::Labels { here: "server" });
    let mask = there.client.top.as_deref().unwrap().wanted(&batch.spliced);
    let rise = |halves: &mut Halves, wanted| {
        let refused = halves.server.forward_hidden(&cut, wanted, 0, &all, &device);
        refused.err().unwrap().to_string()
    };
    assert!(rise(&mut there, None).contains("no mask of supervised rows"));
    assert!(rise(&mut there, Some(&targets)).contains("column of bits"));
    assert!(rise(&mut behind, mask.as_ref()).contains("is a mask"));
    let short = targets::encode_mask([true].into_iter());
    assert!(rise(&mut there, Some(&short)).contains("1 text rows"));
    let hidden = here.client.encode(&batch).text;
    let top = there.client.top.as_deref().unwrap();
    let error = top.learn(Some(&hidden), &batch.spliced, &all, &device);
    assert!(error.unwrap_err().to_string().contains("hidden rows"));
}

fn answer(halves: &Halves, sampling: Sampling) -> Result<Vec<Vec<u32>>, StepError> {
    let span = |ids: &[i64]| {
        [TokenSpan {
            branch: 0,
            ids: ids.to_vec(),
            labels: vec![IGNORE; ids.len()],
        }]
    };
    let (a, b) = (span(&[1, 4, 9, 3]), span(&[1, 12]));
    let samples = [&a, &b].map(|spans| Sample {
        spans,
        pictures: 0..0,
    });
    let prompts = Batch {
        pictures: None,
        spliced: splice(&samples, 1, 40).unwrap(),
    };
    let how = Answering {
        end: Vec::new(),
        longest: 6,
        sampling,
    };
    let mut remote = InProcess::new(&halves.server);
    let mut seen = |sequence: usize, _| sequence == 0;
    answers(&halves.client, &prompts, &mut remote, &how, &mut seen)
}

#[test]
fn answers_are_the_same_whoever_chooses_and_only_the_client_draws() {
    let way = Way {
        lora: false,
        activation: DType::F32,
    };
    let sampling = Sampling {
        temperature: 1.5,
        top_p: 0.9,
        seed: 2,
    };
    let mut given = Vec::new();
    let mut drawn = Vec::new();
    for placement in PLACEMENTS {
        let halves = Halves::open(&blueprint("llama", placement, &EXACT), way);
        given.push(answer(&halves, Sampling::GREEDY).unwrap());
        match (placement.labels, answer(&halves, sampling)) {
            (Labels::Server, refused) => assert_eq!(refused, Err(StepError::Drawn)),
            (Labels::Client, answers) => drawn.push(answers.unwrap()),
        }
    }
    assert_eq!([given[0][0].len(), given[0][1].len()], [6, 1]);
    assert!(given.iter().all(|other| *other == given[0]), "{given:?}");
    assert!(drawn.iter().all(|other| *other == drawn[0]), "{drawn:?}");
    assert_ne!(drawn[0], given[0]);
}
