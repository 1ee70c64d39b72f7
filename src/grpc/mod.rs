//! gRPC: the services of `proto/`, on a listener of their own.

mod access;
mod edge;
mod gateway;
mod health;
mod messages;
mod revocation;
mod status;
mod token;
mod user;

use std::sync::Arc;

use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::pb::{FILE_DESCRIPTOR_SET as HEALTH, health_server::HealthServer};
use tonic_reflection::pb::{
    v1::FILE_DESCRIPTOR_SET as REFLECTION_V1, v1alpha::FILE_DESCRIPTOR_SET as REFLECTION_V1ALPHA,
};

pub use self::access::{METHODS, Method};
use self::{
    edge::RequestContextLayer,
    gateway::Gateway,
    health::Health,
    proto::{
        envoy::service::auth::v3::authorization_server::AuthorizationServer,
        v1::{
            revocation_service_server::RevocationServiceServer,
            token_service_server::TokenServiceServer, user_service_server::UserServiceServer,
        },
    },
    revocation::Revocations,
    token::Tokens,
    user::Users,
};
use crate::app::App;

/// What the files in `proto/` become.
pub mod proto {
    #[allow(missing_docs, clippy::all)]
    mod generated {
        include!(concat!(env!("OUT_DIR"), "/proto.rs"));
    }
    pub use generated::{envoy, propusk::v1};

    /// The same files, for reflection.
    pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("propusk");
}

/// Every service of the gRPC listener, on one page. `serving` says whether the server can answer; where its sender is gone,
/// the server is about to end.
///
/// # Errors
/// Where the descriptors cannot be read, which only a broken build can cause.
pub fn endpoint(
    app: &Arc<App>,
    serving: watch::Receiver<bool>,
) -> Result<impl poem::Endpoint<Output = poem::Response> + use<>, tonic_reflection::server::Error> {
    let largest = app.config.grpc.max_message_bytes;
    let reflection = |other| {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(HEALTH)
            .register_encoded_file_descriptor_set(other)
    };
    // grpcurl and others still ask by the older name.
    let reflection_v1 = reflection(REFLECTION_V1ALPHA).build_v1()?;
    let reflection_v1alpha = reflection(REFLECTION_V1).build_v1alpha()?;
    let routes = Routes::new(TokenServiceServer::new(Tokens).max_decoding_message_size(largest))
        .add_service(UserServiceServer::new(Users).max_decoding_message_size(largest))
        .add_service(AuthorizationServer::new(Gateway).max_decoding_message_size(largest))
        .add_service(RevocationServiceServer::new(Revocations).max_decoding_message_size(largest))
        .add_service(HealthServer::new(Health { serving }).max_decoding_message_size(largest))
        .add_service(reflection_v1.max_decoding_message_size(largest))
        .add_service(reflection_v1alpha.max_decoding_message_size(largest))
        .prepare();
    Ok(RequestContextLayer { app: Arc::clone(app), routes })
}
