//! Reading a kit and finding out what is wrong with it before a peer does.

use std::path::Path;
use std::time::SystemTime;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::read;
use super::{KitError, Role};
use crate::Key;

/// What a kit's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KitFacts {
    /// Its common name.
    pub name: String,
    /// Its last moment.
    pub until: SystemTime,
    /// The fingerprint of its public key.
    pub key: Key,
}

/// Checks that a kit is complete, that its certificates are valid at `now`, and that key and
/// certificate belong together. Whether the peer accepts it, only the peer can tell.
pub fn check_kit(dir: &Path, role: Role, now: SystemTime) -> Result<KitFacts, KitError> {
    let authority = dir.join("ca.pem");
    for certificate in &certificates(&authority, &read(&authority)?)? {
        validity(&authority, certificate, now)?;
    }
    let (path, key_path) = (dir.join(role.certificate()), dir.join(role.key()));
    let chain = certificates(&path, &read(&path)?)?;
    let mut facts = None;
    for certificate in &chain {
        let link = validity(&path, certificate, now)?;
        facts.get_or_insert(link);
    }
    let private = key(&key_path, &read(&key_path)?)?;
    let malformed = |error: Error| KitError::Malformed {
        path: key_path.clone(),
        expected: "private key of a supported kind",
        cause: error.to_string(),
    };
    let signer = any_supported_type(&private).map_err(malformed)?;
    match CertifiedKey::new(chain, signer).keys_match() {
        // Unknown: the key cannot tell its public half, which rustls too lets pass.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            return Err(KitError::KeyMismatch {
                key: key_path,
                certificate: path,
            });
        }
        Err(error) => return Err(malformed(error)),
    }
    facts.ok_or_else(|| empty(&path))
}

/// The certificates in PEM text; at least one. `path` is for the error.
pub(crate) fn certificates(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, KitError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(path, "certificate", error.to_string()))?;
    if certificates.is_empty() {
        return Err(empty(path));
    }
    Ok(certificates)
}

/// The key that the first certificate in a file is for.
pub fn leaf_key(path: &Path) -> Result<Key, KitError> {
    let chain = certificates(path, &read(path)?)?;
    let key = chain.first().and_then(|leaf| Key::of_certificate(leaf));
    key.ok_or_else(|| malformed(path, "certificate", "it cannot be read".to_owned()))
}

/// The private key in PEM text. `path` is for the error.
pub(crate) fn key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, KitError> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| malformed(path, "private key", error.to_string()))
}

fn validity(path: &Path, der: &CertificateDer<'_>, now: SystemTime) -> Result<KitFacts, KitError> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|error| malformed(path, "certificate", error.to_string()))?;
    let validity = certificate.validity();
    let (start, end) = (
        validity.not_before.to_datetime(),
        validity.not_after.to_datetime(),
    );
    let now = OffsetDateTime::from(now);
    if now > end {
        return Err(KitError::Expired {
            path: path.to_owned(),
            end: date(end),
        });
    }
    if now < start {
        return Err(KitError::NotYetValid {
            path: path.to_owned(),
            start: date(start),
        });
    }
    Ok(KitFacts {
        name: common_name(&certificate),
        until: end.into(),
        key: Key::of_public_key(certificate.public_key().raw),
    })
}

/// The name in the subject, or nothing.
pub(super) fn common_name(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.subject().iter_common_name().next();
    name.and_then(|name| name.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// The name of a peer, from its certificate.
pub(crate) fn peer_name(der: &CertificateDer<'_>) -> Option<String> {
    X509Certificate::from_der(der)
        .ok()
        .map(|(_, certificate)| common_name(&certificate))
}

fn date(at: OffsetDateTime) -> String {
    let (date, time) = (at.date(), at.time());
    format!("{date} {:02}:{:02} UTC", time.hour(), time.minute())
}

fn malformed(path: &Path, expected: &'static str, cause: String) -> KitError {
    KitError::Malformed {
        path: path.to_owned(),
        expected,
        cause,
    }
}

fn empty(path: &Path) -> KitError {
    malformed(path, "certificate", "no CERTIFICATE block".to_owned())
}
