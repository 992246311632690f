//! Layouts in fewer bytes: numbers by binary arithmetic coding, each bit with odds that both sides learn while they code it.
//!
//! The number of sequences, then for each sequence the number of its spans, and for each span its tag (twice its branch, plus one for
//! text) and its rows. A number is the one that stands at the same place of the sequence before or not (one bit), and if not, as many
//! zeros as it has binary digits behind the first, a one, and those digits, of one more than it is (Elias gamma code).

use qtl_codec::arithmetic::{Choose, Decoder, Encoder};

use crate::limits::Limits;
use crate::message::{MessageError, bound};
use crate::{Layout, Sequence, Span, SpanKind};

/// Digits that have odds of their own, by those before them; further ones are as likely as not.
const LEARNED: u32 = 4;
/// What the odds of a bit add up to.
const EVER: u32 = 1 << 16;
/// Most digits of a number, and one.
const MOST: usize = 33;

/// Odds of a bit, and how much is known of them.
#[derive(Clone, Copy)]
struct Odds {
    /// That it is one, of [`EVER`].
    one: u32,
    seen: u32,
}

impl Default for Odds {
    fn default() -> Self {
        Self {
            one: EVER / 2,
            seen: 0,
        }
    }
}

impl Odds {
    /// Twice the weight of what was known before.
    const MOST_SEEN: u32 = 30;

    fn learn(&mut self, bit: bool) {
        let target = i64::from(u32::from(bit) * EVER);
        let step = (target - i64::from(self.one)) * 2 / i64::from(2 * self.seen + 3);
        // Neither is ever certain.
        self.one = (i64::from(self.one) + step).clamp(256, i64::from(EVER) - 256) as u32;
        self.seen = (self.seen + 1).min(Self::MOST_SEEN);
    }
}

/// Odds of numbers of one kind.
#[derive(Clone)]
struct Numbers {
    same: Odds,
    longer: [Odds; MOST],
    digits: [[Odds; 1 << LEARNED]; MOST],
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            same: Odds::default(),
            longer: [Odds::default(); MOST],
            digits: [[Odds::default(); 1 << LEARNED]; MOST],
        }
    }
}

fn learned(bits: &mut impl Choose, odds: &mut Odds, wanted: bool) -> bool {
    let bit = bits.choose(&[EVER - odds.one, odds.one], Some(usize::from(wanted))) == 1;
    odds.learn(bit);
    bit
}

impl Numbers {
    /// A number; `before`: the one at the same place.
    fn next(&mut self, bits: &mut impl Choose, before: Option<u32>, wanted: Option<u32>) -> u32 {
        if let Some(before) = before
            && learned(bits, &mut self.same, wanted == Some(before))
        {
            return before;
        }
        let wanted = wanted.map_or(1, |n| u64::from(n) + 1);
        let digits = wanted.ilog2() as usize;
        let mut count = 0;
        while count < MOST - 1 && learned(bits, &mut self.longer[count], count < digits) {
            count += 1;
        }
        let mut value = 1u64;
        for digit in (0..count as u32).rev() {
            let one = wanted >> digit & 1 == 1;
            let place = count as u32 - 1 - digit;
            let bit = match place < LEARNED {
                true => learned(bits, &mut self.digits[count][value as usize], one),
                false => bits.choose(&[1, 1], Some(usize::from(one))) == 1,
            };
            value = value << 1 | u64::from(bit);
        }
        (value - 1) as u32
    }
}

/// Odds of all numbers of a layout.
#[derive(Default)]
struct Model {
    sequences: Numbers,
    spans: Numbers,
    tags: Numbers,
    /// Of image spans and of text spans.
    rows: [Numbers; 2],
}

fn tag(span: &Span) -> u32 {
    span.branch << 1 | u32::from(span.kind == SpanKind::Text)
}

pub(super) fn to_bytes(layout: &Layout) -> Vec<u8> {
    let mut writer = Encoder::default();
    let mut model = Box::<Model>::default();
    let count = layout.sequences.len() as u32;
    model.sequences.next(&mut writer, None, Some(count));
    let mut before: Option<&Sequence> = None;
    for sequence in &layout.sequences {
        let spans = sequence.spans.len() as u32;
        let known = before.map(|before| before.spans.len() as u32);
        model.spans.next(&mut writer, known, Some(spans));
        for (at, span) in sequence.spans.iter().enumerate() {
            let known = before.and_then(|before| before.spans.get(at));
            let tag = tag(span);
            model
                .tags
                .next(&mut writer, known.map(self::tag), Some(tag));
            let rows = &mut model.rows[(tag & 1) as usize];
            rows.next(&mut writer, known.map(|span| span.len), Some(span.len));
        }
        before = Some(sequence);
    }
    match writer.finish() {
        // A layout is never nothing: zeros follow a code's end in any case.
        bytes if bytes.is_empty() => vec![0],
        bytes => bytes,
    }
}

