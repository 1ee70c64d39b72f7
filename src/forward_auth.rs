//! What a gateway is answered, over HTTP (`/forward-auth`) or over gRPC (Envoy): it presents the credentials of a request
//! before it lets the request through; 200 means that it may.

use std::time::Duration;

use poem::{
    IntoResponse, Response,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
};
use url::form_urlencoded;

use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    credentials::{CookieNames, bearer, cookie, is_from_allowed_origin},
    error::Error,
    flows::gateway::{
        self, Cookies, Credentials, Decision, Identity, Refusal, Requirements, SHORTEST_MAX_AGE,
    },
    model::actor::RequestContext,
    oauth::scope::Scope,
};

/// Where a browser session gets the cookies of a session behind a gateway.
pub const SESSION_START: &str = "/session/start";

const USER: HeaderName = HeaderName::from_static("x-propusk-user");
const EMAIL: HeaderName = HeaderName::from_static("x-propusk-email");
const ROLE: HeaderName = HeaderName::from_static("x-propusk-role");
const SCOPE: HeaderName = HeaderName::from_static("x-propusk-scope");
const CLIENT: HeaderName = HeaderName::from_static("x-propusk-client");
const SESSION: HeaderName = HeaderName::from_static("x-propusk-session");
const MODULES: HeaderName = HeaderName::from_static("x-propusk-modules");
const LOCATION: HeaderName = HeaderName::from_static("x-propusk-location");
const SET_COOKIES: [HeaderName; 2] = [
    HeaderName::from_static("x-propusk-set-access"),
    HeaderName::from_static("x-propusk-set-refresh"),
];

/// A request as a gateway tells of it.
pub(crate) struct Told<'a> {
    /// What is demanded, as a query.
    pub demands: &'a str,
    pub method: &'a str,
    pub headers: &'a HeaderMap,
    /// The address that a browser asked for, where the gateway is believed.
    pub url: &'a (dyn Fn() -> Option<String> + Sync),
}

/// What the gateway is answered: 200 with the identity in headers, or what the client is to get.
///
/// # Errors
/// [`ApiError`] where the demands cannot be read, or nothing can be decided now.
pub(crate) async fn answer(
    app: &App,
    told: &Told<'_>,
    caller: &RequestContext,
) -> Result<Response, ApiError> {
    let asked =
        Asked::parse(told.demands).map_err(|why| ApiError::new(ErrorCode::BadRequest, why))?;
    let headers = told.headers;
    let names = CookieNames::of(&app.config);
    let bearer = bearer(headers)?;
    let (access, refresh);
    let credentials = match &bearer {
        Some(token) => Credentials::Bearer(token),
        None => {
            (access, refresh) = (cookie(headers, names.access), cookie(headers, names.refresh));
            Credentials::Cookies { access: access.as_deref(), refresh: refresh.as_deref() }
        }
    };
    let by_cookie = match credentials {
        Credentials::Bearer(_) => false,
        Credentials::Cookies { access, refresh } => access.or(refresh).is_some(),
    };
    if by_cookie && !is_from_allowed_origin(headers, &app.config) {
        let message = "a page of another site sent this request with the cookies of a session: add its origin to \
                       gateway.origins if it is yours";
        return Err(ApiError::new(ErrorCode::CrossSite, message));
    }
    let decided = gateway::decide(app, credentials, &asked.requirements, caller).await;
    let Decision { verdict, cookies } = decided?;
    let mut response = match verdict {
        Ok(identity) => allowed(&identity)?,
        Err(refusal) => {
            let login = (asked.redirect != Redirect::Never
                && refusal.is_resolved_by_login()
                && is_of_a_page(told))
            .then(|| login(app, (told.url)(), &refusal));
            match login {
                Some(login) if asked.redirect == Redirect::Login => {
                    empty_identity(see_other(&login)?)
                }
                login => {
                    let mut response = refused(error(refusal));
                    put(response.headers_mut(), LOCATION, &login.unwrap_or_default())?;
                    response
                }
            }
        }
    };
    set_cookies(response.headers_mut(), names, &cookies, asked.cookies)?;
    Ok(response)
}

/// What stands in the query. A word that is not known is refused: one that was meant as a demand must not be overlooked.
#[derive(Debug, Default)]
struct Asked {
    requirements: Requirements,
    redirect: Redirect,
    /// Whether cookies are wanted in headers of their own beside `Set-Cookie`.
    cookies: bool,
}

/// What a browser's request for a page is answered that a login would mend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Redirect {
    /// 303
    #[default]
    Login,
    /// 401, and the address in a header: nginx takes nothing else.
    Header,
    Never,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, String> {
        let mut asked = Self::default();
        let (mut scopes, mut seen) = (String::new(), vec![]);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let harmless = |b: u8| matches!(b, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
            if value.is_empty() || !value.bytes().all(harmless) {
                return Err(format!("{name} needs a value, of printable ASCII characters"));
            }
            let repeats = ["scope", "module", "audience"].contains(&name.as_ref());
            if !repeats && seen.contains(&name) {
                return Err(format!("{name} is given twice"));
            }
            let words = || value.split(' ').filter(|w| !w.is_empty()).map(str::to_owned);
            match (name.as_ref(), value.as_ref()) {
                ("scope", scope) => {
                    scopes.push(' ');
                    scopes.push_str(scope);
                }
                ("module", _) => asked.requirements.modules.extend(words()),
                ("audience", _) => asked.requirements.audiences.extend(words()),
                ("acr", _) => asked.requirements.acr_values.extend(words()),
                ("max_age", seconds) => {
                    let age = seconds.parse().ok().map(Duration::from_secs);
                    let least = SHORTEST_MAX_AGE.as_secs();
                    asked.requirements.max_age = age.filter(|age| *age >= SHORTEST_MAX_AGE);
                    if asked.requirements.max_age.is_none() {
                        return Err(format!("max_age is a number of seconds, {least} at least"));
                    }
                }
                ("redirect", "login") => asked.redirect = Redirect::Login,
                ("redirect", "header") => asked.redirect = Redirect::Header,
                ("redirect", "never") => asked.redirect = Redirect::Never,
                ("redirect", _) => return Err("redirect is login, header or never".to_owned()),
                ("cookies", "header") => asked.cookies = true,
                ("cookies", _) => return Err("cookies is header, or left out".to_owned()),
                _ => {
                    return Err(format!(
                        "{name} is not known here: there are scope, module, audience, max_age, acr, redirect, cookies"
                    ));
                }
            }
            seen.push(name);
        }
        asked.requirements.scope = Scope::parse(&scopes)?;
        Ok(asked)
    }
}

