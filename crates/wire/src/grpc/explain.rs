//! Verifiers that decide as the library's do, and keep in mind what they saw where they refuse.
//!
//! The library says that a certificate is not accepted; the certificate itself says why. What is found is left for whoever
//! drives the handshake, which runs within one task.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::certs::{Fault, Role, of_chain, of_leaf};

tokio::task_local! {
    static FOUND: RefCell<Option<Fault>>;
}

/// Shakes hands, and returns as well what the verifier has found.
pub(super) async fn explained<T>(handshake: impl Future<Output = T>) -> (T, Option<Fault>) {
    FOUND
        .scope(RefCell::new(None), async {
            let outcome = handshake.await;
            (outcome, FOUND.with(RefCell::take))
        })
        .await
}

/// A verifier, and the authorities that it goes by.
#[derive(Debug)]
pub(super) struct Explaining<V: ?Sized> {
    pub roots: Vec<CertificateDer<'static>>,
    pub inner: Arc<V>,
}

impl<V: ?Sized> Explaining<V> {
    fn note<T>(
        &self,
        outcome: Result<T, Error>,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        role: Role,
    ) -> Result<T, Error> {
        if let Err(Error::InvalidCertificate(error)) = &outcome {
            let chain: Vec<_> = [leaf].into_iter().chain(others).cloned().collect();
            let fault = fault(error, &chain, &self.roots, role);
            // Outside of a task that asks, nobody wants to know.
            let _ = FOUND.try_with(|found| *found.borrow_mut() = fault);
        }
        outcome
    }
}

/// What the certificates say about why they were refused; nothing where the error says it all.
fn fault(
    error: &CertificateError,
    chain: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    role: Role,
) -> Option<Fault> {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. }
        | CertificateError::BadSignature => None,
        CertificateError::UnknownIssuer => of_chain(chain, roots, role),
        _ => of_leaf(chain.first()?, role),
    }
}

impl ServerCertVerifier for Explaining<dyn ServerCertVerifier> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let outcome = self.inner.verify_server_cert(leaf, others, name, ocsp, now);
        self.note(outcome, leaf, others, Role::Server)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Explaining<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let outcome = self.inner.verify_client_cert(leaf, others, now);
        self.note(outcome, leaf, others, Role::Client)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
