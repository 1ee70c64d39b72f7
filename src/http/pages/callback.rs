//! The authorization response: parameters of a redirect, in its query (RFC 6749 §4.1.2) or fragment
//! (OAuth 2.0 Multiple Response Types §2.1), or a form that posts them (Form Post Response Mode). It
//! is sent to a [`Callback`] only, which can be constructed only from a registered redirect URI.

use poem::{Request, Response, Result, http::StatusCode};
use url::form_urlencoded;

use super::{host, locale, rendered, see_other};
use crate::{
    app::App,
    diagnostics,
    flows::oauth::authorize::Callback,
    http::views::{Destination, FormAction, FormPost, Leaving, page_url},
    oauth::{authorization_request::ResponseMode, error::OAuthError},
};

/// Sends the client a code.
pub fn code(app: &App, request: &Request, callback: &Callback, code: String) -> Result<Response> {
    send(request, callback, &complete(app, callback, vec![("code", code)]))
}

/// Sends the client an error (RFC 6749 §4.1.2.1), after a click if the client is self-registered:
/// registering a client must not turn this server into an open redirector (RFC 9700 §4.11.2).
pub fn error(
    app: &App,
    request: &Request,
    callback: &Callback,
    error: &OAuthError,
) -> Result<Response> {
    let fields = error_fields(app, callback, error);
    if !callback.is_unverified_site() {
        return send(request, callback, &fields);
    }
    let url;
    let to = match callback.mode {
        ResponseMode::Query | ResponseMode::Fragment => {
            url = with_fields(callback, &fields);
            Destination::Link(&url)
        }
        ResponseMode::FormPost => {
            Destination::Form(FormPost { action: &callback.redirect_uri, fields: &fields })
        }
    };
    let page = Leaving {
        page: page_url(request.method(), request.uri()),
        host: &host(&callback.redirect_uri),
        to,
        message: &error.description,
        code: error.code,
    };
    let t = locale(request, None);
    rendered(page.render(t, StatusCode::BAD_REQUEST, FormAction::Application))
}

/// Sends the client the user's own refusal: the page told where it goes.
pub fn refusal(
    app: &App,
    request: &Request,
    callback: &Callback,
    error: &OAuthError,
) -> Result<Response> {
    send(request, callback, &error_fields(app, callback, error))
}

type Fields<'a> = Vec<(&'a str, String)>;

fn error_fields(app: &App, callback: &Callback, error: &OAuthError) -> Fields<'static> {
    diagnostics::denied(error.code, &error.description);
    let fields = vec![
        ("error", error.code.to_owned()),
        ("error_description", error.description.to_string()),
    ];
    complete(app, callback, fields)
}

/// With what every response has.
fn complete<'a>(app: &App, callback: &Callback, mut fields: Fields<'a>) -> Fields<'a> {
    if let Some(state) = &callback.state {
        fields.push(("state", state.clone()));
    }
    // RFC 9207: identifies this server to the client.
    fields.push(("iss", app.config.server.issuer.clone()));
    fields
}

/// The redirect URI with the fields in its query or fragment.
fn with_fields(callback: &Callback, fields: &Fields<'_>) -> String {
    let uri = &callback.redirect_uri;
    let separator = match callback.mode {
        // A registered redirect URI has no fragment of its own (RFC 6749 §3.1.2).
        ResponseMode::Fragment => '#',
        _ if uri.contains('?') => '&',
        _ => '?',
    };
    let fields = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    format!("{uri}{separator}{fields}")
}

fn send(request: &Request, callback: &Callback, fields: &Fields<'_>) -> Result<Response> {
    match callback.mode {
        ResponseMode::Query | ResponseMode::Fragment => see_other(&with_fields(callback, fields)),
        ResponseMode::FormPost => {
            let page = FormPost { action: &callback.redirect_uri, fields };
            let t = locale(request, None);
            rendered(page.render(t, StatusCode::OK, FormAction::Application))
        }
    }
}
