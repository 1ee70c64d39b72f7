//! Token exchange and ID-JAG: the parties, and another server that signs JWTs.

use josekit::{jwk::Jwk, jws};
use propusk::{
    flows::admin::{clients::catalogue, issuers},
    model::{
        actor::Actor,
        catalogue::Resource,
        client::{GrantType, Metadata, TokenExchangePolicy},
        trusted_issuer::{IssuerSettings, IssuerUse},
    },
    oauth::scope::Scope,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{
    Backend, Reply, START, TestServer,
    oauth::{AuthorizationRequest, first_party_app, sign},
};

pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
pub const REFRESH_TOKEN: &str = "urn:ietf:params:oauth:token-type:refresh_token";
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
pub const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";
pub const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The API that users' tokens are for, which the client `gateway` serves.
pub const ORDERS: &str = "https://orders.example";

/// The API behind it.
pub const LEDGER: &str = "https://ledger.example";

pub fn scope(text: &str) -> Scope {
    Scope::parse(text).expect("a scope")
}

/// The metadata of a service that may exchange tokens.
pub fn service(policy: Option<TokenExchangePolicy>) -> Metadata {
    Metadata {
        scope: scope("orders:read ledger:read ledger:write propusk:admin"),
        grant_types: vec![
            GrantType::ClientCredentials,
            GrantType::TokenExchange,
            GrantType::JwtBearer,
        ],
        resources: vec![LEDGER.to_owned()],
        token_exchange: policy,
        ..Metadata::default()
    }
}

/// A client of ORDERS may be served by LEDGER.
pub fn policy() -> TokenExchangePolicy {
    TokenExchangePolicy {
        audiences: vec![LEDGER.to_owned()],
        subject_audiences: vec![ORDERS.to_owned()],
        issuers: vec!["acme".to_owned()],
        impersonation: true,
        delegation: true,
    }
}

/// A server with two APIs, the application `app`, the service `gateway` and the user `ann`.
pub async fn with_services(backend: Backend) -> TestServer {
    let server = TestServer::start(backend).await;
    furnish(&server).await;
    server
}

/// As [`with_services`], for a server that runs.
pub async fn furnish(server: &TestServer) {
    for id in [ORDERS, LEDGER] {
        let name = id.trim_start_matches("https://").to_owned();
        let resource =
            Resource { id: id.to_owned(), name, scope: None, default_scope: scope("ledger:read") };
        let by = Actor::operator();
        catalogue::put_resource(&server.app, resource, &by).await.expect("a resource");
    }
    let app = Metadata {
        scope: scope(
            "openid email offline_access orders:read ledger:read ledger:write propusk:admin",
        ),
        resources: vec!["*".to_owned()],
        ..first_party_app()
    };
    server.client("app", app).await;
    server.client("gateway", service(Some(policy()))).await;
    server.register("ann").await;
}

/// The scope of [`tokens`].
pub const SCOPE: &str = "openid email orders:read ledger:read";

/// What `app` gets for a user, for ORDERS.
pub async fn tokens(server: &TestServer, name: &str, scope: &str) -> Reply {
    let request = AuthorizationRequest::of("app", scope).with("resource", ORDERS);
    let answer = server.browser().authorize(&request, name).await;
    server.exchange_code("app", answer.code()).await.expect(StatusCode::OK)
}

/// An access token of `ann` for ORDERS.
pub async fn access_token(server: &TestServer) -> String {
    tokens(server, "ann", SCOPE).await.field("access_token")
}

/// A client's own token.
pub async fn own_token(server: &TestServer, id: &str) -> String {
    let reply = server.form_as("/oauth2/token", id, &[("grant_type", "client_credentials")]).await;
    reply.expect(StatusCode::OK).field("access_token")
}

/// Exchanges a token as a client; further parameters follow.
pub async fn exchange(
    server: &TestServer,
    id: &str,
    (kind, token): (&str, &str),
    beside: &[(&str, &str)],
) -> Reply {
    let fields = [("grant_type", EXCHANGE), ("subject_token", token), ("subject_token_type", kind)];
    server.form_as("/oauth2/token", id, &[&fields, beside].concat()).await
}

/// Presents an assertion by the JWT bearer grant.
pub async fn bearer(
    server: &TestServer,
    id: &str,
    assertion: &str,
    beside: &[(&str, &str)],
) -> Reply {
    let fields = [("grant_type", JWT_BEARER), ("assertion", assertion)];
    server.form_as("/oauth2/token", id, &[&fields, beside].concat()).await
}

/// A server of others that signs JWTs.
pub struct Idp {
    pub issuer: &'static str,
    key: Jwk,
}

impl Idp {
    pub fn new(issuer: &'static str) -> Self {
        Self { issuer, key: jws::ES256.generate_key_pair().expect("a key").to_jwk_key_pair() }
    }

    /// Its public keys.
    pub fn jwks(&self) -> Value {
        let public = self.key.to_public_key().expect("a public key");
        json!({ "keys": [serde_json::to_value(public).expect("JSON")] })
    }

    /// Trusts it as `id`, for subjects that may have the scope of LEDGER's readers.
    pub async fn trusted(&self, server: &TestServer, id: &str, uses: &[IssuerUse]) {
        let settings = IssuerSettings {
            jwks: Some(self.jwks()),
            trusted_for: uses.to_vec(),
            scope: scope("ledger:read"),
            ..IssuerSettings::default()
        };
        let (id, issuer) = (id.to_owned(), self.issuer.to_owned());
        let by = Actor::operator();
        let created = issuers::create(&server.app, id, issuer, settings, None, &by).await;
        created.expect("an issuer");
    }

    /// The claims of a valid JWT for a server, with others or in place of them.
    pub fn claims(&self, server: &TestServer, more: Value) -> Value {
        let now = server.clock.now().as_secs();
        let mut claims = json!({
            "iss": self.issuer, "sub": "42", "aud": server.app.config.server.issuer, "iat": now,
            "exp": now + 300, "jti": format!("{}", server.clock.now().micros() - START.micros()),
        });
        for (name, value) in more.as_object().expect("an object") {
            match value {
                Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        sign(&self.key, header, claims)
    }

    /// A valid subject or actor token.
    pub fn token(&self, server: &TestServer, more: Value) -> String {
        self.sign(&json!({ "alg": "ES256" }), &self.claims(server, more))
    }

    /// A valid ID-JAG for `gateway` at LEDGER.
    pub fn id_jag(&self, server: &TestServer, jti: &str, more: Value) -> String {
        let mut claims = json!({
            "jti": jti, "client_id": "gateway", "resource": LEDGER, "scope": "ledger:read",
        });
        let more = more.as_object().expect("an object").clone();
        claims.as_object_mut().expect("an object").extend(more);
        let header = json!({ "alg": "ES256", "typ": "oauth-id-jag+jwt" });
        self.sign(&header, &self.claims(server, claims))
    }
}
