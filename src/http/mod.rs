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
mod operation;
pub(crate) mod pages;
mod scopes;
mod security;
pub mod views;

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use poem::{Endpoint, EndpointExt, IntoEndpoint, Response, Route, RouteMethod, get, post};

use self::{
    assets::Asset,
    context::{Pages, RequestContextLayer},
    cors::Cors,
    gateway::ForwardAuth,
    operation::{Path, PathEndpoint},
    pages::{
        account, admin, change, consent, deletion, device, email, export, factors, login, profile,
        register, second_factor, select_account, services, terms, upstream,
    },
};
use crate::{app::App, listener::RequestTimeout};

/// Why the HTTP endpoint cannot be built; only a bug can cause it.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("a page cannot be rendered: {0}")]
    Page(#[from] askama::Error),
    #[error("the OpenAPI document is broken: {0}")]
    Document(#[from] api::DocumentError),
}

/// Every route of the public listener. The operations that the OpenAPI document describes are
/// declared next to their handlers (`operation.rs`).
///
/// # Errors
/// [`EndpointError`]
pub fn endpoint(app: &Arc<App>) -> Result<impl Endpoint<Output = Response> + use<>, EndpointError> {
    let document = operation::document_of(&app.config.server.issuer)?;
    let openapi = Asset::document("application/json", Bytes::from(document));
    let settings = landing::Settings {
        registration: app.config.registration.is_open(),
        operator: app.config.pages.operator.clone(),
    };
    let pages = landing::route(docs::route(Route::new(), app.branding)?, settings, app.branding)?;
    let table = Table { route: pages, methods: api::METHODS.clone(), pages: Pages::default() };
    let table = operation::routes(oauth::operations())
        .into_iter()
        .fold(table, Table::described)
        .at("/openapi.json", "GET", get(openapi))
        // Pages for users
        .page("/login", "GET, POST", get(login::show).post(login::submit))
        .page(
            "/login/second-factor",
            "GET, POST",
            get(second_factor::show).post(second_factor::submit),
        )
        .page("/account", "GET", get(account::show))
        .page(
            "/account/sessions",
            "GET, POST",
            get(account::list_sessions).post(account::end_sessions),
        )
        .page(
            "/account/applications",
            "GET, POST",
            get(account::list_applications).post(account::withdraw_application),
        )
        .page(
            "/account/modules",
            "GET, POST",
            get(account::list_modules).post(account::switch_module),
        )
        .page("/account/export", "GET, POST", get(export::show).post(export::download))
        .page("/account/delete", "GET, POST", get(deletion::ask).post(deletion::delete))
        .page("/account/restore", "GET, POST", get(deletion::show_restore).post(deletion::restore))
        .page("/account/security", "GET", get(factors::show))
        .page("/account/security/totp", "GET, POST", get(factors::set_up).post(factors::confirm))
        .page(
            "/account/security/passkey",
            "GET, POST",
            get(factors::set_up_passkey).post(factors::confirm_passkey),
        )
        .page("/login/passkey", "POST", post(login::by_passkey))
        .page("/login/upstream/:name", "GET", get(upstream::begin))
        .page("/login/upstream/:name/callback", "GET", get(upstream::complete))
        .page("/login/identity", "GET", get(upstream::show))
        .page("/login/identity/link", "POST", post(upstream::submit_link))
        .page("/login/identity/register", "POST", post(upstream::submit_registration))
        .page("/account/security/unlink", "POST", post(upstream::submit_unlink))
        .page("/account/security/forget", "POST", post(factors::forget))
        .page(
            "/account/security/remove",
            "GET, POST",
            get(factors::ask_removal).post(factors::remove),
        )
        .page(
            "/account/security/recovery-codes",
            "GET, POST",
            get(factors::ask_renewal).post(factors::renew),
        )
        .page("/account/profile", "GET, POST", get(profile::show).post(profile::submit))
        .page("/account/password", "GET, POST", get(change::password).post(change::submit_password))
        .page("/account/username", "GET, POST", get(change::username).post(change::submit_username))
        .at("/.well-known/change-password", "GET", get(change::well_known))
        .page("/register", "GET, POST", get(register::show).post(register::submit))
        .page(
            "/select-account",
            "GET, POST",
            get(select_account::show).post(select_account::choose),
        )
        .page("/terms", "GET, POST", get(terms::show).post(terms::submit))
        .page("/consent", "POST", post(consent::decide))
        .page("/device", "GET, POST", get(device::show).post(device::enter))
        .page("/device/confirm", "GET, POST", get(device::confirm).post(device::decide))
        .page("/email/verify", "GET, POST", get(email::verify).post(email::submit_verify))
        .page("/register/confirm", "GET, POST", get(email::register).post(email::submit_register))
        .page("/password/reset", "GET, POST", get(email::reset).post(email::submit_reset))
        .page("/email/change", "GET, POST", get(email::change).post(email::submit_change))
        .page("/email/change/confirm", "GET, POST", get(email::confirm).post(email::submit_confirm))
        .page("/email/change/object", "GET, POST", get(email::object).post(email::submit_object))
        .page("/services", "GET", get(services::list))
        .page("/services/:name/connect", "GET, POST", get(services::show).post(services::begin))
        .page("/services/:name/callback", "GET", get(services::callback))
        .page("/services/:name/disconnect", "POST", post(services::disconnect))
        // Gateways
        .any_method("/forward-auth/envoy/*request", ForwardAuth::ByPath);
    let Table { route, methods, pages } = administration(table);
    Ok(api::route(route).with(RequestTimeout(app.config.server.request_timeout)).with(
        RequestContextLayer {
            app: Arc::clone(app),
            methods: Arc::new(methods),
            pages: Arc::new(pages),
        },
    ))
}

/// Pages for administrators.
fn administration(table: Table) -> Table {
    table
        .page("/admin", "GET", get(admin::overview::show))
        .page("/admin/users", "GET", get(admin::users::list))
        .page("/admin/users/new", "GET, POST", get(admin::users::new).post(admin::users::create))
        .page(
            "/admin/invitations",
            "GET, POST",
            get(admin::invitations::list).post(admin::invitations::submit),
        )
        .page("/admin/users/:id", "GET, POST", get(admin::user::show).post(admin::user::change))
        .page("/admin/explain", "GET", get(admin::explain::show))
        .page("/admin/audit", "GET", get(admin::audit::show))
        .page("/admin/keys", "GET, POST", get(admin::keys::show).post(admin::keys::submit))
        .page("/admin/revocations", "GET", get(admin::revocations::show))
        .page(
            "/admin/revocations/new",
            "GET, POST",
            get(admin::revocations::ask).post(admin::revocations::submit),
        )
        .page(
            "/admin/sessions",
            "GET, POST",
            get(admin::sessions::show).post(admin::sessions::submit),
        )
        .page(
            "/admin/service-tokens",
            "GET, POST",
            get(admin::service_tokens::show).post(admin::service_tokens::submit),
        )
        .page(
            "/admin/subjects",
            "GET, POST",
            get(admin::subjects::show).post(admin::subjects::submit),
        )
        .page("/admin/events", "GET", get(admin::events::show))
        .page("/admin/events/mails", "GET", get(admin::mails::show))
        .page(
            "/admin/events/webhooks",
            "GET, POST",
            get(admin::webhooks::show_all).post(admin::webhooks::add),
        )
        .page(
            "/admin/events/webhooks/:id",
            "GET, POST",
            get(admin::webhooks::show).post(admin::webhooks::submit),
        )
        .page("/admin/clients", "GET", get(admin::clients::list))
        .page(
            "/admin/clients/new",
            "GET, POST",
            get(admin::clients::new).post(admin::clients::create),
        )
        .page(
            "/admin/clients/:id",
            "GET, POST",
            get(admin::clients::show).post(admin::clients::submit),
        )
        .page("/admin/issuers", "GET, POST", get(admin::issuers::list).post(admin::issuers::create))
        .page(
            "/admin/issuers/:id",
            "GET, POST",
            get(admin::issuers::show).post(admin::issuers::submit),
        )
        .page("/admin/modules", "GET, POST", get(admin::modules::list).post(admin::modules::create))
        .page(
            "/admin/modules/:id",
            "GET, POST",
            get(admin::modules::show).post(admin::modules::submit),
        )
        .page("/admin/roles", "GET, POST", get(admin::roles::list).post(admin::roles::create))
        .page("/admin/roles/:name", "GET, POST", get(admin::roles::show).post(admin::roles::submit))
}

/// The routes and the methods of each, for `Allow` (RFC 9110 §15.5.6).
struct Table {
    route: Route,
    methods: HashMap<String, String>,
    pages: Pages,
}

impl Table {
    /// A route for clients of this origin. `GET` implies `HEAD`.
    fn at(self, path: &str, methods: &str, endpoint: RouteMethod) -> Self {
        self.insert(path, with_head(methods), endpoint)
    }

    /// As [`Self::at`]; errors there are pages too.
    fn page(mut self, path: &str, methods: &str, endpoint: RouteMethod) -> Self {
        self.pages.insert(path);
        self.at(path, methods, endpoint)
    }

    /// A path that the OpenAPI document describes.
    fn described(self, path: Path) -> Self {
        let Path { route, origins, endpoint } = path;
        let by_method = match endpoint {
            PathEndpoint::AnyMethod(endpoint) => {
                return Self { route: self.route.at(route, endpoint), ..self };
            }
            PathEndpoint::ByMethod(by_method) => by_method,
        };
        let methods: Vec<&str> = by_method.iter().map(|(method, _)| method.as_str()).collect();
        let methods = with_head(&methods.join(", "));
        let endpoint = by_method
            .into_iter()
            .fold(RouteMethod::new(), |all, (method, one)| all.method(method, one));
        match origins {
            None => self.insert(&route, methods, endpoint),
            Some(origins) => {
                let methods = format!("{methods}, OPTIONS");
                let endpoint = Cors { origins, methods: methods.clone(), inner: endpoint };
                self.insert(&route, methods, endpoint)
            }
        }
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
