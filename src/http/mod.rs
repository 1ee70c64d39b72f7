//! HTTP: what is asked at which address, and how it is answered.

pub mod api;
mod assets;
pub mod context;
pub mod credentials;
mod docs;
pub mod error;
pub mod json;
mod landing;
pub mod oauth;

use std::sync::Arc;

use bytes::Bytes;
use poem::{Endpoint, EndpointExt, Response, Route, get, post};

use self::{assets::Asset, context::Edge};
use crate::{app::App, listener::RequestTimeout};

/// Every address of the public listener, on one page.
///
/// # Errors
/// Where a page cannot be rendered, which only a broken build can cause.
pub fn endpoint(app: &Arc<App>) -> Result<impl Endpoint<Output = Response> + use<>, askama::Error> {
    let document = Bytes::from(api::document().to_string());
    let mut methods = api::methods();
    methods.insert("/oauth2/token".to_owned(), "POST".to_owned());
    let pages = landing::route(docs::route(Route::new())?)?;
    let routes = pages
        .at(
            "/openapi.json",
            get(Asset::document("application/json", document)),
        )
        .at("/oauth2/jwks", get(oauth::jwks::jwks))
        .at("/oauth2/token", post(oauth::token::token));
    Ok(api::route(routes)
        .with(RequestTimeout(app.config.server.request_timeout))
        .with(Edge {
            app: Arc::clone(app),
            methods: Arc::new(methods),
        }))
}
