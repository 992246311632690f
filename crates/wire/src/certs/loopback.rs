//! Kits for two ends on one machine.

use std::path::Path;

use super::{Issue, KitError, make_ca, make_client_kit, make_server_kit};

/// Under these names a server on the same machine is reached.
pub const LOOPBACK: [&str; 2] = ["localhost", "127.0.0.1"];

/// Certificates for one run on this machine, valid for a week: the kits `server` and `client` in `dir`, signed by an
/// authority whose key is not kept.
pub fn throw_away(dir: &Path) -> Result<(), KitError> {
    let issue = Issue::days(7);
    let authority = dir.join("ca");
    let ca = make_ca(&authority, "qtinyllava loopback CA", &issue)?;
    let names = LOOPBACK.map(str::to_owned);
    make_server_kit(&ca, &dir.join("server"), &names, &issue)?;
    make_client_kit(&ca, &dir.join("client"), "loopback client", &issue)?;
    let path = authority.join("ca.key");
    std::fs::remove_file(&path).map_err(|source| KitError::Io {
        what: "remove",
        path,
        source,
    })
}
