//! Token requests (RFC 6749 §3.2), parsed once by the transport: HTTP from a form, gRPC from a
//! message.

use super::{
    error::OAuthError,
    params::{parameters, values},
    scope::Scope,
};

/// A token request by grant type.
#[derive(Clone, Debug)]
pub enum TokenRequest {
    AuthorizationCode(AuthorizationCodeRequest),
    RefreshToken(RefreshTokenRequest),
    ClientCredentials(ClientCredentialsRequest),
}

/// RFC 6749 §4.1.3, RFC 7636 §4.5
#[derive(Clone, Debug)]
pub struct AuthorizationCodeRequest {
    pub code: String,
    /// As in the authorization request.
    pub redirect_uri: Option<String>,
    pub code_verifier: Option<String>,
    pub resources: Vec<String>,
}

/// RFC 6749 §6. `scope` and `resources` narrow the access token of this response; the session keeps
/// its own.
#[derive(Clone, Debug)]
pub struct RefreshTokenRequest {
    pub refresh_token: String,
    pub scope: Option<Scope>,
    pub resources: Vec<String>,
}

/// RFC 6749 §4.4.2
#[derive(Clone, Debug)]
pub struct ClientCredentialsRequest {
    pub scope: Option<Scope>,
    pub resources: Vec<String>,
}

values! {
    /// The grant types that the token endpoint supports.
    pub enum GrantType or unsupported_grant_type {
        AuthorizationCode = "authorization_code",
        RefreshToken = "refresh_token",
        ClientCredentials = "client_credentials",
    }
}

parameters! {
    /// The form of a token request.
    pub struct TokenForm {
        /// The grant.
        pub grant_type: GrantType,
        /// The authorization code.
        pub code: Option<String>,
        /// The redirect URI of the authorization request.
        pub redirect_uri: Option<String>,
        /// The PKCE code verifier (RFC 7636 §4.1).
        pub code_verifier: Option<String>,
        /// The current refresh token.
        pub refresh_token: Option<String>,
        /// With `client_credentials` the requested scope; with `refresh_token` a narrower scope for
        /// this access token.
        pub scope: Option<String>,
        /// The resources that the access token is for (RFC 8707 §2.2).
        #[oai(default)]
        pub resource: Vec<String>,
    }
}

impl TokenRequest {
    /// Parses the form of a token request.
    ///
    /// # Errors
    /// `invalid_request` for a parameter that the grant needs, `invalid_scope` for a malformed
    /// scope.
    pub fn parse(form: TokenForm) -> Result<Self, OAuthError> {
        let required = |value: Option<String>, name| {
            value.ok_or_else(|| OAuthError::invalid_request(format!("`{name}` is missing")))
        };
        let resources = form.resource;
        Ok(match form.grant_type {
            GrantType::AuthorizationCode => Self::AuthorizationCode(AuthorizationCodeRequest {
                code: required(form.code, "code")?,
                redirect_uri: form.redirect_uri,
                code_verifier: form.code_verifier,
                resources,
            }),
            GrantType::RefreshToken => Self::RefreshToken(RefreshTokenRequest {
                refresh_token: required(form.refresh_token, "refresh_token")?,
                scope: requested_scope(form.scope.as_deref())?,
                resources,
            }),
            GrantType::ClientCredentials => Self::ClientCredentials(ClientCredentialsRequest {
                scope: requested_scope(form.scope.as_deref())?,
                resources,
            }),
        })
    }

    /// The `grant_type`.
    pub const fn grant_type(&self) -> GrantType {
        match self {
            Self::AuthorizationCode(_) => GrantType::AuthorizationCode,
            Self::RefreshToken(_) => GrantType::RefreshToken,
            Self::ClientCredentials(_) => GrantType::ClientCredentials,
        }
    }

    /// The requested scope.
    pub const fn scope(&self) -> Option<&Scope> {
        match self {
            Self::AuthorizationCode(_) => None,
            Self::RefreshToken(request) => request.scope.as_ref(),
            Self::ClientCredentials(request) => request.scope.as_ref(),
        }
    }
}

/// Parses the `scope` of a request; an empty one counts as absent.
///
/// # Errors
/// `invalid_scope`
pub fn requested_scope(text: Option<&str>) -> Result<Option<Scope>, OAuthError> {
    let scope = text.map(Scope::parse).transpose().map_err(OAuthError::invalid_scope)?;
    Ok(scope.filter(|scope| !scope.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::params::{Parameters, Params};

    fn parse(form: &str) -> Result<TokenRequest, &'static str> {
        let params = Params::parse(form.as_bytes()).expect("a form");
        TokenForm::of(&params).and_then(TokenRequest::parse).map_err(|error| error.code)
    }

    #[test]
    fn a_token_request_has_what_its_grant_needs() {
        let parsed = parse("grant_type=authorization_code&code=c&resource=a&resource=b&scope=x");
        let Ok(TokenRequest::AuthorizationCode(exchange)) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!((exchange.code.as_str(), exchange.resources.len()), ("c", 2));
        let parsed = parse("grant_type=refresh_token&refresh_token=t&scope=a+b").expect("valid");
        assert_eq!(parsed.scope().map(ToString::to_string).as_deref(), Some("a b"));
        assert!(parse("grant_type=client_credentials&scope=+").is_ok_and(|r| r.scope().is_none()));
        for (form, code) in [
            ("", "invalid_request"),
            ("grant_type=authorization_code", "invalid_request"),
            ("grant_type=refresh_token", "invalid_request"),
            ("grant_type=password", "unsupported_grant_type"),
            ("grant_type=client_credentials&scope=%22", "invalid_scope"),
        ] {
            assert_eq!(parse(form).map(drop), Err(code), "{form}");
        }
    }
}
