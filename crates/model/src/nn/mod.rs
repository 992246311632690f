//! Building blocks shared by the vision tower, the connector and the decoder.
//!
//! Weights are kept in PyTorch layout (`[out, in]`), so that a parameter's path in the module tree is its Hugging Face
//! name and no tensor is ever transposed on the way in or out of a file.

mod activation;
mod attention;
mod embedding;
mod linear;
mod mask;
mod mlp;
mod named;
mod norm;
mod numbered;
mod param;
mod rope;

pub use activation::Activation;
pub use attention::attend;
pub use embedding::Embedding;
pub use linear::Linear;
pub use mask::Mask;
pub use mlp::{FeedForward, FusedGatedMlp, GatedMlp, Mlp, MlpKind};
pub(crate) use named::NAMED;
pub use named::Named;
pub use norm::{LayerNorm, Norm, NormKind, NormSpec, RmsNorm, rms_normalize};
pub use numbered::Numbered;
pub(crate) use param::filled;
pub use rope::{RopeScaling, RopeSpec, RopeTables};
