//! The model as a chain of stages, each with a forward that leaves a tape and a backward that takes it up again.
//!
//! | stage | of | forward | backward |
//! |---|---|---|---|
//! | [`Bottom`] | vision tower, connector, token embedding, first blocks | pictures and ids to [`Rows`] | gradient of the rows to nothing |
//! | trunk: [`Blocks`] | the other blocks of the language model | rows in their cells to the same | gradient to gradient |
//! | top: [`Head`], or [`Decoder`] | final norm, head, loss, and the last blocks where the client has them | cells to a loss | 1 to the gradient of the cells |
//!
//! Every backward also gives the gradients of the stage's own trained parameters by name. What one stage's backward returns
//! is what the one below it takes: nothing else passes between them, so a stage may run anywhere. What lies between two
//! stages that run in different places is an [edge](crate::edge).
//!
//! [`Blocks`]: crate::llm::Blocks
//! [`Head`]: crate::llm::Head
//! [`Decoder`]: crate::llm::Decoder

mod bottom;
mod cells;
mod top;
mod tower;
mod trunk;

pub use bottom::{Batch, Bottom, BottomTape, Pictures, Rows};
pub use cells::context;
pub(crate) use cells::{put, select};
pub use top::{HeadTape, TopTape};
pub use trunk::BlocksTape;
