//! Certificates: making them, and checking them before a connection is tried.
//!
//! One authority per project, one kit (a folder) per machine:
//!
//! | folder | files |
//! |---|---|
//! | authority | `ca.pem`, `ca.key` (never leaves the server's operator) |
//! | server kit | `ca.pem`, `server.pem`, `server.key` |
//! | client kit | `ca.pem`, `client.pem`, `client.key` |
//!
//! Keys are ECDSA P-256 with mode 0600. Nothing is overwritten unless told.

mod check;
mod fault;
mod files;
mod loopback;
mod make;
mod renew;

pub use check::{KitFacts, check_kit, leaf_key};
pub use fault::Fault;
pub use files::exposed;
pub use loopback::{LOOPBACK, throw_away};
pub use make::{Ca, Issue, make_ca, make_client_kit, make_server_kit};
pub use renew::{Renewed, renew};

pub(crate) use check::{certificates, key, peer_name};
pub(crate) use fault::{of_chain, of_leaf};
pub(crate) use files::read;

use std::path::PathBuf;

/// Which end a kit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `server.pem`, `server.key`.
    Server,
    /// `client.pem`, `client.key`.
    Client,
}

impl Role {
    /// File name of the certificate.
    pub fn certificate(self) -> &'static str {
        match self {
            Role::Server => "server.pem",
            Role::Client => "client.pem",
        }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Client => "client",
        }
    }

    /// File name of the key.
    pub fn key(self) -> &'static str {
        match self {
            Role::Server => "server.key",
            Role::Client => "client.key",
        }
    }
}

/// What is wrong with a kit, and its cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KitError {
    /// A file of the kit is not there.
    #[error("{path} is missing; a kit needs it: make a new kit, or name the right folder")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is there already.
    #[error("{path} is there already; choose another folder, or allow overwriting")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file does not hold what its name says.
    #[error("{path} holds no {expected}: {cause}; copy the kit again or make a new one")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What the parser said.
        cause: String,
    },
    /// The key cannot be read without a passphrase.
    #[error(
        "{path} is encrypted with a passphrase, for which nobody is asked here; decrypt it with `openssl pkey -in {path} -out plain.key`, put plain.key in its place, and keep it readable by its owner only (chmod 600)"
    )]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The key is of a kind that cannot be used.
    #[error(
        "{path} is a key of kind {kind}, which is not supported; make one of ECDSA P-256 or P-384, Ed25519, or RSA with 2048 to 4096 bits, and have its certificate issued again"
    )]
    KeyKind {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// No peer could accept the certificate.
    #[error("the certificate in {path} {fault}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why not.
        fault: Fault,
    },
    /// The certificate is past its end.
    #[error("{path} expired on {end}; make a new kit")]
    Expired {
        /// The file.
        path: PathBuf,
        /// Its last moment.
        end: String,
    },
    /// The certificate is before its start.
    #[error("{path} is valid only from {start}; check this machine's clock")]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// Its first moment.
        start: String,
    },
    /// Key and certificate are not from the same pair.
    #[error("{key} does not belong to {certificate}; copy both files from the same kit")]
    KeyMismatch {
        /// The key.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
    },
    /// A name cannot be put into a certificate.
    #[error("cannot make a certificate for '{name}': {cause}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        cause: String,
    },
    /// An authority that this program did not make.
    #[error("the subject of {path} is more than a name: renew it with the program that made it")]
    Foreign {
        /// Its certificate.
        path: PathBuf,
    },
    /// A kit of another authority than the one that is to renew it.
    #[error(
        "{known} does not know the authority in {authority}: name the one that issued the kit with --ca"
    )]
    OtherAuthority {
        /// The authority's folder.
        authority: PathBuf,
        /// What the kit trusts.
        known: PathBuf,
    },
    /// The library refused to make the certificate.
    #[error("cannot make the certificate: {0}")]
    Make(String),
}
