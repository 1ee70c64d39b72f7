//! OAuth errors: a code and a description. One value is rendered as JSON of the token endpoint (RFC
//! 6749 §5.2), as redirect parameters (§4.1.2.1) or as a page.

use std::borrow::Cow;

/// An OAuth error response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {description}")]
pub struct OAuthError {
    /// The `error`.
    pub code: &'static str,
    /// The `error_description`: what is wrong and what to do; never an internal cause.
    pub description: Cow<'static, str>,
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        impl OAuthError {
            $($(#[$doc])*
            pub fn $name(description: impl Into<Cow<'static, str>>) -> Self {
                Self { code: stringify!($name), description: description.into() }
            })+
        }
    };
}

errors! {
    /// RFC 6749 §5.2
    invalid_request,
    /// RFC 6749 §5.2: status 401
    invalid_client,
    /// RFC 6749 §5.2
    invalid_grant,
    /// RFC 6749 §5.2
    unauthorized_client,
    /// RFC 6749 §5.2
    unsupported_grant_type,
    /// RFC 6749 §5.2
    invalid_scope,
    /// RFC 8707 §2
    invalid_target,
    /// RFC 6749 §4.1.2.1
    access_denied,
    /// RFC 6749 §4.1.2.1
    unsupported_response_type,
    /// RFC 6749 §4.1.2.1
    server_error,
    /// RFC 6749 §4.1.2.1
    temporarily_unavailable,
    /// OpenID Connect Core §3.1.2.6
    login_required,
    /// OpenID Connect Core §3.1.2.6
    consent_required,
    /// OpenID Connect Core §3.1.2.6
    account_selection_required,
    /// OpenID Connect Core §3.1.2.6
    interaction_required,
    /// RFC 9101 §7
    invalid_request_uri,
    /// RFC 9101 §7
    invalid_request_object,
    /// OpenID Connect Core §3.1.2.6
    request_uri_not_supported,
    /// OpenID Connect Core §3.1.2.6
    registration_not_supported,
    /// OpenID Connect Core Unmet Authentication Requirements §1
    unmet_authentication_requirements,
    /// RFC 7009 §2.2.1
    unsupported_token_type,
    /// RFC 7591 §3.2.2
    invalid_client_metadata,
    /// RFC 7591 §3.2.2
    invalid_redirect_uri,
    /// RFC 8628 §3.5
    authorization_pending,
    /// RFC 8628 §3.5
    slow_down,
    /// RFC 8628 §3.5
    expired_token,
    /// RFC 6750 §3.1: status 401
    invalid_token,
    /// RFC 9449 §5, §7.1: status 401 at a resource
    invalid_dpop_proof,
    /// RFC 6750 §3.1: status 403
    insufficient_scope,
}
