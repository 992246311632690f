//! The networks that attackers train.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use qtl_model::nn::{Activation, LayerNorm, Linear, Mlp, attend};

use crate::matrix::Matrix;

/// Rows of pictures into pixels: attention over the rows of a picture, then a patch of each.
#[derive(Module, Debug)]
pub struct Inverter {
    enter: Linear,
    /// Per row a vector of its place.
    positions: Param<Tensor<2>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    /// Where rows are no patches: each patch a mixture of rows.
    spread: Option<Linear>,
    leave: Linear,
    /// Where rows are patches: straight from a row to its patch.
    direct: Option<Linear>,
}

#[derive(Module, Debug)]
struct Block {
    norm_1: LayerNorm,
    qkv: Linear,
    out: Linear,
    norm_2: LayerNorm,
    mlp: Mlp,
    #[module(skip)]
    heads: usize,
}

/// The form of an [`Inverter`].
#[derive(Clone, Copy, Debug)]
pub struct InverterSpec {
    /// Rows of a picture, and numbers in each.
    pub rows: (usize, usize),
    /// Patches of a picture, and numbers in each.
    pub patches: (usize, usize),
    /// Width inside.
    pub width: usize,
    /// Blocks of attention.
    pub depth: usize,
}

impl Inverter {
    /// Without values yet.
    pub fn new(spec: &InverterSpec, device: &Device) -> Self {
        let InverterSpec {
            rows,
            patches,
            width,
            depth,
        } = *spec;
        Self {
            enter: Linear::new(rows.1, width, true, device),
            positions: Param::from_tensor(Tensor::zeros([rows.0, width], device)),
            blocks: (0..depth).map(|_| Block::new(width, device)).collect(),
            norm: LayerNorm::new(width, 1e-5, device),
            spread: (rows.0 != patches.0).then(|| Linear::new(rows.0, patches.0, true, device)),
            leave: Linear::new(width, patches.1, true, device),
            direct: (rows.0 == patches.0).then(|| Linear::new(rows.1, patches.1, true, device)),
        }
    }

    /// Begins as this map of single rows (`[inputs + 1, numbers]`, the constant last), on which the rest is to improve.
    #[must_use]
    pub fn beginning(mut self, map: &Matrix, device: &Device) -> Self {
        if let Some(direct) = &mut self.direct {
            let map = map.tensor(device);
            let [inputs, numbers] = [map.dims()[0] - 1, map.dims()[1]];
            let weight = map.clone().narrow(0, 0, inputs).transpose();
            direct.weight = Param::from_tensor(weight);
            direct.bias = Some(Param::from_tensor(
                map.narrow(0, inputs, 1).reshape([numbers]),
            ));
            let nothing = self.leave.weight.val().zeros_like();
            self.leave.weight = Param::from_tensor(nothing);
        }
        self
    }

    /// Whether it has a map of single rows to begin with.
    pub fn is_begun(&self) -> bool {
        self.direct.is_some()
    }

    /// `[pictures, rows, channels]` to `[pictures, patches, numbers]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let direct = self.direct.as_ref().map(|direct| direct.forward(x.clone()));
        let x = self.enter.forward(x) + self.positions.val().unsqueeze_dim(0);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let x = self.norm.forward(x);
        let x = match &self.spread {
            Some(spread) => spread.forward(x.swap_dims(1, 2)).swap_dims(1, 2),
            None => x,
        };
        let x = self.leave.forward(x);
        match direct {
            Some(direct) => x + direct,
            None => x,
        }
    }
}

impl Block {
    fn new(width: usize, device: &Device) -> Self {
        Self {
            norm_1: LayerNorm::new(width, 1e-5, device),
            qkv: Linear::new(width, 3 * width, true, device),
            out: Linear::new(width, width, true, device),
            norm_2: LayerNorm::new(width, 1e-5, device),
            mlp: Mlp::new(width, 2 * width, Activation::GeluTanh, device),
            heads: (width / 32).max(1),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [count, rows, width] = x.dims();
        let qkv = self.qkv.forward(self.norm_1.forward(x.clone()));
        let part = |i: usize| {
            let one = qkv.clone().narrow(2, i * width, width);
            one.reshape([count, rows, self.heads, width / self.heads])
                .swap_dims(1, 2)
        };
        let x = x + self.out.forward(attend(part(0), part(1), part(2), None));
        x.clone() + self.mlp.forward(self.norm_2.forward(x))
    }
}

/// Numbers into scores of classes: a linear map, or one with a layer between.
#[derive(Module, Debug)]
pub struct Classifier {
    inner: Option<Linear>,
    scores: Linear,
}

impl Classifier {
    /// Without values yet; `inner` is the width of the layer between, if there is one.
    pub fn new(inputs: usize, inner: Option<usize>, classes: usize, device: &Device) -> Self {
        Self {
            inner: inner.map(|inner| Linear::new(inputs, inner, true, device)),
            scores: Linear::new(inner.unwrap_or(inputs), classes, true, device),
        }
    }

    /// `[samples, inputs]` to `[samples, classes]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = match &self.inner {
            Some(inner) => Activation::Relu.forward(inner.forward(x)),
            None => x,
        };
        self.scores.forward(x)
    }
}
