//! Denied requests, kept for `propusk explain`.

use std::collections::BTreeMap;

use crate::clock::Timestamp;

/// Why a request was denied, and the values the decision was based on. Contains no secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeniedRequest {
    pub request_id: String,
    pub at: Timestamp,
    /// The method and the route, or the gRPC method.
    pub call: String,
    /// The HTTP status or the gRPC code.
    pub status: String,
    /// The error code in the response.
    pub code: String,
    /// The error message in the response.
    pub reason: String,
    pub diagnostics: BTreeMap<String, String>,
    pub address: Option<String>,
    pub correlation_id: Option<String>,
}
