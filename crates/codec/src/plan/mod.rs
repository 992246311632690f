//! Choosing a quantizer's levels and width from a sample of features: what each choice would cost and lose, before any
//! training.
//!
//! For every number of levels and every width, [`scan`] quantizes the sample as a client would and measures
//!
//! - the rate: entropy of the symbols alone, and conditional on what a coder may know: the channel, the previous token
//!   in the same channel, the left and the upper neighbour on a picture's grid ([`model`]);
//! - the distortion: mean squared error relative to the variance after the best gain, which the server's output
//!   projection learns, and the cosine ([`distortion`]).
//!
//! [`choose`](mod@choose) holds the rules that pick one, [`confidence`](mod@confidence) how far the sample can be trusted. The bound
//! beside them is the rate-distortion function of an independent Gaussian source, `R(D) = log2(1 / D) / 2`.

pub mod choose;
pub mod confidence;
pub mod distortion;
pub mod model;

use crate::code::{CodeError, Grid, Symbols};
use crate::levels::{Scaling, quantize};
pub use choose::{Rule, choose, frontier};
pub use confidence::{Confidence, confidence};
pub use distortion::Distortion;
pub use model::{MODELS, Model, Rate, rate};

/// Standardised features of one modality.
#[derive(Clone, Debug)]
pub struct Sample {
    y: Vec<f32>,
    rows: usize,
    cols: usize,
    grid: Option<Grid>,
}

/// Values that symbols stand for in place of equally spaced ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Centroids {
    /// The rate for which they were designed, in bits; names the quantizer.
    pub bits: f64,
    /// One per symbol, rising; in any unit.
    pub values: Vec<f64>,
}

/// What one choice of levels and width costs and loses.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Number of levels.
    pub levels: u32,
    /// Where features are clipped, in standard deviations.
    pub width: f32,
    /// What the symbols stand for, if that is not equally spaced.
    pub centroids: Option<Centroids>,
    /// Bits per feature under each model; those that need a grid are absent where there is none, and those that no coder
    /// has for so many levels.
    pub rates: Vec<(Model, Rate)>,
    /// What is lost.
    pub distortion: Distortion,
}

impl Sample {
    /// A sample of `rows x cols` features, row-major. Each channel is brought to mean 0 and deviation 1 by its own
    /// moments, or, without `per_channel`, all by those of the whole. A constant channel becomes 0.
    ///
    /// # Errors
    /// [`CodeError::Shape`] if `x` is not `rows * cols` long; [`CodeError::Grid`] if the rows do not lie on it.
    pub fn new(
        x: &[f32],
        rows: usize,
        cols: usize,
        per_channel: bool,
        grid: Option<Grid>,
    ) -> Result<Self, CodeError> {
        if rows.checked_mul(cols) != Some(x.len()) {
            return Err(CodeError::Shape {
                rows,
                cols,
                len: x.len(),
            });
        }
        if let Some(grid) = grid.filter(|grid| !grid.fits(rows)) {
            return Err(CodeError::Grid { rows, grid });
        }
        let groups = if per_channel { cols } else { 1 };
        let mut y = x.to_vec();
        if !x.is_empty() {
            standardise(&mut y, cols, groups);
        }
        Ok(Self {
            y,
            rows,
            cols,
            grid,
        })
    }

    /// The sample's features at `levels` levels, clipped at `width` deviations.
    ///
    /// # Errors
    /// [`CodeError::Levels`] if `levels` is not in `2..=256`.
    pub fn quantize(&self, levels: u32, width: f32) -> Result<Symbols, CodeError> {
        let scaling = Scaling::Channels {
            mean: &vec![0.0; self.cols],
            reach: &vec![width; self.cols],
        };
        let plane = quantize(&self.y, self.rows, self.cols, levels, &scaling)?;
        match self.grid {
            Some(grid) => plane.on_grid(grid),
            None => Ok(plane),
        }
    }

    /// Number of features.
    pub fn len(&self) -> usize {
        self.y.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.y.is_empty()
    }

