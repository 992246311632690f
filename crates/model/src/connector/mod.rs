//! The connector maps features of the vision tower to the width of the language model, and may reduce their number.
//!
//! A connector is a file with an `Member` implementation and a line in the list below.

mod spec;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::nn::rms_normalize;
use crate::weights::Fill;
pub use spec::{ConnectorError, ConnectorSpec, QformerSpec};

/// Under the square root of the optional output norm.
const NORM_EPS: f64 = 1e-6;

/// What makes a module a connector.
trait Member: Sized {
    /// What `connector_type` calls it; for the supported ones in messages.
    const NAME: &'static str;
    /// A `connector_type` that means it.
    const EXAMPLE: &'static str = Self::NAME;
    /// How many towers' features it joins.
    const TOWERS: usize = 1;
    /// Whether output token i stands for input token i, so that the tokens lie on the tower's grid of patches.
    const ON_GRID: bool = true;

    /// Whether a `connector_type` means it.
    fn is(kind: &str) -> bool {
        kind == Self::NAME
    }

    /// Parts without values.
    fn new(spec: &ConnectorSpec, device: &Device) -> Result<Self, ConnectorError>;

    /// What it was made from.
    fn spec(&self) -> &ConnectorSpec;

    /// `[B, tokens, input]` to `[B, Self::tokens(tokens), output]`.
    fn forward(&self, features: Tensor<3>) -> Tensor<3>;

    /// Tokens that come out where `tokens` go in.
    fn tokens(_spec: &ConnectorSpec, tokens: usize) -> usize {
        tokens
    }

    /// Starting values: PyTorch's for a linear map, `U(±1/√in)` for the weight and nothing in the bias; ones for a norm.
    fn fill(_name: &str, shape: &[usize]) -> Fill {
        linear_fill(_name, shape)
    }
}

fn linear_fill(name: &str, shape: &[usize]) -> Fill {
    match shape {
        [_, input] => Fill::Uniform((1.0 / *input as f64).sqrt()),
        _ if name.ends_with("bias") => Fill::Zeros,
        _ => Fill::Ones,
    }
}

/// A kind of connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// What `connector_type` calls it, with `N` for a digit.
    pub name: &'static str,
    /// A `connector_type` that means it.
    pub example: &'static str,
    /// How many towers' features it joins.
    pub towers: usize,
}

macro_rules! connectors {
    ($($(#[$doc:meta])* $module:ident::$member:ident,)*) => {
        $(mod $module;)*

        /// A connector. Parameter names start with `_connector.`, as in TinyLLaVA.
        #[derive(Module, Debug)]
        pub enum Connector {
            $($(#[$doc])* $member($module::$member),)*
        }

        /// All kinds of connectors.
        pub const FAMILIES: &[Family] = &[
            $(Family {
                name: <$module::$member as Member>::NAME,
                example: <$module::$member as Member>::EXAMPLE,
                towers: <$module::$member as Member>::TOWERS,
            },)*
        ];

        impl Connector {
            /// A connector without values: load or initialise it before use.
            ///
            /// # Errors
            ///
            /// A [`ConnectorError`] if the kind is unknown or cannot join the two widths.
            pub fn new(spec: &ConnectorSpec, device: &Device) -> Result<Self, ConnectorError> {
                let kind = spec.kind.as_str();
                $(if $module::$member::is(kind) {
                    spec.joins($module::$member::TOWERS)?;
                    return Ok(Self::$member($module::$member::new(spec, device)?));
                })*
                Err(ConnectorError::Kind(kind.to_owned()))
            }

            /// What it was made from.
            pub fn spec(&self) -> &ConnectorSpec {
                match self {
                    $(Self::$member(body) => body.spec(),)*
                }
            }

            /// `[B, tokens, input]` to `[B, self.tokens(tokens), output]`.
            pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
                let out = match self {
                    $(Self::$member(body) => body.forward(features),)*
                };
                if self.spec().norm {
                    rms_normalize(out, NORM_EPS)
                } else {
                    out
                }
            }

            /// Tokens that come out where `tokens` go in.
            pub fn tokens(&self, tokens: usize) -> usize {
                match self {
                    $(Self::$member(body) => $module::$member::tokens(body.spec(), tokens),)*
                }
            }

            /// Whether output token i stands for input token i, so that the tokens lie on the tower's grid of patches.
            pub fn on_grid(&self) -> bool {
                match self {
                    $(Self::$member(_) => $module::$member::ON_GRID,)*
                }
            }

            /// How a parameter of a connector trained from nothing starts.
            pub fn fill(&self, name: &str, shape: &[usize]) -> Fill {
                match self {
                    $(Self::$member(_) => $module::$member::fill(name, shape),)*
                }
            }
        }
    };
}

connectors! {
    /// Features pass unchanged.
    identity::Identity,
    /// One linear map.
    linear::LinearConnector,
    /// Several, with gelus between.
    mlp::MlpConnector,
    /// Learned latents attend to the features.
    resampler::Resampler,
    /// Learned queries in a BERT encoder attend to the features.
    qformer::Qformer,
    /// One MLP for each of two towers.
    mof_mlp::MofMlp,
}
