//! What the same tensors would have cost on the wire in other forms, encoded for real on the run's own features, and
//! how alive a code is.

use std::collections::HashSet;

use burn::tensor::Tensor;
use qtl_codec::{Code, Options, Plane, ScalarData};
use qtl_model::edge::Cut;
use qtl_model::quant::{gradient::to_f32, to_f16};
use qtl_model::stage::Rows;

use crate::metrics::{Alternatives, StepRecord};

/// What packing without entropy coding, 16-bit features and 32-bit gradients would have taken in the step of `record`.
/// `hidden`: the shape of the hidden states that came; `width`: that of the features, which a code may be narrower than.
pub fn alternatives(
    record: &StepRecord,
    cut: &Cut,
    features: &Rows,
    hidden: [usize; 2],
    [of_image, of_text]: [usize; 2],
) -> Alternatives {
    let size = |code: &Code, entropy| qtl_codec::encode(code, &Options { entropy }).len() as u64;
    let half = |x: &Tensor<2>| size(&to_f16(x.clone()), false);
    // Floats take the same bytes whatever they are.
    let whole = |x: &Tensor<2>, width| Tensor::<2>::zeros([x.dims()[0], width], &x.device());
    let image = features.image.as_ref().map(|x| whole(x, of_image));
    let text = whole(&features.text, of_text);
    // Everything else in the message, targets and layout, would be the same.
    let others = record.bytes_up - record.bytes_image - record.bytes_text - record.bytes_index;
    let edge = record.hidden.unwrap_or_default();
    let hidden = Tensor::<2>::zeros(hidden, &features.text.device());
    // Of every row, also of those whose gradients came added up. 32-bit floats take the same bytes whatever they are.
    let full = |x: &Tensor<2>| size(&to_f32(x.zeros_like()), false);
    Alternatives {
        packed_image: cut.image.as_ref().map_or(0, |code| size(code, false)),
        packed_text: size(&cut.text, false),
        up_16bit: others + image.as_ref().map_or(0, half) + half(&text)
            - edge.bytes_hidden_gradient
            + match edge.bytes_hidden_gradient {
                0 => 0,
                _ => full(&hidden),
            },
        down_32bit: record.bytes_down - record.bytes_gradient
            + image.as_ref().map_or(0, full)
            + full(&text)
            - edge.bytes_hidden
            + match edge.bytes_hidden {
                0 => 0,
                _ => half(&hidden),
            },
    }
}

/// Different rows per 1,000 rows, and channels that show one symbol only. `None` for a code that has anything else beside
/// symbols for every row, but for a note of the quantizer's that is the same in every code.
pub fn liveliness(code: &Code) -> Option<(f64, u64)> {
    let mut planes = Vec::new();
    for plane in &code.planes {
        match plane {
            Plane::Symbols(symbols) => planes.push(symbols),
            Plane::Scalars(note) if note.rows == 1 && matches!(note.data, ScalarData::U8(_)) => {}
            _ => return None,
        }
    }
    let rows = planes.first()?.rows;
    if rows == 0 || planes.iter().any(|plane| plane.rows != rows) {
        return None;
    }
    let mut whole: Vec<Vec<u32>> = vec![Vec::new(); rows];
    for plane in planes {
        let symbols: Vec<u32> = plane.data.iter().collect();
        let rows = whole.iter_mut().zip(symbols.chunks_exact(plane.cols));
        rows.for_each(|(row, own)| row.extend(own));
    }
    let first = &whole[0];
    let constant = (0..first.len())
        .filter(|column| whole.iter().all(|row| row[*column] == first[*column]))
        .count();
    let different: HashSet<&[u32]> = whole.iter().map(Vec::as_slice).collect();
    Some((
        1000.0 * different.len() as f64 / rows as f64,
        constant as u64,
    ))
}

/// Elements of a tensor that may be absent.
pub fn elements(x: Option<&Tensor<2>>) -> u64 {
    x.map_or(0, |x| x.dims().iter().product::<usize>() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collapsed_code_shows() {
        let plane = |symbols: Vec<u8>| {
            let plane = qtl_codec::Symbols::new(4, 4, 2, qtl_codec::SymbolData::U8(symbols));
            Code::new(vec![plane.unwrap().into()])
        };
        assert_eq!(
            liveliness(&plane(vec![1, 2, 1, 2, 1, 2, 1, 2])),
            Some((250.0, 2))
        );
        assert_eq!(
            liveliness(&plane(vec![0, 2, 1, 2, 2, 2, 3, 2])),
            Some((1000.0, 1))
        );
        let mut several = plane(vec![1, 2, 1, 2, 1, 2, 1, 2]);
        let wide = qtl_codec::Symbols::from_u32(1000, 4, 1, [7, 7, 900, 900]).unwrap();
        several.planes.push(wide.into());
        assert_eq!(liveliness(&several), Some((500.0, 2)));
    }
}
