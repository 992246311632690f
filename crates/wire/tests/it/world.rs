//! Kits and servers on loopback.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use qtl_wire::certs::{Ca, Issue, make_ca, make_client_kit, make_server_kit};
use qtl_wire::*;

use crate::toy::{Disk, Log, ToyServer};

/// An authority with a server kit for localhost and a client kit.
pub struct Kits {
    pub dir: tempfile::TempDir,
    pub ca: Ca,
}

impl Kits {
    pub fn new(name: &str) -> Kits {
        let dir = tempfile::tempdir().unwrap();
        let issue = Issue::days(1);
        let ca = make_ca(&dir.path().join("ca"), name, &issue).unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        make_server_kit(&ca, &dir.path().join("server"), &names, &issue).unwrap();
        make_client_kit(&ca, &dir.path().join("client"), "hospital", &issue).unwrap();
        Kits { dir, ca }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn client(&self) -> ClientTls {
        ClientTls::from_kit(&self.path("client")).unwrap()
    }

    pub fn server(&self) -> ServerTls {
        ServerTls::from_kit(&self.path("server")).unwrap()
    }
}

/// The kits that most tests share.
pub fn kits() -> &'static Kits {
    static KITS: OnceLock<Kits> = OnceLock::new();
    KITS.get_or_init(|| Kits::new("test authority"))
}

/// Reads certificate and key without the checks of [`ClientTls::from_kit`].
pub fn unchecked(dir: &Path, role: certs::Role) -> grpc::Identity {
    grpc::Identity::read(dir, role).unwrap()
}

/// A server on its own thread, ended when dropped.
pub struct Running {
    pub port: u16,
    pub disk: Arc<Mutex<Disk>>,
    pub log: Arc<Mutex<Log>>,
    pub shutdown: ShutdownHandle,
    thread: Option<JoinHandle<Result<(), WireError>>>,
}

impl Running {
    pub fn start(options: ServeOptions, work: ToyServer) -> Running {
        let port = options.listener.local_addr().unwrap().port();
        let (disk, log) = (work.disk.clone(), work.log.clone());
        let shutdown = ShutdownHandle::new();
        let handle = shutdown.clone();
        let thread = std::thread::spawn(move || serve(options, work, handle));
        Running {
            port,
            disk,
            log,
            shutdown,
            thread: Some(thread),
        }
    }

    pub fn fresh() -> Running {
        Running::start(options(0), ToyServer::fresh())
    }

    /// Ends the server and starts another one on the same port and disk.
    pub fn restart(&mut self) {
        self.stop().unwrap();
        let work = ToyServer::new(&self.disk, &self.log);
        *self = Running::start(options(self.port), work);
    }

    pub fn stop(&mut self) -> Result<(), WireError> {
        self.shutdown.shutdown();
        self.wait()
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> Result<(), WireError> {
        self.thread
            .take()
            .map_or(Ok(()), |thread| thread.join().unwrap())
    }

    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    pub fn client_options(&self) -> ClientOptions {
        let mut options = ClientOptions::new(&self.address(), kits().client());
        options.retry = impatient();
        options
    }

    pub fn connect(&self) -> GrpcClient {
        GrpcClient::connect(self.client_options()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.shutdown();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn listen(port: u16) -> TcpListener {
    bind(&format!("127.0.0.1:{port}")).unwrap()
}

pub fn options(port: u16) -> ServeOptions {
    ServeOptions::new(listen(port), kits().server())
}

/// Quick, but patient enough for a busy machine.
pub fn impatient() -> RetryPolicy {
    RetryPolicy {
        first_delay: Duration::from_millis(20),
        factor: 1.5,
        longest_delay: Duration::from_millis(200),
        connect_for: Duration::from_secs(5),
        reconnect_for: Duration::from_secs(20),
    }
}
