//! Signed request objects (RFC 9101), passed by value.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    app::App,
    diagnostics,
    error::Error,
    jose::ClientJwt,
    model::client::Client,
    oauth::{access_token::Audience, error::OAuthError, params::Params},
};

/// Accepted clock skew of a client, in seconds.
const SKEW: i64 = 30;

/// The claims of the object itself, and the rest, which are the parameters of the request.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: Option<String>,
    client_id: Option<String>,
    aud: Option<Audience>,
    exp: Option<i64>,
    nbf: Option<i64>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The parameters of a request object of this client.
///
/// # Errors
/// `invalid_request_object`
pub(crate) async fn open(app: &App, client: &Client, object: &str) -> Result<Params, Error> {
    let jwt = ClientJwt::parse(object).map_err(|why| OAuthError::invalid_request_object(why.0))?;
    let only = client.metadata.request_object_signing_alg;
    let (keys, now) = (&app.client_keys, app.clock.now());
    if let Err(why) = keys.verify(&app.outbound, now, client, &jwt, only).await {
        diagnostics::record("request.signature", why);
        return Err(OAuthError::invalid_request_object(
            "invalid signature of the request object: no key of the client verifies it",
        )
        .into());
    }
    let claims: Claims = jwt.claims().map_err(|why| OAuthError::invalid_request_object(why.0))?;
    Ok(read(app, client, claims)?)
}

fn read(app: &App, client: &Client, claims: Claims) -> Result<Params, OAuthError> {
    let wrong = OAuthError::invalid_request_object;
    let now = app.clock.now().as_secs();
    let says = |name: &Option<String>| name.as_ref().is_none_or(|name| *name == client.id.as_str());
    if !says(&claims.iss) || !says(&claims.client_id) {
        return Err(wrong("`iss` and `client_id` of the request object must be the client"));
    }
    // RFC 9101 §4: `aud` should be the issuer; an object for another server is rejected.
    let issuer = &app.config.server.issuer;
    if claims.aud.is_some_and(|aud| !aud.contains(issuer)) {
        return Err(wrong("audience mismatch: `aud` of the request object must be the issuer"));
    }
    if claims.exp.is_some_and(|exp| exp <= now.saturating_sub(SKEW)) {
        return Err(wrong("the request object has expired (`exp`)"));
    }
    if claims.nbf.is_some_and(|nbf| nbf > now.saturating_add(SKEW)) {
        return Err(wrong("the request object is not valid yet (`nbf`)"));
    }
    let mut pairs = vec![("client_id".to_owned(), client.id.to_string())];
    for (name, value) in claims.rest {
        match (name.as_str(), value) {
            // As an assertion it would authenticate the client (RFC 9101 §10.8).
            ("sub", Value::String(sub)) if sub == client.id.as_str() => {
                return Err(wrong("`sub` of a request object must not be the client"));
            }
            ("iat" | "jti" | "sub", _) => {}
            ("request" | "request_uri" | "resume", _) => {
                return Err(wrong(
                    "a request object must not contain `request`, `request_uri` or `resume`",
                ));
            }
            (_, Value::String(text)) => pairs.push((name, text)),
            (_, Value::Number(number)) => pairs.push((name, number.to_string())),
            (_, Value::Array(values)) if name == "resource" => {
                let texts = values.iter().filter_map(Value::as_str);
                pairs.extend(texts.map(|text| (name.clone(), text.to_owned())));
            }
            (_, value @ Value::Object(_)) => pairs.push((name, value.to_string())),
            _ => {}
        }
    }
    Params::of(pairs).map_err(wrong)
}
