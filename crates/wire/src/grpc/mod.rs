//! The protocol over HTTP/2 and mutual TLS. The only module that knows tonic.
//!
//! - [`tls`]: keys and certificates for either end, and what a failed handshake means.
//! - [`server`]: [`serve`], which blocks and drives a [`crate::Work`] on its own thread.
//! - [`client`]: [`GrpcClient`], a blocking handle over its own runtime.
//! - [`over_loopback`]: both in one process.

pub mod tls;

pub mod server;

pub mod client;

mod actor;
mod attempt;
mod codec;
mod counting;
mod incoming;
mod kit;
mod loopback;
mod shutdown;
mod watched;

pub use client::{ClientOptions, GrpcClient, RetryPolicy};
pub use loopback::over_loopback;
pub use server::{ServeOptions, bind, serve};
pub use shutdown::ShutdownHandle;
pub use tls::{ClientTls, Identity, ServerTls};

/// The service over undecoded frames, generated from `proto/split.proto`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
mod service {
    include!(concat!(env!("OUT_DIR"), "/service/qtl.split.v1.rs"));
}
