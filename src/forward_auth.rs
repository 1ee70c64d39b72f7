//! The response to a gateway that asks whether a request may pass, over HTTP (`/forward-auth`) or
//! gRPC (Envoy): the gateway presents the credentials of a request before forwarding it; 200 allows
//! it.

use std::time::Duration;

use poem::{
    IntoResponse, Response,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
};
use url::form_urlencoded;

use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    credentials::{
        AccessToken, CookieNames, access_token, by_dpop, cookies, is_from_allowed_origin,
    },
    error::Error,
    flows::{
        gateway::{
            self, Cookies, Credentials, Decision, Identity, Refusal, Requirements, SHORTEST_MAX_AGE,
        },
        tokens::{dpop::Presented, first_party},
    },
    model::actor::RequestContext,
    oauth::{error::OAuthError, params::whole_number, scope::Scope},
};

/// Where a browser session gets the cookies of a session behind a gateway.
pub const SESSION_START: &str = "/session/start";

const USER: HeaderName = HeaderName::from_static("x-propusk-user");
const EMAIL: HeaderName = HeaderName::from_static("x-propusk-email");
const EMAIL_VERIFIED: HeaderName = HeaderName::from_static("x-propusk-email-verified");
const ROLE: HeaderName = HeaderName::from_static("x-propusk-role");
const SCOPE: HeaderName = HeaderName::from_static("x-propusk-scope");
const CLIENT: HeaderName = HeaderName::from_static("x-propusk-client");
const SESSION: HeaderName = HeaderName::from_static("x-propusk-session");
const MODULES: HeaderName = HeaderName::from_static("x-propusk-modules");
const ACTOR: HeaderName = HeaderName::from_static("x-propusk-actor");
const LOCATION: HeaderName = HeaderName::from_static("x-propusk-location");
const SET_COOKIES: [HeaderName; 2] = [
    HeaderName::from_static("x-propusk-set-access"),
    HeaderName::from_static("x-propusk-set-refresh"),
];

/// The original request as described by a gateway.
pub(crate) struct OriginalRequest<'a> {
    /// The requirements as a query string.
    pub requirements: &'a str,
    pub method: &'a str,
    pub headers: &'a HeaderMap,
    /// The URL that the browser requested, if the gateway is trusted.
    pub url: &'a (dyn Fn() -> Option<String> + Sync),
}

/// The response to the gateway: 200 with the identity in headers, or the response for the client.
///
/// # Errors
/// [`ApiError`] if the requirements are invalid or the database is unavailable.
pub(crate) async fn answer(
    app: &App,
    original: &OriginalRequest<'_>,
    caller: &RequestContext,
) -> Result<Response, ApiError> {
    let query = GatewayQuery::parse(original.requirements)
        .map_err(|why| ApiError::new(ErrorCode::BadRequest, why))?;
    let headers = original.headers;
    let names = CookieNames::of(&app.config);
    let sent = access_token(headers)?;
    let (access, refresh, presented);
    let credentials = match &sent {
        Some(AccessToken { token, proof: None }) => Credentials::Bearer(token),
        Some(AccessToken { token, proof: Some(proof) }) => {
            let url = (original.url)().ok_or_else(|| {
                let why = "the gateway does not say which URL was requested, or is not among \
                           `server.trusted_proxies`";
                by_dpop(OAuthError::invalid_dpop_proof(why).into())
            })?;
            let (proof, method) = (proof.clone(), original.method.to_owned());
            presented = Presented { proof, method, url };
            Credentials::Dpop { token, proof: &presented }
        }
        None => {
            access = first_party::valid_access_cookie(app, cookies(headers, names.access)).await;
            refresh = first_party::valid_refresh_cookie(app, cookies(headers, names.refresh)).await;
            Credentials::Cookies { access: access.as_deref(), refresh: refresh.as_deref() }
        }
    };
    let by_cookie = match credentials {
        Credentials::Bearer(_) | Credentials::Dpop { .. } => false,
        Credentials::Cookies { access, refresh } => access.or(refresh).is_some(),
    };
    if by_cookie && !is_from_allowed_origin(headers, &app.config) {
        let message = "cross-site request with session cookies: if the origin is yours, add it to `gateway.origins`";
        return Err(ApiError::new(ErrorCode::CrossSite, message));
    }
    let decided = gateway::decide(app, credentials, &query.requirements, caller).await;
    let Decision { verdict, cookies } = decided?;
    let mut response = match verdict {
        Ok(identity) => allowed(app, &identity)?,
        Err(refusal) => {
            let login = (query.redirect != Redirect::Never
                && refusal.is_resolved_by_login()
                && is_page_navigation(original))
            .then(|| login_url(app, (original.url)(), &refusal));
            match login {
                Some(login) if query.redirect == Redirect::Login => {
                    with_empty_identity(see_other(&login)?)
                }
                login => {
                    let error = api_error(refusal);
                    let is_dpop = sent.as_ref().is_some_and(|sent| sent.proof.is_some());
                    let mut response = error_response(if is_dpop { by_dpop(error) } else { error });
                    set_header(response.headers_mut(), LOCATION, &login.unwrap_or_default())?;
                    response
                }
            }
        }
    };
    set_cookies(response.headers_mut(), names, &cookies, query.cookies)?;
    Ok(response)
}

