//! What a measurement says of the bytes on the wire.

use qtl_model::Device;
use qtl_model::edge::TextRows;
use qtl_model::quant::QuantizerSpec;
use qtl_model::quant::gradient::GradientCodec;
use qtl_train::communication::{Sent, Shape, Workload, measure};

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
            TextRows::All,
            &device,
        )
        .unwrap();
        is_framed("up", measured.up);
        is_framed("down", measured.down);
    }
}
