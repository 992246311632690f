//! Making an authority and kits.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::ServerName;
use time::OffsetDateTime;

use super::files::{File, read, write};
use super::{KitError, Role};

/// How to issue certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue {
    /// First moment of validity.
    pub from: SystemTime,
    /// Last moment of validity.
    pub until: SystemTime,
    /// Whether files that are there already are replaced.
    pub overwrite: bool,
}

impl Issue {
    /// Valid from an hour ago (clocks differ) for `days` days; nothing is overwritten.
    pub fn days(days: u32) -> Issue {
        let now = SystemTime::now();
        Issue {
            from: now - Duration::from_secs(3600),
            until: now + Duration::from_secs(u64::from(days) * 86_400),
            overwrite: false,
        }
    }
}

/// An authority that issues kits.
pub struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Reads `ca.pem` and `ca.key` from the authority's folder.
    pub fn load(dir: &Path) -> Result<Ca, KitError> {
        let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
        let text = pem(&certificate)?;
        // Names an encrypted key for what it is.
        super::key(&key, &read(&key)?)?;
        let pair = KeyPair::from_pem(&pem(&key)?).map_err(|error| KitError::Malformed {
            path: key.clone(),
            expected: "private key",
            cause: error.to_string(),
        })?;
        let issuer =
            Issuer::from_ca_cert_pem(&text, pair).map_err(|error| KitError::Malformed {
                path: certificate,
                expected: "certificate",
                cause: error.to_string(),
            })?;
        Ok(Ca { pem: text, issuer })
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }
}

/// Reads a file of PEM text.
pub(super) fn pem(path: &Path) -> Result<String, KitError> {
    String::from_utf8(read(path)?).map_err(|error| KitError::Malformed {
        path: path.to_owned(),
        expected: "PEM text",
        cause: error.to_string(),
    })
}

/// Makes an authority: `ca.pem` and `ca.key` in `dir`. `name` is shown in certificate viewers.
pub fn make_ca(dir: &Path, name: &str, issue: &Issue) -> Result<Ca, KitError> {
    let key = KeyPair::generate().map_err(make)?;
    // Two authorities of the same name must not be mistaken for each other: a verifier picks the
    // issuer by its name.
    let mark: String = key
        .public_key_raw()
        .iter()
        .rev()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let params = authority(&format!("{name} {mark}"), issue)?;
    let pem = params.self_signed(&key).map_err(make)?.pem();
    let files = [
        File {
            name: "ca.key",
            content: &key.serialize_pem(),
            secret: true,
        },
        File {
            name: "ca.pem",
            content: &pem,
            secret: false,
        },
    ];
    write(dir, &files, issue.overwrite)?;
    Ok(Ca {
        pem,
        issuer: Issuer::new(params, key),
    })
}

/// Makes a server kit in `dir`, for a server that clients reach under `names` (host names and IP
/// addresses).
pub fn make_server_kit(
    ca: &Ca,
    dir: &Path,
    names: &[String],
    issue: &Issue,
) -> Result<(), KitError> {
    let Some(first) = names.first() else {
        return Err(KitError::Name {
            name: String::new(),
            cause: "a server needs at least one host name or IP address".to_owned(),
        });
    };
    make_kit(ca, dir, server(names, first, issue)?, Role::Server, issue)
}

/// Makes a client kit in `dir`; the server's log calls the client `name`.
pub fn make_client_kit(ca: &Ca, dir: &Path, name: &str, issue: &Issue) -> Result<(), KitError> {
    make_kit(ca, dir, client(name, issue)?, Role::Client, issue)
}

/// What is in the certificate of an authority.
pub(super) fn authority(name: &str, issue: &Issue) -> Result<CertificateParams, KitError> {
    let mut params = params(&[], name, issue)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// What is in the certificate of a server.
pub(super) fn server(
    names: &[String],
    subject: &str,
    issue: &Issue,
) -> Result<CertificateParams, KitError> {
    let mut params = params(names, subject, issue)?;
    params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
    Ok(of_a_kit(params))
}

/// What is in the certificate of a client.
pub(super) fn client(name: &str, issue: &Issue) -> Result<CertificateParams, KitError> {
    let mut params = params(&[], name, issue)?;
    params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
    Ok(of_a_kit(params))
}

fn of_a_kit(mut params: CertificateParams) -> CertificateParams {
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn make_kit(
    ca: &Ca,
    dir: &Path,
    params: CertificateParams,
    role: Role,
    issue: &Issue,
) -> Result<(), KitError> {
    let key = KeyPair::generate().map_err(make)?;
    let certificate = params.signed_by(&key, &ca.issuer).map_err(make)?;
    let files = [
        File {
            name: role.key(),
            content: &key.serialize_pem(),
            secret: true,
        },
        File {
            name: role.certificate(),
            content: &certificate.pem(),
            secret: false,
        },
        File {
            name: "ca.pem",
            content: &ca.pem,
            secret: false,
        },
    ];
    write(dir, &files, issue.overwrite)
}

fn params(names: &[String], subject: &str, issue: &Issue) -> Result<CertificateParams, KitError> {
    if subject.trim().is_empty() {
        return Err(KitError::Name {
            name: subject.to_owned(),
            cause: "the name is empty".to_owned(),
        });
    }
    for name in names {
        let host = name.strip_prefix("*.").unwrap_or(name);
        ServerName::try_from(host).map_err(|_| KitError::Name {
            name: name.clone(),
            cause: "it is neither a host name nor an IP address".to_owned(),
        })?;
    }
    let mut params = CertificateParams::new(names).map_err(|error| KitError::Name {
        name: names.join(", "),
        cause: error.to_string(),
    })?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.not_before = OffsetDateTime::from(issue.from);
    params.not_after = OffsetDateTime::from(issue.until);
    Ok(params)
}

pub(super) fn make(error: rcgen::Error) -> KitError {
    KitError::Make(error.to_string())
}
