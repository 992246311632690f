//! `rand_topk`: [`topk`](super::TopkSpec) that in training keeps every other channel with a small probability too, so
//! that the server does not come to rely on the same few. In evaluation nothing is drawn.
//!
//! The draws are numbers of a counter keyed by the recipe's seed, the stream (image or text) and the step: a repeated
//! step draws the same. The publication (arXiv 2305.18469) draws a fixed number of channels in all; drawing on top of
//! the largest ones is the reference's way.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{QuantError, SparseDecoder, SparseEncoder, Spec, TopkSpec, range};

/// `kind = "rand_topk"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandTopkSpec {
    /// Share of the channels that a row keeps for their magnitude, see [`TopkSpec::keep`].
    pub keep: f64,
    /// Probability of keeping any other channel in training, 0 to 1.
    #[serde(default = "tenth")]
    pub random: f64,
    /// See [`TopkSpec::rescale`].
    #[serde(default)]
    pub rescale: bool,
}

fn tenth() -> f64 {
    0.1
}

impl RandTopkSpec {
    fn topk(&self) -> TopkSpec {
        TopkSpec {
            keep: self.keep,
            rescale: self.rescale,
        }
    }
}

impl Spec for RandTopkSpec {
    type Client = SparseEncoder;
    type Server = SparseDecoder;

    fn check(&self) -> Result<(), QuantError> {
        let inside = (0.0..=1.0).contains(&self.random);
        range("random", self.random, "0 to 1", inside)?;
        self.topk().check()
    }

    fn settings() -> Vec<Self> {
        let all = TopkSpec::settings().into_iter();
        all.map(|topk| Self {
            keep: topk.keep,
            random: tenth(),
            rescale: topk.rescale,
        })
        .collect()
    }

    fn client(&self, _dim: usize, seed: u64, _device: &Device) -> SparseEncoder {
        self.topk().encoder(self.random, seed)
    }

    fn server(&self, dim: usize, seed: u64, device: &Device) -> SparseDecoder {
        self.topk().server(dim, seed, device)
    }
}
