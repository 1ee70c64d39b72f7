//! A request that was refused, for those who are asked why.

use std::collections::BTreeMap;

use crate::clock::Timestamp;

/// The rule that refused a request, and what it saw; never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeniedRequest {
    pub request_id: String,
    pub at: Timestamp,
    /// The method and the route, or the gRPC method.
    pub call: String,
    /// The HTTP status or the gRPC code.
    pub status: String,
    /// The error's name, as its caller was told.
    pub code: String,
    /// The rule, in words.
    pub reason: String,
    pub diagnostics: BTreeMap<String, String>,
    pub address: Option<String>,
    pub correlation_id: Option<String>,
}
