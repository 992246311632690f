//! Kits for two ends on one machine.

use std::path::Path;

use super::{Issue, KitError, make_ca, make_client_kit, make_server_kit};

/// Under these names a server on the same machine is reached.
pub const LOOPBACK: [&str; 2] = ["localhost", "127.0.0.1"];

/// Certificates for one run on this machine, valid for a week: the kit `server` and one for each of `clients` in `dir`,
/// signed by an authority whose key is not kept.
///
/// # Errors
///
/// What the file system refuses, and a kit that is there already.
pub fn throw_away(dir: &Path, clients: &[&str]) -> Result<(), KitError> {
    let issue = Issue::days(7);
    let authority = dir.join("ca");
    let ca = make_ca(&authority, "qtinyllava loopback CA", &issue)?;
    let names = LOOPBACK.map(str::to_owned);
    make_server_kit(&ca, &dir.join("server"), &names, &issue)?;
    for client in clients {
        make_client_kit(
            &ca,
            &dir.join(client),
            &format!("loopback {client}"),
            &issue,
        )?;
    }
    let path = authority.join("ca.key");
    std::fs::remove_file(&path).map_err(|source| KitError::Io {
        what: "remove",
        path,
        source,
    })
}
