//! The model in two halves, each a set of [stages](crate::stage) and the sides of the [edges](crate::edge) that touch them.
//! The client holds pictures, text and the bottom of the model, and the top where it has the labels; the server holds the
//! rest. The single-process model is these two without a wire.

mod answers;
mod client;
mod placement;
mod server;
mod top;

pub use client::{ClientPartition, Pending};
pub use placement::{Holder, Labels, Placement, Text};
pub use server::{Above, Returned, ServerPartition, Step, Waiting};
pub use top::{Learned, Top};
