//! Tests of the kit through its public interface, against the running server: its binary is built
//! first.
#![allow(clippy::disallowed_methods)] // The server is a process of its own, in real time.

mod feed;
mod grpc;
mod interface;
mod sessions;
mod support;
mod verification;
