//! Elements are counted through before the library reads them: it calls itself for every sequence within a sequence, which
//! ends the program where they do not end, and takes memory for what an element says of its length.

use super::file::{LONG, MARK_OF_ITEMS};

/// Sequences within sequences. The standard's own go a handful deep.
const DEEPEST: usize = 64;

const UNDEFINED: u32 = u32::MAX;
const ITEM: [u8; 2] = [0x00, 0xe0];
/// The group of the pixels.
const PIXELS: [u8; 2] = [0xe0, 0x7f];

/// How the elements of a data set are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// Whether they say their kind.
    pub explicit: bool,
    /// Whether the high byte comes first.
    pub big: bool,
}

/// A sequence or an item that is open: where it ends, if it says so, and how what was around it is written.
struct Open {
    end: Option<usize>,
    around: Form,
    /// Whether its items are bytes, as packed pixels are.
    raw: bool,
}

/// Whether every element ends within the bytes, and none lies too deep.
pub(super) fn is_sound(bytes: &[u8], mut form: Form) -> bool {
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    loop {
        while let Some(last) = open.pop_if(|last| last.end.is_some_and(|end| at >= end)) {
            form = last.around;
        }
        let rest = &bytes[at..];
        let Some(head) = rest.first_chunk::<8>() else {
            // What is too short for an element is the library's to judge.
            return true;
        };
        let half = |at: usize| match form.big {
            true => [head[at + 1], head[at]],
            false => [head[at], head[at + 1]],
        };
        let whole = |bytes: [u8; 4]| match form.big {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        };
        let marks = half(0) == MARK_OF_ITEMS;
        let kind = [head[4], head[5]];
        let long = LONG.iter().any(|long| **long == kind);
        let (size, length) = match (marks, form.explicit) {
            (false, true) if long => {
                let Some(length) = rest.get(8..12).and_then(|four| four.first_chunk()) else {
                    return true;
                };
                (12, whole(*length))
            }
            (false, true) => (8, u32::from(u16::from_le_bytes(half(6)))),
            _ => (8, whole([head[4], head[5], head[6], head[7]])),
        };
        at += size;
        if marks && half(2) != ITEM {
            // The end of an item or of a sequence.
            if let Some(last) = open.pop() {
                form = last.around;
            }
            continue;
        }
        let inner = rest.get(size..).unwrap_or_default();
        let items = inner.first_chunk().is_some_and(|first: &[u8; 4]| {
            let [low, high] = MARK_OF_ITEMS;
            [[low, high], [high, low]].contains(&[first[0], first[1]])
        });
        let end = match length {
            UNDEFINED => None,
            length => match at.checked_add(length as usize) {
                Some(end) if end <= bytes.len() => Some(end),
                _ => return false,
            },
        };
        if marks && open.last().is_some_and(|last| last.raw) {
            let Some(end) = end else {
                return false;
            };
            at = end;
            continue;
        }
        let nested = marks || end.is_none() || items && (!form.explicit || kind == *b"SQ");
        match end {
            Some(end) if !nested => at = end,
            end => {
                if open.len() >= 2 * DEEPEST {
                    return false;
                }
                let pixels = half(0) == PIXELS;
                open.push(Open {
                    end,
                    around: form,
                    raw: !marks && (pixels || form.explicit && ![*b"SQ", *b"UN"].contains(&kind)),
                });
                // What is of unknown kind and has items in it is written without kinds.
                if kind == *b"UN" && form.explicit && !marks {
                    form.explicit = false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Form = Form {
        explicit: true,
        big: false,
    };

    fn element(kind: &[u8; 2], length: u32, value: &[u8]) -> Vec<u8> {
        let mut bytes = [&[0x08, 0, 0x40, 0x11][..], kind, &[0, 0]].concat();
        bytes.extend(length.to_le_bytes());
        bytes.extend(value);
        bytes
    }

    fn item(length: u32, value: &[u8]) -> Vec<u8> {
        [&[0xfe, 0xff, 0x00, 0xe0][..], &length.to_le_bytes(), value].concat()
    }

    /// So many sequences within each other, of unknown lengths or of known ones.
    fn nested(depth: usize, known: bool, kind: &[u8; 2]) -> Vec<u8> {
        (0..depth).fold(Vec::new(), |inner, _| {
            let said = |bytes: &[u8]| match known {
                true => bytes.len() as u32,
                false => UNDEFINED,
            };
            let item = item(said(&inner), &inner);
            element(kind, said(&item), &item)
        })
    }

    #[test]
    fn what_lies_too_deep_is_not_read() {
        for known in [true, false] {
            assert!(is_sound(&nested(20, known, b"SQ"), FORM));
            assert!(!is_sound(&nested(2000, known, b"SQ"), FORM));
        }
        assert!(!is_sound(&nested(2000, false, b"UN"), FORM));
        // One after the other is not one within the other.
        assert!(is_sound(&nested(1, true, b"SQ").repeat(5000), FORM));
    }

    #[test]
    fn packed_pixels_are_bytes() {
        let packed = [item(0, &[]), item(8, &[0xff; 8])].concat();
        let mut bytes = element(b"OB", UNDEFINED, &packed);
        bytes.splice(..4, [0xe0, 0x7f, 0x10, 0x00]);
        assert!(is_sound(&bytes, FORM));
        bytes.truncate(bytes.len() - 1);
        assert!(!is_sound(&bytes, FORM), "cut off");
    }

    #[test]
    fn what_says_to_be_longer_than_the_file_is_not_read() {
        assert!(is_sound(&element(b"OW", 4, &[1; 4]), FORM));
        assert!(!is_sound(&element(b"OW", 0xffff_fff0, &[1; 4]), FORM));
    }
}
