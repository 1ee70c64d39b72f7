//! Signed request objects (RFC 9101), by value.

use crate::{
    app::App,
    flows::Error,
    model::client::Client,
    oauth::{error::OAuthError, params::Params},
};

/// The parameters of a request object of this client.
#[allow(clippy::unused_async)]
pub(super) async fn open(_app: &App, _client: &Client, _request: &str) -> Result<Params, Error> {
    Err(OAuthError::invalid_request_object("request objects are not read yet").into())
}
