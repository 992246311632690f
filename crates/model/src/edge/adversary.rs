//! Training against an inverse network that is trained along (adversarial feature learning; Ganin and Lempitsky 2015 turn the
//! gradient round, DeepObfuscator of Li et al. 2021 does it with pixels): the client has the pictures, so it can train what an
//! attacker would train, and make its own half learn the opposite.
//!
//! The network reads bounded image rows, as they are before rounding, and says the pixels of each row's patch:
//!
//! `h = gelu(z A + mean(z) B + P)`, `pixels = h C + D`, the mean over the rows of a picture, `P` and `D` with a row per place.
//!
//! It learns from every batch by Adam (Kingma and Ba 2015). What the client's half gets in its loss is the share of the pixels' variance
//! that the network then explains, `1 - mean((pixels - said)^2) / variance`, and nothing where that is no share at all: to be worse
//! than no attacker is no aim. Neither network nor share leaves the client, and the network's beginning is drawn from its secret.

use burn::tensor::{Device, Tensor, TensorData, activation, module};
use qtl_codec::Grid;
use qtl_fused::adamw;
use qtl_fused::adamw::Rule;

use super::private::Private;
use crate::recompute::{leaf, take};
use crate::weights::{NamedTensor, values};

/// Width inside the network.
pub const INNER: usize = 128;
/// Most pixels on a side of a row's patch; finer pictures are averaged.
pub const FINEST: usize = 8;
/// What the names of saved numbers begin with.
pub const PREFIX: &str = "adversary.";
const MATRICES: [&str; 5] = ["own", "mean", "place", "out", "bias"];
const ENTRIES: [&str; 3] = ["value", "moment_1", "moment_2"];
const TIME: &str = "adversary.time";
/// Keeps the share of pictures of one colour finite.
const SMALLEST: f32 = 1e-6;
/// Rate of the network's own steps.
const RATE: f64 = 2e-3;

/// The network, and how much its success weighs in the loss of the client's half.
#[derive(Clone, Debug)]
pub struct Adversary {
    strength: f32,
    grid: Grid,
    /// None before the first pictures.
    network: Option<Network>,
}

#[derive(Clone, Debug)]
struct Network {
    matrices: Vec<Learned>,
    time: usize,
}

#[derive(Clone, Debug)]
struct Learned {
    value: Tensor<1>,
    moments: [Tensor<1>; 2],
}

/// Shapes of the five matrices for rows of so many channels that lie so in their pictures, and patches of `pixels` on a side.
fn shapes(channels: usize, tokens: usize, pixels: usize) -> [[usize; 2]; 5] {
    let said = 3 * pixels * pixels;
    [
        [channels, INNER],
        [channels, INNER],
        [tokens, INNER],
        [INNER, said],
        [tokens, said],
    ]
}

/// Pixels on a side of a row's patch, of pictures of this side.
fn patch(side: usize, grid: Grid) -> usize {
    (side / grid.width.max(1)).clamp(1, FINEST)
}

/// Numbers that the network learns, and those that a step has of each picture beside them: of pictures of this side.
pub fn size(channels: usize, side: usize, grid: Grid) -> [usize; 2] {
    let pixels = patch(side, grid);
    let learned = shapes(channels, grid.tokens, pixels);
    let learned = learned.iter().map(|[rows, cols]| rows * cols).sum();
    // Inside, before and after the bend, and what is said, beside its aim; their gradients; twice, for both who learn.
    let row = 2 * channels + 6 * INNER + 4 * 3 * pixels * pixels;
    [learned, 2 * grid.tokens * row]
}

impl Adversary {
    /// A network for rows that lie so in their pictures; it begins with the first of these.
    pub fn new(strength: f32, grid: Grid) -> Self {
        Self {
            strength,
            grid,
            network: None,
        }
    }

    /// Has the network learn from the bounded rows `z` (in a graph) of `pictures`, [count, 3, side, side], and returns what it
    /// then explains of them, strength included.
    pub(super) fn learn(
        &mut self,
        z: &Tensor<2>,
        pictures: &Tensor<4>,
        secret: &Private,
    ) -> Tensor<1> {
        let ([rows, channels], [.., side]) = (z.dims(), pictures.dims());
        let (tokens, pixels) = (self.grid.tokens, patch(side, self.grid));
        let shapes = shapes(channels, tokens, pixels);
        let plain = z.clone().inner();
        let aim = patches(pictures.clone(), self.grid, pixels);
        let fits = |network: &Network| {
            let lengths = network.matrices.iter().map(|m| m.value.dims()[0]);
            lengths.eq(shapes.iter().map(|[rows, cols]| rows * cols))
        };
        let mut network = match self.network.take().filter(fits) {
            Some(network) => network,
            None => Network::begin(&shapes, secret, &aim),
        };
        let unlike = |said: Tensor<2>| (said - aim.clone()).square().mean();
        let begins: Vec<Tensor<2>> = network.shaped(&shapes).into_iter().map(leaf).collect();
        let error = unlike(said(&begins, plain, tokens));
        let mut grads = error.backward();
        let gradients = begins.iter().map(|begin| take(begin, &mut grads));
        network.step(gradients.collect());
        let error = unlike(said(&network.shaped(&shapes), z.clone(), tokens));
        self.network = Some(network);
        debug_assert_eq!(rows, aim.dims()[0]);
        let spread = aim.clone() - aim.clone().mean().reshape([1, 1]);
        let variance = spread.square().mean().add_scalar(SMALLEST);
        let share = (error / variance).neg().add_scalar(1.0);
        share.clamp_min(0.0).mul_scalar(self.strength)
    }

