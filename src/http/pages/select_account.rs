//! `/select-account`: continue with the current account or log in to another
//! (`prompt=select_account`).

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode};

use super::{
    LoginContext, ReturnTo, authorize::display_name, csrf::CsrfCookie, current_session, rendered,
    see_other,
};
use crate::{
    api_error::{ApiError, ErrorCode},
    flows::oauth::authorize::resume::Resume,
    http::{
        context::Context,
        oauth::params,
        views::{Form, SelectAccount},
    },
    oauth::params::Params,
};

const PURPOSE: &str = "select-account";

/// The authorization request of `return_to`; account selection exists for no other page.
fn authorization_request(params: &Params) -> Option<ReturnTo> {
    ReturnTo::parse(params.get("return_to")).filter(ReturnTo::is_authorization)
}

/// Shows the current account.
#[handler]
pub async fn show(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let Some(return_to) = authorization_request(&query) else {
        return see_other("/login");
    };
    let Some(session) = current_session(app, request).await? else {
        return see_other(&return_to.page_url("/login"));
    };
    let context = LoginContext::of(app, request, Some(&return_to)).await;
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, PURPOSE)?;
    let page = SelectAccount {
        form: Form { csrf: &csrf, return_to: Some(&return_to.url) },
        client: context.card(),
        account: display_name(&session.user),
    };
    let page = page.render(context.locale(request), StatusCode::OK, context.form_action);
    Ok(csrf_cookie.set_on(app, rendered(page)?))
}

/// Applies the choice.
#[handler]
pub async fn choose(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let return_to = authorization_request(&form);
    CsrfCookie::of(app, request).verify(app, request, &form, PURPOSE).map_err(|error| {
        match &return_to {
            Some(return_to) => error.again(&return_to.url),
            None => error,
        }
    })?;
    let Some(return_to) = return_to else {
        return see_other("/login");
    };
    let resume = Resume::of(app, &return_to.params).map_err(ApiError::from)?;
    match form.get("choice") {
        Some("continue") => {
            let first_seen = resume.map_or(app.clock.now(), |resume| resume.first_seen);
            let resume = Resume { first_seen, account_selected: true };
            let params = resume.put(app, &return_to.params).map_err(ApiError::from)?;
            see_other(&ReturnTo::of(params).url)
        }
        Some("other") => see_other(&return_to.page_url("/login")),
        _ => {
            Err(ApiError::new(ErrorCode::BadRequest, "`choice` must be `continue` or `other`")
                .into())
        }
    }
}
