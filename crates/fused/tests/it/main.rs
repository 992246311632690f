//! Each operation against the composed one, in values and gradients.

mod attention;
mod norms;
mod pointwise;
mod support;
