//! The JWT bearer grant (RFC 7523 §2.1): a client asks for tokens of one of its own users with an
//! assertion that it has signed with its registered key, or of the user of an ID-JAG.

use serde::Deserialize;

use super::{
    TokenResponse, id_jag,
    on_behalf_of::{self, OnBehalfOfRequest, RequestedUser},
};
use crate::{
    app::App,
    diagnostics,
    error::Error,
    flows::{oauth::client_auth, tokens::external_user::ExternalLogin},
    jose::{Assertion, ClientJwt},
    model::{actor::RequestContext, client::Client, session::ExternalUser},
    oauth::{
        error::OAuthError, jwt::TokenType, thumbprint::Thumbprint, token_request::JwtBearerRequest,
    },
    storage::single_use::{self, Kind},
};

/// The types of an assertion beside none (RFC 7523 defines no type). A client assertion or a signed
/// authorization request is no grant: each passes through other hands (RFC 8725 §3.11).
const TYPES: [&str; 2] = ["jwt", "authorization-grant+jwt"];

/// The claims about the user, by their names in tokens; all may be absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UserClaims {
    email: Option<String>,
    email_verified: bool,
    preferred_username: Option<String>,
    role: Option<String>,
    modules: Vec<String>,
    auth_time: Option<i64>,
    amr: Vec<String>,
    acr: Option<String>,
}

/// Issues tokens for the user whom an assertion names. The client is authenticated.
///
/// # Errors
/// `invalid_grant` for the assertion, with what is wrong: the client itself asks;
/// `unauthorized_client`, `invalid_scope`, `invalid_target`.
pub(crate) async fn issue(
    app: &App,
    client: &Client,
    request: &JwtBearerRequest,
    key: Option<Thumbprint>,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let jwt = ClientJwt::parse(&request.assertion)
        .map_err(|why| refused("assertion.format", why.to_string()))?;
    if jwt.typ().as_deref() == Some(TokenType::IdJag.typ()) {
        return id_jag::accept(app, client, &jwt, request, key, caller).await;
    }
    let issuer: Issuer = jwt.claims().map_err(|_| refused("assertion.iss", "`iss` is missing"))?;
    if issuer.iss != client.id.as_str() {
        return Err(refused("assertion.iss", "the issuer of the assertion is not trusted").into());
    }
    let login = of_own_user(app, client, &jwt).await?;
    let request = OnBehalfOfRequest {
        user: RequestedUser::External(Box::new(login)),
        scope: request.scope.clone(),
        resources: request.resources.clone(),
    };
    on_behalf_of::open(app, client, &request, key, &client.id, caller).await
}

/// Verifies an assertion of the client and reads the user from it; it is used up by that.
async fn of_own_user(
    app: &App,
    client: &Client,
    jwt: &ClientJwt<'_>,
) -> Result<ExternalLogin, Error> {
    on_behalf_of::namespace(client)?;
    if jwt.typ().is_some_and(|typ| !TYPES.contains(&typ.as_str())) {
        return Err(refused("assertion.typ", "`typ` must be `JWT` or absent").into());
    }
    let now = app.clock.now();
    let verified = app.client_keys.verify(&app.outbound, now, client, jwt, None).await;
    verified.map_err(|why| refused("assertion.signature", why.to_string()))?;
    let claims = jwt.assertion().map_err(|why| refused("assertion.claims", why))?;
    check(app, client, &claims)?;
    let about: UserClaims =
        jwt.claims().map_err(|why| refused("assertion.claims", why.to_string()))?;
    let login = ExternalLogin {
        user: ExternalUser {
            id: claims.sub.clone(),
            email: about.email,
            email_verified: about.email_verified,
            username: about.preferred_username,
            role: about.role,
            modules: about.modules,
        },
        auth_time: about.auth_time,
        amr: about.amr,
        acr: about.acr,
    };
    login.check(app).await.map_err(as_invalid_grant)?;
    // Last: only a `jti` of an assertion that is right in itself is stored.
    let until = claims.retained_until();
    if single_use::claim(&app.db, Kind::JwtBearer, &client.id, &claims.jti, until).await? {
        return Ok(login);
    }
    let why = "`jti` was used before: each assertion is accepted once";
    Err(refused("assertion.jti", why).into())
}

/// The rules of RFC 7523 §3. `aud` is the issuer alone, as for client assertions (RFC 10070).
fn check(app: &App, client: &Client, claims: &Assertion) -> Result<(), OAuthError> {
    let sub =
        (claims.sub != client.id.as_str(), "must be a user of the client, not the client itself");
    let issuer = std::slice::from_ref(&app.config.server.issuer);
    let violations = claims.violations(&client.id, sub, issuer, app.clock.now());
    for (claim, why) in &violations {
        diagnostics::record(client_auth::diagnostic(claim), why);
    }
    let lines: Vec<String> = violations.into_iter().map(|(_, why)| why).collect();
    if lines.is_empty() { Ok(()) } else { Err(invalid(&lines.join("; "))) }
}

/// Names the fields at fault as the assertion has them.
fn as_invalid_grant(error: Error) -> Error {
    let Error::Validation(fields) = error else { return error };
    let lines = fields.into_iter().map(|field| {
        let claim = match field.field {
            "subject" => "sub",
            "username" => "preferred_username",
            other => other,
        };
        format!("`{claim}` {}", field.message)
    });
    let lines = lines.collect::<Vec<_>>().join("; ");
    diagnostics::record("assertion.claims", &lines);
    invalid(&lines).into()
}

fn refused(check: &'static str, why: impl AsRef<str>) -> OAuthError {
    diagnostics::record(check, why.as_ref());
    invalid(why.as_ref())
}

fn invalid(why: &str) -> OAuthError {
    OAuthError::invalid_grant(format!("invalid assertion: {why}"))
}
