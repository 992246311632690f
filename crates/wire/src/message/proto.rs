//! The messages as prost sees them, generated from `proto/split.proto`.

#![allow(missing_docs, clippy::unwrap_used)]

include!(concat!(env!("OUT_DIR"), "/messages/qtl.split.v1.rs"));
