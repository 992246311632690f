//! Codes into bytes: packing, entropy coding and the container they travel in.
//!
//! # Goals
//!
//! - **Lossless and exact.** A [`Code`] comes back bit for bit, and an [`Account`] says where every byte went.
//!   Rates are measured on these bytes, never computed.
//! - **Small.** Each plane of symbols is carried by whichever coder makes it smallest: a Gaussian feature quantized
//!   to 4 levels at 3 standard deviations takes 1.27 bits, not 2. Never larger than packing.
//! - **Safe.** Bytes come from a peer that may be broken or hostile: [`decode`] never panics, takes no more memory
//!   than its [`Limits`] allow, and names what is wrong.
//! - **Deterministic.** A code has one container, the same on every machine.
//!
//! What the crate never sees: a tensor, a socket, a machine-learning framework.
//!
//! # Layout
//!
//! - [`code`]: what a quantizer emits: planes of symbols and of side information
//! - [`ragged`]: planes with an alphabet per column
//! - [`container`]: the bytes it travels as; [`encode`] and [`decode`]
//! - [`levels`]: features to symbols and back, on slices
//! - [`account`]: where these bytes went
//! - [`limits`]: what a decoder may take
//! - [`error`]: what can be wrong with a container
//! - `coder`: the list of coders and the choice between them
//! - [`pack`]: fixed-width and radix packing
//! - `constant`: planes of one symbol
//! - `rans`: interleaved rANS with a static table per plane
//! - `context`: rANS with probabilities that are learned while coding, from neighbouring symbols and the channel
//! - `ppm`: columns of numbers that repeat what was there
//! - [`arithmetic`]: single choices by weights
//! - [`past`]: rows against the last ones that both sides have seen of the same things
//! - [`plan`]: which levels and width to choose, from a sample of features
//! - [`entropy`]: the floor under all of them
//! - [`samples`]: synthetic features to measure them on
//!
//! # Example
//!
//! ```
//! use qtl_codec::{Code, Limits, Options, ScalarData, Scalars, Symbols, decode, encode};
//!
//! // Two tokens of six channels, quantized to 4 levels, and a scale per token.
//! let symbols = Symbols::from_u32(4, 2, 6, [1, 2, 2, 1, 0, 1, 2, 3, 1, 2, 2, 1])?;
//! let scales = Scalars::new(2, 1, ScalarData::F32(vec![0.5, 2.0]))?;
//! let code = Code::new(vec![symbols.into(), scales.into()]);
//!
//! let bytes = encode(&code, &Options::default());
//! #[rustfmt::skip]
//! assert_eq!(bytes, [
//!     b'Q', b'T', b'L', b'C', 2, 2, // version 2, two planes
//!     0, 4, 2, 6, 0, 0b01_10_10_01, 0b11_10_01_00, 0b01_10_10_01, // 4 levels, 2 x 6, packed
//!     1, 2, 1, 0x00, 0x00, 0x00, 0x3f, 0x00, 0x00, 0x00, 0x40, // single precision, 2 x 1
//!     0x41, 0xd3, 0x24, 0xb5, // checksum
//! ]);
//!
//! let (decoded, account) = decode(&bytes, &Limits::default())?;
//! assert_eq!(decoded, code);
//! assert_eq!((account.symbols, account.tables, account.scalars, account.header), (3, 0, 8, 18));
//! assert_eq!(account.total(), bytes.len() as u64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod code;
pub mod ragged;

pub mod container;

pub mod levels;

pub mod account;
pub mod limits;

pub mod error;

mod coder;

pub mod pack;

mod constant;
mod context;
mod ppm;
mod rans;

pub mod arithmetic;

pub mod past;

pub mod entropy;

pub mod plan;

pub mod samples;

mod bits;
mod bytes;
mod log;
mod symbol;

#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
#[path = "../tests/it/planes.rs"]
mod planes;

pub use account::Account;
pub use code::{Code, CodeError, Grid, Plane, ScalarData, Scalars, SymbolData, Symbols};
pub use container::{Options, decode, encode, encode_accounted, encode_order0};
pub use error::{DecodeError, PlaneError};
pub use limits::Limits;
pub use ragged::Ragged;
