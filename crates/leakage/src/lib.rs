//! What a server can learn from what it receives.
//!
//! An honest but curious server knows the architecture, the public base, the recipe, and everything that it receives and
//! computes. This crate has the client send the very messages of training, reads them by the protocol's own decoders, and
//! lets attackers loose on what comes. What they find stands beside what can be said without looking.
//!
//! Modules in reading order: [`halves`] of a model; [`seen`]: what a server has of a set of samples; [`overheard`]: the same of messages of a trial run; [`attack`]: the list of
//! attacks; [`questions`] that the data asks, an [`interview`] about pictures or rows; [`judge`]: how good a reconstruction is, [`drawn`]: the same by a judge that is no
//! tower;
//! [`finding`]: numbers; [`suite`]: all attacks in turn, [`kept`]: their results on disk; [`page`]: a report for people.
//! [`matrix`], [`pictures`], [`ridge`], [`network`], [`fit`], [`reference`](mod@reference) runs and [`clock`] are tools.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod attack;
pub mod clock;
pub mod drawn;
pub mod error;
pub mod finding;
pub mod fit;
pub mod halves;
pub mod interview;
pub mod judge;
pub mod kept;
pub mod matrix;
pub mod network;
pub mod overheard;
pub mod page;
pub mod pictures;
pub mod questions;
pub mod reference;
pub mod ridge;
pub mod seen;
pub mod suite;

pub use error::LeakageError;
pub use finding::{Finding, Outcome, Setting};
pub use suite::{Event, Results, Suite};
