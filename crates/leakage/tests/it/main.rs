//! Every attack where its success is certain: a low number elsewhere then says that something protects.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod certain;
mod results;
mod world;
