//! How a client connects: [`ClientOptions`].

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::ClientTls;
use crate::WireError;
use crate::limits::Limits;

/// Either end asks the other for a sign of life after so much silence, and takes the connection for lost after as much again.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How to connect.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `host:port`.
    pub address: String,
    /// A name in the server's certificate.
    pub server_name: String,
    /// Whom to trust, and who we are.
    pub tls: ClientTls,
    /// The folder that `tls` comes from, to be read again at each connection; `None`: `tls` stays as it is.
    pub kit: Option<PathBuf>,
    /// What to do when there is no connection.
    pub retry: RetryPolicy,
    /// Raised from another thread, it ends whatever call is waiting with [`WireError::Cancelled`].
    pub cancel: Arc<AtomicBool>,
    /// Raised from another thread, it leaves a lost connection two seconds to come back: whoever is about to stop does not
    /// wait for a server that may have stopped too. A server that is there is still waited for.
    pub hurry: Arc<AtomicBool>,
    /// Bytes of the largest message in either direction.
    pub max_message_bytes: usize,
    /// See [`KEEP_ALIVE`].
    pub keep_alive: Duration,
}

/// When to try again. Delays grow by a fixed factor, without chance, so that a log can be compared
/// with the policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Before the second attempt.
    pub first_delay: Duration,
    /// Each delay is so many times the one before. At least 1.
    pub factor: f64,
    /// But never longer than this.
    pub longest_delay: Duration,
    /// How long a server is looked for before the first welcome; zero: once. Trouble that does not pass by itself, such as
    /// a certificate that is not accepted, ends it at once.
    pub connect_for: Duration,
    /// How long a connection that was lost after a welcome is tried for, whatever the trouble is; zero: once.
    pub reconnect_for: Duration,
}

impl Default for RetryPolicy {
    /// 0.1 s, 0.2 s, ... up to 10 s; for 10 s at the start, and for 15 minutes later: long enough for
    /// a server to be restarted.
    fn default() -> RetryPolicy {
        RetryPolicy {
            first_delay: Duration::from_millis(100),
            factor: 2.0,
            longest_delay: Duration::from_secs(10),
            connect_for: Duration::from_secs(10),
            reconnect_for: Duration::from_secs(900),
        }
    }
}

impl ClientOptions {
    /// The usual, for a server whose certificate has the host in `address`. An address copied from a browser may keep its
    /// `https://`.
    pub fn new(address: &str, tls: ClientTls) -> ClientOptions {
        let address = address.trim();
        let address = address.strip_prefix("https://").unwrap_or(address);
        let address = address.strip_suffix('/').unwrap_or(address);
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        ClientOptions {
            address: address.to_owned(),
            server_name: host.trim_matches(['[', ']']).to_owned(),
            tls,
            kit: None,
            retry: RetryPolicy::default(),
            cancel: Arc::default(),
            hurry: Arc::default(),
            max_message_bytes: Limits::default().message_bytes,
            keep_alive: KEEP_ALIVE,
        }
    }

    /// The name to look for in the server's certificate, if all options make sense.
    pub(super) fn checked(&self) -> Result<ServerName<'static>, WireError> {
        let wrong = |option, value: String, cure: &str| WireError::Option {
            option,
            value,
            cure: cure.to_owned(),
        };
        let address = &self.address;
        let form =
            "give host and port, as in gpu.example.org:7443, 10.0.0.5:7443 or [2001:db8::5]:7443";
        let host = match address.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => host,
            _ => return Err(wrong("address", format!("'{address}'"), form)),
        };
        if host.is_empty()
            || host.contains('/')
            || (host.contains(':') && !(host.starts_with('[') && host.ends_with(']')))
        {
            return Err(wrong("address", format!("'{address}'"), form));
        }
        if self.retry.factor.is_nan() || self.retry.factor < 1.0 {
            let value = self.retry.factor.to_string();
            return Err(wrong(
                "retry.factor",
                value,
                "delays cannot shrink; give 1 or more",
            ));
        }
        if self.keep_alive.is_zero() {
            return Err(wrong(
                "keep_alive",
                "0 s".to_owned(),
                "give a second or more",
            ));
        }
        ServerName::try_from(self.server_name.clone()).map_err(|_| {
            let value = format!("'{}'", self.server_name);
            wrong(
                "server_name",
                value,
                "give a host name or an IP address from the server's certificate",
            )
        })
    }
}
