//! A step, and what holds it: a half of the model with its optimizer, the messages between the halves and their bounds.

pub mod bounds;
pub mod deltas;
pub mod generations;
pub mod half;
pub(crate) mod held;
pub mod measure;
pub mod message;
pub mod optimizer;
pub(crate) mod returns;
pub mod schedule;
pub mod terms;
