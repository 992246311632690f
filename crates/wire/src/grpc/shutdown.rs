//! A handle that ends a server from any thread.

use std::sync::Arc;

use tokio::sync::watch;

/// Ends a server: the step under way is finished and answered, and then [`serve`](super::serve)
/// returns. Clones end the same server.
#[derive(Clone, Debug)]
pub struct ShutdownHandle(Arc<watch::Sender<bool>>);

impl ShutdownHandle {
    /// A handle for one server.
    pub fn new() -> ShutdownHandle {
        ShutdownHandle(Arc::new(watch::Sender::new(false)))
    }

    /// Ends the server. May be called from a signal thread, before or after the server has started,
    /// and more than once.
    pub fn shutdown(&self) {
        self.0.send_replace(true);
    }

    /// Whether the end was asked for.
    pub fn is_shut_down(&self) -> bool {
        *self.0.borrow()
    }

    pub(super) async fn wait(&self) {
        // The sender lives as long as self, so this ends only by a shutdown.
        let _ = self.0.subscribe().wait_for(|over| *over).await;
    }
}

impl Default for ShutdownHandle {
    fn default() -> ShutdownHandle {
        ShutdownHandle::new()
    }
}
