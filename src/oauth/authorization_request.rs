//! The parameters of an authorization request (RFC 6749 §4.1.1, OpenID Connect Core §3.1.2.1),
//! wherever they come from: a query, a pushed request (RFC 9126) or a request object (RFC 9101).

use super::params::{parameters, values};

parameters! {
    /// A request that is signed.
    pub struct SignedRequest {
        /// The request as a signed JWT (RFC 9101).
        pub request: Option<String>,
    }
}

parameters! {
    /// Which client sends the request, and how: by value, signed or pushed.
    pub struct RequestSource {
        /// The client.
        pub client_id: String,
        /// The `request_uri` of a pushed authorization request (RFC 9126).
        pub request_uri: Option<String>,
        /// The request as a signed JWT (RFC 9101).
        pub request: Option<String>,
    }
}

values! {
    /// How the response is returned (OAuth 2.0 Multiple Response Types §2.1, Form Post Response
    /// Mode).
    pub enum ResponseMode or invalid_request {
        Query = "query",
        Fragment = "fragment",
        FormPost = "form_post",
    }
}

parameters! {
    /// Where the response goes.
    pub struct ResponseParameters {
        /// A registered redirect URI, compared as a string; the port of a loopback address may
        /// differ.
        pub redirect_uri: Option<String>,
        /// Returned unchanged with the response.
        pub state: Option<String>,
        /// How the response is returned.
        pub response_mode: Option<ResponseMode>,
    }
}

values! {
    /// RFC 6749 §3.1.1
    pub enum ResponseType or unsupported_response_type {
        Code = "code",
    }
}

values! {
    /// RFC 7636 §4.3
    pub enum CodeChallengeMethod or invalid_request {
        S256 = "S256",
    }
}

parameters! {
    /// What is requested.
    pub struct AuthorizationParameters {
        /// `code`
        pub response_type: Option<ResponseType>,
        /// The requested scope; values that the client may not request are dropped.
        pub scope: Option<String>,
        /// Returned in the ID token. Required without PKCE.
        pub nonce: Option<String>,
        /// BASE64URL(SHA256(code_verifier)) (RFC 7636 §4.2).
        pub code_challenge: Option<String>,
        /// `S256`
        pub code_challenge_method: Option<CodeChallengeMethod>,
        /// `none`, `login`, `consent`, `select_account`, `create`, separated by spaces.
        pub prompt: Option<String>,
        /// Maximum authentication age in seconds.
        #[oai(validator(minimum(value = "0")))]
        pub max_age: Option<u32>,
        /// Prefills the login form.
        pub login_hint: Option<String>,
        /// Preferred languages of the pages, as in `ru en`: see `ui_locales_supported`.
        pub ui_locales: Option<String>,
        /// An ID token that was issued to the client: only this user may answer the request.
        pub id_token_hint: Option<String>,
        /// `urn:propusk:acr:mfa`, `urn:propusk:acr:password`, in order of preference. The first one
        /// alone requires a second factor; one that comes before the other asks users who have one.
        pub acr_values: Option<String>,
        /// The thumbprint of the DPoP key that the code is bound to (RFC 9449 §10).
        pub dpop_jkt: Option<String>,
        /// The claims request as JSON (OpenID Connect Core §5.5).
        pub claims: Option<String>,
        /// The resources that the access token is for (RFC 8707).
        #[oai(default)]
        pub resource: Vec<String>,
        /// Not supported (OpenID Connect Core §7.2.1): clients register in advance.
        #[oai(skip)]
        pub registration: Option<String>,
    }
}
