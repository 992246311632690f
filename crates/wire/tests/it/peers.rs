//! Servers that speak the protocol, and in their own time.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body as _, Frame};
use qtl_wire::message::{ServerMessage, encode_server};
use qtl_wire::*;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::toy::{ToyClient, terms};
use crate::world::{impatient, kits};

/// When the response headers go out.
#[derive(Clone, Copy)]
enum Headers {
    /// With the first answer, as in servers that are written as a function from requests to responses.
    AfterTheGreeting,
    /// At once, and nothing after them.
    Alone,
    Never,
}

#[derive(Clone)]
struct Peer(Headers);

impl NamedService for Peer {
    const NAME: &'static str = "qtl.split.v1.Split";
}

impl Service<Request<Body>> for Peer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let headers = self.0;
        Box::pin(async move {
            let mut body = request.into_body();
            let answer = match headers {
                Headers::AfterTheGreeting => {
                    std::future::poll_fn(|cx| pin!(&mut body).poll_frame(cx)).await;
                    Some(welcome())
                }
                Headers::Alone => None,
                Headers::Never => std::future::pending().await,
            };
            // Open until the client has gone.
            let frames =
                tokio_stream::iter(answer.map(Ok::<_, Infallible>)).chain(tokio_stream::pending());
            let response = Response::builder()
                .header("content-type", "application/grpc")
                .body(Body::new(Frames(Box::pin(frames), body)))
                .unwrap();
            Ok(response)
        })
    }
}

/// A welcome as gRPC frames it: no compression, its length, its bytes.
fn welcome() -> Bytes {
    let message = ServerMessage::Welcome {
        at: 0,
        live: false,
        site: None,
    };
    let frame = encode_server(message, &Limits::default()).unwrap();
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(frame.len() as u32);
    bytes.put_slice(&frame);
    bytes.freeze()
}

type Chunks = Pin<Box<dyn tokio_stream::Stream<Item = Result<Bytes, Infallible>> + Send>>;

/// A response, and the request that must not be dropped before it.
struct Frames(Chunks, #[allow(dead_code)] Body);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .as_mut()
            .poll_next(cx)
            .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

/// Runs the peer for as long as `talk` does, on a port of its own.
fn with_peer<T>(headers: Headers, talk: impl FnOnce(u16) -> T) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (ca, identity) = (kits().server().ca, kits().server().identity);
    let port = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(&identity.certificate, &identity.key))
            .client_ca_root(Certificate::from_pem(&ca));
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(Peer(headers));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        port
    });
    let outcome = talk(port);
    runtime.shutdown_background();
    outcome
}

fn greeted(headers: Headers, patience: Duration) -> (Result<Resume, WireError>, Duration) {
    with_peer(headers, |port| {
        let mut options = ClientOptions::new(&format!("localhost:{port}"), kits().client());
        options.retry = impatient();
        options.retry.connect_for = Duration::from_secs(1);
        options.retry.reconnect_for = patience;
        let mut client = GrpcClient::connect(options).unwrap();
        let start = Instant::now();
        let standing = ToyClient::default().standing();
        let outcome = client.greet(&terms(), &standing, Purpose::Train);
        (outcome, start.elapsed())
    })
}

#[test]
fn a_server_that_waits_for_the_greeting_is_greeted() {
    let (outcome, _) = greeted(Headers::AfterTheGreeting, Duration::from_secs(20));
    assert_eq!(outcome.unwrap().at, 0);
}

#[test]
fn a_server_that_never_answers_is_given_up_in_time() {
    for (headers, patience) in [
        (Headers::Never, Duration::from_secs(20)),
        // The welcome may have to wait for a checkpoint.
        (Headers::Alone, Duration::from_secs(2)),
    ] {
        let (outcome, elapsed) = greeted(headers, patience);
        let error = outcome.unwrap_err();
        let WireError::GaveUp { last, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(matches!(**last, WireError::Unanswered { .. }), "{error}");
        assert!(elapsed < Duration::from_secs(8), "{elapsed:?}");
    }
}
