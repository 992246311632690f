//! Keys and certificates for either end, and what a failed handshake means.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore, ServerConfig,
};

use super::explain::Explaining;
use crate::certs::{Fault, KitError, Role, certificates, check_kit, key, of_chain, of_leaf, read};
use crate::foreign::{SENTENCE, printable};
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
        let (names, store) = roots(&self.ca, &self.identity.origin)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(store, provider.clone())
            .build()
            .map_err(|error| unusable(&self.identity.origin, error.to_string()))?;
        let verifier: Arc<Explaining<dyn ClientCertVerifier>> = Arc::new(Explaining {
            roots: names,
            inner: verifier,
        });
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
        // Whoever resumes a session shows no certificate, so nobody would see that it has expired.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
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

    /// What a server that knows the same authorities may have against this client's certificate.
    pub(super) fn fault(&self) -> Option<Fault> {
        let identity = self.identity.as_ref()?;
        let chain = certificates(&identity.origin, &identity.certificate).ok()?;
        let roots = certificates(&identity.origin, &self.ca).ok()?;
        of_leaf(chain.first()?, Role::Client).or_else(|| of_chain(&chain, &roots, Role::Client))
    }

    pub(super) fn config(&self) -> Result<ClientConfig, WireError> {
        let origin = self
            .identity
            .as_ref()
            .map(|identity| identity.origin.clone());
        let origin = origin.unwrap_or_else(|| PathBuf::from("ca.pem"));
        let provider = Arc::new(default_provider());
        let (names, store) = roots(&self.ca, &origin)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(store, provider.clone())
            .build()
            .map_err(|error| unusable(&origin, error.to_string()))?;
        let verifier: Arc<Explaining<dyn ServerCertVerifier>> = Arc::new(Explaining {
            roots: names,
            inner: verifier,
        });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&origin, error.to_string()))?
            // Decides as the library's does.
            .dangerous()
            .with_custom_certificate_verifier(verifier);
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
        // As on the server: certificates are looked at in each connection.
        config.resumption = Resumption::disabled();
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

/// The authorities in PEM text, and the same as a verifier wants them.
fn roots(
    pem: &[u8],
    origin: &Path,
) -> Result<(Vec<CertificateDer<'static>>, Arc<RootCertStore>), WireError> {
    let path = origin.with_file_name("ca.pem");
    let mut store = RootCertStore::empty();
    let certificates = certificates(&path, pem)?;
    for certificate in &certificates {
        store
            .add(certificate.clone())
            .map_err(|error| unusable(&path, error.to_string()))?;
    }
    Ok((certificates, Arc::new(store)))
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
            // Not the library's words, which repeat whatever the certificate holds.
            CertificateError::NotValidForName => {
                TlsProblem::Other("the server's certificate is for another name".to_owned())
            }
            other => other_problem(&format!("the server's certificate was rejected: {other}")),
        },
        Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::BadCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateUnknown => TlsProblem::ClientNotAccepted,
            AlertDescription::UnsupportedCertificate => TlsProblem::ClientPurpose,
            AlertDescription::BadRecordMac => TlsProblem::Damaged,
            AlertDescription::CertificateExpired => TlsProblem::ClientExpired,
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                TlsProblem::ClientCertificateMissing
            }
            AlertDescription::NoApplicationProtocol => TlsProblem::NotHttp2,
            other => other_problem(&format!("the server ended the connection: {other:?}")),
        },
        Error::InvalidMessage(_) => TlsProblem::NotTls,
        Error::DecryptError => TlsProblem::Damaged,
        other => other_problem(&other.to_string()),
    })
}

fn other_problem(text: &str) -> TlsProblem {
    TlsProblem::Other(printable(text, SENTENCE))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustls::{ClientConnection, HandshakeKind, ServerConnection};

    use super::*;
    use crate::certs::throw_away;

    /// Messages of both, until neither has any.
    fn talk(client: &mut ClientConnection, server: &mut ServerConnection) {
        loop {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut up).unwrap();
            }
            while server.wants_write() {
                server.write_tls(&mut down).unwrap();
            }
            if up.is_empty() && down.is_empty() {
                return;
            }
            server.read_tls(&mut up.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            client.read_tls(&mut down.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
    }

    #[test]
    fn every_connection_looks_at_both_certificates() {
        let dir = tempfile::tempdir().unwrap();
        throw_away(dir.path(), &["client"]).unwrap();
        let [client, server] = ["client", "server"].map(|name| dir.path().join(name));
        let ours = Arc::new(ClientTls::from_kit(&client).unwrap().config().unwrap());
        let theirs = Arc::new(ServerTls::from_kit(&server).unwrap().config().unwrap());
        for _ in 0..2 {
            let name = "127.0.0.1".try_into().unwrap();
            let mut client = ClientConnection::new(Arc::clone(&ours), name).unwrap();
            let mut server = ServerConnection::new(Arc::clone(&theirs)).unwrap();
            talk(&mut client, &mut server);
            assert!(!client.is_handshaking() && !server.is_handshaking());
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
            assert!(server.peer_certificates().is_some());
        }
    }
}
