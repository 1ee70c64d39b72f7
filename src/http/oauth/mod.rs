//! OAuth's endpoints for applications, one file each; those for browsers are in `http::pages`. Each
//! file declares its operations: the routes and the OpenAPI document are made from them.

pub mod device_authorization;
pub mod discovery;
pub mod introspect;
pub mod jwks;
pub mod par;
pub mod params;
pub mod register;
pub mod revocations;
pub mod revoke;
pub mod token;
pub mod userinfo;

use std::collections::HashMap;

use poem::{endpoint::BoxEndpoint, http::Method};
use poem_openapi::{
    OpenApi, Tags,
    registry::{MetaApi, Registry},
};

use super::{
    api::Tag,
    gateway,
    operation::{self, Operation},
    pages::{authorize, logout, session_start},
};

/// Every operation of OAuth's endpoints and of those for gateways.
pub fn operations() -> Vec<Operation> {
    let mut operations = vec![];
    operations.extend(discovery::operations());
    operations.push(jwks::operation());
    operations.extend(authorize::operations());
    operations.push(token::operation());
    operations.push(par::operation());
    operations.push(device_authorization::operation());
    operations.push(introspect::operation());
    operations.push(revocations::operation());
    operations.push(revoke::operation());
    operations.extend(userinfo::operations());
    operations.extend(logout::operations());
    operations.extend(register::operations());
    operations.push(gateway::operation());
    operations.push(session_start::operation());
    operations
}

/// The operations in the OpenAPI document. Their routes are added with those of the pages, which
/// have CORS as well.
pub struct Described;

impl OpenApi for Described {
    fn meta() -> Vec<MetaApi> {
        vec![operation::describe(operations())]
    }

    fn register(registry: &mut Registry) {
        Tag::OAuth.register(registry);
        Tag::Gateways.register(registry);
        operation::register_security_schemes(registry);
        operation::register(&operations(), registry);
    }

    fn add_routes(self, _: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {}
}
