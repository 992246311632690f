//! Whose certificate it is: [`Key`].

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Fingerprint of a public key: SHA-256 of the certificate's SubjectPublicKeyInfo. A renewed certificate keeps it, another
/// kit of the same authority has another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 32]);

/// A text that is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no key: a key is 64 hexadecimal digits, as `certs` prints them")]
pub struct NoKey(String);

impl Key {
    /// The client in this very process, which has no certificate: what it may read and write anyway, nobody can keep from it.
    /// No certificate has this key.
    pub const LOCAL: Key = Key([0; 32]);

    /// The key in a certificate, given as DER; `None` if that is no certificate.
    pub fn of_certificate(der: &[u8]) -> Option<Key> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Key::of_public_key(certificate.public_key().raw))
    }

    /// The fingerprint of a SubjectPublicKeyInfo, given as DER.
    pub fn of_public_key(info: &[u8]) -> Key {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, info).as_ref());
        Key(bytes)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl FromStr for Key {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Key, NoKey> {
        let digits = text.trim().as_bytes();
        let mut bytes = [0; 32];
        let digit = |at: usize| digits.get(at).and_then(|c| char::from(*c).to_digit(16));
        for (i, byte) in bytes.iter_mut().enumerate() {
            let (Some(high), Some(low)) = (digit(2 * i), digit(2 * i + 1)) else {
                return Err(NoKey(text.to_owned()));
            };
            *byte = (high << 4 | low) as u8;
        }
        match digits.len() {
            64 if bytes != [0; 32] => Ok(Key(bytes)),
            _ => Err(NoKey(text.to_owned())),
        }
    }
}
