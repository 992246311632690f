//! Bytes to messages: round trips, limits, and hostile bytes.

use proptest::prelude::*;
use qtl_wire::limits::Limits;
use qtl_wire::message::*;
use qtl_wire::*;

use crate::greeting::{Desk, hello, owner};
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

fn client_message() -> impl Strategy<Value = ClientMessage> {
    prop_oneof![
        (
            any::<u64>(),
            bytes(),
            bytes(),
            bytes(),
            any_layout(),
            bytes()
        )
            .prop_map(|(step, image, text, targets, layout, text_index)| {
                ClientMessage::Forward(Forward {
                    step,
                    image,
                    text,
                    targets,
                    layout,
                    text_index,
                })
            }),
        (any::<u64>(), bytes(), bytes(), any_layout(), bytes()).prop_map(
            |(generation, image, text, layout, text_index)| ClientMessage::Open {
                generation,
                prompt: Prompt {
                    image,
                    text,
                    layout,
                    text_index
                }
            }
        ),
        (
            any::<u64>(),
            any::<u64>(),
            bytes(),
            prop::collection::btree_set(0u32..600, 0..6)
        )
            .prop_map(|(generation, index, text, keep)| ClientMessage::Next {
                generation,
                index,
                rows: Rows {
                    text,
                    keep: keep.into_iter().collect()
                }
            }),
        (bytes(), bytes())
            .prop_map(|(image, text)| ClientMessage::Calibration(Calibration { image, text })),
        any::<u64>().prop_map(ClientMessage::Save),
        any::<u64>().prop_map(ClientMessage::Finish),
        any::<u64>().prop_map(|generation| ClientMessage::Close { generation }),
        (any::<u64>(), any::<u32>(), prop::option::of(any::<u64>())).prop_map(
            |(instance, attempt, live)| {
                let mut greeting = hello(instance, attempt);
                greeting.standing.live = live;
                greeting.standing.saved = vec![4, 8];
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
    let with = Forward {
        layout: layout(),
        ..Forward::default()
    };
    let limits = Limits::default();
    let size = |f: Forward| {
        encode_client(ClientMessage::Forward(f), &limits)
            .unwrap()
            .bytes
            .len()
    };
    let bytes = size(with) - size(Forward::default());
    // Five spans in two sequences: numbers, and four field headers.
    assert_eq!(bytes, 2 + 6 + 5 + 2 + 4 + 2, "{bytes} bytes");
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
    let forward = |f: Forward| ClientMessage::Forward(f);
    let with = |layout| {
        forward(Forward {
            layout,
            ..Forward::default()
        })
    };
    let mut many_terms = hello(1, 1);
    many_terms.terms.fields = ["a", "b", "c"].map(|f| (f.to_owned(), f.to_owned())).into();
    let mut long_term = hello(1, 1);
    long_term.terms.fields = [("a".to_owned(), "b".repeat(21))].into();
    let mut many_saved = hello(1, 1);
    many_saved.terms.fields.clear();
    many_saved.standing.saved = vec![1, 2, 3, 4, 5, 6];
    let table = [
        (
            forward(Forward {
                image: vec![0; 101],
                ..Forward::default()
            }),
            "container",
        ),
        (
            forward(Forward {
                targets: vec![0; 101],
                ..Forward::default()
            }),
            "container",
        ),
        (
            forward(Forward {
                text_index: vec![0; 101],
                ..Forward::default()
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
    let greeting = field(1, &field(8, &[]).repeat(1 << 20));
    too_large(decode_client(&greeting, &limits), "without containers");
    // A layout of sixteen million numbers, in one piece and in many.
    let layout = field(3, &field(5, &field(2, &vec![0; 16 << 20])));
    too_large(decode_client(&layout, &limits), "layout");
    let piece = field(5, &field(2, &vec![0; 1 << 20]));
    too_large(
        decode_client(&field(3, &piece.repeat(16)), &limits),
        "layout",
    );
    // Two messages in one: protobuf would silently merge them.
    let twice = [field(4, &[]), field(5, &[])].concat();
    assert!(matches!(
        decode_client(&twice, &limits),
        Err(MessageError::Malformed(_))
    ));
    // A server that answers with a million tokens for one prompt.
    let tokens = field(6, &field(3, &vec![0; 1 << 19]));
    too_large(decode_server(&tokens, &limits), "token ids");
}

#[test]
fn fields_that_make_no_sense_are_named() {
    let limits = Limits::default();
    for run in ["../../etc", "a/b", "a\\b", "a b", "..", "naïve"] {
        let mut greeting = hello(1, 1);
        greeting.standing.run = run.to_owned();
        match encode_client(ClientMessage::Greeting(greeting), &limits) {
            Err(MessageError::Field {
                field: "Greeting.run",
                ..
            }) => {}
            other => panic!("{run}: {other:?}"),
        }
    }
    // Three spans counted, none described.
    let layout = field(3, &field(5, &field(1, &[3])));
    match decode_client(&layout, &limits) {
        Err(MessageError::Field {
            field: "Layout",
            value,
            ..
        }) => {
            assert_eq!(value, "3 spans counted, 0 lens, 0 tags");
        }
        other => panic!("{other:?}"),
    }
    // Sequence 2 goes on twice.
    match decode_client(&field(7, &field(4, &[0, 2, 2])), &limits) {
        Err(MessageError::Field {
            field: "Next.keep",
            value,
            ..
        }) => assert_eq!(value, "2, 2"),
        other => panic!("{other:?}"),
    }
    match decode_client(&field(1, &[]), &limits) {
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
        let frame = encode_server(ServerMessage::Backward(backward), &limits).unwrap();
        decode_server(&frame.bytes, &limits)
    };
    backward(0.0, 3.5).unwrap();
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        for error in [backward(odd, 0.0), backward(0.0, odd)] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("_seconds = "), "{error}");
        }
    }
}
