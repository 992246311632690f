//! Both ends in one process, with a real socket between them: the service, the TLS and the framing are those of two
//! machines.

use std::{io, thread};

use super::{ClientOptions, ClientTls, GrpcClient, ServeOptions, ServerTls, ShutdownHandle};
use super::{bind, serve};
use crate::certs::throw_away;
use crate::{WireError, Work};

/// Serves `work` on a free port of this machine, lets `talk` use a client that is connected to it, and returns what that
/// returned when the server has ended. The certificates are made for this one connection. Blocks, and is not to be called
/// from within an async runtime.
pub fn over_loopback<T, E: From<WireError>>(
    work: impl Work,
    talk: impl FnOnce(&mut GrpcClient) -> Result<T, E>,
) -> Result<T, E> {
    let (serving, connecting) = options()?;
    let shutdown = ShutdownHandle::new();
    let handle = shutdown.clone();
    let server = thread::Builder::new()
        .name("qtl-wire-loopback".to_owned())
        .spawn(move || serve(serving, work, handle))
        .map_err(|source| failed("start the server's thread", source))?;
    // The client is dropped here: a server waits a while for connections that are still open.
    let talked = GrpcClient::connect(connecting)
        .map_err(E::from)
        .and_then(|mut client| talk(&mut client));
    shutdown.shutdown();
    // First, for it is the cause if the client has lost its server.
    server.join().map_err(|_| WireError::WorkPanicked)??;
    talked
}

/// Options of both ends.
fn options() -> Result<(ServeOptions, ClientOptions), WireError> {
    let dir = tempfile::tempdir().map_err(|source| failed("make a temporary folder", source))?;
    throw_away(dir.path(), &["client"])?;
    let listener = bind("127.0.0.1:0")?;
    let address = listener
        .local_addr()
        .map_err(|source| failed("tell the port", source))?;
    let client = ClientTls::from_kit(&dir.path().join("client"))?;
    let server = ServerTls::from_kit(&dir.path().join("server"))?;
    Ok((
        ServeOptions::new(listener, server),
        ClientOptions::new(&address.to_string(), client),
    ))
}

fn failed(what: &str, source: io::Error) -> WireError {
    WireError::Io {
        what: format!("cannot {what}"),
        source,
    }
}
