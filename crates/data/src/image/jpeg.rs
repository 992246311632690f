//! Whether a JPEG file is whole. The decoder fills what is missing with grey.

/// Walks from marker to marker to the one that ends the picture.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    let mut at = 2;
    loop {
        let Some(skipped) = bytes
            .get(at..)
            .and_then(|rest| rest.iter().position(|&byte| byte == 0xff))
        else {
            return false;
        };
        at += skipped + 1;
        match bytes.get(at) {
            None => return false,
            Some(&END) => return true,
            // Fill bytes; a literal 255 among the coefficients; restart marks and others that have no length.
            Some(0xff) => {}
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(_) => {
                let Some(length) = bytes.get(at + 1..at + 3) else {
                    return false;
                };
                at += 1 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
}

/// What a JPEG picture says of itself before its coefficients.
pub(super) struct Frame {
    /// Width and height.
    pub size: (u32, u32),
    /// Whether a decoder that knows the JPEG data alone takes three components for luminance and colour: by their numbers,
    /// or for want of Adobe's note. Otherwise they are red, green and blue.
    pub luminance: bool,
}

/// The frame of a JPEG picture, lossless ones included.
pub(super) fn frame(bytes: &[u8]) -> Option<Frame> {
    let (mut at, mut noted) = (2, false);
    loop {
        let &[0xff, marker, high, low] = bytes.get(at..at + 4)?.first_chunk::<4>()? else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let body = bytes.get(at + 4..at + 2 + length).unwrap_or_default();
        match (marker, body) {
            // Adobe, and no transform of colours.
            (0xee, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, 0, ..]) => noted = true,
            (0xc0..=0xc3, &[_, y1, y2, x1, x2, count, ref components @ ..]) => {
                let side = |pair| u32::from(u16::from_be_bytes(pair));
                let luminance = match *components {
                    [a, _, _, b, _, _, c, ..] if count == 3 => match [a, b, c] {
                        [1, 2, 3] | [1, 34, 35] => true,
                        [b'R', b'G', b'B'] | [b'r', b'g', b'b'] => false,
                        _ => !noted,
                    },
                    _ => false,
                };
                let size = (side([x1, x2]), side([y1, y2]));
                return Some(Frame { size, luminance });
            }
            _ => {}
        }
        at += 2 + length;
    }
}

#[cfg(test)]
mod tests {
    use super::is_whole;

    #[test]
    fn the_end_counts_and_only_the_pictures_own() {
        // A segment that holds a whole small picture (a preview), coefficients with a literal 255, what comes behind.
        let preview = [0xff, 0xe1, 0x00, 0x06, 0xff, 0xd8, 0xff, 0xd9];
        let scan = [
            0xff, 0xda, 0x00, 0x03, 0x00, 1, 2, 0xff, 0x00, 3, 0xff, 0xd0, 4, 0xff, 0xff,
        ];
        let whole = [&[0xff, 0xd8][..], &preview, &scan, &[0xff, 0xd9]].concat();
        assert!(is_whole(&whole));
        assert!(is_whole(
            &[&whole[..], b"\xff\xd8 a second picture"].concat()
        ));
        for end in 0..whole.len() {
            assert!(!is_whole(&whole[..end]), "{end}");
        }
    }
}
