//! Errors of binding a listener.

use std::{io, net::SocketAddr, path::PathBuf};

/// Why a listener cannot be bound, and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// `EADDRINUSE`
    #[error("{at} is in use by another process; stop it, or set {setting} to a free address")]
    Taken {
        /// The address to bind.
        at: SocketAddr,
        /// Its configuration key.
        setting: &'static str,
    },
    /// `EACCES`
    #[error(
        "cannot bind {at}: permission denied; ports below 1024 require CAP_NET_BIND_SERVICE or socket \
         activation; grant it, or set {setting} to a higher port"
    )]
    Denied {
        /// The address to bind.
        at: SocketAddr,
        /// Its configuration key.
        setting: &'static str,
    },
    /// `EADDRNOTAVAIL`
    #[error(
        "cannot bind {at}: not an address of a local interface; set {setting} to a local address, \
         or to 0.0.0.0 or [::] for all interfaces"
    )]
    NoSuchAddress {
        /// The address to bind.
        at: SocketAddr,
        /// Its configuration key.
        setting: &'static str,
    },
    /// Any other error of `bind` or `listen`.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, #[source] io::Error),
    /// `LISTEN_FDS` does not pass a listening TCP socket.
    #[error(
        "the socket passed by LISTEN_FDS is unusable: {0}; the .socket unit must set ListenStream= \
         to a TCP port"
    )]
    Activation(#[source] io::Error),
    /// A PEM file cannot be read.
    #[error(
        "cannot read {path}: {source}; check that the file exists and is readable by this process"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A PEM file contains no usable block.
    #[error(
        "{path} contains no {what} in PEM form (a block that begins with -----BEGIN {block}-----)"
    )]
    NoPem {
        /// The file.
        path: PathBuf,
        /// The expected content.
        what: &'static str,
        /// The label of the expected PEM block.
        block: &'static str,
    },
    /// The private key belongs to another certificate.
    #[error(
        "the key in {key} does not match the first certificate in {certificate}; use the key that the \
         certificate was issued for, and put the server's own certificate first"
    )]
    KeyMismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// rustls rejects the content of a file.
    #[error("{path} cannot be used for TLS: {reason}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// The error of rustls.
        reason: String,
    },
}
