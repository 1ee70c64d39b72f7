//! HTTP: what is asked at which address, and how it is answered.

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
use poem::{Endpoint, EndpointExt, Response, Route, RouteMethod, get, post};

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

/// Every address of the public listener, on one page.
///
/// # Errors
/// Where a page cannot be rendered, which only a broken build can cause.
pub fn endpoint(app: &Arc<App>) -> Result<impl Endpoint<Output = Response> + use<>, askama::Error> {
    let mut document = api::document();
    api::name_login(&mut document, &app.config.server.issuer);
    let served = Bytes::from(document.to_string());
    let metadata = discovery::Discovery::default();
    let pages = landing::route(docs::route(Route::new())?, app.config.registration.enabled)?;
    let mut table = Table { route: pages, methods: api::methods(&document) };
    table
        .at("/openapi.json", "GET", get(Asset::document("application/json", served)))
        // OpenID Connect Discovery §4, RFC 8414 §3
        .public("/.well-known/openid-configuration", get(metadata.clone()))
        .public("/.well-known/oauth-authorization-server", get(metadata))
        .public("/oauth2/jwks", get(jwks::jwks))
        // For applications and gateways
        .open("/oauth2/token", "POST", post(token::token))
        .open("/oauth2/userinfo", "GET, POST", get(userinfo::userinfo).post(userinfo::userinfo))
        .open("/oauth2/revoke", "POST", post(revoke::revoke))
        .open("/oauth2/par", "POST", post(par::push))
        // An application in a browser that is not known yet has no origin that could be.
        .across("/oauth2/register", "POST, OPTIONS", Origins::Any, post(register_client::register))
        .at(
            "/oauth2/register/:id",
            "GET, PUT, DELETE",
            get(register_client::read)
                .put(register_client::replace)
                .delete(register_client::remove),
        )
        .at("/oauth2/introspect", "POST", post(introspect::introspect))
        // For gateways that verify tokens by themselves
        .at("/oauth2/revocations", "GET", get(revocations::revocations))
        // For browsers with a person before them
        .at("/oauth2/authorize", "GET, POST", get(authorize::by_get).post(authorize::by_post))
        .at("/oauth2/logout", "GET, POST", get(logout::by_get).post(logout::by_post))
        .at("/login", "GET, POST", get(login::show).post(login::submit))
        .at("/register", "GET, POST", get(register::show).post(register::submit))
        .at("/select-account", "GET, POST", get(select_account::show).post(select_account::choose))
        .at("/consent", "POST", post(consent::decide))
        .at("/session/start", "GET", get(session_start::start))
        // For gateways, which send any method
        .for_gateways("/forward-auth", ForwardAuth::ByHeaders)
        .for_gateways("/forward-auth/envoy/*request", ForwardAuth::ByPath);
    Ok(api::route(table.route, &document)
        .with(RequestTimeout(app.config.server.request_timeout))
        .with(RequestContextLayer { app: Arc::clone(app), methods: Arc::new(table.methods) }))
}

/// The routes, with the methods that each answers, for `Allow` (RFC 9110 §15.5.6).
struct Table {
    route: Route,
    methods: HashMap<String, String>,
}

impl Table {
    fn at(&mut self, path: &str, methods: &str, endpoint: RouteMethod) -> &mut Self {
        let head = if methods.starts_with("GET") { ", HEAD" } else { "" };
        self.methods.insert(path.to_owned(), format!("{methods}{head}"));
        self.route = std::mem::take(&mut self.route).at(path, endpoint);
        self
    }

    /// For every method.
    fn for_gateways(&mut self, path: &str, endpoint: ForwardAuth) -> &mut Self {
        self.route = std::mem::take(&mut self.route).at(path, endpoint);
        self
    }

    /// For pages of every origin.
    fn public(&mut self, path: &str, endpoint: RouteMethod) -> &mut Self {
        self.across(path, "GET, HEAD, OPTIONS", Origins::Any, endpoint)
    }

    /// For pages of the origins that clients have registered.
    fn open(&mut self, path: &str, methods: &'static str, endpoint: RouteMethod) -> &mut Self {
        let methods = match methods {
            "POST" => "POST, OPTIONS",
            _ => "GET, HEAD, POST, OPTIONS",
        };
        self.across(path, methods, Origins::Registered, endpoint)
    }

    fn across(
        &mut self,
        path: &str,
        methods: &'static str,
        origins: Origins,
        endpoint: RouteMethod,
    ) -> &mut Self {
        self.methods.insert(path.to_owned(), methods.to_owned());
        let endpoint = Cors { origins, methods, inner: endpoint };
        self.route = std::mem::take(&mut self.route).at(path, endpoint);
        self
    }
}
