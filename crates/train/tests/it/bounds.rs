//! Messages that ended the server, and their like: each is refused by name, and the server goes on.

use std::time::Instant;

use half::f16;
use qtl_codec::{Code, Options, Plane, ScalarData, Scalars, Symbols};
use qtl_train::fuzzing::{Desk, KINDS, asked, greeting};
use qtl_wire::limits::Limits;
use qtl_wire::message::{ClientMessage, ServerMessage, encode_client};
use qtl_wire::verb::{Open, Request};
use qtl_wire::{Calibration, Cut, Forward, Layout, Next, Sequence, Span, SpanKind};

use crate::hostile::{Hostile, bomb};

/// The model without quantizers, and one with them.
const PLAIN: usize = 1;
const FSQ: usize = 0;

struct World {
    desk: Desk,
    instance: u64,
    _dir: tempfile::TempDir,
}

impl World {
    fn open(kind: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            desk: Desk::open(kind, dir.path()).unwrap(),
            instance: 0,
            _dir: dir,
        }
    }

    fn step(&self) -> Forward {
        self.desk.legal().steps[0].clone()
    }

    /// The answer to the last of these requests behind a greeting.
    fn say(&mut self, requests: Vec<Request>) -> ServerMessage {
        self.instance += 1;
        let hello = greeting(&self.desk.legal().terms, self.instance);
        let all = [vec![ClientMessage::Greeting(hello)], asked(requests)].concat();
        let limits = Limits::default();
        let frames: Vec<_> = all
            .into_iter()
            .map(|message| encode_client(message, &limits).unwrap().bytes)
            .collect();
        self.desk.session(&frames).unwrap().pop().unwrap()
    }

    /// The sentence with which the last of the requests is refused; the server is as before.
    fn refused(&mut self, requests: Vec<Request>) -> String {
        let answer = self.say(requests);
        let ServerMessage::Refusal(refusal) = answer else {
            panic!("not refused: {answer:?}");
        };
        self.desk.check().unwrap();
        refusal.sentence
    }
}

fn container(plane: Plane) -> Vec<u8> {
    qtl_codec::encode(&Code::new(vec![plane]), &Options::default())
}

fn symbols(alphabet: u32, rows: usize, cols: usize) -> Vec<u8> {
    let data = vec![0; rows * cols];
    container(
        Symbols::from_u32(alphabet, rows, cols, data)
            .unwrap()
            .into(),
    )
}

fn floats(rows: usize, cols: usize, data: Vec<f32>) -> Vec<u8> {
    let plane = Scalars::new(rows, cols, ScalarData::F32(data)).unwrap();
    container(plane.into())
}

fn layout(sequences: usize, len: u32) -> Layout {
    let span = Span {
        kind: SpanKind::Text,
        len,
        branch: 0,
    };
    Layout {
        sequences: vec![Sequence { spans: vec![span] }; sequences],
    }
}

#[test]
fn a_step_without_sequences() {
    let mut world = World::open(FSQ);
    let mut step = Forward {
        targets: symbols(2, 0, 1),
        ..Forward::default()
    };
    step.cut.text = symbols(4, 0, 8);
    let sentence = world.refused(vec![step.clone().into()]);
    assert!(sentence.contains("0 sequences; 1 to 3"), "{sentence}");
    // Nor pictures alone: there is nothing to learn from.
    let picture = world.step();
    let image = vec![Sequence {
        spans: vec![Span {
            kind: SpanKind::Image,
            len: 12,
            branch: 0,
        }],
    }];
    step.cut.image = picture.cut.image;
    step.cut.layout = Layout { sequences: image };
    let sentence = world.refused(vec![step.into()]);
    assert!(sentence.contains("no text row"), "{sentence}");
}

#[test]
fn a_next_that_keeps_nothing() {
    let mut world = World::open(FSQ);
    let prompt = world.desk.legal().prompt.clone();
    let next = Next {
        text: symbols(4, 0, 8),
        keep: Vec::new(),
    };
    let sentence = world.refused(vec![Open(prompt).into(), next.into()]);
    assert!(sentence.contains("0 sequences; 1 to 128"), "{sentence}");
}

#[test]
fn many_long_sequences_in_a_few_bytes() {
    let mut world = World::open(FSQ);
    let (text, layout) = (symbols(4, 256 * 500, 8), layout(256, 500));
    assert!(text.len() < 17_000);
    let mut prompts = Cut {
        text,
        layout,
        ..Cut::default()
    };
    let step = Forward {
        cut: prompts.clone(),
        targets: symbols(2, 256 * 500, 1),
        step: None,
    };
    let began = Instant::now();
    // Beyond what the server's wire takes at all.
    let sentence = world.refused(vec![step.into()]);
    assert!(
        sentence.contains("sequences of the layout is 256, the limit is 128"),
        "{sentence}"
    );
    prompts.layout.sequences.truncate(100);
    let sentence = world.refused(vec![Open(prompts).into()]);
    assert!(
        sentence.contains("rows of the layout is 50000"),
        "{sentence}"
    );
    assert!(began.elapsed().as_secs() < 5);
}

