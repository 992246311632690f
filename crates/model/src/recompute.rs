//! Activation recompute by block: a chain of blocks is run without a graph, keeping only each block's input, and run again,
//! tracked, one block at a time in backward. So the graph of one block at a time is alive, for one extra forward pass. Where there
//! is room, the last blocks keep their graphs and are run once. The gradients are the same bits either way.

use burn::tensor::{Gradients, Tensor};
pub use qtl_fused::pull;

/// How many blocks of a chain may keep their graphs from forward to backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graphs {
    /// Bytes that all of them may take.
    pub room: u64,
    /// Bytes that one takes, whatever it is run on.
    pub block: u64,
    /// Bytes that it takes for every row.
    pub row: u64,
}

impl Graphs {
    /// Every block keeps its graph.
    pub const ALL: Self = Self {
        room: u64::MAX,
        block: 0,
        row: 0,
    };
    /// No block does.
    pub const NONE: Self = Self {
        room: 0,
        block: 1,
        row: 0,
    };

    /// How many of `count` blocks keep their graphs, if they are run on so many rows.
    pub fn kept(&self, count: usize, rows: usize) -> usize {
        let each = self
            .block
            .saturating_add(self.row.saturating_mul(rows as u64));
        let fit = self.room.checked_div(each).unwrap_or(u64::MAX);
        count.min(usize::try_from(fit).unwrap_or(usize::MAX))
    }
}

/// Blocks that were run.
#[derive(Debug)]
pub struct Tape {
    /// The inputs of those that are run again.
    inputs: Vec<Tensor<3>>,
    /// Input and output of each that follows, in a graph of its own.
    graphs: Vec<[Tensor<3>; 2]>,
}

impl Tape {
    /// Runs `count` blocks from `x` (plain): the last `kept` of them `tracked`, those before without a graph.
    pub fn run(
        count: usize,
        kept: usize,
        x: Tensor<3>,
        plain: impl Fn(usize, Tensor<3>) -> Tensor<3>,
        tracked: impl Fn(usize, Tensor<3>) -> Tensor<3>,
    ) -> (Tensor<3>, Self) {
        let again = count.saturating_sub(kept);
        let mut inputs = Vec::with_capacity(again);
        let mut graphs = Vec::with_capacity(count - again);
        let mut x = x;
        for i in 0..again {
            inputs.push(x.clone());
            x = plain(i, x);
        }
        for i in again..count {
            let input = leaf(x);
            let output = tracked(i, input.clone());
            x = output.clone().inner();
            graphs.push([input, output]);
        }
        (x, Self { inputs, graphs })
    }

    /// Pushes `gradient`, that of the chain's output, back through the blocks (now with tracked parameters),
    /// hands each block's gradients to `absorb`, and returns the gradient of the chain's input.
    pub fn backward(
        self,
        gradient: Tensor<3>,
        tracked: impl Fn(usize, Tensor<3>) -> Tensor<3>,
        mut absorb: impl FnMut(&mut Gradients),
    ) -> Tensor<3> {
        let mut back = |[input, output]: [Tensor<3>; 2], gradient| {
            let mut grads = pull(output, gradient);
            let gradient = take(&input, &mut grads);
            absorb(&mut grads);
            gradient
        };
        let mut gradient = gradient;
        for graph in self.graphs.into_iter().rev() {
            gradient = back(graph, gradient);
        }
        for (i, input) in self.inputs.into_iter().enumerate().rev() {
            let input = leaf(input);
            let output = tracked(i, input.clone());
            gradient = back([input, output], gradient);
        }
        gradient
    }
}

/// A plain tensor as a leaf of a new graph.
pub fn leaf<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.autodiff().require_grad()
}

/// The gradient of a leaf; zero if nothing depended on it.
pub fn take<const D: usize>(leaf: &Tensor<D>, grads: &mut Gradients) -> Tensor<D> {
    leaf.grad_remove(grads)
        .unwrap_or_else(|| leaf.clone().inner().zeros_like())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_graphs_are_kept_as_there_is_room_for() {
        let graphs = Graphs {
            room: 1000,
            block: 100,
            row: 2,
        };
        let kept = [0, 50, 200, 450, 451, usize::MAX].map(|rows| graphs.kept(6, rows));
        assert_eq!(kept, [6, 5, 2, 1, 0, 0]);
        assert_eq!(Graphs::ALL.kept(6, usize::MAX), 6);
        assert_eq!(Graphs::NONE.kept(6, 0), 0);
    }
}
