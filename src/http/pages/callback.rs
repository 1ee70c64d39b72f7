//! The answer to an authorization request: parameters of a redirect, or a form that posts them (RFC 6749 §4.1.2, OAuth 2.0
//! Form Post Response Mode). Only a [`Callback`] leads to a client, and nothing makes one but a redirect URI that was
//! found to be registered.

use poem::{Request, Response, Result, http::StatusCode};
use url::form_urlencoded;

use super::{locale, rendered, see_other};
use crate::{
    app::App,
    diagnostics,
    flows::oauth::authorize::{Callback, ResponseMode},
    http::views::{FormAction, FormPost},
    oauth::error::OAuthError,
};

/// The code for the client.
pub fn code(app: &App, request: &Request, callback: &Callback, code: String) -> Result<Response> {
    send(app, request, callback, vec![("code", code)])
}

/// The error for the client.
pub fn error(
    app: &App,
    request: &Request,
    callback: &Callback,
    error: &OAuthError,
) -> Result<Response> {
    diagnostics::denied(error.code, &error.description);
    let fields = vec![
        ("error", error.code.to_owned()),
        ("error_description", error.description.to_string()),
    ];
    send(app, request, callback, fields)
}

fn send(
    app: &App,
    request: &Request,
    callback: &Callback,
    mut fields: Vec<(&str, String)>,
) -> Result<Response> {
    if let Some(state) = &callback.state {
        fields.push(("state", state.clone()));
    }
    // RFC 9207: the client sees which server answered.
    fields.push(("iss", app.config.server.issuer.clone()));
    match callback.mode {
        ResponseMode::Query => {
            let uri = &callback.redirect_uri;
            let joint = if uri.contains('?') { '&' } else { '?' };
            let query =
                form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
            see_other(&format!("{uri}{joint}{query}"))
        }
        ResponseMode::FormPost => {
            let page = FormPost { action: &callback.redirect_uri, fields: &fields };
            let to = FormAction::to(&callback.redirect_uri);
            rendered(page.render(locale(request, None), StatusCode::OK, &to))
        }
    }
}
