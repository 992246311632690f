//! What a measurement says of the bytes on the wire.

use qtl_model::Device;
use qtl_model::edge::TextRows;
use qtl_model::quant::QuantizerSpec;
use qtl_model::quant::gradient::GradientCodec;
use qtl_train::communication::{Sent, Shape, TextSent, Workload, measure};

/// A message has 5 bytes of gRPC before it, and every 16 KiB a head of HTTP/2 (9 bytes) in two TLS records (22 each), the last
/// of them perhaps in one: 36 bytes at least, 0.33 per cent of a long message. Flow control comes on top. A handshake that is
/// counted adds more than these bounds leave, even over all counted steps.
#[track_caller]
fn is_framed(way: &str, sent: Sent) {
    let more = sent.socket_bytes - sent.bytes;
    let bounds = 36.0..0.01 * sent.bytes + 100.0;
    let message = sent.bytes;
    assert!(bounds.contains(&more), "{way}: {more} on top of {message}");
    let bits = sent.bits_per_element * sent.socket_bytes / sent.bytes;
    assert!((sent.socket_bits_per_element - bits).abs() < 1e-9 * bits);
}

#[test]
fn a_socket_carries_the_messages_and_their_frames() {
    let device = Device::default();
    // Some hundred bytes; and 2 MB up and 4 MB down, for which flow control has to speak.
    for (samples, image, channels) in [(1, 15, 16), (8, 255, 512)] {
        let shape = Shape {
            samples,
            image,
            text: 20,
            channels,
        };
        let work = Workload::synthetic(shape, &device);
        let measured = measure(
            &work,
            &QuantizerSpec::NONE,
            &GradientCodec::F32,
            TextSent::ALL,
            &device,
        )
        .unwrap();
        is_framed("up", measured.up);
        is_framed("down", measured.down);
    }
}

/// There is one step, whose rows are whole; they are read as they are.
#[test]
fn rows_against_earlier_ones_are_measured_as_they_cross() {
    let device = Device::default();
    let shape = Shape {
        samples: 2,
        image: 4,
        text: 60,
        channels: 16,
    };
    let work = Workload::synthetic(shape, &device);
    let quantizer = serde_json::from_str::<QuantizerSpec>(r#"{"kind":"fsq","levels":4}"#).unwrap();
    let [whole, told] = [false, true].map(|deltas| {
        let rows = TextRows::Distinct;
        let text = TextSent { rows, deltas };
        measure(&work, &quantizer, &GradientCodec::F32, text, &device).unwrap()
    });
    let more = (told.up.text + told.up.index) - (whole.up.text + whole.up.index);
    assert!(told.up.text != whole.up.text && more.abs() < 64.0, "{more}");
    assert_eq!(told.up.error, whole.up.error);
    assert_eq!(told.down.bytes, whole.down.bytes);
}

/// Behind a block rows are no functions of their tokens: none stands for another.
#[test]
fn text_rows_are_measured_as_training_sends_them() {
    let of = |sets: &[&str]| TextSent::of(&crate::world::recipe("", sets));
    assert_eq!(of(&[]).rows, TextRows::Distinct);
    assert_eq!(of(&["quantizer.text_rows=all"]), TextSent::ALL);
    assert_eq!(of(&["split.bottom_blocks=1"]), TextSent::ALL);
}
