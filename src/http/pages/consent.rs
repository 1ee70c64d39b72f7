//! `POST /consent`: the user's decision about an authorization request. The form contains the
//! request, which is validated again from the start.

use poem::{Body, Request, RequestBody, Response, Result, handler};

use super::{ReturnTo, authorize as endpoint, callback, csrf::CsrfCookie, session_cookie};
use crate::{
    api_error::{ApiError, ErrorCode},
    flows::oauth::authorize::{self, Step, resume::Resume},
    http::{context::Context, oauth::params},
    oauth::{error::OAuthError, params::Params},
};

/// Applies the decision and responds to the client.
#[handler]
pub async fn decide(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let encoded = form.get("request").unwrap_or_default();
    let params = Params::parse(encoded.as_bytes()).map_err(OAuthError::invalid_request);
    let params = params.map_err(ApiError::from)?;

    let cookie = session_cookie(app, request).await;
    let read = authorize::read(app, &params, cookie.as_deref(), caller.address).await;
    let (asked, standing) = match read {
        Ok(read) => read,
        Err(refused) => return endpoint::error_response(app, request, &params, refused),
    };
    let browser = standing.browser.as_ref().map(|browser| browser.id.clone());
    let purpose = endpoint::csrf_purpose(&browser.unwrap_or_default(), encoded);
    CsrfCookie::of(app, request)
        .verify(app, request, &form, &purpose)
        .map_err(|error| error.again(ReturnTo::of(params.clone()).url))?;

    let resume = Resume::of(app, &params).map_err(ApiError::from)?;
    let step = authorize::decide(app, &asked, standing, resume);
    let is_as_shown = form.get("shown") == Some(&asked.fingerprint());
    let (Ok(Step::Consent(question)), true) = (step, is_as_shown) else {
        // Something has changed since the page was shown: take the step that the request needs now.
        return endpoint::process(app, caller, request, &params).await;
    };
    match form.get("decision") {
        Some("allow") => {
            authorize::remember_consent(app, &asked, &question, caller)
                .await
                .map_err(ApiError::from)?;
            endpoint::issue_code(app, caller, request, &asked, question.browser).await
        }
        Some("deny") => {
            let error = OAuthError::access_denied("the user denied the request");
            callback::refusal(app, request, &asked.callback, &error)
        }
        _ => {
            Err(ApiError::new(ErrorCode::BadRequest, "`decision` must be `allow` or `deny`").into())
        }
    }
}
