//! The protocol over HTTP/2 and mutual TLS. The only module that knows tonic.
//!
//! - [`tls`]: keys and certificates for either end, and what a failed handshake means.
//! - [`server`]: [`serve`], which blocks and drives a [`crate::Work`] on its own thread.
//! - [`client`]: [`GrpcClient`], a blocking handle over its own runtime.
//! - [`options`]: how a client connects, and how long it tries.
//! - [`over_loopback`]: both in one process.

pub mod tls;

pub mod server;

pub mod client;

pub mod options;

mod actor;
mod attempt;
mod codec;
mod counting;
mod explain;
mod gate;
mod guests;
mod incoming;
mod kit;
mod loopback;
mod outage;
mod shutdown;
mod strangers;
mod stream;
mod watched;

pub use client::GrpcClient;
pub use gate::Handshakes;
pub use loopback::over_loopback;
pub use options::{ClientOptions, KEEP_ALIVE, RetryPolicy};
pub use server::{ServeOptions, bind, serve};
pub use shutdown::ShutdownHandle;
pub use tls::{ClientTls, Identity, ServerTls};

/// The service over undecoded frames, generated from `proto/split.proto`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
mod service {
    include!(concat!(env!("OUT_DIR"), "/service/qtl.split.v1.rs"));
}
