//! The program from outside: its processes, files and messages.

#![allow(clippy::unwrap_used)]

mod chat;
mod check;
mod choose;
mod demo;
mod device;
mod eval;
mod evaluations;
mod help;
mod hub;
mod imports;
mod inspect;
mod output;
mod owner;
mod paths;
mod program;
mod records;
mod resume;
mod sites;
mod split;
mod tables;
mod untuned;
mod world;
mod wrong;
