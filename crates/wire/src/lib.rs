//! Bytes to a peer: the split protocol, its session state machine, and gRPC over mutual TLS.
