//! Each operation against the composed one, in values and gradients.

#![allow(clippy::unwrap_used)]

mod attention;
mod linear;
mod losses;
mod norms;
mod optimizer;
mod pointwise;
mod rope;
mod support;
