//! The features that are measured: three synthetic kinds, and real ones.

use anyhow::Result;
use qtl_codec::levels::{Scaling, quantize};
use qtl_codec::{Grid, Symbols, samples};
use qtl_data::scenes::TEST_SEED;
use qtl_model::Device;
use qtl_train::features::of_scenes;

use super::Shape;
use crate::{commands, demo};

/// Levels of every data set here: 2 bits, the paper's case.
const LEVELS: u32 = 4;
/// Where the synthetic features are clipped, in deviations; the reference's width.
const WIDTH: f32 = 3.0;
/// Where the demo's features are clipped: the width at which 4 levels lose least.
const DEMO_WIDTH: f32 = 1.5;
/// Keeps the scaling finite; the reference's value.
const EPSILON: f32 = 1e-4;
/// Any will do.
const SEED: u64 = 1;

/// Features, and how they are scaled.
pub struct Data {
    /// What they are called.
    pub name: &'static str,
    /// The features, row-major.
    pub x: Vec<f32>,
    /// Rows of them.
    pub rows: usize,
    /// Columns of them.
    pub cols: usize,
    /// Levels they are quantized to.
    pub levels: u32,
    /// How the rows lie in pictures, if they do.
    pub grid: Option<Grid>,
    statistics: Statistics,
}

enum Statistics {
    Channels { mean: Vec<f32>, reach: Vec<f32> },
    Whole,
}

/// Every data set.
pub const ALL: [fn(Shape, u64) -> Result<Data>; 4] = [gaussian, ar1, channel, demo_features];

impl Data {
    /// How the features are scaled before rounding.
    pub fn scaling(&self) -> Scaling<'_> {
        match &self.statistics {
            Statistics::Channels { mean, reach } => Scaling::Channels { mean, reach },
            Statistics::Whole => Scaling::Range {
                low: -WIDTH,
                high: WIDTH,
                epsilon: EPSILON,
            },
        }
    }

    /// Their symbols.
    pub fn symbols(&self) -> Result<Symbols> {
        let plane = quantize(&self.x, self.rows, self.cols, self.levels, &self.scaling())?;
        match self.grid {
            Some(grid) => Ok(plane.on_grid(grid)?),
            None => Ok(plane),
        }
    }
}

/// Statistics per channel, which are known to be the same for all.
fn alike(cols: usize) -> Statistics {
    Statistics::Channels {
        mean: vec![0.0; cols],
        reach: vec![WIDTH; cols],
    }
}

fn synthetic(name: &'static str, shape: Shape, x: Vec<f32>, statistics: Statistics) -> Data {
    Data {
        name,
        x,
        rows: shape.samples * shape.tokens,
        cols: shape.channels,
        levels: LEVELS,
        grid: None,
        statistics,
    }
}

fn gaussian(shape: Shape, _: u64) -> Result<Data> {
    let x = samples::gaussian(shape.samples * shape.tokens, shape.channels, SEED);
    Ok(synthetic("gaussian-l4", shape, x, alike(shape.channels)))
}

fn ar1(shape: Shape, _: u64) -> Result<Data> {
    let rows = shape.samples * shape.tokens;
    let x = samples::autoregressive(rows, shape.channels, shape.tokens, 0.8, SEED);
    Ok(synthetic("ar1-l4", shape, x, alike(shape.channels)))
}

fn channel(shape: Shape, _: u64) -> Result<Data> {
    let x = samples::channel_scales(shape.samples * shape.tokens, shape.channels, 1.0, SEED);
    // One range for all channels: that their scales differ is the point.
    Ok(synthetic("channel-l4", shape, x, Statistics::Whole))
}

/// What the demo's client makes of generated scenes, with statistics per channel.
fn demo_features(_: Shape, scenes: u64) -> Result<Data> {
    let recipe = demo::recipe(&[])?;
    let dir = tempfile::tempdir()?;
    demo::base::write(dir.path())?;
    let blueprint = commands::blueprint(dir.path(), &recipe)?;
    let features = of_scenes(&blueprint, scenes, TEST_SEED, &Device::flex(), &mut |_| {})?;
    let (mean, deviation) = features.moments();
    Ok(Data {
        name: "demo",
        rows: features.rows,
        grid: features.grid,
        cols: features.cols,
        x: features.values,
        levels: LEVELS,
        statistics: Statistics::Channels {
            mean,
            reach: deviation.iter().map(|d| DEMO_WIDTH * d + EPSILON).collect(),
        },
    })
}
