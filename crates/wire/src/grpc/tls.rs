//! Keys and certificates for either end, and what a failed handshake means.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore, ServerConfig,
};

use crate::certs::{KitError, Role, certificates, check_kit, key, read};
use crate::{TlsProblem, WireError};

/// A certificate chain and its key, as PEM text.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Leaf first.
    pub certificate: Vec<u8>,
    /// The leaf's private key.
    pub key: Vec<u8>,
    /// Where both come from, for errors.
    pub origin: PathBuf,
}

/// What a server needs for mutual TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// Certificate of the authority whose clients are let in, as PEM text.
    pub ca: Vec<u8>,
    /// The server's own.
    pub identity: Identity,
}

/// What a client needs for mutual TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// Certificate of the authority that issued the server's, as PEM text.
    pub ca: Vec<u8>,
    /// The client's own. [`serve`](super::serve) lets nobody in without one; a proxy that ends TLS
    /// before it may.
    pub identity: Option<Identity>,
}

impl ServerTls {
    /// Checks and reads a server kit: `ca.pem`, `server.pem`, `server.key`.
    pub fn from_kit(dir: &Path) -> Result<ServerTls, KitError> {
        check_kit(dir, Role::Server, SystemTime::now())?;
        Ok(ServerTls {
            ca: read(&dir.join("ca.pem"))?,
            identity: Identity::read(dir, Role::Server)?,
        })
    }

    pub(super) fn config(&self) -> Result<ServerConfig, WireError> {
        let provider = Arc::new(default_provider());
        let roots = Arc::new(roots(&self.ca, &self.identity.origin)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| unusable(&self.identity.origin, error.to_string()))?;
        let certificate = certificates(&self.identity.origin, &self.identity.certificate)?;
        let key = key(&self.identity.origin, &self.identity.key)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_client_cert_verifier(verifier)
                    .with_single_cert(certificate, key)
            })
            .map_err(|error| unusable(&self.identity.origin, error.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

impl ClientTls {
    /// Checks and reads a client kit: `ca.pem`, `client.pem`, `client.key`.
    pub fn from_kit(dir: &Path) -> Result<ClientTls, KitError> {
        check_kit(dir, Role::Client, SystemTime::now())?;
        let identity = Some(Identity::read(dir, Role::Client)?);
        Ok(ClientTls {
            ca: read(&dir.join("ca.pem"))?,
            identity,
        })
    }

    pub(super) fn config(&self) -> Result<ClientConfig, WireError> {
        let origin = self
            .identity
            .as_ref()
            .map(|identity| identity.origin.clone());
        let origin = origin.unwrap_or_else(|| PathBuf::from("ca.pem"));
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&origin, error.to_string()))?
            .with_root_certificates(roots(&self.ca, &origin)?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(
                    certificates(&origin, &identity.certificate)?,
                    key(&origin, &identity.key)?,
                )
                .map_err(|error| unusable(&origin, error.to_string()))?,
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

impl Identity {
    /// Reads certificate and key of a kit.
    pub fn read(dir: &Path, role: Role) -> Result<Identity, KitError> {
        Ok(Identity {
            certificate: read(&dir.join(role.certificate()))?,
            key: read(&dir.join(role.key()))?,
            origin: dir.join(role.certificate()),
        })
    }
}

/// The private key is not printed.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

fn roots(pem: &[u8], origin: &Path) -> Result<RootCertStore, WireError> {
    let path = origin.with_file_name("ca.pem");
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&path, pem)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(&path, error.to_string()))?;
    }
    Ok(roots)
}

fn unusable(path: &Path, cause: String) -> WireError {
    KitError::Malformed {
        path: path.to_owned(),
        expected: "usable certificate or key",
        cause,
    }
    .into()
}

/// What an I/O error of a TLS stream says about the peers, if it is one of TLS and not of the network.
pub(super) fn problem(error: &io::Error) -> Option<TlsProblem> {
    let inner = error.get_ref()?;
    let error = inner.downcast_ref::<Error>().or_else(|| {
        inner
            .source()
            .and_then(|source| source.downcast_ref::<Error>())
    })?;
    Some(match error {
        Error::InvalidCertificate(certificate) => match certificate {
            // A bad signature by an authority of the right name is one by another authority.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsProblem::UnknownAuthority
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                TlsProblem::ServerExpired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsProblem::ServerNotYetValid
            }
            CertificateError::NotValidForNameContext { expected, .. } => TlsProblem::WrongName {
                expected: expected.to_str().into_owned(),
            },
            other => TlsProblem::Other(format!("the server's certificate was rejected: {other}")),
        },
        Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::BadCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate => TlsProblem::ClientNotAccepted,
            AlertDescription::CertificateExpired => TlsProblem::ClientExpired,
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                TlsProblem::ClientCertificateMissing
            }
            AlertDescription::NoApplicationProtocol => TlsProblem::NotHttp2,
            other => TlsProblem::Other(format!("the server ended the handshake: {other:?}")),
        },
        Error::InvalidMessage(_) => TlsProblem::NotTls,
        other => TlsProblem::Other(other.to_string()),
    })
}
