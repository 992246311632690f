//! What is resized: a picture, perhaps in the middle of a square of one colour, which is never painted as a whole.

use std::borrow::Cow;

/// Rows of R G B bytes.
#[derive(Debug)]
pub(super) struct Canvas<'a> {
    pixels: &'a [u8],
    picture: (usize, usize),
    frame: (usize, usize),
    background: [u8; 3],
}

impl<'a> Canvas<'a> {
    /// The picture alone.
    pub fn bare(pixels: &'a [u8], width: usize, height: usize) -> Self {
        assert_eq!(pixels.len(), 3 * width * height, "three bytes per pixel");
        assert!(width > 0 && height > 0, "no side may be empty");
        let (picture, frame) = ((width, height), (width, height));
        Self {
            pixels,
            picture,
            frame,
            background: [0; 3],
        }
    }

    /// The picture in the middle of a square.
    pub fn framed(pixels: &'a [u8], width: usize, height: usize, background: [u8; 3]) -> Self {
        let side = width.max(height);
        Self {
            frame: (side, side),
            background,
            ..Self::bare(pixels, width, height)
        }
    }

    /// Width and height, the frame included.
    pub fn size(&self) -> (usize, usize) {
        self.frame
    }

    /// Whether a row has nothing of the picture.
    pub fn is_empty(&self, y: usize) -> bool {
        let top = (self.frame.1 - self.picture.1) / 2;
        !(top..top + self.picture.1).contains(&y)
    }

    /// One row.
    pub fn row(&self, y: usize) -> Cow<'_, [u8]> {
        let (width, height) = self.picture;
        let top = (self.frame.1 - height) / 2;
        let inside = (!self.is_empty(y))
            .then(|| &self.pixels[3 * width * (y - top)..3 * width * (y - top + 1)]);
        match inside {
            Some(row) if width == self.frame.0 => Cow::Borrowed(row),
            inside => {
                let mut row = self.background.repeat(self.frame.0);
                let left = 3 * ((self.frame.0 - width) / 2);
                if let Some(inside) = inside {
                    row[left..left + inside.len()].copy_from_slice(inside);
                }
                Cow::Owned(row)
            }
        }
    }
}