/// Whether a browser wants to show the answer to a person, who could log in.
fn is_of_a_page(told: &Told<'_>) -> bool {
    let headers = told.headers;
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    [Method::GET, Method::HEAD].iter().any(|safe| safe == told.method)
        && text("accept").is_some_and(|accept| accept.contains("text/html"))
        && text("sec-fetch-mode").is_none_or(|mode| mode == "navigate")
        && !headers.contains_key(header::AUTHORIZATION)
}

/// Where a person logs in and comes back from to what they wanted to see.
fn login(app: &App, url: Option<String>, refusal: &Refusal) -> String {
    let back = url.and_then(|url| gateway::landing(&app.config, &url));
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(back) = back {
        query.append_pair("return_to", back.as_str());
    }
    if let Refusal::NeedsLogin { max_age: Some(age), .. } = refusal {
        query.append_pair("max_age", &age.as_secs().to_string());
    }
    let (issuer, query) = (&app.config.server.issuer, query.finish());
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{issuer}{}{mark}{query}", SESSION_START)
}

/// 200 with who it is. Every header is in every answer, empty where there is nothing to say: a gateway that copies them puts
/// them in place of what a client may have sent (threat T89).
fn allowed(identity: &Identity) -> Result<Response, ApiError> {
    let mut response = Response::builder().status(StatusCode::OK).finish();
    let claims = identity.claims();
    let scope = claims.scope.to_string();
    let headers = response.headers_mut();
    headers.reserve(12);
    for (name, value) in [
        (USER, claims.sub.as_str()),
        (EMAIL, claims.email.as_deref().unwrap_or_default()),
        (ROLE, claims.role.as_deref().unwrap_or_default()),
        (SCOPE, scope.as_str()),
        (CLIENT, claims.client_id.as_str()),
        (SESSION, claims.sid.as_deref().unwrap_or_default()),
        (MODULES, identity.modules.as_str()),
    ] {
        put(headers, name, value)?;
    }
    Ok(response)
}

/// Sets a header to a text, in UTF-8.
///
/// # Errors
/// For a control character: whoever has one in their name is not let through as somebody else, or as nobody.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), ApiError> {
    let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
        ApiError::new(
            ErrorCode::Internal,
            "what is known of the caller cannot be written into a header",
        )
    })?;
    headers.insert(name, value);
    Ok(())
}

pub(crate) fn refused(error: ApiError) -> Response {
    empty_identity(error.into_response())
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

fn empty_identity(mut response: Response) -> Response {
    for name in [USER, EMAIL, ROLE, SCOPE, CLIENT, SESSION, MODULES] {
        let nothing = HeaderValue::from_static("");
        response.headers_mut().insert(name, nothing);
    }
    response
}

fn error(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::NoToken => Error::NoToken.into(),
        Refusal::InvalidToken(why) => Error::InvalidToken(why).into(),
        Refusal::InsufficientScope { scope, module } => {
            let message = module.map_or_else(
                || format!("this needs the scope {scope}"),
                |module| format!("this needs the module {module}"),
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
            let message = "this needs a login that is more recent, or of another kind";
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

/// The browser's new cookies, or their end. nginx before 1.23 sees the first `Set-Cookie` only, so they can be had in headers
/// of their own; not unasked, for a gateway that hands on all that begins with `X-Propusk-` would hand them on too.
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
                    put(headers, own, "")?;
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
            put(headers, own, line)?;
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
    fn what_a_gateway_demands_is_read_strictly() {
        let asked = Asked::parse("scope=a+b&scope=c&module=crm&module=wiki&audience=https%3A%2F%2Fapi.example&max_age=300&acr=x+y&redirect=header&cookies=header").expect("good");
        assert_eq!(asked.requirements.scope.to_string(), "a b c");
        assert_eq!(asked.requirements.modules, ["crm", "wiki"]);
        assert_eq!(asked.requirements.audiences, ["https://api.example"]);
        assert_eq!(asked.requirements.max_age, Some(Duration::from_secs(300)));
        assert_eq!(asked.requirements.acr_values, ["x", "y"]);
        assert_eq!((asked.redirect, asked.cookies), (Redirect::Header, true));
        assert!(Asked::parse("redirect=never&").is_ok());
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
            "max_age=300&max_age=400",
            "redirect=yes",
            "redirect=never&redirect=login",
            "cookies=body",
            "Scope=a",
            "-*",
        ] {
            assert!(Asked::parse(bad).is_err(), "{bad}");
        }
    }
}
