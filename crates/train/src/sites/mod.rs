//! Several sites that train one model: what their server keeps of them.

pub mod average;
pub mod ranges;
pub mod roster;
pub mod rounds;
