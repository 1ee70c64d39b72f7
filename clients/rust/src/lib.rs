#![doc = include_str!("../README.md")]
#![warn(unreachable_pub)] // Here, and not in Cargo.toml: tests have no outside.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod api;
mod builder;
mod clock;
mod cookies;
mod credentials;
mod error;
mod feed;
#[cfg(feature = "grpc")]
pub mod grpc;
mod jws;
mod keys;
#[cfg(any(feature = "tower", feature = "poem"))]
mod layer;
mod origin;
mod propusk;
mod return_to;
mod verifier;
#[cfg(any(feature = "tower", feature = "poem"))]
mod visit;

#[cfg(feature = "axum")]
mod with_axum;
#[cfg(feature = "poem")]
mod with_poem;
#[cfg(feature = "tower")]
mod with_tower;

pub use api::{Registration, Session, Tokens, User};
pub use builder::Builder;
pub use cookies::{RequestTokens, TokenCookies};
pub use error::{Detail, Error, ServerError};
pub use feed::{RevocationFeed, RevocationStatus};
#[cfg(any(feature = "tower", feature = "poem"))]
pub use layer::{RequireSession, SessionLayer, require_module, require_scope, require_session};
pub use propusk::Propusk;
pub use return_to::safe_return_to;
pub use verifier::{AccessClaims, Origin};
#[cfg(any(feature = "tower", feature = "poem"))]
pub use visit::Visit;
#[cfg(feature = "axum")]
pub use with_axum::SessionRejection;
#[cfg(feature = "poem")]
pub use with_poem::{RequireSessionEndpoint, SessionEndpoint};
#[cfg(feature = "tower")]
pub use with_tower::{RequireSessionService, SessionService};

/// For the jitter of pauses: between 0 and 1, not for secrets.
fn random_fraction() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    // Each is seeded by the system.
    let bits = std::hash::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}
