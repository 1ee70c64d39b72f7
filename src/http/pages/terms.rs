//! `/terms`: a user who is logged in accepts the terms of this deployment, and continues.

use std::sync::Arc;

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode};

use super::{
    LoginContext, ReturnTo, account, authorize::display_name, check_form, csrf::CsrfCookie,
    current_session, form_status, login::login_url, problem, rendered, see_other,
};
use crate::{
    api_error::ApiError,
    app::App,
    error::Error,
    flows::accounts::terms,
    http::{
        context::Context,
        oauth::params,
        views::{AcceptTerms, Form, Problem, TermsBox},
    },
    model::browser_session::BrowserSession,
};

pub(super) const PATH: &str = "/terms";

/// The field of every form that accepts the terms: their version.
pub(super) const FIELD: &str = "accepted_terms";

/// What a form shows of the terms in force.
pub(super) fn terms_box(app: &App) -> Option<TermsBox<'_>> {
    let terms = app.config.registration.required_terms()?;
    let privacy_url = Some(terms.privacy_url.as_str()).filter(|url| !url.is_empty());
    Some(TermsBox { version: &terms.version, url: &terms.url, privacy_url })
}

/// Where the user continues.
fn next(return_to: Option<&ReturnTo>) -> &str {
    return_to.map_or(account::PATH, |to| to.url.as_str())
}

/// Shows the form.
#[handler]
pub async fn show(request: &Request, body: Body) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let query = params::from_query_or_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(query.get("return_to"));
    let return_to = return_to.as_ref();
    let Some(browser) = current_session(app, request).await? else {
        return see_other(&login_url(return_to));
    };
    if !terms::are_due(app, &browser) {
        return see_other(next(return_to));
    }
    page(app, request, &browser, return_to, (None, &[])).await
}

async fn page(
    app: &Arc<App>,
    request: &Request,
    browser: &BrowserSession,
    return_to: Option<&ReturnTo>,
    (problem, fields): (Option<Problem>, &[(&'static str, String)]),
) -> Result<Response> {
    let Some(terms) = terms_box(app) else { return see_other(next(return_to)) };
    let context = LoginContext::of(app, request, return_to).await;
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, &account::purpose(browser))?;
    let page = AcceptTerms {
        form: Form { csrf: &csrf, return_to: return_to.map(|to| to.url.as_str()) },
        client: context.card(),
        account: display_name(&browser.user),
        is_new: browser.accepted_terms.is_none(),
        problem,
        fields,
        terms: Some(terms),
        other_account: login_url(return_to),
    };
    let status = if fields.is_empty() { form_status(problem) } else { StatusCode::BAD_REQUEST };
    let page = page.render(context.locale(request), status, context.form_action);
    Ok(csrf_cookie.set_on(app, rendered(page)?))
}

/// Records the acceptance.
#[handler]
pub async fn submit(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let return_to = ReturnTo::parse(form.get("return_to"));
    let return_to = return_to.as_ref();
    let Some(browser) = current_session(app, request).await? else {
        return see_other(&login_url(return_to));
    };
    if let Some(problem) = check_form(app, request, &form, &account::purpose(&browser))? {
        return page(app, request, &browser, return_to, (Some(problem), &[])).await;
    }
    match terms::accept(app, &browser.user.id, form.get(FIELD), caller).await {
        Ok(()) | Err(Error::Conflict(_)) => see_other(next(return_to)),
        Err(Error::Validation(fields)) => {
            let fields: Vec<_> =
                fields.into_iter().map(|field| (field.field, field.message)).collect();
            page(app, request, &browser, return_to, (None, &fields)).await
        }
        Err(other @ Error::TooMany(_)) => {
            page(app, request, &browser, return_to, (Some(problem(other)?), &[])).await
        }
        Err(other) => Err(ApiError::from(other).into()),
    }
}
