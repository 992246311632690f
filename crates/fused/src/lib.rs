//! Operations in one pass over their rows, with backward passes of their own, for tensors of burn's CPU backend.
//!
//! burn's CPU backend computes elementwise functions one number at a time on one thread, and under autodiff it takes norms,
//! softmax and attention apart into plain operations with a fresh tensor each. The functions here go over a row once,
//! in loops that the compiler vectorises, with rows in parallel.
//!
//! Each module holds one operation: the function by its name, and `composed`, the same in plain burn operations. That
//! is what computes on other devices and in other types than `f32`, and what the tests compare with.
//!
//! **The same bits for any number of threads**: rows are computed whole by one thread, and sums over rows are taken in pieces
//! whose size depends on the shape alone, added in order.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod cross_entropy;
pub mod gated;
pub mod layer_norm;
pub mod linear;
pub mod pull;
pub mod rms_norm;
pub mod rope;
pub mod squares;

mod curve;
mod few;
mod graph;
mod lanes;
mod math;
mod matmul;
mod narrow;
mod product;
mod rows;

pub use activation::activation;
pub use adamw::adamw;
pub use attention::{Bias, attention};
pub use cross_entropy::cross_entropy;
pub use curve::Curve;
pub use gated::gated;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use pull::pull;
pub use rms_norm::rms_norm;
pub use rope::{Angles, rope};
pub use rows::inside;
pub use squares::squares;
