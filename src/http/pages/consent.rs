//! `POST /consent`: what a person answers to an application's request. The request comes along, and is checked again from
//! its beginning.

use poem::{Body, Request, RequestBody, Response, Result, handler};

use super::{ReturnTo, authorize as endpoint, callback, csrf::Guard, session_cookie};
use crate::{
    api_error::{ApiError, ErrorCode},
    flows::oauth::authorize::{self, Step, resume::Resume},
    http::{context::Context, oauth::params},
    oauth::{error::OAuthError, params::Params},
};

/// Takes the answer, and gives the application its own.
#[handler]
pub async fn answer(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let encoded = form.get("request").unwrap_or_default();
    let params = Params::parse(encoded.as_bytes()).map_err(OAuthError::invalid_request);
    let params = params.map_err(ApiError::from)?;

    let cookie = session_cookie(app, request);
    let read = authorize::read(app, &params, cookie.as_deref(), caller.address).await;
    let (asked, standing) = match read {
        Ok(read) => read,
        Err(refused) => return endpoint::refuse(app, request, refused),
    };
    let browser = standing.browser.as_ref().map(|browser| browser.id.clone());
    let purpose = endpoint::purpose(&browser.unwrap_or_default(), encoded);
    Guard::of(app, request)
        .check(app, request, &form, &purpose)
        .map_err(|error| error.again(ReturnTo::of(params.clone()).address))?;

    let resume = Resume::of(app, &params).map_err(ApiError::from)?;
    let question = match authorize::decide(app, &asked, standing, resume) {
        Ok(Step::Consent(question)) => question,
        // Something has changed since the page was shown: begin where the request stands now.
        _ => return endpoint::go_on(app, caller, request, &params).await,
    };
    match form.get("decision") {
        Some("allow") => {
            authorize::remember_consent(app, &asked, &question, caller)
                .await
                .map_err(ApiError::from)?;
            endpoint::answer(app, caller, request, &asked, question.browser).await
        }
        Some("deny") => {
            let error = OAuthError::access_denied("the person said no");
            callback::error(app, request, &asked.callback, &error)
        }
        _ => Err(ApiError::new(ErrorCode::BadRequest, "decision is allow or deny").into()),
    }
}
