//! The greeting: who gets the session, and what the others are told.

use qtl_wire::limits::Limits;
use qtl_wire::message::{
    ClientMessage, Greeting, On, PROTOCOL_VERSION, ServerMessage, decode_server, encode_client,
};
use qtl_wire::session::drive::{Output, drive};
use qtl_wire::session::server::{Peer, Server};
use qtl_wire::verb::{Request, Save};
use qtl_wire::*;

use crate::toy::{RUN, ToyClient, ToyServer, terms};

/// A server to which several clients can talk at once.
pub struct Desk {
    pub server: Server,
    pub work: ToyServer,
    limits: Limits,
}

impl Desk {
    pub fn new() -> Desk {
        let limits = Limits::default();
        Desk {
            server: Server::new(limits),
            work: ToyServer::fresh(),
            limits,
        }
    }

    pub fn in_session(&self, peer: Peer) -> bool {
        self.server.in_session().any(|on| on == peer)
    }

    /// What the owner hears on its stream, and on which streams the server hangs up.
    pub fn say(&mut self, stream: u64, message: ClientMessage) -> (Vec<ServerMessage>, Vec<u64>) {
        self.say_as(owner(stream), message)
    }

    pub fn say_as(&mut self, peer: Peer, message: ClientMessage) -> (Vec<ServerMessage>, Vec<u64>) {
        let frame = encode_client(message, &self.limits).unwrap();
        self.say_bytes(peer, &frame.bytes)
    }

    pub fn say_bytes(&mut self, peer: Peer, bytes: &[u8]) -> (Vec<ServerMessage>, Vec<u64>) {
        let (mut heard, mut hung_up) = (Vec::new(), Vec::new());
        for output in drive(&mut self.server, &mut self.work, &self.limits, peer, bytes) {
            match output {
                Output::Send { peer: to, frame } => {
                    assert_eq!(to, peer);
                    heard.push(decode_server(&frame, &self.limits).unwrap());
                }
                Output::Hangup { peer } => hung_up.push(peer.stream),
            }
        }
        (heard, hung_up)
    }

    pub fn refused(&mut self, stream: u64, message: ClientMessage) -> Refusal {
        self.refused_as(owner(stream), message)
    }

    pub fn refused_as(&mut self, peer: Peer, message: ClientMessage) -> Refusal {
        let (heard, hung_up) = self.say_as(peer, message);
        assert_eq!(hung_up, [peer.stream], "a refusal ends the stream");
        match heard.as_slice() {
            [ServerMessage::Refusal(refusal)] => refusal.clone(),
            other => panic!("not refused: {other:?}"),
        }
    }
}

/// A stream of the owner.
pub fn owner(stream: u64) -> Peer {
    Peer {
        stream,
        key: Key::of_public_key(b"the owner's"),
    }
}

/// A stream of somebody else with a certificate of the same authority.
pub fn stranger(stream: u64) -> Peer {
    Peer {
        stream,
        key: Key::of_public_key(b"a stranger's"),
    }
}

pub fn hello(instance: u64, attempt: u32) -> Greeting {
    Greeting {
        protocol: PROTOCOL_VERSION,
        instance,
        attempt,
        purpose: Purpose::Train,
        run: RUN.to_owned(),
        saved: Vec::new(),
        answered: None,
        terms: terms(),
    }
}

/// A request on a lane.
pub fn on(lane: u32, sequence: u64, request: impl Into<Request>) -> ClientMessage {
    ClientMessage::Request(On { lane, sequence }, request.into())
}

/// The step of a run whose first request it was.
pub fn forward(step: u64) -> ClientMessage {
    on(0, step, ToyClient::default().forward(step))
}

/// What is said to a training client whose greeting is taken.
pub fn welcome(at: u64, live: bool) -> Vec<ServerMessage> {
    vec![ServerMessage::Welcome {
        at,
        live,
        site: None,
    }]
}

#[test]
fn a_different_recipe_is_refused_by_field_and_the_servers_value_stays_home() {
    let mut link = LocalLink::local(ToyServer::fresh());
    let mut other = terms();
    other
        .fields
        .insert("quantizer.bits".to_owned(), "4".to_owned());
    let error = link
        .greet(&other, &ToyClient::default().standing(), Purpose::Train)
        .unwrap_err();
    let WireError::Refused(refusal) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (refusal.reason, refusal.field.as_str()),
        (Reason::Terms, "quantizer.bits")
    );
    assert_eq!(
        refusal.sentence,
        "the recipes differ in quantizer.bits: the client has '4', the server has another value; give both sides the same recipe"
    );

    // A field that one side lacks, and more than one difference.
    other.fields.insert("train.seed".to_owned(), "7".to_owned());
    other.fields.remove("quantizer.bits");
    let error = link
        .greet(&other, &ToyClient::default().standing(), Purpose::Train)
        .unwrap_err();
    assert!(
        error.to_string().contains(
            "the client has no value, the server has another value (and 1 more field differs)"
        ),
        "{error}"
    );

    // After a refusal the right recipe is welcome.
    ToyClient::default().train(&mut link, 2, 1).unwrap();
}

