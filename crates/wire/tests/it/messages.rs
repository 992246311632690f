//! Bytes to messages: round trips, limits, and hostile bytes.

use proptest::prelude::*;
use qtl_wire::limits::Limits;
use qtl_wire::message::*;
use qtl_wire::verb::{Answer, Average, Finish, Open, Pool, Request, Save};
use qtl_wire::*;

use crate::greeting::{Desk, hello, on, owner};
use crate::toy::layout;

fn span() -> impl Strategy<Value = Span> {
    (any::<bool>(), 0u32..2000, 0u32..9).prop_map(|(image, len, branch)| Span {
        kind: if image {
            SpanKind::Image
        } else {
            SpanKind::Text
        },
        len,
        branch,
    })
}

fn any_layout() -> impl Strategy<Value = Layout> {
    let sequence = prop::collection::vec(span(), 0..5).prop_map(|spans| Sequence { spans });
    prop::collection::vec(sequence, 0..5).prop_map(|sequences| Layout { sequences })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

fn cut() -> impl Strategy<Value = Cut> {
    let parts = (bytes(), bytes(), bytes(), any_layout(), any::<bool>());
    parts.prop_map(|(image, text, text_index, layout, packed)| Cut {
        image,
        text,
        text_index,
        layout,
        packed,
    })
}

/// A request that may come on the training lane.
fn training() -> impl Strategy<Value = Request> {
    prop_oneof![
        (cut(), bytes(), any::<Option<u64>>()).prop_map(|(cut, targets, step)| {
            let forward = Forward { cut, targets, step };
            forward.into()
        }),
        (bytes(), bytes(), any::<u64>(), any::<u64>()).prop_map(
            |(image, text, image_rows, text_rows)| {
                let pool = Pool {
                    image,
                    text,
                    image_rows,
                    text_rows,
                };
                pool.into()
            }
        ),
        (any::<u64>(), any::<u64>(), bytes()).prop_map(|(at, samples, weights)| {
            let average = Average {
                at,
                samples,
                weights,
            };
            average.into()
        }),
        (bytes(), bytes()).prop_map(|(image, text)| Calibration { image, text }.into()),
        any::<u64>().prop_map(|at| Save { at }.into()),
        any::<u64>().prop_map(|at| Finish { at }.into()),
    ]
}

fn next() -> impl Strategy<Value = Request> {
    (bytes(), prop::collection::btree_set(0u32..600, 0..6)).prop_map(|(text, keep)| {
        let keep = keep.into_iter().collect();
        Next { text, keep }.into()
    })
}

fn client_message() -> impl Strategy<Value = ClientMessage> {
    prop_oneof![
        (any::<u64>(), training()).prop_map(|(sequence, request)| on(0, sequence, request)),
        (1u32.., cut()).prop_map(|(lane, cut)| on(lane, 0, Open(cut))),
        (1u32.., any::<u64>(), next()).prop_map(|(lane, sequence, next)| on(lane, sequence, next)),
        (1u32.., any::<u64>())
            .prop_map(|(lane, sequence)| ClientMessage::End(On { lane, sequence })),
        (any::<u64>(), any::<u32>(), prop::option::of(any::<u64>())).prop_map(
            |(instance, attempt, answered)| {
                let mut greeting = hello(instance, attempt);
                greeting.answered = answered;
                greeting.saved = vec![4, 8];
                ClientMessage::Greeting(greeting)
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn messages_come_back_as_they_were(message in client_message()) {
        let limits = Limits::default();
        let frame = encode_client(message.clone(), &limits).unwrap();
        let parts = frame.tally;
        prop_assert_eq!(parts.bytes, frame.bytes.len() as u64);
        prop_assert_eq!(parts.image + parts.text + parts.index + parts.targets + parts.framing, parts.bytes);
        prop_assert_eq!(decode_client(&frame.bytes, &limits).unwrap(), message);
    }

    #[test]
    fn garbage_never_panics(garbage in prop::collection::vec(any::<u8>(), 0..300)) {
        let limits = Limits::default();
        let _ = decode_client(&garbage, &limits);
        let _ = decode_server(&garbage, &limits);
    }

    #[test]
    fn damaged_messages_never_panic(
        message in client_message(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let limits = Limits::default();
        let mut bytes = encode_client(message, &limits).unwrap().bytes.to_vec();
        bytes.truncate(cut.index(bytes.len() + 1));
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        let _ = decode_server(&bytes, &limits);
        let mut desk = Desk::new();
        // Whatever it is, the server answers, and nothing is applied without a greeting.
        let (heard, _) = desk.say_bytes(owner(1), &bytes);
        prop_assert_eq!(heard.len(), 1);
        prop_assert!(desk.work.log.lock().unwrap().applied.is_empty());
    }
}

#[test]
fn a_layout_costs_a_few_bytes_per_span() {
    let limits = Limits::default();
    let size = |layout| {
        let cut = Cut {
            layout,
            ..Cut::default()
        };
        encode_client(on(1, 0, Open(cut)), &limits)
            .unwrap()
            .bytes
            .len()
    };
    let bytes = size(layout()) - size(Layout::default());
    // Five spans in two sequences: numbers, one of which takes two bytes, and a field's header.
    assert_eq!(bytes, 2 + 6 + 5 + 2, "{bytes} bytes");
}

/// Bytes that protobuf takes for a number.
fn digits(mut n: u64) -> usize {
    let mut count = 1;
    while n >= 0x80 {
        count += 1;
        n >>= 7;
    }
    count
}

/// Bytes of a field with its length before it; nothing for an empty one.
fn part(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        n => 1 + digits(n as u64) + n,
    }
}

/// What version 1 of the protocol took for a step and its answer: three lists in a message of their own for the layout,
/// the step's number in the message, and the number of tokens in the answer.
fn version_1(step: u64, f: &Forward, b: &Backward, tokens: u64) -> (usize, usize) {
    let list =
        |numbers: &mut dyn Iterator<Item = u32>| part(numbers.map(|n| digits(n.into())).sum());
    let layout = &f.cut.layout;
    let layout = list(&mut layout.sequences.iter().map(|s| s.spans.len() as u32))
        + list(&mut layout.spans().map(|span| span.len))
        + list(
            &mut layout
                .spans()
                .map(|span| span.branch << 1 | u32::from(span.kind == SpanKind::Text)),
        );
    let number = |n: u64| if n == 0 { 0 } else { 1 + digits(n) };
    let containers = [&f.cut.image, &f.cut.text, &f.cut.text_index, &f.targets];
    let up: usize = containers.iter().map(|c| part(c.len())).sum();
    let down = part(b.image.len()) + part(b.text.len()) + 3 * 9;
    (
        part(up + part(layout) + number(step)),
        part(down + number(step) + number(tokens)),
    )
}

#[test]
fn a_step_is_no_longer_than_it_was_without_lanes() {
    let limits = Limits::default();
    let span = |kind, len, branch| Span { kind, len, branch };
    for (batch, turns, rows, bytes) in [
        (1, 1, 20, 200),
        (1, 1, 3000, 900_000),
        (8, 5, 14, 3_000),
        (32, 9, 60, 700_000),
    ] {
        let sequence = Sequence {
            spans: std::iter::once(span(SpanKind::Image, 16, 0))
                .chain((1..=turns).map(|turn| span(SpanKind::Text, rows, turn)))
                .collect(),
        };
        let forward = Forward {
            cut: Cut {
                image: vec![1; bytes],
                text: vec![1; bytes / 2],
                text_index: vec![1; bytes / 20],
                layout: Layout {
                    sequences: vec![sequence; batch],
                },
                packed: false,
            },
            targets: vec![1; bytes / 10],
            step: None,
        };
        let backward = Backward {
            loss: 1.5,
            image: vec![1; bytes],
            text: vec![1; bytes / 2],
            compute_seconds: 0.5,
            coding_seconds: 0.25,
        };
        for (step, saves) in [
            (0, 0),
            (1, 0),
            (126, 1),
            (127, 1),
            (5_000, 50),
            (16_382, 80),
        ] {
            // The calibration comes before the first step, and each checkpoint is a request as well.
            let sequence = step + 1 + saves;
            let up = encode_client(on(0, sequence, forward.clone()), &limits).unwrap();
            let answer =
                ServerMessage::Answer(On { lane: 0, sequence }, Answer::Backward(backward.clone()));
            let down = encode_server(answer, &limits).unwrap();
            let before = version_1(step, &forward, &backward, batch as u64);
            let now = (up.bytes.len(), down.len());
            assert!(
                now.0 <= before.0 && now.1 <= before.1,
                "batch {batch} x {bytes}, step {step}: {now:?} bytes, {before:?} before"
            );
        }
    }
}

fn too_large(outcome: Result<impl std::fmt::Debug, MessageError>, what: &str) {
    match outcome {
        Err(MessageError::TooLarge { part, .. }) => assert!(part.contains(what), "{part}"),
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn sizes_are_bounded_on_both_sides() {
    let wide = Limits::default();
    let tight = Limits {
        message_bytes: 5000,
        small_message_bytes: 200,
        container_bytes: 100,
        sequences: 3,
        spans: 4,
        rows: 1000,
        terms: 2,
        term_bytes: 20,
        saved: 5,
    };
    let spans = |count, len| Layout {
        sequences: vec![Sequence {
            spans: vec![
                Span {
                    kind: SpanKind::Text,
                    len,
                    branch: 0
                };
                count
            ],
        }],
    };
    let forward = |cut: Cut| {
        let targets = Vec::new();
        on(
            0,
            0,
            Forward {
                cut,
                targets,
                step: None,
            },
        )
    };
    let with = |layout| {
        forward(Cut {
            layout,
            ..Cut::default()
        })
    };
    let mut many_terms = hello(1, 1);
    many_terms.terms.fields = ["a", "b", "c"].map(|f| (f.to_owned(), f.to_owned())).into();
    let mut long_term = hello(1, 1);
    long_term.terms.fields = [("a".to_owned(), "b".repeat(21))].into();
    let mut many_saved = hello(1, 1);
    many_saved.terms.fields.clear();
    many_saved.saved = vec![1, 2, 3, 4, 5, 6];
    let table = [
        (
            forward(Cut {
                image: vec![0; 101],
                ..Cut::default()
            }),
            "container",
        ),
        (
            on(
                0,
                0,
                Forward {
                    targets: vec![0; 101],
                    ..Forward::default()
                },
            ),
            "container",
        ),
        (
            forward(Cut {
                text_index: vec![0; 101],
                ..Cut::default()
            }),
            "container",
        ),
        (with(spans(5, 1)), "spans"),
        (with(spans(4, 300)), "rows"),
        (
            with(Layout {
                sequences: vec![Sequence::default(); 4],
            }),
            "sequences",
        ),
        (ClientMessage::Greeting(many_terms), "recipe fields"),
        (
            ClientMessage::Greeting(long_term),
            "value of a recipe field",
        ),
        (ClientMessage::Greeting(many_saved), "checkpoints"),
    ];
    for (message, what) in table {
        too_large(encode_client(message.clone(), &tight), what);
        // A peer that does not keep to the limits when it sends.
        let frame = encode_client(message, &wide).unwrap();
        too_large(decode_client(&frame.bytes, &tight), what);
    }
}

/// A field of protobuf: number, and content with its length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

fn prost_varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[test]
fn small_messages_that_would_grow_large_are_not_decoded() {
    let limits = Limits {
        message_bytes: 64 << 20,
        ..Limits::default()
    };
    // A greeting of a million empty recipe fields: 2 MB that would become 50.
    let greeting = field(3, &field(8, &[]).repeat(1 << 20));
    too_large(decode_client(&greeting, &limits), "without containers");
    // A layout of sixteen million numbers, in one piece, in many, and number by number; of a step and of prompts.
    let whole = field(4, &vec![0; 16 << 20]);
    let pieces = field(4, &vec![0; 1 << 20]).repeat(16);
    let numbers = [4 << 3, 0].repeat(16 << 20);
    for layout in [whole, pieces, numbers] {
        let step = field(6, &field(1, &layout));
        too_large(decode_client(&step, &limits), "layout");
        let open = [vec![1 << 3, 1], field(9, &layout)].concat();
        too_large(decode_client(&open, &limits), "layout");
    }
    // The same in two cuts of one step, which a decoder would make one.
    let half = field(1, &field(4, &vec![0; 5 << 20]));
    too_large(decode_client(&field(6, &half.repeat(2)), &limits), "layout");
    // Numbers of sequences that go on, one by one.
    let keep = [vec![1 << 3, 1], field(10, &[2 << 3, 0].repeat(16 << 20))].concat();
    too_large(decode_client(&keep, &limits), "layout");
    // Two messages in one: protobuf would silently merge them.
    let twice = [field(7, &[]), field(8, &[])].concat();
    assert!(matches!(
        decode_client(&twice, &limits),
        Err(MessageError::Malformed(_))
    ));
    // A server that answers with a million tokens for one prompt.
    let tokens = field(7, &field(1, &vec![0; 1 << 19]));
    too_large(decode_server(&tokens, &limits), "token ids");
}

#[test]
fn fields_that_make_no_sense_are_named() {
    let limits = Limits::default();
    for run in ["../../etc", "a/b", "a\\b", "a b", "..", "naïve"] {
        let mut greeting = hello(1, 1);
        greeting.run = run.to_owned();
        match encode_client(ClientMessage::Greeting(greeting), &limits) {
            Err(MessageError::Field {
                field: "Greeting.run",
                ..
            }) => {}
            other => panic!("{run}: {other:?}"),
        }
    }
    // Three spans counted, none described.
    let layout = field(6, &field(1, &field(4, &[3, 1])));
    match decode_client(&layout, &limits) {
        Err(MessageError::Field {
            field: "Cut.layout",
            value,
            ..
        }) => {
            assert_eq!(value, "3 spans of a sequence, 1 numbers");
        }
        other => panic!("{other:?}"),
    }
    // Sequence 2 goes on twice.
    let next = [vec![1 << 3, 1], field(10, &field(2, &[0, 2, 2]))].concat();
    match decode_client(&next, &limits) {
        Err(MessageError::Field {
            field: "Next.keep",
            value,
            ..
        }) => assert_eq!(value, "2, 2"),
        other => panic!("{other:?}"),
    }
    match decode_client(&field(3, &[]), &limits) {
        Err(MessageError::Field {
            field: "Greeting.purpose",
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_message_has_a_field_for_a_pixel_or_a_file_name() {
    // The only text a client can send: three fields, all of the greeting, all bounded.
    let proto = include_str!("../../proto/split.proto");
    let strings: Vec<&str> = proto
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("string ") || line.starts_with("repeated string"))
        .collect();
    assert_eq!(
        strings,
        [
            "string run = 5;",
            "string field = 1;",
            "string value = 2;",
            "string run = 2;",
            "string sentence = 2;",
            "string field = 3;"
        ]
    );
}

#[test]
fn times_that_are_none_are_no_message() {
    let limits = Limits::default();
    let backward = |compute_seconds, coding_seconds| {
        let backward = Backward {
            compute_seconds,
            coding_seconds,
            ..Backward::default()
        };
        let answer = ServerMessage::Answer(On::default(), Answer::Backward(backward));
        decode_server(&encode_server(answer, &limits).unwrap(), &limits)
    };
    backward(0.0, 3.5).unwrap();
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        for error in [backward(odd, 0.0), backward(0.0, odd)] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("_seconds = "), "{error}");
        }
    }
}
