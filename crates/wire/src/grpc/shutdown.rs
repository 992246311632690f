//! A handle that ends a server from any thread.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How long a server whose run is over waits for its client to have taken the last answer.
const LINGER: Duration = Duration::from_secs(30);

/// Ends a server: the step under way is finished and answered, and then [`serve`](super::serve)
/// returns. Clones end the same server.
#[derive(Clone, Debug)]
pub struct ShutdownHandle(Arc<watch::Sender<State>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// The run is over; the last answer may still be on its way.
    Leaving,
    Over,
}

impl ShutdownHandle {
    /// A handle for one server.
    pub fn new() -> ShutdownHandle {
        ShutdownHandle(Arc::new(watch::Sender::new(State::Running)))
    }

    /// Ends the server. May be called from a signal thread, before or after the server has started,
    /// and more than once.
    pub fn shutdown(&self) {
        self.0.send_replace(State::Over);
    }

    /// Ends the server when the client whose session is on has taken its answer and left. One that lost its connection is
    /// waited for, up to half a minute, and may ask again.
    pub fn shutdown_after_session(&self) {
        self.advance(State::Running, State::Leaving);
    }

    /// Whether the end was asked for.
    pub fn is_shut_down(&self) -> bool {
        *self.0.borrow() == State::Over
    }

    /// The client in session has left in good order.
    pub(super) fn session_over(&self) {
        self.advance(State::Leaving, State::Over);
    }

    pub(super) async fn wait(&self) {
        let mut state = self.0.subscribe();
        // The sender lives as long as self, so both waits end only by a change.
        let _ = state.wait_for(|state| *state != State::Running).await;
        let _ = timeout(LINGER, state.wait_for(|state| *state == State::Over)).await;
    }

    fn advance(&self, from: State, to: State) {
        self.0.send_if_modified(|state| {
            let fits = *state == from;
            if fits {
                *state = to;
            }
            fits
        });
    }
}

impl Default for ShutdownHandle {
    fn default() -> ShutdownHandle {
        ShutdownHandle::new()
    }
}
