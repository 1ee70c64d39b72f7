//! `/account/profile`: a user who is logged in fills in the claims that this deployment uses.

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode};
use serde_json::{Map, Value};

use super::{
    ReturnTo, check_form, csrf::CsrfCookie, current_session, form_status, locale, login::login_url,
    problem, rendered, second_factor::retry_after, see_other,
};
use crate::{
    api_error::ApiError,
    app::App,
    error::Error,
    flows::accounts::profile,
    http::{
        context::Context,
        oauth::params,
        views::{Form, FormAction, Problem, ProfileField, ProfileForm},
    },
    limits::{Key, Limit},
    model::{
        browser_session::BrowserSession,
        profile::{ADDRESS, ProfileClaim, UserProfile},
    },
    oauth::params::Params,
};

pub(super) const PATH: &str = "/account/profile";

/// The user, or where to log in; without claims in use there is no such page.
async fn admitted(app: &App, request: &Request) -> Result<Result<BrowserSession, Response>> {
    if !app.config.profile.is_used() {
        return Err(ApiError::from(Error::NotFound("page")).into());
    }
    match current_session(app, request).await? {
        Some(browser) => Ok(Ok(browser)),
        None => Ok(Err(see_other(&login_url(ReturnTo::parse(Some(PATH)).as_ref()))?)),
    }
}

/// The fields of the form: of a claim, or of a member of the address.
fn field_names(app: &App) -> Vec<&'static str> {
    let in_use = app.config.profile.claims.iter().filter(|claim| claim.is_of_the_owner());
    let of_claim = |claim: &ProfileClaim| match claim {
        ProfileClaim::Address => ADDRESS.map(|(_, field)| field).to_vec(),
        other => vec![other.as_str()],
    };
    in_use.flat_map(of_claim).collect()
}

fn stored<'a>(profile: &'a UserProfile, field: &str) -> &'a str {
    let claims = profile.as_map();
    let value = match field.strip_prefix("address.") {
        Some(member) => claims.get("address").and_then(|address| address.get(member)),
        None => claims.get(field),
    };
    value.and_then(Value::as_str).unwrap_or_default()
}

/// The change that a form asks for: an empty field removes a claim. `fields` names those that the
/// form had: another claim, which is in use since then, stays as it is.
fn patch(in_use: &[&'static str], form: &Params) -> Map<String, Value> {
    let mut patch = Map::new();
    let of_form = form.get("fields").unwrap_or_default().split(' ');
    let of_form: Vec<&str> = of_form.collect();
    for field in in_use.iter().filter(|field| of_form.contains(*field)) {
        let typed = form.get(field).unwrap_or_default();
        let value = if typed.trim().is_empty() { Value::Null } else { typed.into() };
        match field.strip_prefix("address.") {
            None => drop(patch.insert((*field).to_owned(), value)),
            Some(member) => {
                let address = patch.entry("address").or_insert_with(|| Map::new().into());
                address[member] = value;
            }
        }
    }
    patch
}

fn page(
    app: &App,
    request: &Request,
    values: &[(&'static str, &str)],
    problem: Option<Problem>,
    errors: &[(&'static str, String)],
    is_saved: bool,
) -> Result<Response> {
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, PATH)?;
    let fields = values.iter().map(|(name, value)| ProfileField { name, value });
    let page = ProfileForm {
        form: Form { csrf: &csrf, return_to: None },
        fields: fields.collect(),
        problem,
        errors,
        is_saved,
    };
    let status = if errors.is_empty() { form_status(problem) } else { StatusCode::BAD_REQUEST };
    let page = page.render(locale(request, None), status, FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, retry_after(rendered(page)?, problem)))
}

fn stored_page(
    app: &App,
    request: &Request,
    profile: &UserProfile,
    is_saved: bool,
) -> Result<Response> {
    let fields = field_names(app).into_iter();
    let values: Vec<_> = fields.map(|name| (name, stored(profile, name))).collect();
    page(app, request, &values, None, &[], is_saved)
}

/// Shows the profile.
#[handler]
pub async fn show(request: &Request) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let browser = match admitted(app, request).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let profile = profile::of(app, &browser.user.id).await.map_err(ApiError::from)?;
    stored_page(app, request, &profile, false)
}

/// Stores it.
#[handler]
pub async fn submit(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address)).map_err(ApiError::from)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    let browser = match admitted(app, request).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let names = field_names(app);
    let retry = |problem, errors: &[(&'static str, String)]| {
        let typed = |name: &&'static str| (*name, form.get(name).unwrap_or_default());
        let values: Vec<_> = names.iter().map(typed).collect();
        page(app, request, &values, problem, errors, false)
    };
    if let Some(problem) = check_form(app, request, &form, PATH)? {
        return retry(Some(problem), &[]);
    }
    match profile::update(app, &browser.user.id, &patch(&names, &form), caller).await {
        Ok(profile) => stored_page(app, request, &profile, true),
        Err(Error::Validation(fields)) => {
            let errors: Vec<_> =
                fields.into_iter().map(|field| (field.field, field.message)).collect();
            retry(None, &errors)
        }
        Err(other) => retry(Some(problem(other)?), &[]),
    }
}
