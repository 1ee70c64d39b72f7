//! `/oauth2/userinfo` by GET and POST (OpenID Connect Core §5.3), as JSON or signed.

use poem::{
    Body, IntoResponse, Request, RequestBody, Response, Result, handler,
    http::{Method, StatusCode},
    web::Json,
};
use poem_openapi::Object;

use super::params;
use crate::{
    api_error::{ApiError, ErrorCode},
    credentials::{self, AccessToken},
    error::Error,
    flows::oauth::userinfo as flow,
    http::{
        api::{Tag, profile::ProfileData},
        context::Context,
        cors::Origins,
        operation::{Operation, Security, text},
    },
    oauth::{jwt::TokenType, params::Parameters, requests::BearerForm},
};

/// The UserInfo endpoint, by GET and POST.
pub fn operations() -> [Operation; 2] {
    let operation = |method, id| {
        Operation::new(method, "/oauth2/userinfo", id, Tag::OAuth, userinfo)
            .about(
                "Claims about the user",
                "OpenID Connect Core §5.3. The claims that the scope of the access token covers.",
            )
            .cross_origin(Origins::Registered)
            .security(Security::OpenId)
            .json::<UserInfoBody>(
                200,
                "The claims; a signed JWT for clients that registered for it.",
            )
            .response(200, "", &[("application/jwt", text())])
            .errors(&[400, 401, 403, 503])
    };
    [
        operation(Method::GET, "getUserinfo"),
        operation(Method::POST, "getUserinfoByPost").form::<BearerForm>(),
    ]
}

/// The claims about a user (OpenID Connect Core §5.1); which of them are present depends on the
/// scope.
#[derive(Object)]
#[oai(rename = "UserInfo")]
struct UserInfoBody {
    /// The subject.
    sub: String,
    /// With the scope `email`.
    email: Option<String>,
    /// With the scope `email`.
    email_verified: Option<bool>,
    /// By the scopes `profile`, `phone` and `address`. `preferred_username` is the username unless
    /// the profile has another one.
    #[oai(flatten)]
    profile: ProfileData,
}

/// Returns the claims about the user of an access token.
#[handler]
pub async fn userinfo(request: &Request, body: Body) -> Result<Response> {
    let app = &Context::of(request)?.app;
    let AccessToken { token, proof } = access_token(request, body).await?;
    let proof = proof.map(|proof| params::presented(request, app, proof));
    let found = flow::userinfo(app, &token, proof.as_ref()).await.map_err(|error| {
        let error = challenged(error.into());
        if proof.is_some() { credentials::by_dpop(error) } else { error }
    })?;
    let client = &found.known.client;
    let Some(algorithm) = client.metadata.userinfo_signed_response_alg else {
        return Ok(Json(found.claims).into_response());
    };
    let mut claims = found.claims;
    // Core §5.3.2: a signed response has the issuer and the audience.
    claims.insert("iss".to_owned(), app.config.server.issuer.clone().into());
    claims.insert("aud".to_owned(), client.id.as_str().into());
    let token = app
        .keys
        .sign(TokenType::UserInfo, &claims, algorithm, app.clock.now())
        .await
        .map_err(|error| ApiError::from(Error::from(error)))?;
    Ok(token.with_content_type("application/jwt").with_status(StatusCode::OK).into_response())
}

/// From the header (RFC 6750 §2.1, RFC 9449 §7.1) or from the form of a POST (RFC 6750 §2.2);
/// never from the query, never from both.
async fn access_token(request: &Request, body: Body) -> Result<AccessToken> {
    let in_header = credentials::access_token(request.headers())?;
    let essence = request.content_type().unwrap_or_default();
    let is_form =
        essence.trim().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded");
    let in_form = if *request.method() == Method::POST && is_form {
        let params = params::from_body(request, &mut RequestBody::new(body)).await?;
        BearerForm::of(&params).map_err(ApiError::from)?.access_token
    } else {
        None
    };
    match (in_header, in_form) {
        (Some(_), Some(_)) => Err(ApiError {
            challenge: Some("Bearer error=\"invalid_request\"".to_owned()),
            ..ApiError::new(ErrorCode::BadRequest, "use a single method to send the access token")
                .oauth("invalid_request")
        }
        .into()),
        (Some(token), None) => Ok(token),
        (None, Some(token)) => Ok(AccessToken { token, proof: None }),
        (None, None) => Err(ApiError::from(Error::NoToken).into()),
    }
}

/// RFC 6750 §3: the error is in WWW-Authenticate as well.
fn challenged(mut error: ApiError) -> ApiError {
    if error.code == ErrorCode::InsufficientScope {
        error.challenge = Some("Bearer error=\"insufficient_scope\", scope=\"openid\"".to_owned());
    }
    error
}
