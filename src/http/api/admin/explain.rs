//! `/api/v1/admin/explain`: why a request was refused.

use std::collections::BTreeMap;

use poem_openapi::{Object, OpenApi, types::Example};
use serde::{Deserialize, Serialize};

use super::{guard::Admin, params::Path};
use crate::{
    http::{
        api::Chapter,
        context::Context,
        failure::{Failure, codes},
        json::Answer,
    },
    model::denied_request::DeniedRequest,
};

#[derive(Clone, Debug)]
pub struct ExplainApi;

codes!(ExplainErrors: Validation, InvalidToken, InsufficientScope, NotFound, RequestTimeout, Internal, Unavailable);

/// The rule that refused a request, and what it saw.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct Explanation {
    /// The `X-Request-Id` of the answer.
    pub request_id: String,
    /// When it was (RFC 3339).
    pub at: String,
    /// The method and the route, or the gRPC method.
    pub call: String,
    /// The HTTP status or the gRPC code.
    pub status: String,
    /// The error's name, as the caller was told.
    pub code: String,
    /// The rule, in words.
    pub reason: String,
    /// What the rule saw; never a secret.
    pub facts: BTreeMap<String, String>,
    /// From where.
    pub address: Option<String>,
    /// The id that runs through logs and events.
    pub correlation_id: Option<String>,
}

impl From<DeniedRequest> for Explanation {
    fn from(refusal: DeniedRequest) -> Self {
        Self {
            request_id: refusal.request_id,
            at: refusal.at.rfc3339(),
            call: refusal.call,
            status: refusal.status,
            code: refusal.code,
            reason: refusal.reason,
            facts: refusal.diagnostics,
            address: refusal.address,
            correlation_id: refusal.correlation_id,
        }
    }
}

impl Example for Explanation {
    fn example() -> Self {
        let facts = [
            ("revoked_by", "an entry of the kind session"),
            ("token.sub", "01a1fca5-0ae5-741a-b136-32b4b1af948c"),
        ];
        Self {
            request_id: "01a1fca5-0ae5-7f2c-8d4e-0b6c5a3e9d21".to_owned(),
            at: "2026-11-21T04:22:00Z".to_owned(),
            call: "GET /api/v1/auth/verify".to_owned(),
            status: "401".to_owned(),
            code: "INVALID_TOKEN".to_owned(),
            reason: "the access token is not valid: it was revoked".to_owned(),
            facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            address: Some("192.0.2.7".to_owned()),
            correlation_id: Some("01a1fca5-0ae5-7f2c-8d4e-0b6c5a3e9d21".to_owned()),
        }
    }
}

#[OpenApi(prefix_path = "/api/v1/admin/explain", tag = "Chapter::Administration")]
impl ExplainApi {
    /// Explain a refusal
    ///
    /// Every refusal carries its request's id; this turns it into the rule and the facts. Refusals are kept for a while
    /// (`explain.retention`), and of a flood of them some only.
    #[oai(path = "/:request_id", method = "get", operation_id = "adminExplain")]
    async fn explain(
        &self,
        context: Context,
        _admin: Admin,
        /// The `X-Request-Id` of the answer.
        request_id: Path,
    ) -> Result<Answer<Explanation>, Failure<ExplainErrors>> {
        let refusal = context.app.denied_requests.explain(&request_id.0).await?;
        Ok(Answer::new("the rule that refused it", refusal.into()))
    }
}