    /// What a checkpoint keeps of the network; nothing before the first pictures.
    pub fn entries(&self) -> Vec<NamedTensor> {
        let entry = |name: String, data: Vec<f32>| NamedTensor {
            name,
            shape: vec![data.len()],
            data,
        };
        let mut entries = Vec::new();
        if let Some(network) = &self.network {
            for (name, matrix) in MATRICES.iter().zip(&network.matrices) {
                let [first, second] = &matrix.moments;
                let three = [&matrix.value, first, second].into_iter().zip(ENTRIES);
                entries.extend(
                    three.map(|(x, of)| entry(format!("{PREFIX}{name}.{of}"), values(x.clone()))),
                );
            }
            entries.push(entry(TIME.to_owned(), vec![network.time as f32]));
        }
        entries
    }

    /// The network as [`entries`](Self::entries) had it. Of a checkpoint from before there was one it begins anew.
    #[must_use]
    pub fn restored(mut self, saved: &[(String, Vec<f32>)], device: &Device) -> Self {
        let number = |name: &str| {
            let found = saved.iter().find(|(known, _)| known == name);
            found.map(|(_, numbers)| numbers.as_slice())
        };
        let matrix = |name: &&str| {
            let tensor = |entry: &str| {
                let numbers = number(&format!("{PREFIX}{name}.{entry}"))?;
                Some(Tensor::from_data(TensorData::from(numbers), device))
            };
            let [value, first, second] = ENTRIES;
            Some(Learned {
                value: tensor(value)?,
                moments: [tensor(first)?, tensor(second)?],
            })
        };
        let matrices: Option<Vec<Learned>> = MATRICES.iter().map(matrix).collect();
        let time = number(TIME).and_then(|time| time.first().copied());
        self.network = matrices.zip(time).map(|(matrices, time)| Network {
            matrices,
            time: time as usize,
        });
        self
    }
}

impl Network {
    /// Drawn from the secret: the server knows every seed that the recipe has. It says the mean of the first pictures at first,
    /// from where every step explains more.
    fn begin(shapes: &[[usize; 2]; 5], secret: &Private, aim: &Tensor<2>) -> Self {
        let mean = aim.clone().mean().into_scalar::<f32>();
        let matrix = |(name, [rows, cols]): (&&str, &[usize; 2])| {
            let (size, middle) = match *name {
                "own" | "mean" => (1.0 / (*rows as f32).sqrt(), 0.0),
                "bias" => (0.0, mean),
                _ => (0.0, 0.0),
            };
            let draws = secret.beginning(&format!("adversary {name}"), rows * cols);
            let draws: Vec<f32> = draws.into_iter().map(|x| middle + size * x).collect();
            let value = Tensor::from_data(TensorData::from(draws.as_slice()), &aim.device());
            Learned {
                moments: [value.zeros_like(), value.zeros_like()],
                value,
            }
        };
        Self {
            matrices: MATRICES.iter().zip(shapes).map(matrix).collect(),
            time: 0,
        }
    }

    fn shaped(&self, shapes: &[[usize; 2]; 5]) -> Vec<Tensor<2>> {
        let each = self.matrices.iter().zip(shapes);
        each.map(|(matrix, shape)| matrix.value.clone().reshape(*shape))
            .collect()
    }

    fn step(&mut self, gradients: Vec<Tensor<2>>) {
        self.time += 1;
        let rule = Rule {
            lr: RATE,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            decay: 0.0,
            factor: 1.0,
            time: self.time,
        };
        for (matrix, gradient) in self.matrices.iter_mut().zip(gradients) {
            let Learned { value, moments } = matrix.clone();
            let gradient = gradient.flatten(0, 1);
            (matrix.value, matrix.moments) = adamw(value, gradient, moments, &rule);
        }
    }
}

