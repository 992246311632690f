//! The trellis: a machine driven by the symbols' parities, the search for a path, and the walk along it.

/// What a symbol means in odd states, given what it means in even ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// The negative: symbols are used alike in both, so that one table of frequencies serves.
    Mirrored,
    /// The value next below: equal symbols mean nearly equal values, as contexts would like.
    Ordered,
}

/// Values and costs of symbols, and Ungerboeck's code (1982) for amplitude modulation.
pub struct Trellis {
    states: usize,
    feedback: usize,
    forward: usize,
    /// Values of the symbols in even and in odd states, rising by `2 d` and falling by `2 d` or rising.
    pub values: [Vec<f32>; 2],
    /// What symbols cost, in the unit of squared features.
    pub costs: Vec<f32>,
}

impl Trellis {
    /// Values `2 d j + d / 2` in even states, `|j| <= side`.
    pub fn new(states: usize, d: f64, side: i32, labels: Labels) -> Self {
        // Parity-check polynomials, octal, of the state's lowest bit and of the symbols.
        let (feedback, forward) = match states {
            4 => (0o5, 0o2),
            8 => (0o13, 0o4),
            16 => (0o23, 0o4),
            32 => (0o45, 0o10),
            _ => (0o103, 0o24),
        };
        let even = |j: i32| d * (2.0 * f64::from(j) + 0.5);
        let odd = |j: i32| match labels {
            Labels::Mirrored => -even(j),
            Labels::Ordered => even(j) - d,
        };
        let symbols = -side..=side;
        Self {
            states,
            feedback: feedback >> 1,
            forward: forward >> 1,
            values: [
                symbols.clone().map(|j| even(j) as f32).collect(),
                symbols.clone().map(|j| odd(j) as f32).collect(),
            ],
            costs: vec![0.0; symbols.count()],
        }
    }

    /// Number of symbols.
    pub fn alphabet(&self) -> u32 {
        self.costs.len() as u32
    }

    fn next(&self, state: usize, symbol: usize) -> usize {
        (state >> 1) ^ ((state & 1) * self.feedback) ^ ((symbol & 1) * self.forward)
    }

    /// Symbols of whole rows with the least sum of squared errors and costs (Viterbi's algorithm).
    pub fn search(&self, x: &[f32], cols: usize) -> Vec<u8> {
        let mut into = vec![Vec::new(); self.states];
        for from in 0..self.states {
            (0..2).for_each(|parity| into[self.next(from, parity)].push((from, parity)));
        }
        let mut out = vec![0; x.len()];
        let mut choices = vec![0u8; cols * self.states];
        let mut nearest = vec![[[0u8; 2]; 2]; cols];
        for (x, out) in x.chunks(cols).zip(out.chunks_mut(cols)) {
            let mut sums = vec![f32::INFINITY; self.states];
            sums[0] = 0.0;
            let mut before = sums.clone();
            let steps = choices.chunks_mut(self.states).zip(&mut nearest);
            for (x, (choices, nearest)) in x.iter().zip(steps) {
                std::mem::swap(&mut sums, &mut before);
                let mut best = [[f32::INFINITY; 2]; 2];
                for odd in 0..2 {
                    let symbols = self.values[odd].iter().zip(&self.costs).enumerate();
                    for (symbol, (value, cost)) in symbols {
                        let (error, parity) = (x - value, symbol & 1);
                        let sum = error * error + cost;
                        if sum < best[odd][parity] {
                            best[odd][parity] = sum;
                            nearest[odd][parity] = symbol as u8;
                        }
                    }
                }
                for (state, sum) in sums.iter_mut().enumerate() {
                    let [first, second] = [0, 1].map(|i: usize| {
                        let (from, parity): (usize, usize) = into[state][i];
                        before[from] + best[from & 1][parity]
                    });
                    choices[state] = u8::from(second < first);
                    *sum = first.min(second);
                }
            }
            let mut state = (0..self.states)
                .min_by(|a, b| sums[*a].total_cmp(&sums[*b]))
                .unwrap_or(0);
            for (i, out) in out.iter_mut().enumerate().rev() {
                let choice = choices[i * self.states + state];
                let (from, parity) = into[state][usize::from(choice)];
                *out = nearest[i][from & 1][parity];
                state = from;
            }
        }
        out
    }

    /// Which symbols of whole rows are met in odd states (1) and in even ones (0).
    pub fn odd(&self, symbols: &[u8], cols: usize) -> Vec<u8> {
        self.walk(symbols, cols, |odd, _| odd as u8)
    }

    /// What the symbols of whole rows stand for.
    pub fn values_of(&self, symbols: &[u8], cols: usize) -> Vec<f32> {
        self.walk(symbols, cols, |odd, symbol| self.values[odd][symbol])
    }

    fn walk<T>(&self, symbols: &[u8], cols: usize, say: impl Fn(usize, usize) -> T) -> Vec<T> {
        let mut said = Vec::with_capacity(symbols.len());
        for row in symbols.chunks(cols) {
            let mut state = 0usize;
            for &symbol in row {
                let (odd, symbol) = (state & 1, usize::from(symbol));
                said.push(say(odd, symbol));
                // As `next`, with masks: multiplications would be in the way of the following symbol.
                let (back, forth) = (odd.wrapping_neg(), (symbol & 1).wrapping_neg());
                state = (state >> 1) ^ (back & self.feedback) ^ (forth & self.forward);
            }
        }
        said
    }
}
