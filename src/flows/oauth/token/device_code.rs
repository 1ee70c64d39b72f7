//! The device code grant (RFC 8628 §3.4).

use super::TokenResponse;
use crate::{
    app::App,
    error::Error,
    model::{actor::RequestContext, client::Client},
    oauth::{error::OAuthError, token_request::DeviceCodeRequest},
};

pub(crate) async fn issue(
    _app: &App,
    _client: &Client,
    _request: &DeviceCodeRequest,
    _caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    Err(OAuthError::unsupported_grant_type("not supported yet").into())
}
