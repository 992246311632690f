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

use super::files::{exposed, read};
use super::{KitError, Role, fault};
use crate::Key;
use crate::foreign::{NAME, printable};

/// What a kit's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KitFacts {
    /// Its common name.
    pub name: String,
    /// Its last moment.
    pub until: SystemTime,
    /// The fingerprint of its public key.
    pub key: Key,
    /// What does not keep the kit from being used, and should be known.
    pub warnings: Vec<String>,
}

/// Checks that a kit is complete, that its certificates are valid at `now` and fit for their purpose, and that key and
/// certificate belong together. Whether the peer accepts it, only the peer can tell.
pub fn check_kit(dir: &Path, role: Role, now: SystemTime) -> Result<KitFacts, KitError> {
    let mut warnings = Vec::new();
    let authority = dir.join("ca.pem");
    let roots = certificates(&authority, &read(&authority)?)?;
    warnings.extend(authorities(&authority, &roots, now)?);
    let (path, key_path) = (dir.join(role.certificate()), dir.join(role.key()));
    let chain = certificates(&path, &read(&path)?)?;
    let mut facts = None;
    for certificate in &chain {
        let link = validity(&path, certificate, now)?;
        facts.get_or_insert(link);
    }
    let Some(mut facts) = facts else {
        return Err(empty(&path));
    };
    let private = key(&key_path, &read(&key_path)?)?;
    let signer = any_supported_type(&private)
        .map_err(|error| unsupported(&key_path, &chain, error.to_string()))?;
    match CertifiedKey::new(chain.clone(), signer).keys_match() {
        // Unknown: the key cannot tell its public half, which rustls too lets pass.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        // A certificate that cannot be read to its end by the TLS library may still be named for what it is.
        Err(Error::InvalidCertificate(_)) if fault::of_leaf(&chain[0], role).is_some() => {}
        Err(Error::InconsistentKeys(_)) => {
            return Err(KitError::KeyMismatch {
                key: key_path,
                certificate: path,
            });
        }
        Err(error) => {
            let expected = "private key of a supported kind";
            return Err(malformed(&key_path, expected, error.to_string()));
        }
    }
    if let Some(fault) = fault::of_leaf(&chain[0], role) {
        return Err(KitError::Unfit { path, fault });
    }
    // Not wrong in itself: the peer may know other authorities than this side does.
    if let Some(fault) = fault::of_chain(&chain, &roots, role) {
        warnings.push(format!("{} {fault}", path.display()));
    }
    if let Some(mode) = exposed(&key_path) {
        warnings.push(format!(
            "{0} can be read by other users of this machine (mode {mode:03o}); whoever copies it can pass for this {1}: chmod 600 {0}",
            key_path.display(),
            role.name(),
        ));
    }
    facts.warnings = warnings;
    Ok(facts)
}

/// An authority past its end has signed nothing that is still in use here, which matters only if there is no other.
fn authorities(
    path: &Path,
    roots: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<Vec<String>, KitError> {
    let mut out = Vec::new();
    for root in roots {
        match validity(path, root, now) {
            Err(error @ (KitError::Expired { .. } | KitError::NotYetValid { .. })) => {
                out.push(error)
            }
            other => drop(other?),
        }
    }
    if out.len() == roots.len() {
        return out.into_iter().next().map_or(Ok(Vec::new()), Err);
    }
    let said = out
        .iter()
        .map(|error| format!("one of several authorities: {error}"));
    Ok(said.collect())
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
    // PKCS#8 names it in the label, the older forms in a header.
    let has = |mark: &str| pem.windows(mark.len()).any(|part| part == mark.as_bytes());
    if has("BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
        return Err(KitError::Encrypted {
            path: path.to_owned(),
        });
    }
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| malformed(path, "private key", error.to_string()))
}

/// The key is none that the library can use. Its certificate says of what kind it is.
fn unsupported(path: &Path, chain: &[CertificateDer<'_>], cause: String) -> KitError {
    let parsed = chain
        .first()
        .and_then(|der| X509Certificate::from_der(der).ok());
    let kind = parsed.and_then(|(_, certificate)| {
        let algorithm = &certificate.public_key().algorithm;
        let curve = algorithm
            .parameters
            .as_ref()
            .and_then(|any| any.as_oid().ok());
        let names = [
            ("1.3.132.0.35", "ECDSA P-521"),
            ("1.3.132.0.10", "ECDSA secp256k1"),
            ("1.3.132.0.33", "ECDSA P-224"),
            ("1.3.101.113", "Ed448"),
            ("1.2.840.10040.4.1", "DSA"),
        ];
        let is = |id: &str| {
            algorithm.algorithm.to_id_string() == id
                || curve
                    .as_ref()
                    .is_some_and(|curve| curve.to_id_string() == id)
        };
        names.iter().find(|(id, _)| is(id)).map(|(_, name)| *name)
    });
    match kind {
        Some(kind) => KitError::KeyKind {
            path: path.to_owned(),
            kind,
        },
        None => malformed(path, "private key of a supported kind", cause),
    }
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
        warnings: Vec::new(),
    })
}

/// The name in the subject, or nothing.
pub(super) fn common_name(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.subject().iter_common_name().next();
    let name = name.and_then(|name| name.as_str().ok());
    printable(name.unwrap_or_default(), NAME)
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
