//! Kits are read again at each connection, so that a renewed certificate is used without a restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::{ClientConfig, ServerConfig};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsAcceptor;

use super::{ClientTls, ServerTls};
use crate::WireError;
use crate::certs::KitError;

/// Keys and certificates of one end, and what is made of them.
pub(super) trait Kit: Sized + Clone + PartialEq {
    type Config;

    fn read(dir: &Path) -> Result<Self, KitError>;

    fn config(&self) -> Result<Self::Config, WireError>;
}

/// A kit as it was read last. One that cannot be used does not replace one that can: it may be half copied.
pub(super) struct Latest<K: Kit> {
    /// Its folder, if it is to be read again.
    dir: Option<PathBuf>,
    read: Mutex<Read<K>>,
}

struct Read<K: Kit> {
    kit: K,
    config: Arc<K::Config>,
    /// What was wrong the last time, which is said once.
    complaint: String,
}

impl<K: Kit> Latest<K> {
    pub fn new(kit: K, dir: Option<PathBuf>) -> Result<Self, WireError> {
        let read = Mutex::new(Read {
            config: Arc::new(kit.config()?),
            kit,
            complaint: String::new(),
        });
        Ok(Latest { dir, read })
    }

    /// What is used.
    pub fn current(&self) -> K {
        self.lock().kit.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Read<K>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what to use, from the kit as it is on disk now.
    pub fn config(&self) -> Arc<K::Config> {
        let mut read = self.lock();
        let Some(dir) = &self.dir else {
            return Arc::clone(&read.config);
        };
        let again = K::read(dir).map_err(WireError::from);
        let renewed = again.and_then(|kit| match kit == read.kit {
            true => Ok(None),
            false => Ok(Some((kit.config()?, kit))),
        });
        match renewed {
            Ok(Some((config, kit))) => {
                tracing::info!("the kit has changed; its new certificate is used from now on");
                read.config = Arc::new(config);
                read.kit = kit;
                read.complaint.clear();
            }
            Ok(None) => read.complaint.clear(),
            Err(error) => {
                let complaint = error.to_string();
                if complaint != read.complaint {
                    tracing::warn!(
                        "{complaint}; the certificate that was read before is still used"
                    );
                    read.complaint = complaint;
                }
            }
        }
        Arc::clone(&read.config)
    }
}

impl Latest<ServerTls> {
    /// An acceptor for one handshake. Files are read on a thread that may wait for them.
    pub async fn acceptor(self: Arc<Self>) -> Option<TlsAcceptor> {
        let config = spawn_blocking(move || self.config()).await.ok()?;
        Some(TlsAcceptor::from(config))
    }
}

impl Kit for ServerTls {
    type Config = ServerConfig;

    fn read(dir: &Path) -> Result<Self, KitError> {
        ServerTls::from_kit(dir)
    }

    fn config(&self) -> Result<ServerConfig, WireError> {
        ServerTls::config(self)
    }
}

impl Kit for ClientTls {
    type Config = ClientConfig;

    fn read(dir: &Path) -> Result<Self, KitError> {
        ClientTls::from_kit(dir)
    }

    fn config(&self) -> Result<ClientConfig, WireError> {
        ClientTls::config(self)
    }
}
