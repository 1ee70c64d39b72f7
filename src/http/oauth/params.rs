//! The parameters of OAuth's endpoints in a request: the query of a GET or the form of a POST,
//! never both; and the DPoP proof that comes with them.

use poem::{Request, RequestBody, Result, http::Method};

use crate::{
    api_error::ApiError,
    app::App,
    flows::tokens::dpop::Presented,
    http::json,
    oauth::{error::OAuthError, params::Params},
};

/// Reads the form in a request's body.
///
/// # Errors
/// `invalid_request` for another media type and for what [`Params::parse`] rejects.
pub async fn from_body(request: &Request, body: &mut RequestBody) -> Result<Params> {
    let bytes = json::read(request, body).await?;
    let essence = request.content_type().unwrap_or_default().split(';').next().unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(
            invalid("the parameters must be sent as application/x-www-form-urlencoded").into()
        );
    }
    if request.uri().query().is_some_and(|query| !query.is_empty()) {
        return Err(invalid("the parameters must be in the body, not in the query").into());
    }
    Ok(Params::parse(&bytes).map_err(invalid)?)
}

/// Reads the query of a GET, or the form of a POST.
///
/// # Errors
/// As [`from_body`].
pub async fn from_query_or_body(request: &Request, body: &mut RequestBody) -> Result<Params> {
    if *request.method() == Method::POST {
        return from_body(request, body).await;
    }
    let query = request.uri().query().unwrap_or_default();
    Ok(Params::parse(query.as_bytes()).map_err(invalid)?)
}

/// A DPoP proof with the request that it came with, by its URL at this server's issuer: other names
/// of the server do not count.
pub fn presented(request: &Request, app: &App, proof: String) -> Presented {
    let method = request.method().to_string();
    let url = format!("{}{}", app.config.server.issuer, request.uri().path());
    Presented { proof, method, url }
}

fn invalid(message: &'static str) -> ApiError {
    OAuthError::invalid_request(message).into()
}
