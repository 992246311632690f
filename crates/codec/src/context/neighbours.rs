//! Which rows stand beside a row, and the contexts that follow from their symbols.

use std::iter::repeat;

#[cfg(target_arch = "x86_64")]
use super::avx2;
use crate::code::Grid;

/// Symbols of the same channel that a symbol's probabilities depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Neighbours {
    /// None.
    Nothing,
    /// The token to the left; without a grid, the previous one.
    Left,
    /// The tokens to the left and above on the grid.
    LeftAbove,
}

/// What the contexts of a row are made of.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    pub(super) alphabet: usize,
    /// Contexts of a channel are numbered from `step` times the channel on.
    pub(super) step: usize,
    /// The symbols of the row to the left, if there is one.
    pub(super) left: Option<&'a [u8]>,
    /// The same above.
    pub(super) above: Option<&'a [u8]>,
}

impl Neighbours {
    /// All of them; the place is what a plane's header says.
    pub(super) const ALL: [Self; 3] = [Self::Nothing, Self::Left, Self::LeftAbove];

    /// Number of contexts, for symbols below `alphabet`: beyond the edges stands one symbol more.
    pub(super) fn contexts(self, alphabet: usize) -> usize {
        match self {
            Self::Nothing => 1,
            Self::Left => alphabet + 1,
            Self::LeftAbove => (alphabet + 1) * (alphabet + 1),
        }
    }

    /// Writes the context of every symbol of row `row` of a plane, given at least the rows before it. Contexts of a
    /// channel are numbered from `step` times the channel on.
    pub(super) fn fill(
        self,
        grid: Option<Grid>,
        alphabet: usize,
        step: usize,
        data: &[u8],
        row: usize,
        contexts: &mut [u32],
    ) {
        let cols = contexts.len();
        let symbols = |row: usize| &data[row * cols..][..cols];
        let (left, above) = places(grid, row);
        let beside = Beside {
            alphabet,
            step,
            left: left.map(symbols),
            above: above.map(symbols),
        };
        #[cfg(target_arch = "x86_64")]
        if avx2::number(self, beside, contexts) {
            return;
        }
        self.number(beside, contexts);
    }

    /// [`Neighbours::fill`], given the symbols of the rows to the left and above.
    #[inline(always)]
    pub(super) fn number(self, beside: Beside<'_>, contexts: &mut [u32]) {
        let Beside {
            alphabet,
            step,
            left,
            above,
        } = beside;
        let edge = alphabet as u8;
        let pair = |left: u8, above: u8| u32::from(left) * (u32::from(edge) + 1) + u32::from(above);
        // A loop of its own for each case: the compiler makes vectors of it.
        match (self, left, above) {
            (Self::Nothing, ..) => put(contexts, step, repeat(0)),
            (Self::Left, None, _) => put(contexts, step, repeat(edge.into())),
            (Self::Left, Some(left), _) => put(contexts, step, left.iter().map(|&l| l.into())),
            (Self::LeftAbove, None, None) => put(contexts, step, repeat(pair(edge, edge))),
            (Self::LeftAbove, None, Some(above)) => {
                put(contexts, step, above.iter().map(|&a| pair(edge, a)));
            }
            (Self::LeftAbove, Some(left), None) => {
                put(contexts, step, left.iter().map(|&l| pair(l, edge)));
            }
            (Self::LeftAbove, Some(left), Some(above)) => {
                let both = left.iter().zip(above);
                put(contexts, step, both.map(|(&l, &a)| pair(l, a)));
            }
        }
    }
}

/// Writes the context of every channel, those of a channel numbered from `step` times the channel on.
#[inline(always)]
fn put(contexts: &mut [u32], step: usize, own: impl Iterator<Item = u32>) {
    let first = (0..).map(|channel: u32| channel * step as u32);
    for ((context, own), first) in contexts.iter_mut().zip(own).zip(first) {
        *context = first + own;
    }
}

/// The rows to the left of and above a row.
fn places(grid: Option<Grid>, row: usize) -> (Option<usize>, Option<usize>) {
    let Some(grid) = grid else {
        return (row.checked_sub(1), None);
    };
    let token = row % grid.tokens;
    let starts_line = token == 0 || (token + grid.first).is_multiple_of(grid.width);
    (
        (!starts_line).then(|| row - 1),
        (token >= grid.width).then(|| row - grid.width),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_token_shifts_the_lines() {
        // Two pictures of a 3 x 3 grid without its first cell:
        // . 0 1
        // 2 3 4
        // 5 6 7
        let grid = Some(Grid {
            tokens: 8,
            width: 3,
            first: 1,
        });
        let left: Vec<_> = (8..16).map(|row| places(grid, row).0).collect();
        let row = |row: usize| Some(row + 8);
        assert_eq!(
            left,
            [None, row(0), None, row(2), row(3), None, row(5), row(6)]
        );
        let above: Vec<_> = (8..16).map(|row| places(grid, row).1).collect();
        assert_eq!(
            above,
            [None, None, None, row(0), row(1), row(2), row(3), row(4)]
        );
        assert_eq!(places(None, 0), (None, None));
        assert_eq!(places(None, 7), (Some(6), None));
    }

    #[test]
    fn contexts_are_told_apart() {
        let grid = Some(Grid {
            tokens: 4,
            width: 2,
            first: 0,
        });
        let data = [0, 1, 2, 2, 1, 0, 2, 2];
        let contexts = |neighbours: Neighbours, row| {
            let mut contexts = [9; 2];
            neighbours.fill(grid, 3, 0, &data, row, &mut contexts);
            assert!(contexts.iter().all(|&c| c < neighbours.contexts(3) as u32));
            let mut apart = [9; 2];
            neighbours.fill(grid, 3, 20, &data, row, &mut apart);
            assert_eq!(apart, [contexts[0], contexts[1] + 20]);
            contexts
        };
        assert_eq!(contexts(Neighbours::Nothing, 3), [0, 0]);
        assert_eq!(contexts(Neighbours::Left, 2), [3, 3]);
        assert_eq!(contexts(Neighbours::Left, 3), [1, 0]);
        assert_eq!(contexts(Neighbours::LeftAbove, 0), [15, 15]);
        assert_eq!(contexts(Neighbours::LeftAbove, 1), [3, 7]);
        assert_eq!(contexts(Neighbours::LeftAbove, 2), [12, 13]);
        assert_eq!(contexts(Neighbours::LeftAbove, 3), [6, 2]);
    }
}
