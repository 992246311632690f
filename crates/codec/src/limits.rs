//! How much a decoder may take, and the purse that counts it.

use crate::error::PlaneError;

/// Bounds on what decoding one container may take. They are checked before memory is taken, never after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of memory held at once: the decoded planes and the decoder's own tables.
    pub max_bytes: usize,
    /// Most planes.
    pub max_planes: usize,
    /// Most elements (symbols and scalars) over all planes; also bounds each single dimension.
    pub max_elements: usize,
}

impl Default for Limits {
    /// 1 GiB of memory, 1024 planes, 2^28 elements: far above any training batch, far below harm.
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            max_planes: 1 << 10,
            max_elements: 1 << 28,
        }
    }
}

/// What is left of the limits while one container is decoded.
#[derive(Debug)]
pub(crate) struct Purse {
    bytes: usize,
    elements: usize,
}

impl Purse {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            bytes: limits.max_bytes,
            elements: limits.max_elements,
        }
    }

    /// Pays for the elements of one plane and returns `rows`, `cols` and their product.
    pub(crate) fn elements(
        &mut self,
        rows: u64,
        cols: u64,
    ) -> Result<(usize, usize, usize), PlaneError> {
        let error = PlaneError::Elements {
            rows,
            cols,
            left: self.elements,
        };
        let fits = |n: u64| usize::try_from(n).ok().filter(|&n| n <= self.elements);
        // A dimension of an empty plane is bounded too: whoever reads it may take memory by it.
        let (Some(r), Some(c)) = (fits(rows), fits(cols)) else {
            return Err(error);
        };
        let Some(n) = r.checked_mul(c).filter(|&n| n <= self.elements) else {
            return Err(error);
        };
        self.elements -= n;
        Ok((r, c, n))
    }

    /// Pays for `count` values of `size` bytes, to be called before they are allocated.
    pub(crate) fn bytes(&mut self, count: usize, size: usize) -> Result<(), PlaneError> {
        let needed = count.saturating_mul(size);
        if needed > self.bytes {
            return Err(PlaneError::Memory {
                needed,
                left: self.bytes,
            });
        }
        self.bytes -= needed;
        Ok(())
    }

    /// Gives back what was paid for memory that is no longer held.
    pub(crate) fn refund(&mut self, count: usize, size: usize) {
        self.bytes += count * size;
    }
}
