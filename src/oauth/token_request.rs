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
    JwtBearer(JwtBearerRequest),
    TokenExchange(TokenExchangeRequest),
    DeviceCode(DeviceCodeRequest),
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

/// RFC 7523 §2.1
#[derive(Clone, Debug)]
pub struct JwtBearerRequest {
    pub assertion: String,
    pub scope: Option<Scope>,
    pub resources: Vec<String>,
}

/// RFC 8693 §2.1
#[derive(Clone, Debug)]
pub struct TokenExchangeRequest {
    pub subject: TypedToken,
    pub actor: Option<TypedToken>,
    pub requested: Option<TokenTypeIdentifier>,
    pub audiences: Vec<String>,
    pub resources: Vec<String>,
    pub scope: Option<Scope>,
}

/// A token of a token exchange, with its type.
#[derive(Clone, Debug)]
pub struct TypedToken {
    pub token: String,
    pub kind: TokenTypeIdentifier,
}

/// RFC 8628 §3.4
#[derive(Clone, Debug)]
pub struct DeviceCodeRequest {
    pub device_code: String,
}

values! {
    /// The types of tokens in a token exchange (RFC 8693 §3).
    pub enum TokenTypeIdentifier or invalid_request {
        AccessToken = "urn:ietf:params:oauth:token-type:access_token",
        RefreshToken = "urn:ietf:params:oauth:token-type:refresh_token",
        IdToken = "urn:ietf:params:oauth:token-type:id_token",
        Jwt = "urn:ietf:params:oauth:token-type:jwt",
        /// An Identity Assertion JWT Authorization Grant.
        IdJag = "urn:ietf:params:oauth:token-type:id-jag",
    }
}

values! {
    /// The grant types that the token endpoint supports.
    pub enum GrantType or unsupported_grant_type {
        AuthorizationCode = "authorization_code",
        RefreshToken = "refresh_token",
        ClientCredentials = "client_credentials",
        /// RFC 7523 §2.1
        JwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer",
        /// RFC 8693 §2.1
        TokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange",
        /// RFC 8628 §3.4
        DeviceCode = "urn:ietf:params:oauth:grant-type:device_code",
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
        /// With `client_credentials` and the JWT bearer grant the requested scope; with `refresh_token` a narrower scope for
        /// this access token.
        pub scope: Option<String>,
        /// The resources that the access token is for (RFC 8707 §2.2).
        #[oai(default)]
        pub resource: Vec<String>,
        /// With the JWT bearer grant the assertion (RFC 7523 §2.1).
        pub assertion: Option<String>,
        /// The device code (RFC 8628 §3.4).
        pub device_code: Option<String>,
        /// With token exchange the token of the party that the request is about (RFC 8693 §2.1).
        pub subject_token: Option<String>,
        /// The type of `subject_token`.
        pub subject_token_type: Option<TokenTypeIdentifier>,
        /// With token exchange the token of the party that acts.
        pub actor_token: Option<String>,
        /// The type of `actor_token`; required with it.
        pub actor_token_type: Option<TokenTypeIdentifier>,
        /// The type of the token to issue; an access token if absent.
        pub requested_token_type: Option<TokenTypeIdentifier>,
        /// The names of the services that the token is for (RFC 8693 §2.1).
        #[oai(default)]
        pub audience: Vec<String>,
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
            GrantType::JwtBearer => Self::JwtBearer(JwtBearerRequest {
                assertion: required(form.assertion, "assertion")?,
                scope: requested_scope(form.scope.as_deref())?,
                resources,
            }),
            GrantType::TokenExchange => {
                let subject = typed(
                    ("subject_token", form.subject_token),
                    ("subject_token_type", form.subject_token_type),
                )?;
                let missing = "`subject_token` is missing";
                Self::TokenExchange(TokenExchangeRequest {
                    subject: subject.ok_or_else(|| OAuthError::invalid_request(missing))?,
                    actor: typed(
                        ("actor_token", form.actor_token),
                        ("actor_token_type", form.actor_token_type),
                    )?,
                    requested: form.requested_token_type,
                    audiences: form.audience,
                    resources,
                    scope: requested_scope(form.scope.as_deref())?,
                })
            }
            GrantType::DeviceCode => Self::DeviceCode(DeviceCodeRequest {
                device_code: required(form.device_code, "device_code")?,
            }),
        })
    }

    /// The `grant_type`.
    pub const fn grant_type(&self) -> GrantType {
        match self {
            Self::AuthorizationCode(_) => GrantType::AuthorizationCode,
            Self::RefreshToken(_) => GrantType::RefreshToken,
            Self::ClientCredentials(_) => GrantType::ClientCredentials,
            Self::JwtBearer(_) => GrantType::JwtBearer,
            Self::TokenExchange(_) => GrantType::TokenExchange,
            Self::DeviceCode(_) => GrantType::DeviceCode,
        }
    }

    /// The requested scope.
    pub const fn scope(&self) -> Option<&Scope> {
        match self {
            Self::AuthorizationCode(_) | Self::DeviceCode(_) => None,
            Self::RefreshToken(request) => request.scope.as_ref(),
            Self::ClientCredentials(request) => request.scope.as_ref(),
            Self::JwtBearer(request) => request.scope.as_ref(),
            Self::TokenExchange(request) => request.scope.as_ref(),
        }
    }
}

/// A token and its type, which is required with it and not allowed without it (RFC 8693 §2.1).
fn typed(
    (token_name, token): (&str, Option<String>),
    (kind_name, kind): (&str, Option<TokenTypeIdentifier>),
) -> Result<Option<TypedToken>, OAuthError> {
    match (token, kind) {
        (Some(token), Some(kind)) => Ok(Some(TypedToken { token, kind })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(OAuthError::invalid_request(format!("`{kind_name}` is missing"))),
        (None, Some(_)) => Err(OAuthError::invalid_request(format!("`{token_name}` is missing"))),
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
            ("grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer", "invalid_request"),
            ("grant_type=urn:ietf:params:oauth:grant-type:device_code", "invalid_request"),
            ("grant_type=urn:ietf:params:oauth:grant-type:token-exchange", "invalid_request"),
        ] {
            assert_eq!(parse(form).map(drop), Err(code), "{form}");
        }
    }

    #[test]
    fn tokens_of_an_exchange_come_with_their_types() {
        let kind = "urn:ietf:params:oauth:token-type:access_token";
        let exchange = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange";
        let subject = format!("{exchange}&subject_token=s&subject_token_type={kind}");
        let parsed = parse(&format!("{subject}&audience=a&audience=b&scope=x"));
        let Ok(TokenRequest::TokenExchange(request)) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!((request.subject.kind.as_str(), request.audiences.len()), (kind, 2));
        assert!(request.actor.is_none() && request.requested.is_none());
        for bad in [
            format!("{exchange}&subject_token=s"),
            format!("{exchange}&subject_token_type={kind}"),
            format!("{exchange}&subject_token=s&subject_token_type=jwt"),
            format!("{subject}&actor_token=a"),
            format!("{subject}&actor_token_type={kind}"),
        ] {
            assert_eq!(parse(&bad).map(drop), Err("invalid_request"), "{bad}");
        }
    }
}