/// What the network says of rows `z`, so many to a picture: [rows, pixels of a patch].
fn said(matrices: &[Tensor<2>], z: Tensor<2>, tokens: usize) -> Tensor<2> {
    let [own, mean, place, out, bias] = [0, 1, 2, 3, 4].map(|i| matrices[i].clone());
    let [rows, channels] = z.dims();
    let count = rows / tokens.max(1);
    let all = z.clone().reshape([count, tokens, channels]).mean_dim(1);
    let all = all.reshape([count, channels]).matmul(mean);
    let own = z.matmul(own).reshape([count, tokens, INNER]);
    let inside = own + all.unsqueeze_dim::<3>(1) + place.unsqueeze_dim::<3>(0);
    let inside = activation::gelu(inside).reshape([rows, INNER]);
    let said = inside.matmul(out);
    let [_, pixels] = said.dims();
    let said = said.reshape([count, tokens, pixels]) + bias.unsqueeze_dim::<3>(0);
    said.reshape([rows, pixels])
}

/// The patches of pictures, a row each: [pictures x tokens, 3 x pixels x pixels]. The first cell of the grid may have no row.
fn patches(pictures: Tensor<4>, grid: Grid, pixels: usize) -> Tensor<2> {
    let [count, colours, ..] = pictures.dims();
    let width = grid.width.max(1);
    let height = (grid.first + grid.tokens).div_ceil(width);
    let small = module::adaptive_avg_pool2d(pictures, [height * pixels, width * pixels]);
    let cells = small
        .reshape([count, colours, height, pixels, width, pixels])
        .permute([0, 2, 4, 1, 3, 5])
        .reshape([count, height * width, colours * pixels * pixels]);
    let shown = cells.narrow(1, grid.first, grid.tokens);
    shown.reshape([count * grid.tokens, colours * pixels * pixels])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::Added;
    use crate::quant::floats;
    use crate::weights::Stream;

    const GRID: Grid = Grid {
        tokens: 4,
        width: 2,
        first: 0,
    };

    fn drawn(name: &str, shape: [usize; 2]) -> Tensor<2> {
        let mut numbers = Stream::new(5, name);
        let values: Vec<f32> = (0..shape[0] * shape[1])
            .map(|_| numbers.normal() as f32)
            .collect();
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }

    /// Pictures of 4 x 4 pixels.
    fn pictures(count: usize) -> Tensor<4> {
        drawn("pictures", [count, 48]).reshape([count, 3, 4, 4])
    }

    fn secret() -> Private {
        Private::new(Added::default(), [7; 32], 0)
    }

    fn value(x: &Tensor<1>) -> f32 {
        x.clone().inner().into_scalar::<f32>()
    }

    #[test]
    fn patches_are_where_their_rows_are() {
        let pictures = pictures(2);
        let all = floats(patches(pictures.clone(), GRID, 2));
        let pixels = floats(pictures);
        // Second picture, third row (below, left), second colour, its last pixel.
        assert_eq!(all[(4 + 2) * 12 + 4 + 3], pixels[48 + 16 + 3 * 4 + 1]);
    }

    #[test]
    fn the_network_reads_and_rows_flee_from_it() {
        let mut against = Adversary::new(1.0, GRID);
        let mut weight = drawn("weight", [12, 12]) * 0.3;
        let mut told = Vec::new();
        for step in 0..210 {
            let pictures = drawn(&format!("pictures {step}"), [16, 48]).reshape([16, 3, 4, 4]);
            let patch = patches(pictures.clone(), GRID, 2);
            let x = leaf(weight.clone());
            let share = against.learn(&patch.matmul(x.clone()), &pictures, &secret());
            told.push(value(&share));
            if step >= 200 {
                let mut grads = share.backward();
                weight = weight - take(&x, &mut grads) * 0.3;
            }
        }
        assert!(told[199] > 0.5, "the network reads nothing: {}", told[199]);
        let last = told[209];
        assert!(last < 0.5 * told[199], "{} {last}", told[199]);
    }

    #[test]
    fn what_is_saved_goes_on_as_if_nothing_had_been() {
        let (pictures, z) = (pictures(4), leaf(drawn("z", [16, 6])));
        let mut whole = Adversary::new(2.0, GRID);
        whole.learn(&z, &pictures, &secret());
        let saved = whole.entries().into_iter();
        let saved: Vec<_> = saved.map(|entry| (entry.name, entry.data)).collect();
        assert_eq!(saved.len(), 16);
        let device = Default::default();
        let mut again = Adversary::new(2.0, GRID).restored(&saved, &device);
        let mut fresh = Adversary::new(2.0, GRID);
        let [whole, again, fresh] = [&mut whole, &mut again, &mut fresh]
            .map(|one| value(&one.learn(&z, &pictures, &secret())));
        assert_eq!(whole, again);
        assert_ne!(whole, fresh);
        // Another secret, another network.
        let other = Private::new(Added::default(), [8; 32], 0);
        let other = Adversary::new(2.0, GRID).learn(&z, &pictures, &other);
        assert_ne!(value(&other), fresh);
    }
}
