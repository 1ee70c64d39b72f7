//! `POST /oauth2/introspect` (RFC 7662), as JSON or, by Accept, as a signed JWT (RFC 9701).

use poem::{
    Body, IntoResponse, Request, Response, Result, handler,
    http::{Method, header},
    web::Json,
};
use poem_openapi::{Object, Union};
use serde_json::json;

use crate::{
    api_error::ApiError,
    error::Error,
    flows::{oauth::introspect as flow, tokens::id_token},
    http::{
        api::{Tag, data},
        client_auth,
        context::Context,
        operation::{Operation, Security, text},
    },
    oauth::{error::OAuthError, jwt::TokenType, requests::IntrospectionRequest},
};

const SIGNED: &str = "application/token-introspection+jwt";

/// The introspection endpoint.
pub fn operation() -> Operation {
    Operation::new(Method::POST, "/oauth2/introspect", "introspect", Tag::OAuth, introspect)
        .about(
            "Introspect a token",
            "RFC 7662, for the client that the token was issued to and those registered for its audience; for other clients it is \
             inactive. With `Accept: application/token-introspection+jwt` the response is signed (RFC 9701).",
        )
        .form::<IntrospectionRequest>()
        .security(Security::ConfidentialClient)
        .json::<IntrospectionBody>(200, "The state of the token.")
        .response(200, "", &[(SIGNED, text())])
        .errors(&[400, 401, 429, 503])
}

/// RFC 7662 §2.2. An inactive token has no other member.
#[derive(Object)]
#[oai(rename = "Introspection")]
struct IntrospectionBody {
    /// Whether the token is valid now.
    active: bool,
    /// The issuer.
    iss: Option<String>,
    /// The subject.
    sub: Option<String>,
    /// The audience.
    aud: Option<AudienceBody>,
    /// The client that the token was issued to.
    client_id: Option<String>,
    /// The scope.
    scope: Option<String>,
    /// `Bearer`, of an access token.
    token_type: Option<data::TokenType>,
    /// Issued at, in seconds since the epoch.
    iat: Option<i64>,
    /// Expires at, in seconds since the epoch.
    exp: Option<i64>,
    /// The id of the token.
    jti: Option<String>,
    /// The session.
    sid: Option<String>,
    /// When the user authenticated, in seconds since the epoch.
    auth_time: Option<i64>,
    /// A back end's own id of the user, where the back end keeps the user itself.
    user_id: Option<String>,
    /// The email address, where the token has it.
    email: Option<String>,
    /// Whether the email address is verified, beside `email`.
    email_verified: Option<bool>,
    /// The role, where the token has it.
    role: Option<String>,
    /// The user's modules at the audience, where the token has them.
    modules: Option<Vec<String>>,
    /// Who acts for the subject, and who acted before (RFC 8693 §4.1).
    act: Option<ActBody>,
}

/// A party that acts for the subject of a token.
#[derive(Object)]
#[oai(rename = "ActorClaim")]
struct ActBody {
    /// The issuer of `sub`, if it is another server.
    iss: Option<String>,
    /// The party.
    sub: String,
    /// The client that presented the party's token, unless it is the party.
    client_id: Option<String>,
    /// Who acted before.
    act: Option<Box<ActBody>>,
}

/// One audience, or several.
#[derive(Union)]
#[oai(rename = "Audience", one_of)]
enum AudienceBody {
    One(String),
    Several(Vec<String>),
}

/// Returns the state of a token to an authenticated client.
#[handler]
pub async fn introspect(request: &Request, body: Body) -> Result<Response> {
    let app = &Context::of(request)?.app;
    let (asked, known) = client_auth::authenticated::<IntrospectionRequest>(request, body).await?;
    let client = &known.client;
    if client.is_public() {
        let refused = OAuthError::invalid_client("introspection is for confidential clients");
        return Err(client_auth::refused(request.headers(), refused.into()).into());
    }
    let answer = flow::introspect(app, client, &asked.token).await.map_err(ApiError::from)?;
    let accept = request.headers().get(header::ACCEPT);
    let wants_jwt =
        accept.is_some_and(|accept| accept.to_str().is_ok_and(|accept| accept.contains(SIGNED)));
    if !wants_jwt {
        return Ok(Json(answer).into_response());
    }
    let now = app.clock.now();
    let algorithm = id_token::algorithm(app, client.metadata.introspection_signed_response_alg);
    // RFC 9701 §5: the response is a single claim, so that it cannot be mistaken for an access
    // token.
    let claims = json!({
        "iss": app.config.server.issuer,
        "aud": client.id,
        "iat": now.as_secs(),
        "token_introspection": answer,
    });
    let token = app
        .keys
        .sign(TokenType::Introspection, &claims, algorithm, now)
        .await
        .map_err(|error| ApiError::from(Error::from(error)))?;
    Ok(token.with_content_type(SIGNED).into_response())
}
