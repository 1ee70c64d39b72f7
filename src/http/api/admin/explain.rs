//! `/api/v1/admin/explain`: why a request was denied.

use std::collections::BTreeMap;

use super::prelude::*;
use crate::model::denied_request::DeniedRequest;

#[derive(Clone, Debug, Default)]
pub struct ExplainApi;

#[OpenApi(prefix_path = "/api/v1/admin/explain", tag = "Tag::Administration")]
impl ExplainApi {
    /// Explain a denied request
    ///
    /// Gives the rule that denied the request, and what the rule saw. Denied requests are kept for
    /// `explain.retention`; under a flood of them, a part only.
    #[oai(path = "/:request_id", method = "get", operation_id = "adminExplainRequest")]
    async fn explain(
        &self,
        admin: Admin,
        /// The `X-Request-Id` of the response.
        request_id: Path,
    ) -> Reply<Answer<Explanation>, (Read, NotFound)> {
        let denied = admin.app.denied_requests.explain(&request_id.0).await?;
        Ok(Answer::new("explanation", denied.into()))
    }
}

/// The rule that denied a request, and what it saw.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct Explanation {
    /// The `X-Request-Id` of the response.
    pub request_id: String,
    /// Time of the request (RFC 3339).
    pub at: String,
    /// The HTTP method and route, or the gRPC method.
    pub call: String,
    /// The HTTP status or the gRPC code.
    pub status: String,
    /// The error code that the caller received.
    pub code: String,
    /// The rule, in words.
    pub reason: String,
    /// What the rule saw; never a secret.
    pub diagnostics: BTreeMap<String, String>,
    /// The caller's IP address.
    pub address: Option<String>,
    /// The `X-Correlation-Id`, as in logs and events.
    pub correlation_id: Option<String>,
}

impl From<DeniedRequest> for Explanation {
    fn from(denied: DeniedRequest) -> Self {
        Self {
            request_id: denied.request_id,
            at: denied.at.rfc3339(),
            call: denied.call,
            status: denied.status,
            code: denied.code,
            reason: denied.reason,
            diagnostics: denied.diagnostics,
            address: denied.address,
            correlation_id: denied.correlation_id,
        }
    }
}

example!(Explanation, {
    "requestId": "01a1fca5-0ae5-7f2c-8d4e-0b6c5a3e9d21",
    "at": "2026-11-21T04:22:00Z",
    "call": "GET /api/v1/auth/verify",
    "status": "401",
    "code": "INVALID_TOKEN",
    "reason": "the access token is not valid: it was revoked",
    "diagnostics": {
        "revoked_by": "an entry of the kind session",
        "token.sub": "01a1fca5-0ae5-741a-b136-32b4b1af948c"
    },
    "address": "192.0.2.7",
    "correlationId": "01a1fca5-0ae5-7f2c-8d4e-0b6c5a3e9d21"
});
