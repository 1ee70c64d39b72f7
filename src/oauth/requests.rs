//! The requests of OAuth's smaller endpoints, and how a form authenticates its client.

use poem_openapi::types::Password;

use super::params::parameters;

parameters! {
    /// How a client identifies or authenticates itself in a form (RFC 6749 §2.3.1, RFC 7521 §4.2).
    pub struct ClientParameters {
        /// The client, unless the Authorization header names it.
        pub client_id: Option<String>,
        /// The client's secret, unless it is in the Authorization header (`client_secret_post`).
        pub client_secret: Option<Password>,
        /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`, with `private_key_jwt`.
        pub client_assertion_type: Option<String>,
        /// The client's signed assertion (`private_key_jwt`): `aud` must be the issuer alone (or the
        /// token endpoint, where that is allowed), the lifetime at most 5 minutes, and each
        /// assertion is accepted once (RFC 7523, RFC 10070).
        pub client_assertion: Option<String>,
    }
}

parameters! {
    /// A device authorization request (RFC 8628 §3.1).
    pub struct DeviceAuthorizationRequest {
        /// The requested scope; if absent, the one that an authorization request without `scope`
        /// gets.
        pub scope: Option<String>,
        /// The resources that the tokens are for (RFC 8707 §2).
        #[oai(default)]
        pub resource: Vec<String>,
    }
}

parameters! {
    /// An introspection request (RFC 7662 §2.1).
    pub struct IntrospectionRequest {
        /// An access token or a refresh token.
        pub token: String,
        /// Ignored: the token itself shows its type.
        pub token_type_hint: Option<String>,
    }
}

parameters! {
    /// A revocation request (RFC 7009 §2.1).
    pub struct RevocationRequest {
        /// An access token or a refresh token of this client.
        pub token: String,
        /// Ignored: the token itself shows its type.
        pub token_type_hint: Option<String>,
    }
}

parameters! {
    /// A logout request (OpenID Connect RP-Initiated Logout §2).
    pub struct EndSessionRequest {
        /// An ID token that was issued to the client.
        pub id_token_hint: Option<String>,
        /// Ignored: `id_token_hint` identifies the user.
        pub logout_hint: Option<String>,
        /// The client, if there is no `id_token_hint`.
        pub client_id: Option<String>,
        /// One of the client's registered `post_logout_redirect_uris`.
        pub post_logout_redirect_uri: Option<String>,
        /// Returned unchanged to `post_logout_redirect_uri`.
        pub state: Option<String>,
        /// Preferred languages of the pages, as in `ru en`: see `ui_locales_supported`.
        pub ui_locales: Option<String>,
    }
}

parameters! {
    /// An access token in the form of a request (RFC 6750 §2.2).
    pub struct BearerForm {
        /// The access token, unless it is in the Authorization header.
        pub access_token: Option<String>,
    }
}

parameters! {
    /// What a follower of the revocation feed asks for (docs/revocation-feed.md).
    pub struct FeedRequest {
        /// The version that the caller already has.
        #[oai(validator(minimum(value = "0")))]
        pub since: Option<i64>,
        /// Seconds to hold the response until there is a change, at most 25.
        #[oai(validator(minimum(value = "0"), maximum(value = "25")))]
        pub wait: Option<i64>,
    }
}
