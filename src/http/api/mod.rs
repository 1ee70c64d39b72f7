//! The JSON API, and the OpenAPI document of it and of OAuth's endpoints.

pub mod account;
pub mod admin;
pub mod auth;
pub mod data;
mod document;
mod email;
pub mod health;
pub mod identities;
mod legacy;
pub mod modules;
pub mod profile;
pub mod remembered_devices;
pub mod second_factors;
pub mod services;
mod tokens;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock},
};

use poem::{EndpointExt, Route, RouteMethod, http::Method};
use poem_openapi::{
    OpenApi, Tags,
    registry::{MetaOperation, MetaParamIn},
};

pub use self::document::{DocumentError, document};

/// The tags of the document.
#[derive(Clone, Copy, Debug, Tags)]
pub enum Tag {
    /// The endpoints of OAuth 2.1 and OpenID Connect, for applications with any certified client
    /// library.
    #[oai(rename = "OAuth 2.1 and OpenID Connect")]
    OAuth,
    /// First-party registration, login, refresh and logout.
    Authentication,
    /// What users see and end themselves: sessions, applications (docs/account.md).
    Account,
    /// For back ends that keep their own users: docs/back-ends.md. A client authenticates by its
    /// secret or by its access token with the scope `propusk:tokens`.
    #[oai(rename = "Back ends")]
    BackEnds,
    /// Modules: product features that are granted per user.
    Modules,
    /// Outside services of a customer: their tokens for back ends, their data for users
    /// (docs/customer-services.md).
    #[oai(rename = "Customer services")]
    Services,
    /// For reverse proxies that ask whether a request is allowed: docs/gateways.md.
    Gateways,
    /// For administrators: an administrator's access token, or a client's with the scope
    /// `propusk:admin` (`propusk:admin:read` to read).
    Administration,
    /// Liveness and readiness.
    Health,
    /// The paths of earlier versions, for existing clients.
    #[oai(rename = "Legacy paths")]
    Legacy,
}

impl Tag {
    /// In the order of the document.
    const ALL: [Self; 10] = [
        Self::OAuth,
        Self::Authentication,
        Self::Account,
        Self::BackEnds,
        Self::Modules,
        Self::Services,
        Self::Gateways,
        Self::Administration,
        Self::Health,
        Self::Legacy,
    ];
}

/// Every operation of the JSON API.
type Operations = (
    (auth::AuthApi, email::EmailApi, second_factors::SecondFactorsApi),
    (
        account::AccountApi,
        profile::ProfileApi,
        identities::IdentitiesApi,
        remembered_devices::RememberedDevicesApi,
    ),
    tokens::TokensApi,
    health::HealthApi,
    legacy::LegacyApi,
    modules::ModulesApi,
    services::ServicesApi,
    admin::Operations,
);

fn operations() -> Operations {
    (
        (auth::AuthApi, email::EmailApi, second_factors::SecondFactorsApi),
        (
            account::AccountApi,
            profile::ProfileApi,
            identities::IdentitiesApi,
            remembered_devices::RememberedDevicesApi,
        ),
        tokens::TokensApi,
        health::HealthApi,
        legacy::LegacyApi,
        modules::ModulesApi,
        services::ServicesApi,
        admin::operations(),
    )
}

/// The operations of the JSON API as they are declared: the path of the document, and the
/// operation.
fn declared() -> impl Iterator<Item = (String, MetaOperation)> {
    let paths = Operations::meta().into_iter().flat_map(|api| api.paths);
    paths.flat_map(|path| {
        let name = path.path;
        path.operations.into_iter().map(move |operation| (name.clone(), operation))
    })
}

/// The other path of an operation that answers with and without a trailing slash.
fn twin(path: &str) -> Option<String> {
    path.starts_with("/api/v1/modules").then(|| match path.strip_suffix('/') {
        Some(without) => without.to_owned(),
        None => format!("{path}/"),
    })
}

/// Adds every operation of the JSON API to the routes, each under its own path: poem-openapi's
/// service would be a router within the router, with a cookie jar that nobody uses. It would also
/// fill in what its `Query` parameters read; that type lets the first of two equal parameters win,
/// so it is not used.
pub fn route(route: Route) -> Route {
    let (mut table, mut twins) = (HashMap::new(), HashMap::new());
    operations().add_routes(&mut table);
    operations().add_routes(&mut twins);
    let twins = twins.into_iter().filter_map(|(path, operations)| Some((twin(&path)?, operations)));
    table.extend(twins);
    table.into_iter().fold(route, |route, (path, operations)| {
        let by_method =
            operations.into_iter().fold(RouteMethod::new(), |by_method, (method, operation)| {
                match QUERY_PARAMETERS.get(&(path.clone(), method.clone())) {
                    Some(known) => {
                        let known = Arc::clone(known);
                        let operation = operation.before(move |request| {
                            let checked = admin::check_query(&request, &known);
                            async move { checked.map(|()| request).map_err(poem::Error::from) }
                        });
                        by_method.method(method, operation)
                    }
                    None => by_method.method(method, operation),
                }
            });
        route.at(path, by_method)
    })
}

/// The query parameters of operations, by route and method.
type QueryParameters = HashMap<(String, Method), Arc<BTreeSet<String>>>;

/// The query parameters of each operation of the admin API: all others are rejected there.
static QUERY_PARAMETERS: LazyLock<QueryParameters> = LazyLock::new(|| {
    declared()
        .filter(|(path, _)| path.starts_with(admin::PREFIX))
        .map(|(path, operation)| {
            let parameters = operation.params.into_iter();
            let names = parameters
                .filter(|parameter| parameter.in_type == MetaParamIn::Query)
                .map(|parameter| parameter.name)
                .collect();
            ((route_of(&path), operation.method), Arc::new(names))
        })
        .collect()
});

/// The route of a path: the document writes `{id}` where poem-openapi's routes count `:param0`,
/// `:param1`.
fn route_of(path: &str) -> String {
    let mut count = 0;
    let parts = path.split('/').map(|part| {
        if part.starts_with('{') {
            count += 1;
            format!(":param{}", count - 1)
        } else {
            part.to_owned()
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// The methods of each path of the JSON API, for `Allow`.
pub static METHODS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let mut by_route: HashMap<String, Vec<String>> = HashMap::new();
    for (path, operation) in declared() {
        let route = route_of(&path);
        for route in twin(&route).into_iter().chain([route]) {
            let methods = by_route.entry(route).or_default();
            methods.push(operation.method.to_string());
            if operation.method == Method::GET {
                methods.push(Method::HEAD.to_string());
            }
        }
    }
    by_route.into_iter().map(|(route, methods)| (route, methods.join(", "))).collect()
});
