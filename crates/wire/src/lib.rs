//! Bytes to a peer: the split protocol, its session state machine, and gRPC over mutual TLS.
//!
//! This crate carries opaque containers between the two halves of a split model. It knows nothing
//! about tensors, and nothing it receives chooses a type to build.
//!
//! # Layout
//!
//! - [`vocabulary`]: what the two peers say about a session, as plain types.
//! - [`verb`]: what a client can ask for on a lane, one file per verb.
//! - [`key`]: whose certificate it is.
//! - [`layout`]: how rows of features form sequences.
//! - [`work`]: what a server does ([`Work`]) and what a client asks for ([`Exchange`]).
//! - [`sites`]: several sites that train one model.
//! - [`error`]: everything that can go wrong, each with its cure.
//! - [`limits`]: how much a peer may make us hold.
//! - [`foreign`]: text of a peer, made safe to show.
//! - [`message`]: plain types to bytes and back, bounded before memory is taken.
//! - [`meter`]: what was sent, by kind and part.
//! - [`session`]: both ends of the protocol as pure state machines.
//! - [`caller`]: the client's state machine, driven over a transport.
//! - [`link`]: a link within one process, with simulated delay and loss.
//! - [`shared`]: a server within one process that several clients share.
//! - [`certs`]: certificates: making them, and checking them before a connection is tried.
//! - [`grpc`]: the protocol over HTTP/2 and mutual TLS; the only module that knows tonic.
//!
//! `docs/PROTOCOL.md` is the same told to a person who audits what crosses the wire.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod vocabulary;

pub mod verb;

pub mod key;

pub mod layout;

pub mod work;

pub mod sites;

pub mod error;

pub mod limits;

pub mod foreign;

pub mod message;

pub mod meter;

pub mod session;

pub mod caller;

pub mod link;

pub mod shared;

pub mod certs;

pub mod grpc;

pub use certs::KitError;
pub use error::{Reason, Refusal, TlsProblem, WireError};
pub use grpc::{
    ClientOptions, ClientTls, GrpcClient, RetryPolicy, ServeOptions, ServerTls, ShutdownHandle,
    bind, over_loopback, serve,
};
pub use key::Key;
pub use layout::{Layout, Sequence, Span, SpanKind};
pub use limits::Limits;
pub use link::{LocalLink, Simulation};
pub use meter::Meter;
pub use shared::{Shared, SharedLink};
pub use sites::{Course, Held, Mode, Roster, Site, Together};
pub use verb::{Backward, Calibration, Cut, Forward, Next, Tokens};
pub use vocabulary::{Purpose, Resume, Standing, Terms};
pub use work::{Access, Askers, Exchange, Lane, Reply, Work, WorkError};
