//! One test binary: the protocol between two toy halves, over every kind of link.

#![allow(clippy::unwrap_used)]

mod cables;
mod certificates;
mod document;
mod generation;
mod greeting;
mod guests;
mod link;
mod messages;
mod negotiation;
mod network;
mod own_pki;
mod pair;
mod passing;
mod peers;
mod proxy;
mod replay;
mod sites;
mod soak;
mod strangers;
mod toy;
mod trouble;
mod world;
