//! Everything that can go wrong between two peers, each with its cure.

use std::io;

use crate::certs::{Fault, KitError};
use crate::message::MessageError;

/// Why a call on the wire did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The server said no. The session is over; its sentence says why.
    #[error("the server refused: {0}")]
    Refused(Refusal),
    /// The call does not come at this point of a session: a mistake of the calling program.
    #[error("{0}")]
    Misuse(String),
    /// The peer said something that the protocol does not allow at this point.
    #[error("the peer broke the protocol: {0}; check that both sides run the same version")]
    Protocol(String),
    /// Bytes that are not a message, or a message beyond the limits.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The server was restarted in the middle of a generation, and its cache is gone.
    #[error("the generation was lost because the server was restarted; open it again")]
    GenerationLost,
    /// Nobody listens there.
    #[error(
        "nobody listens at {address} (connection refused); check host and port, and that the server runs"
    )]
    ConnectionRefused {
        /// Host and port.
        address: String,
    },
    /// The address cannot be reached.
    #[error("cannot reach {address}: {cause}; check the host name, the network and the firewall")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the operating system said.
        cause: String,
    },
    /// Somebody took the connection and says nothing.
    #[error(
        "{address} took the connection and did not answer within {seconds:.1} s; check that a server of this protocol listens there, and proxies in between"
    )]
    Unanswered {
        /// Host and port.
        address: String,
        /// How long it was waited for.
        seconds: f64,
    },
    /// The connection is good, and what listens there is something else.
    #[error("what listens at {address} is no server of this protocol ({cause})")]
    OtherService {
        /// Host and port.
        address: String,
        /// What it said.
        cause: String,
    },
    /// The last word of a run that is done did not come.
    #[error(
        "all {step} steps are done and saved here, but the server's confirmation that it has finished too did not come: {last}. If the server has ended, look for step-{step:08} in its directory: with it nothing is lost, and the same two commands, started again, finish the run at once"
    )]
    Unconfirmed {
        /// Steps done.
        step: u64,
        /// Why the confirmation did not come.
        last: Box<WireError>,
    },
    /// The connection ended while a reply was awaited.
    #[error("the connection to {address} was lost: {cause}")]
    Lost {
        /// Host and port.
        address: String,
        /// What the transport said.
        cause: String,
    },
    /// No secure connection to the peer.
    #[error("no secure connection with {address}: {problem}")]
    Tls {
        /// Host and port.
        address: String,
        /// The likely cause and its cure.
        problem: TlsProblem,
    },
    /// The retry policy is used up.
    #[error(
        "gave up on {address} after {attempts} attempts in {seconds:.1} s; the last one: {last}"
    )]
    GaveUp {
        /// Host and port.
        address: String,
        /// Connections tried.
        attempts: u32,
        /// Seconds since the connection was lost.
        seconds: f64,
        /// Why the last attempt failed.
        last: Box<WireError>,
    },
    /// The cancel flag was raised.
    #[error("stopped while waiting for the server")]
    Cancelled,
    /// The port is taken.
    #[error(
        "cannot listen on {address}: the port is in use; stop the other program or choose another port"
    )]
    AddressInUse {
        /// Host and port.
        address: String,
    },
    /// An option makes no sense.
    #[error("{option} = {value}: {cure}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        cure: String,
    },
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Kit(#[from] KitError),
    /// The server's work panicked; the log has the message.
    #[error("the server's work stopped with a panic; see the message above")]
    WorkPanicked,
    /// The operating system refused something else.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl WireError {
    /// Whether this is about the way to the server, and not about what either side said: the state of both is as before.
    pub fn no_connection(&self) -> bool {
        matches!(
            self,
            WireError::ConnectionRefused { .. }
                | WireError::Unreachable { .. }
                | WireError::Unanswered { .. }
                | WireError::OtherService { .. }
                | WireError::Unconfirmed { .. }
                | WireError::Lost { .. }
                | WireError::Tls { .. }
                | WireError::GaveUp { .. }
                | WireError::Cancelled
        )
    }
}

/// The server does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    /// For programs.
    pub reason: Reason,
    /// For people: one sentence.
    pub sentence: String,
    /// The recipe field that differs, if the reason is [`Reason::Terms`] and the client may know it; empty otherwise.
    pub field: String,
    /// The sequence of the batch, from 0, if the reason is [`Reason::NotFinite`] and it is one's alone.
    pub sequence: Option<u32>,
}

/// Why a server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The peers speak different versions of the protocol.
    Protocol,
    /// A recipe field differs.
    Terms,
    /// The server's directory holds another run, or has never seen this one.
    OtherRun,
    /// The server is in a session with another client.
    Busy,
    /// The message does not come at this point of a session.
    Order,
    /// The message is malformed, or its content does not fit.
    Invalid,
    /// The server could not do it, for a reason of its own.
    Failed,
    /// The server does not hold the generation.
    Generation,
    /// What was asked for belongs to another key.
    Owner,
    /// The server holds no sessions of this purpose.
    Purpose,
    /// The step's loss or gradient is no finite number; nothing of it was applied.
    NotFinite,
}

/// Why there is no secure connection: the likely cause, and its cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The peer's certificate comes from an authority that this side does not know.
    #[error(
        "the server's certificate was not issued by the authority in ca.pem; use the ca.pem that came with the server's kit"
    )]
    UnknownAuthority,
    /// The server's certificate cannot be accepted, for a reason that it names itself.
    #[error("the server's certificate {0}")]
    Server(Fault),
    /// The server does not accept this side's certificate, and that names the likely reason itself.
    #[error("the server does not accept this client's certificate, which {0}")]
    Client(Fault),
    /// The server says that this side's certificate is for something else.
    #[error(
        "the server does not accept this client's certificate as a client's; it needs extendedKeyUsage=clientAuth: get a client kit from the server's operator"
    )]
    ClientPurpose,
    /// What was sent is not what arrived.
    #[error(
        "what arrived is not what was sent; a network device in between, or a cable, damages or alters the data"
    )]
    Damaged,
    /// The server's certificate is past its end.
    #[error(
        "the server's certificate has expired; issue a new server kit (and check this machine's clock)"
    )]
    ServerExpired,
    /// The server's certificate is before its start.
    #[error("the server's certificate is not valid yet; check the clocks of both machines")]
    ServerNotYetValid,
    /// The server's certificate is for another name.
    #[error(
        "the server's certificate is not for '{expected}'; connect with a name in the certificate, or issue a server kit with this name"
    )]
    WrongName {
        /// The name that was asked for.
        expected: String,
    },
    /// The server does not know the authority that issued this side's certificate.
    #[error(
        "the server does not accept this client's certificate: another authority issued it; get a client kit from the server's operator"
    )]
    ClientNotAccepted,
    /// This side's certificate is past its end.
    #[error(
        "the server says that this client's certificate has expired or is not valid yet; get a new client kit (and check the clocks)"
    )]
    ClientExpired,
    /// The server asked for a certificate, and this side sent none.
    #[error("the server requires a client certificate and none was sent; use a client kit")]
    ClientCertificateMissing,
    /// What answered does not speak TLS.
    #[error("what listens there does not speak TLS; check the port")]
    NotTls,
    /// What answered speaks TLS but not HTTP/2.
    #[error("what listens there does not offer HTTP/2; check the port, and proxies in between")]
    NotHttp2,
    /// Anything else, in the TLS library's words.
    #[error("{0}")]
    Other(String),
}
