//! Entropies of a plane's symbols under the models that a coder may have of them.

use crate::code::{SymbolData, Symbols};
use crate::context::MOST_SYMBOLS;

/// What a coder knows of a symbol before it reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Model {
    /// Nothing: one distribution for all.
    Order0,
    /// Its channel.
    Channel,
    /// The symbol of the previous token in the same channel.
    Previous,
    /// Its left and upper neighbours on the picture's grid, in the same channel.
    Neighbours,
}

/// Every model.
pub const MODELS: [Model; 4] = [
    Model::Order0,
    Model::Channel,
    Model::Previous,
    Model::Neighbours,
];

/// Empirical conditional entropy in bits per symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Of the sample's own frequencies. It is too small: they were fitted to it.
    pub plug_in: f64,
    /// By how much, to first order in 1/n: one half nat per free frequency and n (Miller 1955, Madow).
    pub bias: f64,
}

impl Rate {
    /// The corrected estimate.
    pub fn bits(&self) -> f64 {
        self.plug_in + self.bias
    }
}

impl Model {
    /// What it is called in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Order0 => "order-0",
            Self::Channel => "channel",
            Self::Previous => "previous token",
            Self::Neighbours => "left + above",
        }
    }

    /// Whether there is a coder that knows this much of planes of so many levels: contexts end at a number of symbols.
    pub(super) fn is_coded(self, levels: u32) -> bool {
        self == Self::Order0 || levels as usize <= MOST_SYMBOLS
    }

    /// Number of contexts of a plane of `alphabet` symbols and `cols` channels. A neighbour beyond the border counts
    /// as one more symbol.
    fn contexts(self, alphabet: usize, cols: usize) -> usize {
        match self {
            Self::Order0 => 1,
            Self::Channel => cols,
            Self::Previous => alphabet + 1,
            Self::Neighbours => (alphabet + 1) * (alphabet + 1),
        }
    }
}

/// Conditional entropy of a plane's symbols under a model; `None` if the model needs a grid and there is none.
pub fn rate(plane: &Symbols, model: Model) -> Option<Rate> {
    let counts = count(plane, model)?;
    let alphabet = plane.alphabet as usize;
    let total = plane.len() as f64;
    let mut rate = Rate::default();
    for context in counts.chunks_exact(alphabet) {
        let sum: u64 = context.iter().map(|&n| u64::from(n)).sum();
        if sum == 0 {
            continue;
        }
        let occurring = context.iter().filter(|&&n| n > 0);
        let bits: f64 = occurring
            .clone()
            .map(|&n| f64::from(n) * (sum as f64 / f64::from(n)).log2())
            .sum();
        rate.plug_in += bits / total;
        rate.bias += (occurring.count() - 1) as f64 / (2.0 * total * std::f64::consts::LN_2);
    }
    Some(rate)
}

/// How often each symbol occurs in each context: `contexts x alphabet`.
pub(super) fn count(plane: &Symbols, model: Model) -> Option<Vec<u32>> {
    let alphabet = plane.alphabet as usize;
    let mut counts = vec![0; model.contexts(alphabet, plane.cols) * alphabet];
    each(plane, model, |context, symbol| {
        counts[context * alphabet + symbol] += 1;
    })?;
    Some(counts)
}

/// Calls `f(context, symbol)` for every symbol, row by row.
pub(super) fn each(plane: &Symbols, model: Model, mut f: impl FnMut(usize, usize)) -> Option<()> {
    match &plane.data {
        SymbolData::U8(data) => walk(plane, data, model, &mut f),
        SymbolData::U16(data) => walk(plane, data, model, &mut f),
    }
}

fn walk<S: Copy + Into<u32>>(
    plane: &Symbols,
    data: &[S],
    model: Model,
    f: &mut impl FnMut(usize, usize),
) -> Option<()> {
    let (cols, outside) = (plane.cols, plane.alphabet as usize);
    let wide = |s: S| s.into() as usize;
    if model == Model::Neighbours && plane.grid.is_none() {
        return None;
    }
    for row in 0..plane.rows {
        let symbols = &data[row * cols..][..cols];
        let back = |rows: usize| &data[(row - rows) * cols..][..cols];
        // Place within the picture; without pictures the whole plane is one.
        let place = plane.grid.map_or(row, |grid| row % grid.tokens);
        let previous = (place > 0).then(|| back(1));
        match (model, plane.grid) {
            (Model::Order0, _) => symbols.iter().for_each(|&s| f(0, wide(s))),
            (Model::Channel, _) => symbols.iter().enumerate().for_each(|(c, &s)| f(c, wide(s))),
            (Model::Previous, _) => match previous {
                Some(previous) => symbols
                    .iter()
                    .zip(previous)
                    .for_each(|(&s, &p)| f(wide(p), wide(s))),
                None => symbols.iter().for_each(|&s| f(outside, wide(s))),
            },
            (Model::Neighbours, Some(grid)) => {
                let cell = place + grid.first;
                let left = previous.filter(|_| !cell.is_multiple_of(grid.width));
                let above = (place >= grid.width).then(|| back(grid.width));
                let symbol =
                    |side: Option<&[S]>, c: usize| side.map_or(outside, |row| wide(row[c]));
                for (c, &s) in symbols.iter().enumerate() {
                    f(symbol(left, c) * (outside + 1) + symbol(above, c), wide(s));
                }
            }
            (Model::Neighbours, None) => {}
        }
    }
    Some(())
}
