//! The JWT bearer grant (RFC 7523 §2.1).

use super::TokenResponse;
use crate::{
    app::App,
    error::Error,
    model::{actor::RequestContext, client::Client},
    oauth::{error::OAuthError, token_request::JwtBearerRequest},
};

pub(crate) async fn issue(
    _app: &App,
    _client: &Client,
    _request: &JwtBearerRequest,
    _caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    Err(OAuthError::unsupported_grant_type("not supported yet").into())
}
