//! Making an authority and kits.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
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
        let text = |path: &Path| {
            String::from_utf8(read(path)?).map_err(|error| KitError::Malformed {
                path: path.to_owned(),
                expected: "PEM text",
                cause: error.to_string(),
            })
        };
        let pem = text(&certificate)?;
        // Names an encrypted key for what it is.
        super::key(&key, &read(&key)?)?;
        let pair = KeyPair::from_pem(&text(&key)?).map_err(|error| KitError::Malformed {
            path: key.clone(),
            expected: "private key",
            cause: error.to_string(),
        })?;
        let issuer = Issuer::from_ca_cert_pem(&pem, pair).map_err(|error| KitError::Malformed {
            path: certificate,
            expected: "certificate",
            cause: error.to_string(),
        })?;
        Ok(Ca { pem, issuer })
    }
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
    let mut params = params(&[], &format!("{name} {mark}"), issue)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
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
    let mut params = params(names, first, issue)?;
    params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
    make_kit(ca, dir, params, Role::Server, issue)
}

/// Makes a client kit in `dir`; the server's log calls the client `name`.
pub fn make_client_kit(ca: &Ca, dir: &Path, name: &str, issue: &Issue) -> Result<(), KitError> {
    let mut params = params(&[], name, issue)?;
    params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
    make_kit(ca, dir, params, Role::Client, issue)
}

fn make_kit(
    ca: &Ca,
    dir: &Path,
    mut params: CertificateParams,
    role: Role,
    issue: &Issue,
) -> Result<(), KitError> {
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
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

fn make(error: rcgen::Error) -> KitError {
    KitError::Make(error.to_string())
}
