//! What is wrong with a certificate that is well-formed and in force, and how it is made right.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::Role;
use super::check::common_name;
use crate::foreign::{NAME, printable};

/// Why the other end cannot accept a certificate. Reads on after "the certificate".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Version 1 or 2.
    #[error(
        "is of X.509 version {0}, without the extensions that TLS needs; issue it again as version 3 (openssl x509 -req with -extfile)"
    )]
    Version(u32),
    /// The names are in the subject only.
    #[error(
        "has its name in the subject only (CN '{0}') and no subjectAltName, which is where clients look; issue it again with subjectAltName=DNS:<name> or IP:<address>"
    )]
    NoAlternativeName(String),
    /// Not for this end of a connection.
    #[error(
        "may not be used by a {whom}: its extended key usage ({has}) lacks {lacks}; issue it again with extendedKeyUsage={lacks}"
    )]
    Purpose {
        /// Whom it is to be used by.
        whom: &'static str,
        /// What it may be used for.
        has: String,
        /// What is missing.
        lacks: &'static str,
    },
    /// An authority's own certificate.
    #[error(
        "is an authority's own (CA:TRUE), which a {0} must not use; let the authority issue one with CA:FALSE"
    )]
    Authority(&'static str),
    /// The chain does not reach a known authority.
    #[error(
        "was issued by '{issuer}', which is no authority in ca.pem; if that is an intermediate authority, its certificate is missing in {file} behind the first one, and otherwise one side's ca.pem belongs to another kit"
    )]
    Issuer {
        /// Who issued the last certificate of the chain.
        issuer: String,
        /// The file that holds the chain.
        file: &'static str,
    },
    /// Anything else, in the library's words.
    #[error("does not stand up to a check ({0}); issue it again")]
    Other(String),
}

/// What is wrong with the certificate itself, whoever issued it.
pub(crate) fn of_leaf(der: &CertificateDer<'_>, role: Role) -> Option<Fault> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    if certificate.version() != X509Version::V3 {
        return Some(Fault::Version(certificate.version().0 + 1));
    }
    let (whom, lacks) = match role {
        Role::Server => ("server", "serverAuth"),
        Role::Client => ("client", "clientAuth"),
    };
    if let Ok(Some(usage)) = certificate.extended_key_usage() {
        let usage = usage.value;
        let fits = match role {
            Role::Server => usage.server_auth,
            Role::Client => usage.client_auth,
        };
        let has = [
            (usage.any, "any"),
            (usage.server_auth, "serverAuth"),
            (usage.client_auth, "clientAuth"),
            (usage.code_signing, "codeSigning"),
            (usage.email_protection, "emailProtection"),
            (usage.time_stamping, "timeStamping"),
            (usage.ocsp_signing, "OCSPSigning"),
        ];
        if !fits {
            let names = has.iter().filter(|(set, _)| *set).map(|(_, name)| *name);
            let has = match names.collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => "others".to_owned(),
                some => some,
            };
            return Some(Fault::Purpose { whom, has, lacks });
        }
    }
    if matches!(certificate.basic_constraints(), Ok(Some(basic)) if basic.value.ca) {
        return Some(Fault::Authority(whom));
    }
    if role == Role::Server && matches!(certificate.subject_alternative_name(), Ok(None)) {
        return Some(Fault::NoAlternativeName(common_name(&certificate)));
    }
    None
}

/// Whether the chain ends at none of the authorities, going by their names.
pub(crate) fn of_chain(
    chain: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    role: Role,
) -> Option<Fault> {
    let parse = |der| Some(X509Certificate::from_der(der).ok()?.1);
    let parsed: Vec<X509Certificate<'_>> = chain.iter().filter_map(|der| parse(der)).collect();
    let mut last = parsed.first()?;
    // The order behind the first one does not matter, and a certificate that issued itself ends the search.
    for _ in 0..parsed.len() {
        let issued_by = |other: &&X509Certificate<'_>| {
            other.subject().as_raw() == last.issuer().as_raw()
                && other.subject().as_raw() != last.subject().as_raw()
        };
        match parsed.iter().find(issued_by) {
            Some(next) => last = next,
            None => break,
        }
    }
    let known = roots.iter().filter_map(|der| parse(der));
    if known
        .into_iter()
        .any(|root| root.subject().as_raw() == last.issuer().as_raw())
    {
        return None;
    }
    Some(Fault::Issuer {
        issuer: printable(&last.issuer().to_string(), NAME),
        file: role.certificate(),
    })
}
