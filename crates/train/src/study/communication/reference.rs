//! What the reference implementation sends for the same rows, computed from the layout of its tensors.
//!
//! Up, per row of D channels: 10 bytes in clear (a label of 8 bytes, two flags), and
//!
//! - 16-bit floats: 2 D bytes
//! - FSQ: D log2 L bits, packed
//! - NormalFloat: D b bits, per block of 64 channels a scale of one byte and a minimum of four, two bounds of four
//! - TopK of "b bits": a mask of D bits, and 2 bytes for every kept channel: the b D / 16 largest and D / 10 drawn with
//!   replacement, of which some coincide; the expected number is taken
//!
//! Down, for all of them: 4 D bytes. Pickling, 2 to 4 kB a message, and the padding that it sends as text are left out.

use serde::Serialize;

/// One way of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reference {
    /// What it calls it.
    pub method: &'static str,
    /// Bytes up.
    pub up: f64,
    /// Bytes down.
    pub down: f64,
}

/// Labels, attention mask and kind of every row.
const IN_CLEAR: f64 = 10.0;

/// The reference's ways for so many rows, image and text together, of `width` channels.
pub fn reference(rows: f64, width: f64) -> Vec<Reference> {
    let way = |method, bytes_of_a_row: f64| Reference {
        method,
        up: rows * (bytes_of_a_row + IN_CLEAR),
        down: 4.0 * rows * width,
    };
    let packed = |bits: f64| width * bits / 8.0;
    let normal_float = |bits| packed(bits) + 5.0 * (width / 64.0).ceil() + 8.0;
    let top_k = |bits: f64| {
        let largest = (bits * width / 16.0).floor().max(1.0);
        let draws = (width / 10.0).floor().max(1.0);
        let missed = (1.0 - 1.0 / width).powf(draws);
        let kept = width - (width - largest) * missed;
        (width / 8.0).ceil() + 2.0 * kept
    };
    vec![
        way("reference none", packed(16.0)),
        way("reference FSQ L=4", packed(2.0)),
        way("reference FSQ L=8", packed(3.0)),
        way("reference FSQ L=16", packed(4.0)),
        way("reference NF 2 bits", normal_float(2.0)),
        way("reference NF 4 bits", normal_float(4.0)),
        way("reference TopK L=4", top_k(2.0)),
        way("reference TopK L=16", top_k(4.0)),
    ]
}
