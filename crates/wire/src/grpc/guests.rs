//! What one key may hold open at the same time. Its holder has a kit of the authority and may still be a stranger to the run:
//! whatever he opens, file descriptors and memory for messages are left for others.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use crate::Key;

/// How many things each key holds.
pub(super) struct Guests {
    most: usize,
    held: Mutex<HashMap<Key, usize>>,
}

/// One of them, given back when dropped.
pub(super) struct Seat {
    guests: Arc<Guests>,
    key: Key,
}

impl Guests {
    pub fn new(most: usize) -> Arc<Guests> {
        Arc::new(Guests {
            most,
            held: Mutex::default(),
        })
    }

    /// One more for this key; `None` if it holds the most already.
    pub fn seat(self: &Arc<Guests>, key: Key) -> Option<Seat> {
        let mut held = self.held();
        let count = held.entry(key).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        let guests = Arc::clone(self);
        Some(Seat { guests, key })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.guests.held();
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

/// A connection with its seat.
pub(super) struct Seated<S> {
    pub stream: S,
    pub _seat: Seat,
}

impl<S: Connected> Connected for Seated<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Seated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Seated<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_and_gives_them_back() {
        let guests = Guests::new(2);
        let [one, other] = [1, 2].map(|n| Key::of_public_key(&[n]));
        let first = guests.seat(one).unwrap();
        let _second = guests.seat(one).unwrap();
        assert!(guests.seat(one).is_none());
        let third = guests.seat(other).unwrap();
        drop(first);
        let _again = guests.seat(one).unwrap();
        drop(third);
        assert_eq!(guests.held().len(), 1, "nothing is kept of who has gone");
    }
}