/// The parsed query. Unknown parameters are rejected, so that a misspelt requirement is not
/// ignored.
#[derive(Debug, Default)]
struct GatewayQuery {
    requirements: Requirements,
    redirect: Redirect,
    /// Whether to send cookies in `X-Propusk-Set-…` headers beside `Set-Cookie`.
    cookies: bool,
}

/// The response to a page request of a browser that a login would allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Redirect {
    /// 303 to the login.
    #[default]
    Login,
    /// 401 with the URL of the login in `X-Propusk-Location`, for nginx, which accepts no redirect
    /// here.
    Header,
    /// 401.
    Never,
}

impl GatewayQuery {
    fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        let (mut scopes, mut seen) = (String::new(), vec![]);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let harmless = |b: u8| matches!(b, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
            if value.is_empty() || !value.bytes().all(harmless) {
                return Err(format!("`{name}` must have a value of printable ASCII characters"));
            }
            let repeats = ["scope", "module", "audience"].contains(&name.as_ref());
            if !repeats && seen.contains(&name) {
                return Err(format!("`{name}` must not be repeated"));
            }
            let words = || value.split(' ').filter(|w| !w.is_empty()).map(str::to_owned);
            match (name.as_ref(), value.as_ref()) {
                ("scope", scope) => {
                    scopes.push(' ');
                    scopes.push_str(scope);
                }
                ("module", _) => parsed.requirements.modules.extend(words()),
                ("audience", _) => parsed.requirements.audiences.extend(words()),
                ("acr", _) => parsed.requirements.acr_values.extend(words()),
                ("max_age", seconds) => {
                    let age = whole_number(seconds).map(Duration::from_secs);
                    let least = SHORTEST_MAX_AGE.as_secs();
                    parsed.requirements.max_age = age.filter(|age| *age >= SHORTEST_MAX_AGE);
                    if parsed.requirements.max_age.is_none() {
                        return Err(format!(
                            "`max_age` must be a number of seconds, at least {least}"
                        ));
                    }
                }
                ("redirect", "login") => parsed.redirect = Redirect::Login,
                ("redirect", "header") => parsed.redirect = Redirect::Header,
                ("redirect", "never") => parsed.redirect = Redirect::Never,
                ("redirect", _) => {
                    return Err("`redirect` must be `login`, `header` or `never`".to_owned());
                }
                ("cookies", "header") => parsed.cookies = true,
                ("cookies", _) => return Err("`cookies` must be `header` or omitted".to_owned()),
                _ => {
                    return Err(format!(
                        "unknown parameter `{name}`: use scope, module, audience, max_age, acr, redirect or cookies"
                    ));
                }
            }
            seen.push(name);
        }
        parsed.requirements.scope = Scope::parse(&scopes)?;
        Ok(parsed)
    }
}

