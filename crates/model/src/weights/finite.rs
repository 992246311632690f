//! Weights that are no numbers: one of them, and every answer of the model is nonsense.

use std::fmt::{Display, Formatter, Result};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Values of a tensor that are NaN or infinite as 32-bit floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    count: usize,
    /// The first one, in row-major order.
    first: usize,
}

/// Collects them from the pieces of a tensor, which several threads look at.
#[derive(Debug)]
pub(super) struct Flaws {
    count: AtomicUsize,
    first: AtomicUsize,
}

impl Default for Flaws {
    fn default() -> Self {
        Self {
            count: AtomicUsize::new(0),
            first: AtomicUsize::new(usize::MAX),
        }
    }
}

impl Flaws {
    /// Looks at `values`, of which the first is number `start` of the tensor.
    pub(super) fn look(&self, start: usize, values: &[f32]) {
        // NaN and infinity have all bits of the exponent: one more in its lowest place carries into the sign's. These three
        // operations every processor does many values at a time.
        let carried = |value: &f32| (value.to_bits() & 0x7fff_ffff).wrapping_add(0x0080_0000);
        let flawed = |carried: u32| carried >> 31 == 1;
        if flawed(values.iter().map(carried).fold(0, |all, bits| all | bits)) {
            self.note(start, values.iter().map(|value| flawed(carried(value))));
        }
    }

    /// The same for the bits of bfloat16 values.
    pub(super) fn look_bf16(&self, start: usize, values: &[u16]) {
        let carried = |value: &u16| (value & 0x7fff).wrapping_add(0x0080);
        let flawed = |carried: u16| carried >> 15 == 1;
        if flawed(values.iter().map(carried).fold(0, |all, bits| all | bits)) {
            self.note(start, values.iter().map(|value| flawed(carried(value))));
        }
    }

    fn note(&self, start: usize, flawed: impl Iterator<Item = bool>) {
        let flawed = flawed.enumerate().filter(|(_, flawed)| *flawed);
        let places: Vec<usize> = flawed.map(|(i, _)| start + i).collect();
        self.count.fetch_add(places.len(), Ordering::Relaxed);
        if let Some(first) = places.first() {
            self.first.fetch_min(*first, Ordering::Relaxed);
        }
    }

    /// What was found, if anything.
    pub(super) fn found(self) -> Option<Flaw> {
        let (count, first) = (self.count.into_inner(), self.first.into_inner());
        (count > 0).then_some(Flaw { count, first })
    }
}

/// A tensor with such values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFinite {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) flaw: Flaw,
}

impl Display for NotFinite {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut flat = self.flaw.first;
        let mut index = vec![0; self.shape.len()];
        for (at, size) in index.iter_mut().zip(&self.shape).rev() {
            *at = flat % size;
            flat /= size;
        }
        let all: usize = self.shape.iter().product();
        let Self { name, flaw, .. } = self;
        write!(
            f,
            "{name}: {} of {all} values, the first at {index:?}",
            flaw.count
        )
    }
}

/// Several of them, a line each.
pub(super) fn listing(tensors: &[NotFinite]) -> String {
    const SHOWN: usize = 8;
    let mut lines: Vec<String> = tensors
        .iter()
        .take(SHOWN)
        .map(NotFinite::to_string)
        .collect();
    if tensors.len() > SHOWN {
        lines.push(format!("and {} more tensors", tensors.len() - SHOWN));
    }
    lines.join("\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_counted_and_found() {
        let flaws = Flaws::default();
        flaws.look(0, &[1.0, -0.0, f32::MAX, f32::MIN_POSITIVE / 2.0]);
        flaws.look_bf16(4, &[0x7f7f, 0xff7f, 0x0001]);
        assert_eq!(Flaws::default().found(), None);
        flaws.look(10, &[0.0, f32::NEG_INFINITY, -f32::NAN]);
        flaws.look_bf16(7, &[0, 0, 0xff80]);
        let flaw = flaws.found().unwrap();
        assert_eq!((flaw.count, flaw.first), (3, 9));
        let tensor = NotFinite {
            name: "a.weight".into(),
            shape: vec![5, 4],
            flaw,
        };
        assert_eq!(
            tensor.to_string(),
            "a.weight: 3 of 20 values, the first at [2, 1]"
        );
    }
}
