//! The model in two halves, each a set of [stages](crate::stage) and the sides of the [edges](crate::edge) that touch them.
//! The client holds pictures, text and the bottom of the model; the server holds the language model. The single-process
//! model is these two without a wire.

mod client;
mod server;

pub use client::{ClientPartition, Pending};
pub use server::{ServerPartition, Step};