/// Whether the request is a page navigation of a browser, so that the user can be sent to log in.
fn is_page_navigation(original: &OriginalRequest<'_>) -> bool {
    let headers = original.headers;
    let header_text =
        |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    [Method::GET, Method::HEAD].iter().any(|safe| safe == original.method)
        && header_text("accept").is_some_and(|accept| accept.contains("text/html"))
        && header_text("sec-fetch-mode").is_none_or(|mode| mode == "navigate")
        && !headers.contains_key(header::AUTHORIZATION)
}

/// The URL where the user logs in and then returns to `url`.
fn login_url(app: &App, url: Option<String>, refusal: &Refusal) -> String {
    let back = url.and_then(|url| gateway::landing(&app.config, &url));
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(back) = back {
        query.append_pair("return_to", back.as_str());
    }
    if let Refusal::NeedsLogin { max_age: Some(age), .. } = refusal {
        query.append_pair("max_age", &age.as_secs().to_string());
    }
    if let Refusal::NeedsLogin { acr_values, .. } = refusal
        && !acr_values.is_empty()
    {
        query.append_pair("acr_values", &acr_values.join(" "));
    }
    let (issuer, query) = (&app.config.server.issuer, query.finish());
    let separator = if query.is_empty() { "" } else { "?" };
    format!("{issuer}{SESSION_START}{separator}{query}")
}

/// 200 with the identity. Every header is always set, empty if there is no value: a gateway that
/// copies them thereby overwrites whatever the client has sent (threat T89).
fn allowed(app: &App, identity: &Identity) -> Result<Response, ApiError> {
    let mut response = Response::builder().status(StatusCode::OK).finish();
    let claims = identity.claims();
    let scope = claims.scope.to_string();
    let headers = response.headers_mut();
    headers.reserve(14);
    let email = claims.email.as_deref().map(|email| (email, claims.email_verified == Some(true)));
    // Users can register with any address (threat T110).
    let shown = email.filter(|(_, verified)| *verified || app.config.gateway.unverified_email);
    // RFC 8693 §4.1: of a chain only the current actor counts for access decisions.
    let actor = claims.act.as_ref().map_or_else(String::new, |act| match &act.iss {
        Some(iss) => format!("{iss} {}", act.sub),
        None => act.sub.clone(),
    });
    let verified = email.map(|(_, verified)| if verified { "true" } else { "false" });
    for (name, value) in [
        (USER, claims.user().unwrap_or_default()),
        (EMAIL, shown.map_or("", |(email, _)| email)),
        (EMAIL_VERIFIED, verified.unwrap_or_default()),
        (ROLE, claims.role.as_deref().unwrap_or_default()),
        (SCOPE, scope.as_str()),
        (CLIENT, claims.client_id.as_str()),
        (SESSION, claims.sid.as_deref().unwrap_or_default()),
        (MODULES, identity.modules.as_str()),
        (ACTOR, actor.as_str()),
    ] {
        set_header(headers, name, value)?;
    }
    Ok(response)
}

/// Sets a header to a value in UTF-8.
///
/// # Errors
/// If the value contains a control character. The request is denied, because without the header it
/// would be forwarded with another identity or none.
fn set_header(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), ApiError> {
    let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
        ApiError::new(
            ErrorCode::Internal,
            "internal server error: the identity contains characters that are not allowed in a header",
        )
    })?;
    headers.insert(name, value);
    Ok(())
}

pub(crate) fn error_response(error: ApiError) -> Response {
    with_empty_identity(error.into_response())
}

fn see_other(location: &str) -> Result<Response, ApiError> {
    let location = HeaderValue::try_from(location)
        .map_err(|_| ApiError::new(ErrorCode::BadRequest, "the URL cannot be written"))?;
    Ok(Response::builder()
        .status(StatusCode::SEE_OTHER)
        .header(header::LOCATION, location)
        .header("cross-origin-opener-policy", "same-origin")
        .header(header::REFERRER_POLICY, "no-referrer")
        .finish())
}

/// Sets every identity header to an empty value; see [`allowed`].
fn with_empty_identity(mut response: Response) -> Response {
    for name in [USER, EMAIL, EMAIL_VERIFIED, ROLE, SCOPE, CLIENT, SESSION, MODULES, ACTOR] {
        let nothing = HeaderValue::from_static("");
        response.headers_mut().insert(name, nothing);
    }
    response
}

