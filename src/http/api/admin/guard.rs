//! Authorization of admin API calls.

use std::sync::Arc;

use poem::{Request, RequestBody, Result, http::Method};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, registry::Registry};

use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    error::Error,
    flows::admin::access::{ADMIN, ADMIN_READ, Access, authorize},
    http::{context::Context, security::Credentials},
    model::actor::Actor,
};

/// An authorized call: the server, and the actor that the audit log names.
#[derive(Debug)]
pub struct Admin {
    pub app: Arc<App>,
    pub actor: Actor,
}

impl<'a> ApiExtractor<'a> for Admin {
    const TYPES: &'static [ApiExtractorType] = Credentials::TYPES;
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        Credentials::register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        Credentials::security_schemes()
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> Result<Self> {
        let Context { app, caller } = Context::of(request)?;
        let credentials = Credentials::from_request(request, body, options).await?;
        let (access, scope) = match *request.method() {
            Method::GET | Method::HEAD => (Access::Read, ADMIN_READ),
            _ => (Access::Write, ADMIN),
        };
        let token = credentials.access_token.as_deref();
        match authorize(app, token, access, caller).await {
            Ok(actor) => Ok(Self { app: Arc::clone(app), actor }),
            Err(error) => Err(challenged(error, scope).into()),
        }
    }
}

/// Names the missing scope in WWW-Authenticate (RFC 6750 §3).
fn challenged(error: Error, scope: &str) -> ApiError {
    let mut error = ApiError::from(error);
    if error.code == ErrorCode::InsufficientScope {
        error.challenge = Some(format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\""));
    }
    error
}