/// The layout that [`to_bytes`] wrote, of no more sequences and spans than `limits` say.
pub(super) fn from_bytes(bytes: &[u8], limits: &Limits) -> Result<Layout, MessageError> {
    let mut reader = Decoder::new(bytes);
    let mut model = Box::<Model>::default();
    let count = model.sequences.next(&mut reader, None, None) as usize;
    bound("sequences of the layout", count, limits.sequences)?;
    let mut layout = Layout::default();
    let mut all = 0;
    for _ in 0..count {
        let before = layout.sequences.last();
        let known = before.map(|before| before.spans.len() as u32);
        let spans = model.spans.next(&mut reader, known, None) as usize;
        all += spans;
        bound("spans of the layout", all, limits.spans)?;
        let mut sequence = Sequence::default();
        for at in 0..spans {
            let known = before.and_then(|before| before.spans.get(at));
            let tag = model.tags.next(&mut reader, known.map(self::tag), None);
            let rows = &mut model.rows[(tag & 1) as usize];
            sequence.spans.push(Span {
                kind: match tag & 1 {
                    1 => SpanKind::Text,
                    _ => SpanKind::Image,
                },
                len: rows.next(&mut reader, known.map(|span| span.len), None),
                branch: tag >> 1,
            });
        }
        layout.sequences.push(sequence);
    }
    match to_bytes(&layout) == bytes {
        true => Ok(layout),
        false => Err(MessageError::Field {
            field: "Cut.packed",
            value: format!("{} bytes", bytes.len()),
            expected: "a layout as it is packed",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(sequences: usize, turns: u32) -> Layout {
        let mut state = 7u32;
        let mut drawn = |most: u32| {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            (state >> 16) % most
        };
        let mut sequence = || {
            let picture = Span {
                kind: SpanKind::Image,
                len: 16,
                branch: 0,
            };
            let turn = |branch| Span {
                kind: SpanKind::Text,
                len: 8 + drawn(8),
                branch,
            };
            let mut spans = vec![picture];
            spans.extend((1..=turns).map(turn));
            Sequence { spans }
        };
        Layout {
            sequences: (0..sequences).map(|_| sequence()).collect(),
        }
    }

    #[test]
    fn packed_layouts_come_back() {
        let span = |kind, len, branch| Span { kind, len, branch };
        let odd = Layout {
            sequences: vec![
                Sequence::default(),
                Sequence {
                    spans: vec![
                        span(SpanKind::Text, 1 << 24, Span::MAX_BRANCH - 1),
                        span(SpanKind::Image, 0, 0),
                    ],
                },
                Sequence {
                    spans: vec![span(SpanKind::Image, 3, 7)],
                },
            ],
        };
        for layout in [Layout::default(), odd, layout(1, 0), layout(40, 3)] {
            let bytes = to_bytes(&layout);
            assert!(!bytes.is_empty());
            assert_eq!(from_bytes(&bytes, &Limits::default()).unwrap(), layout);
        }
    }

    #[test]
    fn eight_pictures_with_five_questions_take_few_bytes() {
        let layout = layout(8, 5);
        let listed = super::super::layout::to_proto(&layout);
        assert_eq!(listed.len(), 104);
        // 40 lengths of three bits are 15 bytes.
        let packed = to_bytes(&layout).len();
        assert!(packed <= 34, "{packed} bytes");
    }

    #[test]
    fn what_is_no_packed_layout_is_refused_within_its_limits() {
        let whole = to_bytes(&layout(8, 5));
        let few = Limits {
            sequences: 7,
            ..Limits::default()
        };
        assert!(from_bytes(&whole, &few).is_err());
        let few = Limits {
            spans: 47,
            ..Limits::default()
        };
        assert!(from_bytes(&whole, &few).is_err());
        let longer = [&whole[..], &[0]].concat();
        assert!(from_bytes(&longer, &Limits::default()).is_err());
        let mut state = 1u32;
        for _ in 0..20_000 {
            let mut wrong = whole.clone();
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let at = (state >> 8) as usize % wrong.len();
            wrong[at] ^= 1 << (state >> 29);
            if state & 64 == 0 {
                wrong.truncate(at);
            }
            let few = Limits {
                spans: 1 << 10,
                sequences: 1 << 8,
                ..Limits::default()
            };
            if let Ok(layout) = from_bytes(&wrong, &few) {
                assert_eq!(to_bytes(&layout), wrong);
            }
        }
    }
}
