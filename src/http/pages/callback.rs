//! The authorization response: parameters of a redirect (RFC 6749 §4.1.2), or a form that posts
//! them (OAuth 2.0 Form Post Response Mode). It is sent to a [`Callback`] only, which can be
//! constructed only from a registered redirect URI.

use poem::{Request, Response, Result, http::StatusCode};
use url::form_urlencoded;

use super::{locale, rendered, see_other};
use crate::{
    app::App,
    diagnostics,
    flows::oauth::authorize::Callback,
    http::views::{FormAction, FormPost},
    oauth::{authorization_request::ResponseMode, error::OAuthError},
};

/// Sends the client a code.
pub fn code(app: &App, request: &Request, callback: &Callback, code: String) -> Result<Response> {
    send(app, request, callback, vec![("code", code)])
}

/// Sends the client an error (RFC 6749 §4.1.2.1).
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
    // RFC 9207: identifies this server to the client.
    fields.push(("iss", app.config.server.issuer.clone()));
    match callback.mode {
        ResponseMode::Query => {
            let uri = &callback.redirect_uri;
            let separator = if uri.contains('?') { '&' } else { '?' };
            let query =
                form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
            see_other(&format!("{uri}{separator}{query}"))
        }
        ResponseMode::FormPost => {
            let page = FormPost { action: &callback.redirect_uri, fields: &fields };
            let t = locale(request, None);
            rendered(page.render(t, StatusCode::OK, FormAction::Application))
        }
    }
}
