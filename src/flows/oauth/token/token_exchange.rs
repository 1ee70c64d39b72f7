//! Token exchange (RFC 8693).

use super::TokenResponse;
use crate::{
    app::App,
    error::Error,
    model::{actor::RequestContext, client::Client},
    oauth::{error::OAuthError, token_request::TokenExchangeRequest},
};

pub(crate) async fn exchange(
    _app: &App,
    _client: &Client,
    _request: &TokenExchangeRequest,
    _caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    Err(OAuthError::unsupported_grant_type("not supported yet").into())
}
