//! The connector maps features of the vision tower to the width of the language model.

mod identity;
mod linear;
mod mlp;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::nn::rms_normalize;
use crate::weights::Fill;
pub use identity::Identity;
pub use linear::LinearConnector;
pub use mlp::MlpConnector;

/// Under the square root of the optional output norm.
const NORM_EPS: f64 = 1e-6;

/// What a connector is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorSpec {
    /// `identity`, `linear` or `mlpNx_gelu` (N linear maps with exact gelus between them).
    pub kind: String,
    /// Width of the vision features.
    pub input: usize,
    /// Width of the language model.
    pub output: usize,
    /// Divide every output token by its root mean square. Not in TinyLLaVA; it has no parameters.
    #[serde(default)]
    pub norm: bool,
}

/// Why a connector cannot be built.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConnectorError {
    /// No such connector.
    #[error(
        "connector_type = {0:?} is not supported; the supported ones are \"identity\", \"linear\" and \"mlpNx_gelu\" with N \
         from 1 to 9, for example \"mlp2x_gelu\""
    )]
    Kind(String),
    /// The identity cannot change the width.
    #[error(
        "connector_type = \"identity\" needs features as wide as the language model, but they are {input} and {output}; use \
         \"linear\" or \"mlp2x_gelu\""
    )]
    Width {
        /// Width of the vision features.
        input: usize,
        /// Width of the language model.
        output: usize,
    },
}

/// A connector. Parameter names start with `_connector.`, as in TinyLLaVA.
#[derive(Module, Debug)]
pub enum Connector {
    /// Features pass unchanged.
    Identity(Identity),
    /// One linear map.
    Linear(LinearConnector),
    /// Several, with gelus between.
    Mlp(MlpConnector),
}

impl Connector {
    /// A connector without values: load or initialise it before use.
    ///
    /// # Errors
    ///
    /// A [`ConnectorError`] if the kind is unknown or cannot join the two widths.
    pub fn new(spec: &ConnectorSpec, device: &Device) -> Result<Self, ConnectorError> {
        let (input, output) = (spec.input, spec.output);
        match spec.kind.as_str() {
            "identity" if input != output => Err(ConnectorError::Width { input, output }),
            "identity" => Ok(Self::Identity(Identity::new(spec))),
            "linear" => Ok(Self::Linear(LinearConnector::new(spec, device))),
            kind => match mlp::depth(kind) {
                Some(depth) => Ok(Self::Mlp(MlpConnector::new(spec, depth, device))),
                None => Err(ConnectorError::Kind(kind.to_owned())),
            },
        }
    }

    /// `[B, tokens, input]` to `[B, tokens, output]`.
    pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let (out, norm) = match self {
            Self::Identity(body) => (body.forward(features), body.norm),
            Self::Linear(body) => (body.forward(features), body.norm),
            Self::Mlp(body) => (body.forward(features), body.norm),
        };
        if norm {
            rms_normalize(out, NORM_EPS)
        } else {
            out
        }
    }
}

/// Starting values: PyTorch's for a linear map, `U(±1/√in)` for the weight and nothing in the bias.
pub fn fill(_name: &str, shape: &[usize]) -> Fill {
    match shape {
        [_, input] => Fill::Uniform((1.0 / *input as f64).sqrt()),
        _ => Fill::Zeros,
    }
}