#[test]
fn hashes_differ_where_terms_do() {
    let mut other = terms();
    assert_eq!(terms().hash(), other.hash());
    assert_eq!(other.hash().len(), 64);
    other.fields.insert("a".to_owned(), "bc".to_owned());
    let first = other.hash();
    other.fields.remove("a");
    other.fields.insert("ab".to_owned(), "c".to_owned());
    assert_ne!(first, other.hash(), "fields and values are delimited");
}

#[test]
fn another_version_is_refused() {
    let mut desk = Desk::new();
    let greeting = Greeting {
        protocol: PROTOCOL_VERSION + 1,
        ..hello(1, 1)
    };
    let refusal = desk.refused(1, ClientMessage::Greeting(greeting));
    assert_eq!(refusal.reason, Reason::Protocol);
    assert!(
        refusal.sentence.contains("version 3"),
        "{}",
        refusal.sentence
    );
}

#[test]
fn another_run_is_refused_where_checkpoints_would_be_lost() {
    let mut link = LocalLink::local(ToyServer::fresh());
    ToyClient::default().train(&mut link, 3, 5).unwrap();
    // Nothing was saved: a new run may begin.
    let standing = Standing {
        run: "run-2".to_owned(),
        ..Standing::default()
    };
    let resume = link.greet(&terms(), &standing, Purpose::Train).unwrap();
    assert_eq!(resume.at, 0);
    assert_eq!(link.work().disk.lock().unwrap().run, "run-2");

    let mut link = LocalLink::local(ToyServer::fresh());
    ToyClient::default().train(&mut link, 5, 5).unwrap();
    for purpose in [Purpose::Train, Purpose::Generate] {
        let error = link.greet(&terms(), &standing, purpose).unwrap_err();
        let WireError::Refused(refusal) = error else {
            panic!("{error:?}")
        };
        assert_eq!(refusal.reason, Reason::OtherRun);
        assert!(!refusal.sentence.contains("run-1"), "{refusal}");
        let log = link.work().log.lock().unwrap();
        let (_, _, here) = log.turned_away.last().unwrap();
        assert!(
            here.contains("'run-1'") && here.contains("'run-2'"),
            "{here}"
        );
    }
}

#[test]
fn one_client_at_a_time_and_the_next_when_it_has_left() {
    let mut desk = Desk::new();
    assert_eq!(
        desk.say(1, ClientMessage::Greeting(hello(1, 1))).0,
        welcome(0, false)
    );
    let refusal = desk.refused(2, ClientMessage::Greeting(hello(2, 1)));
    assert_eq!(refusal.reason, Reason::Busy);
    assert!(
        desk.in_session(owner(1)),
        "the first client keeps the session"
    );
    desk.server.gone(owner(1));
    assert_eq!(
        desk.say(3, ClientMessage::Greeting(hello(2, 2))).0,
        welcome(0, false)
    );
}

#[test]
fn a_client_takes_over_from_its_own_dead_stream() {
    let mut desk = Desk::new();
    desk.say(1, ClientMessage::Greeting(hello(1, 1)));
    desk.say(1, forward(0));
    // The server has not noticed that stream 1 is dead.
    let mut again = hello(1, 2);
    again.answered = Some(0);
    let (heard, hung_up) = desk.say(2, ClientMessage::Greeting(again));
    assert_eq!((heard, hung_up), (welcome(0, true), vec![1]));
    assert!(desk.in_session(owner(2)) && !desk.in_session(owner(1)));
    // Late messages of the dead stream have no effect any more.
    let refusal = desk.refused(1, forward(1));
    assert_eq!(refusal.reason, Reason::Order);
    let refusal = desk.refused(3, ClientMessage::Greeting(hello(1, 1)));
    assert_eq!(refusal.reason, Reason::Order);
    desk.server.gone(owner(2));
    let refusal = desk.refused(4, ClientMessage::Greeting(hello(1, 2)));
    assert_eq!(
        refusal.reason,
        Reason::Order,
        "not even when nobody is in session"
    );
}

#[test]
fn only_the_process_that_holds_the_run_goes_on_live() {
    let mut desk = Desk::new();
    desk.say(1, ClientMessage::Greeting(hello(1, 1)));
    desk.say(1, forward(0));
    desk.server.gone(owner(1));
    // Another process with the same count of steps has not necessarily the same weights.
    let mut greeting = hello(2, 1);
    greeting.answered = Some(1);
    assert_eq!(
        desk.say(2, ClientMessage::Greeting(greeting)).0,
        welcome(0, false)
    );
}

#[test]
fn training_needs_a_run_and_a_session_a_greeting() {
    let mut desk = Desk::new();
    let greeting = Greeting {
        run: String::new(),
        ..hello(1, 1)
    };
    let refusal = desk.refused(1, ClientMessage::Greeting(greeting));
    assert!(
        refusal.sentence.contains("run identifier"),
        "{}",
        refusal.sentence
    );
    let refusal = desk.refused(1, on(0, 0, Save { at: 0 }));
    assert!(
        refusal.sentence.contains("greeting"),
        "{}",
        refusal.sentence
    );
}

#[test]
fn a_generation_session_cannot_train() {
    let mut desk = Desk::new();
    let greeting = Greeting {
        purpose: Purpose::Generate,
        ..hello(1, 1)
    };
    desk.say(1, ClientMessage::Greeting(greeting));
    let refusal = desk.refused(1, forward(0));
    assert_eq!(refusal.reason, Reason::Order);
    assert!(desk.work.log.lock().unwrap().applied.is_empty());
}