fn api_error(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::NoToken => Error::NoToken.into(),
        Refusal::InvalidToken(why) => Error::InvalidToken(why).into(),
        Refusal::InvalidProof(error) => error.into(),
        Refusal::InsufficientScope { scope, module } => {
            let message = module.map_or_else(
                || format!("the token lacks the scope {scope}"),
                |module| format!("the user lacks the module {module}"),
            );
            let mut challenge =
                format!("Bearer error=\"insufficient_scope\", error_description=\"{message}\"");
            if !scope.is_empty() {
                challenge.push_str(&format!(", scope=\"{scope}\""));
            }
            ApiError {
                challenge: Some(challenge),
                ..ApiError::new(ErrorCode::InsufficientScope, message)
            }
        }
        Refusal::NeedsLogin { max_age, acr_values } => {
            let message = "a more recent login or a different authentication method is required";
            let mut challenge = format!(
                "Bearer error=\"insufficient_user_authentication\", error_description=\"{message}\""
            );
            if let Some(age) = max_age {
                challenge.push_str(&format!(", max_age=\"{}\"", age.as_secs()));
            }
            if !acr_values.is_empty() {
                challenge.push_str(&format!(", acr_values=\"{}\"", acr_values.join(" ")));
            }
            ApiError {
                challenge: Some(challenge),
                ..ApiError::new(ErrorCode::InsufficientUserAuthentication, message)
            }
        }
    }
}

/// Sets or clears the cookies of the browser. nginx before 1.23 reads only the first `Set-Cookie`,
/// so they can be requested in headers of their own. That is opt-in, because a gateway may forward
/// all headers that begin with `X-Propusk-`.
fn set_cookies(
    headers: &mut HeaderMap,
    names: CookieNames<'_>,
    cookies: &Cookies,
    in_own_headers: bool,
) -> Result<(), ApiError> {
    let lines = match cookies {
        Cookies::Keep => {
            if in_own_headers {
                for own in SET_COOKIES {
                    set_header(headers, own, "")?;
                }
            }
            return Ok(());
        }
        Cookies::Clear => names.clear(),
        Cookies::Renew(tokens) => names.set(
            (&tokens.access_token, tokens.expires_in),
            (&tokens.refresh_token, tokens.refresh_expires_in),
        ),
    };
    for (line, own) in lines.iter().zip(SET_COOKIES) {
        if in_own_headers {
            set_header(headers, own, line)?;
        }
        if let Ok(line) = HeaderValue::from_str(line) {
            headers.append(header::SET_COOKIE, line);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_parsed_strictly() {
        let query = GatewayQuery::parse("scope=a+b&scope=c&module=crm&module=wiki&audience=https%3A%2F%2Fapi.example&max_age=300&acr=x+y&redirect=header&cookies=header").expect("valid");
        assert_eq!(query.requirements.scope.to_string(), "a b c");
        assert_eq!(query.requirements.modules, ["crm", "wiki"]);
        assert_eq!(query.requirements.audiences, ["https://api.example"]);
        assert_eq!(query.requirements.max_age, Some(Duration::from_secs(300)));
        assert_eq!(query.requirements.acr_values, ["x", "y"]);
        assert_eq!((query.redirect, query.cookies), (Redirect::Header, true));
        assert!(GatewayQuery::parse("redirect=never&").is_ok());
        assert!(GatewayQuery::parse("max_age=99999999999999999999").is_ok(), "no limit");
        for bad in [
            "scopes=a",
            "scope=",
            "scope",
            "scope=a%22b",
            "module=%D0%B0",
            "module=a%00",
            "max_age=29",
            "max_age=-1",
            "max_age=1e3",
            "max_age=%2B300",
            "max_age=300&max_age=400",
            "redirect=yes",
            "redirect=never&redirect=login",
            "cookies=body",
            "Scope=a",
            "-*",
        ] {
            assert!(GatewayQuery::parse(bad).is_err(), "{bad}");
        }
    }
}