#[test]
fn a_batch_beyond_the_recipe() {
    let mut world = World::open(PLAIN);
    for (sequences, len, says) in [
        (4, 2, "4 sequences; 1 to 3"),
        (3, 25, "sequence 0 has 25 rows; 1 to 24"),
        (1, 0, "sequence 0 has a span without rows"),
    ] {
        let rows = sequences * len as usize;
        let text = Scalars::new(rows, 8, ScalarData::F16(vec![f16::ONE; rows * 8])).unwrap();
        let step = Forward {
            cut: Cut {
                text: container(text.into()),
                layout: layout(sequences, len),
                ..Cut::default()
            },
            targets: symbols(2, rows, 1),
            step: None,
        };
        let sentence = world.refused(vec![step.into()]);
        assert!(sentence.contains(says), "{sentence}");
    }
}

#[test]
fn a_few_bytes_that_stand_for_a_gigabyte() {
    for kind in 0..KINDS {
        let mut world = World::open(kind);
        let bomb = bomb(1 << 27);
        assert!(bomb.len() < 57);
        let part = |set: &dyn Fn(&mut Forward, Vec<u8>)| {
            let mut step = world.step();
            set(&mut step, bomb.clone());
            Request::from(step)
        };
        let messages = [
            part(&|step, bomb| step.cut.image = bomb),
            part(&|step, bomb| step.cut.text = bomb),
            part(&|step, bomb| step.targets = bomb),
            part(&|step, bomb| step.cut.text_index = bomb),
            Request::from(Calibration {
                text: bomb.clone(),
                ..Calibration::default()
            }),
            Request::from(Open(Cut {
                text: bomb.clone(),
                ..world.desk.legal().prompt.clone()
            })),
        ];
        for message in messages {
            let sentence = world.refused(vec![message]);
            // Slots of rows that go on from earlier ones are no container, and under the rows' checksum.
            let refused = ["134217728 rows", "they were changed"];
            let refused = &refused[..if kind == KINDS - 1 { 2 } else { 1 }];
            let named = refused.iter().any(|what| sentence.contains(what));
            assert!(named, "{sentence}");
        }
    }
}

#[test]
fn a_calibration_that_is_none() {
    let mut world = World::open(FSQ);
    let calibrate = |image: Vec<u8>, text: Vec<u8>| vec![Calibration { image, text }.into()];
    let good = vec![0.5; 16];
    for (at, bad, says) in [
        (3, f32::NAN, "the mean of channel 3 is NaN"),
        (0, f32::INFINITY, "the mean of channel 0 is inf"),
        (7, -3e38, "the mean of channel 7 is -3"),
        (8, 3e38, "the deviation of channel 0 is 3"),
        (9, -1.0, "the deviation of channel 1 is -1"),
        (15, f32::NAN, "the deviation of channel 7 is NaN"),
    ] {
        let mut values = good.clone();
        values[at] = bad;
        let spoiled = floats(2, 8, values);
        for (image, text, part) in [
            (spoiled.clone(), floats(2, 8, good.clone()), "image"),
            (floats(2, 8, good.clone()), spoiled, "text"),
        ] {
            let sentence = world.refused(calibrate(image, text));
            assert!(sentence.contains(says), "{sentence}");
            assert!(
                sentence.contains(&format!("the {part} calibration")),
                "{sentence}"
            );
        }
    }
    let narrow = floats(2, 7, vec![0.5; 14]);
    let sentence = world.refused(calibrate(narrow, Vec::new()));
    assert!(
        sentence.contains("7 channels for a quantizer of 8"),
        "{sentence}"
    );
    let one = floats(1, 8, vec![0.5; 8]);
    let sentence = world.refused(calibrate(Vec::new(), one));
    assert!(
        sentence.contains("the text calibration: it is not two rows"),
        "{sentence}"
    );
}

/// A row that is no number is named; every quantizer that sends numbers of its own.
#[test]
fn features_that_are_none() {
    let mut world = World::open(PLAIN);
    for (bad, says) in [
        (f16::NAN, "NaN"),
        (f16::INFINITY, "inf"),
        (f16::NEG_INFINITY, "-inf"),
    ] {
        let mut step = world.step();
        let (mut code, _) =
            qtl_codec::decode(&step.cut.text, &qtl_codec::Limits::default()).unwrap();
        let Plane::Scalars(plane) = &mut code.planes[0] else {
            panic!("features cross as scalars");
        };
        let ScalarData::F16(data) = &mut plane.data else {
            panic!("of 16 bits");
        };
        data[2 * 8 + 5] = bad;
        step.cut.text = qtl_codec::encode(&code, &Options::default());
        let sentence = world.refused(vec![step.into()]);
        let place = format!("the text features hold {says} at row 2, channel 5");
        assert!(sentence.contains(&place), "{sentence}");
    }
}

/// Whatever is wrong with a message, it is answered or refused, and the server is as before.
#[test]
fn hostile_sessions_leave_no_trace() {
    let mut worlds: Vec<World> = (0..KINDS).map(World::open).collect();
    let legal = worlds.iter().map(|world| world.desk.legal().clone());
    let mut hostile = Hostile::new(7, legal.collect());
    for _ in 0..400 {
        let (kind, frames) = hostile.next();
        worlds[kind].desk.session(&frames).unwrap();
    }
    for world in &mut worlds {
        world.desk.check().unwrap();
    }
}
