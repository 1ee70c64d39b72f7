//! HTTP: the routes and their handlers.

pub mod api;
mod assets;
mod client_auth;
pub mod context;
mod cors;
mod docs;
pub mod failure;
mod gateway;
pub mod json;
mod landing;
pub mod oauth;
mod pages;
mod security;
pub mod views;

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use poem::{Endpoint, EndpointExt, IntoEndpoint, Response, Route, RouteMethod, get, post};

use self::{
    assets::Asset,
    context::RequestContextLayer,
    cors::{Cors, Origins},
    gateway::ForwardAuth,
    oauth::{
        discovery, introspect, jwks, par, register as register_client, revocations, revoke, token,
        userinfo,
    },
    pages::{authorize, consent, login, logout, register, select_account, session_start},
};
use crate::{app::App, listener::RequestTimeout};

/// Every route of the public listener.
///
/// # Errors
/// If a template fails to render, which indicates a bug.
pub fn endpoint(app: &Arc<App>) -> Result<impl Endpoint<Output = Response> + use<>, askama::Error> {
    let mut document = api::document();
    api::name_login(&mut document, &app.config.server.issuer);
    let openapi = Asset::document("application/json", Bytes::from(document.to_string()));
    let metadata = discovery::Discovery::default();
    let pages = landing::route(docs::route(Route::new())?, app.config.registration.enabled)?;
    let table = Table { route: pages, methods: api::methods(&document) }
        .at("/openapi.json", "GET", get(openapi))
        // Discovery and keys (OpenID Connect Discovery 1.0 §4, RFC 8414 §3)
        .cors("/.well-known/openid-configuration", "GET", Origins::Any, get(metadata.clone()))
        .cors("/.well-known/oauth-authorization-server", "GET", Origins::Any, get(metadata))
        .cors("/oauth2/jwks", "GET", Origins::Any, get(jwks::jwks))
        // OAuth endpoints for clients
        .cors("/oauth2/token", "POST", Origins::Registered, post(token::token))
        .cors("/oauth2/revoke", "POST", Origins::Registered, post(revoke::revoke))
        .cors("/oauth2/par", "POST", Origins::Registered, post(par::push))
        .cors(
            "/oauth2/userinfo",
            "GET, POST",
            Origins::Registered,
            get(userinfo::userinfo).post(userinfo::userinfo),
        )
        .at("/oauth2/introspect", "POST", post(introspect::introspect))
        .at("/oauth2/revocations", "GET", get(revocations::revocations))
        // Dynamic client registration; a client to be registered has no registered origin yet
        .cors("/oauth2/register", "POST", Origins::Any, post(register_client::register))
        .at(
            "/oauth2/register/:id",
            "GET, PUT, DELETE",
            get(register_client::read)
                .put(register_client::replace)
                .delete(register_client::remove),
        )
        // Pages for users
        .at("/oauth2/authorize", "GET, POST", get(authorize::by_get).post(authorize::by_post))
        .at("/oauth2/logout", "GET, POST", get(logout::by_get).post(logout::by_post))
        .at("/login", "GET, POST", get(login::show).post(login::submit))
        .at("/register", "GET, POST", get(register::show).post(register::submit))
        .at("/select-account", "GET, POST", get(select_account::show).post(select_account::choose))
        .at("/consent", "POST", post(consent::decide))
        .at("/session/start", "GET", get(session_start::start))
        // Gateways
        .any_method("/forward-auth", ForwardAuth::ByHeaders)
        .any_method("/forward-auth/envoy/*request", ForwardAuth::ByPath);
    Ok(api::route(table.route, &document)
        .with(RequestTimeout(app.config.server.request_timeout))
        .with(RequestContextLayer { app: Arc::clone(app), methods: Arc::new(table.methods) }))
}

/// The routes and the methods of each, for `Allow` (RFC 9110 §15.5.6).
struct Table {
    route: Route,
    methods: HashMap<String, String>,
}

impl Table {
    /// A route for pages and clients of this origin. `GET` implies `HEAD`.
    fn at(self, path: &str, methods: &str, endpoint: RouteMethod) -> Self {
        self.insert(path, with_head(methods), endpoint)
    }

    /// A route that `origins` may call from a browser.
    fn cors(self, path: &str, methods: &str, origins: Origins, endpoint: RouteMethod) -> Self {
        let methods = format!("{}, OPTIONS", with_head(methods));
        let endpoint = Cors { origins, methods: methods.clone(), inner: endpoint };
        self.insert(path, methods, endpoint)
    }

    /// A route for every method.
    fn any_method(self, path: &str, endpoint: ForwardAuth) -> Self {
        Self { route: self.route.at(path, endpoint), ..self }
    }

    fn insert<E>(mut self, path: &str, methods: String, endpoint: E) -> Self
    where
        E: IntoEndpoint,
        E::Endpoint: 'static,
    {
        self.methods.insert(path.to_owned(), methods);
        Self { route: self.route.at(path, endpoint), ..self }
    }
}

fn with_head(methods: &str) -> String {
    methods.replace("GET", "GET, HEAD")
}
