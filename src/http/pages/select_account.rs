//! `/select-account`: which account an application is to get (`prompt=select_account`).

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode};

use super::{
    Asked, ReturnTo, authorize::name_of, csrf::Guard, rendered, see_other, session_cookie,
};
use crate::{
    api_error::{ApiError, ErrorCode},
    flows::{accounts::browser_session, oauth::authorize::resume::Resume},
    http::{
        context::Context,
        oauth::params,
        views::{Form, SelectAccount},
    },
    oauth::params::Params,
};

const PURPOSE: &str = "select-account";

/// The application's request; nothing else asks which account it is to get.
fn about(params: &Params) -> Option<ReturnTo> {
    ReturnTo::parse(params.get("return_to")).filter(|to| to.is_authorization)
}

/// Shows who is logged in.
#[handler]
pub async fn show(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let Some(return_to) = about(&query) else {
        return see_other("/login");
    };
    let session = browser_session::session(app, session_cookie(app, request).as_deref()).await;
    let Some(session) = session.map_err(ApiError::from)? else {
        return see_other(&return_to.through("/login"));
    };
    let asked = Asked::by(app, request, Some(&return_to)).await;
    let guard = Guard::of(app, request);
    let csrf = guard.token(app, PURPOSE)?;
    let page = SelectAccount {
        form: Form { csrf: &csrf, return_to: Some(&return_to.address) },
        client: asked.card(),
        account: name_of(&session.user),
    };
    let page = page.render(asked.locale(request), StatusCode::OK, &asked.form_action());
    Ok(guard.keep(app, rendered(page)?))
}

/// Takes the choice.
#[handler]
pub async fn choose(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let return_to = about(&form);
    Guard::of(app, request).check(app, request, &form, PURPOSE).map_err(
        |error| match &return_to {
            Some(return_to) => error.again(&return_to.address),
            None => error,
        },
    )?;
    let Some(return_to) = return_to else {
        return see_other("/login");
    };
    let resume = Resume::of(app, &return_to.params).map_err(ApiError::from)?;
    match form.get("choice") {
        Some("continue") => {
            let first_seen = resume.map_or(app.clock.now(), |resume| resume.first_seen);
            let resume = Resume { first_seen, account_selected: true };
            let params = resume.put(app, &return_to.params).map_err(ApiError::from)?;
            see_other(&ReturnTo::of(params).address)
        }
        Some("other") => see_other(&return_to.through("/login")),
        _ => Err(ApiError::new(ErrorCode::BadRequest, "choice is continue or other").into()),
    }
}