    /// What these levels and this width cost and lose.
    ///
    /// # Errors
    /// As [`Sample::quantize`].
    pub fn try_out(&self, levels: u32, width: f32) -> Result<Candidate, CodeError> {
        self.candidate(levels, width, None)
    }

    /// What as many levels as there are centroids cost and lose, with thresholds as far apart as those of equally spaced
    /// levels of this width.
    ///
    /// # Errors
    /// As [`Sample::quantize`].
    pub fn try_centroids(&self, width: f32, centroids: Centroids) -> Result<Candidate, CodeError> {
        self.candidate(centroids.values.len() as u32, width, Some(centroids))
    }

    fn candidate(
        &self,
        levels: u32,
        width: f32,
        centroids: Option<Centroids>,
    ) -> Result<Candidate, CodeError> {
        let plane = self.quantize(levels, width)?;
        let mut candidate = Candidate {
            levels,
            width,
            centroids,
            rates: MODELS
                .iter()
                .filter(|&&model| model.is_coded(levels))
                .filter_map(|&model| Some((model, rate(&plane, model)?)))
                .collect(),
            distortion: Distortion {
                mse: 0.0,
                cosine: 1.0,
                gain: 0.0,
            },
        };
        candidate.distortion = distortion::measure(&self.y, &plane, &candidate.values());
        Ok(candidate)
    }
}

impl Candidate {
    /// What its symbols stand for.
    fn values(&self) -> Vec<f64> {
        match &self.centroids {
            Some(centroids) => centroids.values.clone(),
            None => distortion::equally_spaced(self.levels),
        }
    }

    /// The cheapest model and its rate.
    pub fn best(&self) -> (Model, f64) {
        self.rates
            .iter()
            .map(|&(model, rate)| (model, rate.bits()))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap_or((Model::Order0, 0.0))
    }

    /// Bits per feature under a model.
    pub fn bits(&self, model: Model) -> Option<f64> {
        let found = self.rates.iter().find(|(own, _)| *own == model);
        found.map(|(_, rate)| rate.bits())
    }

    /// Bits per feature that no code of an independent Gaussian source with this distortion can stay below.
    pub fn bound(&self) -> f64 {
        (-0.5 * self.distortion.mse.log2()).max(0.0)
    }
}

/// Every combination of `levels` and `widths`. `watch` is told how many are done.
///
/// # Errors
/// [`CodeError::Levels`] if a number of levels is not in `2..=256`.
pub fn scan(
    sample: &Sample,
    levels: impl IntoIterator<Item = u32> + Clone,
    widths: &[f32],
    watch: &mut dyn FnMut(usize),
) -> Result<Vec<Candidate>, CodeError> {
    let mut candidates = Vec::new();
    for &width in widths {
        for levels in levels.clone() {
            candidates.push(sample.try_out(levels, width)?);
            watch(candidates.len());
        }
    }
    Ok(candidates)
}

/// Brings each of `groups` (all columns, or one group of everything) to mean 0 and deviation 1.
fn standardise(y: &mut [f32], cols: usize, groups: usize) {
    let count = (y.len() / groups) as f64;
    let mut moments = vec![(0.0f64, 0.0f64); groups];
    let group = |i: usize| if groups == 1 { 0 } else { i % cols };
    for (i, &value) in y.iter().enumerate() {
        moments[group(i)].0 += f64::from(value) / count;
    }
    for (i, &value) in y.iter().enumerate() {
        let (mean, square) = &mut moments[group(i)];
        *square += (f64::from(value) - *mean).powi(2) / count;
    }
    for (i, value) in y.iter_mut().enumerate() {
        let (mean, square) = moments[group(i)];
        // A channel that moves by rounding errors only is constant.
        let moves = square > 1e-12 * (mean * mean).max(f64::MIN_POSITIVE);
        *value = if moves {
            ((f64::from(*value) - mean) / square.sqrt()) as f32
        } else {
            0.0
        };
    }
}
