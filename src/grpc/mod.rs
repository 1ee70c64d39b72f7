//! gRPC: the services of `proto/`, on a separate listener.

mod access;
mod edge;
mod gateway;
mod health;
mod messages;
mod revocation;
mod services;
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
            service_tokens_server::ServiceTokensServer, token_service_server::TokenServiceServer,
            user_service_server::UserServiceServer,
        },
    },
    revocation::Revocations,
    services::Services,
    token::Tokens,
    user::Users,
};
use crate::app::App;

/// The code generated from `proto/`.
pub mod proto {
    #[allow(missing_docs, clippy::all)]
    mod generated {
        include!(concat!(env!("OUT_DIR"), "/proto.rs"));
    }
    pub use generated::{envoy, propusk::v1};

    /// The encoded file descriptor set, for server reflection.
    pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("propusk");
}

/// Every service of the gRPC listener. `serving` is the status for health checks; a closed channel
/// means that the server is shutting down.
///
/// # Errors
/// If the file descriptors are invalid, which indicates a broken build.
pub fn endpoint(
    app: &Arc<App>,
    serving: watch::Receiver<bool>,
) -> Result<impl poem::Endpoint<Output = poem::Response> + use<>, tonic_reflection::server::Error> {
    let max_message_bytes = app.config.grpc.max_message_bytes;
    let reflection = |other_version| {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(HEALTH)
            .register_encoded_file_descriptor_set(other_version)
    };
    // grpcurl and other tools still use v1alpha.
    let reflection_v1 = reflection(REFLECTION_V1ALPHA).build_v1()?;
    let reflection_v1alpha = reflection(REFLECTION_V1).build_v1alpha()?;
    let routes =
        Routes::new(TokenServiceServer::new(Tokens).max_decoding_message_size(max_message_bytes))
            .add_service(UserServiceServer::new(Users).max_decoding_message_size(max_message_bytes))
            .add_service(
                AuthorizationServer::new(Gateway).max_decoding_message_size(max_message_bytes),
            )
            .add_service(
                RevocationServiceServer::new(Revocations)
                    .max_decoding_message_size(max_message_bytes),
            )
            .add_service(
                ServiceTokensServer::new(Services).max_decoding_message_size(max_message_bytes),
            )
            .add_service(
                HealthServer::new(Health { app: Arc::clone(app), serving })
                    .max_decoding_message_size(max_message_bytes),
            )
            .add_service(reflection_v1.max_decoding_message_size(max_message_bytes))
            .add_service(reflection_v1alpha.max_decoding_message_size(max_message_bytes))
            .prepare();
    Ok(RequestContextLayer { app: Arc::clone(app), routes })
}
