//! `/account/delete`, on which users delete their account, and `/account/restore`, to which a login
//! leads while a deletion waits.

use poem::{Body, Request, RequestBody, Response, Result, handler, http::StatusCode};

use super::{
    account::{date, log_in_for, purpose, submitted},
    authorize::display_name,
    csrf::CsrfCookie,
    factors::admitted,
    locale,
    logout::without_cookies,
    rendered, see_other, with_cookies,
};
use crate::{
    api_error::ApiError,
    app::App,
    clock::Timestamp,
    credentials::{CookieNames, cookies},
    error::{DeletionPending, Error},
    flows::accounts::{deletion, second_factors::Login},
    http::{
        context::Context,
        oauth::params,
        views::{DeleteAccount, DeletionOutcome, DeletionResult, Form, FormAction, RestoreAccount},
    },
    model::user::User,
};

pub(super) const PATH: &str = "/account/delete";
const RESTORE: &str = "/account/restore";

const RESTORE_PURPOSE: &str = "restore account";

/// Asks whether to delete the account.
#[handler]
pub async fn ask(request: &Request) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    page(app, request, false).await
}

async fn page(app: &App, request: &Request, is_last_admin: bool) -> Result<Response> {
    let browser = match admitted(app, request, PATH).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let grace = app.config.accounts.deletion_grace;
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, &purpose(&browser))?;
    let page = DeleteAccount {
        form: Form { csrf: &csrf, return_to: None },
        account: display_name(&browser.user),
        until: (!grace.is_zero()).then(|| date(app.clock.now() + grace)),
        is_last_admin,
    };
    let status = if is_last_admin { StatusCode::CONFLICT } else { StatusCode::OK };
    let page = page.render(locale(request, None), status, FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, rendered(page)?))
}

/// Deletes the account, or begins the grace period.
#[handler]
pub async fn delete(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let browser = match submitted(app, request, body, PATH).await? {
        Ok((browser, _)) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let user_id = &browser.user.id;
    match deletion::request(app, user_id, Login::of(&browser), caller).await {
        Ok(at) => {
            let until = (at > app.clock.now()).then(|| date(at));
            let outcome =
                until.as_deref().map_or(DeletionOutcome::Deleted, DeletionOutcome::Requested);
            Ok(without_cookies(app, result(request, outcome)?))
        }
        Err(Error::NeedsLogin { second_factor, .. }) => log_in_for(PATH, second_factor, &browser),
        Err(Error::Conflict(_)) => page(app, request, true).await,
        Err(error) => Err(ApiError::from(error).again(PATH).into()),
    }
}

fn result(request: &Request, outcome: DeletionOutcome<'_>) -> Result<Response> {
    let page = DeletionResult { outcome };
    rendered(page.render(locale(request, None), StatusCode::OK, FormAction::ThisServer))
}

/// Continues a login of a user whose account waits to be deleted.
pub(super) fn offer(app: &App, pending: &DeletionPending) -> Result<Response> {
    let cookie = CookieNames::of(&app.config).login_cookie(&pending.token, pending.expires_in);
    Ok(with_cookies(see_other(RESTORE)?, [cookie]))
}

/// The token of the login, with the user whose deletion it can cancel and when that is due. There
/// may be several cookies of the name: the first that can cancel one counts.
async fn pending(app: &App, request: &Request) -> Result<Option<(String, User, Timestamp)>> {
    for token in cookies(request.headers(), CookieNames::of(&app.config).login) {
        let found = deletion::pending(app, &token).await.map_err(ApiError::from)?;
        if let Some((user, at)) = found {
            return Ok(Some((token, user, at)));
        }
    }
    Ok(None)
}

/// Asks whether to keep the account.
#[handler]
pub async fn show_restore(request: &Request) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let Some((_, user, at)) = pending(app, request).await? else {
        return see_other("/login");
    };
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, RESTORE_PURPOSE)?;
    let page = RestoreAccount {
        form: Form { csrf: &csrf, return_to: None },
        account: display_name(&user),
        until: date(at),
    };
    let page = page.render(locale(request, None), StatusCode::OK, FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, rendered(page)?))
}

/// Keeps the account.
#[handler]
pub async fn restore(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let form = params::from_body(request, &mut RequestBody::new(body)).await?;
    CsrfCookie::of(app, request)
        .verify(app, request, &form, RESTORE_PURPOSE)
        .map_err(|error| error.again("/login"))?;
    let Some((token, ..)) = pending(app, request).await? else {
        return see_other("/login");
    };
    match deletion::cancel(app, &token, caller).await {
        Ok(()) => {
            let cookie = CookieNames::of(&app.config).login_cookie("", 0);
            Ok(with_cookies(result(request, DeletionOutcome::Kept)?, [cookie]))
        }
        Err(Error::LoginExpired) => see_other("/login"),
        Err(error) => Err(ApiError::from(error).again("/login").into()),
    }
}
