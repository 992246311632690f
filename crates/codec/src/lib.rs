//! Codes into bytes: packing, entropy coding and the container they travel in.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod account;
pub mod code;
pub mod container;
pub mod entropy;
pub mod error;
pub mod limits;
pub mod pack;

mod bits;
mod bytes;
mod coder;
mod constant;
mod rans;
mod symbol;

pub use account::Account;
pub use code::{Code, CodeError, Plane, ScalarData, Scalars, SymbolData, Symbols};
pub use container::{Options, decode, encode, encode_accounted};
pub use error::{DecodeError, PlaneError};
pub use limits::Limits;
