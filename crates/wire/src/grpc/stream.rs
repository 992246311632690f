//! An open stream: what is sent on it, and what comes back in which time.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Response, Status, Streaming};

use super::attempt::Target;
use super::watched::Verdict;
use crate::WireError;

/// A server that has been silent for so long after a greeting is worth a line in the log.
const NOTEWORTHY: Duration = Duration::from_secs(10);

/// How long the other end may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a call becomes.
type Called = Result<Response<Streaming<Bytes>>, Status>;

/// How long the answers to a greeting may take.
pub(super) struct Waits {
    /// From the greeting to the response headers. Our server sends them at once; another may wait for the greeting first.
    pub first_sign: Duration,
    /// From the greeting to the welcome, before which a server may have to load a checkpoint.
    pub welcome: Duration,
}

/// An open stream.
pub(super) struct Stream {
    requests: mpsc::Sender<Bytes>,
    replies: Replies,
    pub verdict: Verdict,
    /// When the greeting was sent.
    greeted: Instant,
    /// Whether it was answered.
    pub welcomed: bool,
}

/// The other direction.
enum Replies {
    /// The call is made. What is sent goes out already: a server may wait for it before it sends its headers.
    Called(JoinSet<Called>),
    /// The headers have come.
    Open(Box<Streaming<Bytes>>),
}

impl Stream {
    /// A stream whose call is under way.
    pub fn new(
        requests: mpsc::Sender<Bytes>,
        call: impl Future<Output = Called> + Send + 'static,
        verdict: Verdict,
    ) -> Stream {
        // A set, because it ends its task when it is dropped.
        let mut called = JoinSet::new();
        called.spawn(call);
        Stream {
            requests,
            replies: Replies::Called(called),
            verdict,
            greeted: Instant::now(),
            welcomed: false,
        }
    }

    /// Sends a message. An error means that the stream is over, which receiving tells with its reason.
    pub async fn send(&mut self, message: Bytes) {
        if !self.welcomed {
            self.greeted = Instant::now();
        }
        let _ = self.requests.send(message).await;
    }

    /// Waits for the response headers.
    pub async fn headers(&mut self, target: &Target) -> Result<&mut Streaming<Bytes>, WireError> {
        if let Replies::Called(call) = &mut self.replies {
            let called = match call.join_next().await {
                Some(Ok(called)) => called,
                _ => Err(Status::unavailable("the call was dropped")),
            };
            let response = called.map_err(|status| target.failed(&self.verdict, &status))?;
            self.replies = Replies::Open(Box::new(response.into_inner()));
        }
        match &mut self.replies {
            Replies::Open(replies) => Ok(replies),
            Replies::Called(_) => Err(target.ended()),
        }
    }

    /// Waits for the next message: for the first one no longer than `waits` says, for others as long as the connection
    /// shows signs of life.
    pub async fn next(&mut self, target: &Target, waits: &Waits) -> Result<Bytes, WireError> {
        if self.welcomed {
            return self.message(target).await;
        }
        let (greeted, late) = (self.greeted, |time| target.unanswered(time));
        timeout_at(greeted + waits.first_sign, self.headers(target))
            .await
            .map_err(|_| late(waits.first_sign))??;
        let noteworthy = NOTEWORTHY.min(waits.welcome);
        if let Ok(message) = timeout_at(greeted + noteworthy, self.message(target)).await {
            return message;
        }
        if noteworthy < waits.welcome {
            tracing::warn!(
                "{} has not answered the greeting for {} s (it may be loading a checkpoint); waiting for up to {} s",
                target.address,
                noteworthy.as_secs(),
                waits.welcome.as_secs()
            );
        }
        timeout_at(greeted + waits.welcome, self.message(target))
            .await
            .map_err(|_| late(waits.welcome))?
    }

    async fn message(&mut self, target: &Target) -> Result<Bytes, WireError> {
        let outcome = self.headers(target).await?.message().await;
        match outcome {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(target.ended()),
            Err(status) => Err(target.failed(&self.verdict, &status)),
        }
    }

    /// Ends the stream from this side and waits until the other has ended it too: then it knows that all was received.
    pub async fn farewell(self) {
        drop(self.requests);
        if let Replies::Open(mut replies) = self.replies {
            let _ = timeout(GOODBYE, async {
                while let Ok(Some(_)) = replies.message().await {}
            })
            .await;
        }
    }
}
