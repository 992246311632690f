//! Which models there are.

use super::neighbours::Neighbours;
use crate::code::Grid;

/// Which contexts there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) neighbours: Neighbours,
    /// Weight of all channels against one, as a power of two; without it, channels are not told apart.
    pub(super) channel: Option<u8>,
}

impl Spec {
    /// What the channels' weight may be.
    const CHANNELS: [Option<u8>; 2] = [None, Some(5)];

    /// All models for planes with or without a grid.
    pub(super) fn all(grid: bool) -> impl Iterator<Item = Self> {
        let neighbours = Neighbours::ALL.into_iter();
        neighbours
            .filter(move |&n| grid || n != Neighbours::LeftAbove)
            .flat_map(|neighbours| {
                Self::CHANNELS.map(|channel| Self {
                    neighbours,
                    channel,
                })
            })
    }

    /// Writes the context of every symbol of a row, given the rows before it: its number among those of all channels.
    pub(super) fn fill(
        self,
        grid: Option<Grid>,
        alphabet: usize,
        data: &[u8],
        row: usize,
        contexts: &mut [u32],
    ) {
        let own = self
            .channel
            .map_or(0, |_| self.neighbours.contexts(alphabet));
        self.neighbours
            .fill(grid, alphabet, own, data, row, contexts);
    }

    /// The byte that names the model.
    pub(super) fn code(self) -> u8 {
        let place = Neighbours::ALL.iter().position(|&n| n == self.neighbours);
        place.unwrap_or(0) as u8 | self.channel.unwrap_or(0) << 4
    }

    /// The model a byte names.
    pub(super) fn named(code: u8, grid: bool) -> Option<Self> {
        Self::all(grid).find(|spec| spec.code() == code)
    }
}
