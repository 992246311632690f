//! A new certificate for the same key: what belongs to the key still does.

use std::path::Path;

use rcgen::{KeyPair, PublicKeyData};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::check::{certificates, common_name};
use super::files::{File, read, write};
use super::make::{Ca, authority, client, make, pem, server};
use super::{Issue, KitError, Role, leaf_key};
use crate::Key;

/// What was renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The common name in the certificate, as before.
    pub name: String,
    /// The key's fingerprint, as before.
    pub key: Key,
}

/// Issues a new certificate for the key in `dir`, with the names of the old one: for a kit by the authority in `ca`, for an
/// authority by itself. The key is not touched. Kits of a renewed authority are to be renewed as well, since its certificate
/// is in them.
pub fn renew(dir: &Path, ca: &Path, issue: &Issue) -> Result<Renewed, KitError> {
    let issue = Issue {
        overwrite: true,
        ..*issue
    };
    let roles = [Role::Server, Role::Client];
    let role = roles
        .into_iter()
        .find(|r| dir.join(r.certificate()).exists());
    let (file, secret) = match role {
        Some(role) => (role.certificate(), role.key()),
        None => ("ca.pem", "ca.key"),
    };
    let (path, key_path) = (dir.join(file), dir.join(secret));
    let old = Old::read(&path)?;
    let key = KeyPair::from_pem(&pem(&key_path)?).map_err(|error| KitError::Malformed {
        path: key_path.clone(),
        expected: "private key",
        cause: error.to_string(),
    })?;
    if Key::of_public_key(&key.subject_public_key_info()) != old.key {
        return Err(KitError::KeyMismatch {
            key: key_path,
            certificate: path,
        });
    }
    let renewed = Renewed {
        name: old.name.clone(),
        key: old.key,
    };
    let Some(role) = role else {
        if old.more {
            return Err(KitError::Foreign { path });
        }
        let new = authority(&old.name, &issue)?
            .self_signed(&key)
            .map_err(make)?;
        write(dir, &[public(file, &new.pem())], true)?;
        return Ok(renewed);
    };
    let known = dir.join("ca.pem");
    let roots = certificates(&known, &read(&known)?)?;
    let issuer = leaf_key(&ca.join("ca.pem"))?;
    if !roots
        .iter()
        .any(|root| Key::of_certificate(root) == Some(issuer))
    {
        return Err(KitError::OtherAuthority {
            authority: ca.to_owned(),
            known,
        });
    }
    let ca = Ca::load(ca)?;
    let params = match role {
        Role::Server => server(&old.names, &old.name, &issue)?,
        Role::Client => client(&old.name, &issue)?,
    };
    let new = params.signed_by(&key, ca.issuer()).map_err(make)?.pem();
    let mut files = vec![public(file, &new)];
    // A file of several authorities is somebody's own; one that holds this authority alone follows its renewal.
    if roots.len() == 1 {
        files.push(public("ca.pem", ca.pem()));
    }
    write(dir, &files, true)?;
    Ok(renewed)
}

fn public<'a>(name: &'a str, content: &'a str) -> File<'a> {
    File {
        name,
        content,
        secret: false,
    }
}

/// What the new certificate takes from the old one.
struct Old {
    name: String,
    names: Vec<String>,
    key: Key,
    /// Whether its subject says more than a common name.
    more: bool,
}

impl Old {
    fn read(path: &Path) -> Result<Old, KitError> {
        let chain = certificates(path, &read(path)?)?;
        let malformed = |cause: String| KitError::Malformed {
            path: path.to_owned(),
            expected: "certificate",
            cause,
        };
        let leaf = chain
            .first()
            .ok_or_else(|| malformed("it is empty".to_owned()))?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|e| malformed(e.to_string()))?;
        let names = leaf.subject_alternative_name();
        let names = names.map_err(|e| malformed(e.to_string()))?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        Ok(Old {
            name: common_name(&leaf),
            names: names.filter_map(text).collect(),
            key: Key::of_public_key(leaf.public_key().raw),
            more: leaf.subject().iter_attributes().count() > 1,
        })
    }
}

/// A host name or an address as it is written; other kinds name no server.
fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let sixteen = <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from);
            four.or(sixteen).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}
