//! Which rows stand beside a row, and the contexts that follow from their symbols.

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

    /// Writes the context of every symbol of row `row` of a plane, given at least the rows before it.
    pub(super) fn fill(
        self,
        grid: Option<Grid>,
        alphabet: usize,
        data: &[u8],
        row: usize,
        contexts: &mut [u16],
    ) {
        let cols = contexts.len();
        let (left, above) = beside(grid, row);
        let symbols = |row: usize| &data[row * cols..][..cols];
        let edge = alphabet as u16;
        match (self, left.map(symbols)) {
            (Self::Nothing, _) => contexts.fill(0),
            (_, None) => contexts.fill(edge),
            (_, Some(left)) => {
                for (context, &left) in contexts.iter_mut().zip(left) {
                    *context = u16::from(left);
                }
            }
        }
        if self != Self::LeftAbove {
            return;
        }
        match above.map(symbols) {
            None => {
                for context in contexts {
                    *context = *context * (edge + 1) + edge;
                }
            }
            Some(above) => {
                for (context, &above) in contexts.iter_mut().zip(above) {
                    *context = *context * (edge + 1) + u16::from(above);
                }
            }
        }
    }
}

/// The rows to the left of and above a row.
fn beside(grid: Option<Grid>, row: usize) -> (Option<usize>, Option<usize>) {
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
        let left: Vec<_> = (8..16).map(|row| beside(grid, row).0).collect();
        let row = |row: usize| Some(row + 8);
        assert_eq!(
            left,
            [None, row(0), None, row(2), row(3), None, row(5), row(6)]
        );
        let above: Vec<_> = (8..16).map(|row| beside(grid, row).1).collect();
        assert_eq!(
            above,
            [None, None, None, row(0), row(1), row(2), row(3), row(4)]
        );
        assert_eq!(beside(None, 0), (None, None));
        assert_eq!(beside(None, 7), (Some(6), None));
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
            neighbours.fill(grid, 3, &data, row, &mut contexts);
            assert!(
                contexts
                    .iter()
                    .all(|&c| usize::from(c) < neighbours.contexts(3))
            );
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
