//! Tests of the kit through its public interface, against the running server: its binary is built
//! first.

mod feed;
mod grpc;
mod interface;
mod sessions;
mod support;
mod verification;
