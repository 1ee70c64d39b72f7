//! `/account/export`: users download what the server keeps about them.

use poem::{
    Body, Request, Response, Result, handler,
    http::{HeaderValue, StatusCode, header},
};

use super::{
    account::{date, log_in_for, purpose, submitted},
    authorize::display_name,
    csrf::CsrfCookie,
    factors::admitted,
    locale, rendered,
};
use crate::{
    api_error::{ApiError, ErrorCode},
    error::Error,
    flows::accounts::{export, second_factors::Login},
    http::{
        api::account::ExportData,
        context::Context,
        views::{ExportAccount, Form, FormAction},
    },
};

pub(super) const PATH: &str = "/account/export";

/// Says what the file has.
#[handler]
pub async fn show(request: &Request) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let browser = match admitted(app, request, PATH).await? {
        Ok(browser) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let csrf_cookie = CsrfCookie::of(app, request);
    let csrf = csrf_cookie.token(app, &purpose(&browser))?;
    let page = ExportAccount {
        form: Form { csrf: &csrf, return_to: None },
        account: display_name(&browser.user),
    };
    let page = page.render(locale(request, None), StatusCode::OK, FormAction::ThisServer);
    Ok(csrf_cookie.set_on(app, rendered(page)?))
}

/// Sends the file.
#[handler]
pub async fn download(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let browser = match submitted(app, request, body, PATH).await? {
        Ok((browser, _)) => browser,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let exported = export::export(app, &browser.user.id, Login::of(&browser), caller).await;
    let exported = match exported {
        Ok(exported) => exported,
        Err(Error::NeedsLogin { second_factor, .. }) => {
            return log_in_for(PATH, second_factor, &browser);
        }
        Err(error) => return Err(ApiError::from(error).again(PATH).into()),
    };
    let name = format!("attachment; filename=\"account-{}.json\"", date(exported.at));
    let body =
        serde_json::to_vec_pretty(&ExportData::from(exported)).map_err(|error| ApiError {
            cause: Some(error.into()),
            ..ApiError::new(
                ErrorCode::Internal,
                "internal server error: the file could not be written",
            )
        })?;
    let mut response = Response::from(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}
