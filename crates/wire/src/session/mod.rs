//! Both ends of the protocol as pure state machines: messages in, actions out; no socket, no clock.
//!
//! - [`negotiate`](mod@negotiate): where two peers go on after a greeting.
//! - [`client`]: the client's end.
//! - [`server`]: the server's end.
//! - [`drive`](mod@drive): runs a server's actions against a [`crate::Work`].
//!
//! The rule that makes a run survive lost connections: steps are numbered, and the server keeps the
//! encoded answer to the last one. A repeated step is answered from memory; nothing is applied twice.

pub mod negotiate;

pub mod client;

pub mod server;

pub mod drive;

mod memory;

mod pending;
