//! Why a listener cannot be had.

use std::{io, net::SocketAddr, path::PathBuf};

/// Why a listener cannot be had; the message tells what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// `EADDRINUSE`
    #[error("{at} is taken by another process: stop it, or set {setting} to a free address")]
    Taken {
        /// What was to be bound.
        at: SocketAddr,
        /// The configuration's key for it.
        setting: &'static str,
    },
    /// `EACCES`
    #[error(
        "cannot bind {at}, permission denied: ports below 1024 need CAP_NET_BIND_SERVICE or socket \
         activation; or set {setting} to a higher port"
    )]
    Denied {
        /// What was to be bound.
        at: SocketAddr,
        /// The configuration's key for it.
        setting: &'static str,
    },
    /// `EADDRNOTAVAIL`
    #[error(
        "cannot bind {at}: no interface of this machine has that address; set {setting} to one it has, or to 0.0.0.0 or [::] for all"
    )]
    NoSuchAddress {
        /// What was to be bound.
        at: SocketAddr,
        /// The configuration's key for it.
        setting: &'static str,
    },
    /// Anything else `bind` or `listen` said.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, #[source] io::Error),
    /// `LISTEN_FDS` names something else than a listening TCP socket.
    #[error(
        "the socket handed over by LISTEN_FDS cannot be used: {0}; the .socket unit needs ListenStream= with a TCP port"
    )]
    Activation(#[source] io::Error),
    /// A PEM file cannot be read.
    #[error(
        "cannot read {path}: {source}; check that the file exists and that this process may read it"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A PEM file holds nothing usable.
    #[error(
        "{path} holds no {what} in PEM form (a block that begins with -----BEGIN {block}-----)"
    )]
    NoPem {
        /// The file.
        path: PathBuf,
        /// What was sought.
        what: &'static str,
        /// The label of a PEM block that would do.
        block: &'static str,
    },
    /// The private key belongs to another certificate.
    #[error(
        "the key in {key} does not fit the first certificate in {certificate}: give the key the certificate was issued for, the server's own certificate first"
    )]
    KeyMismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// rustls refuses a file's content.
    #[error("{path} cannot be used for TLS: {reason}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What rustls said.
        reason: String,
    },
}
