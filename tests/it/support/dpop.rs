//! A client with a key that it binds its tokens to (RFC 9449).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::jwk::{Jwk, alg::ec::EcCurve};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Reply, TestServer,
    oauth::{CALLBACK, SECRET, VERIFIER, sign},
    send,
};

/// The issuer of a test server, which the URLs of proofs begin with.
fn issuer(server: &TestServer) -> &str {
    &server.app.config.server.issuer
}

/// A key of a client.
pub struct Key(Jwk);

impl Key {
    pub fn new() -> Self {
        Self(Jwk::generate_ec_key(EcCurve::P256).expect("a key"))
    }

    /// The public key.
    pub fn public(&self) -> Value {
        let key = self.0.to_public_key().expect("a public key");
        let member = |name| key.parameter(name).cloned().expect("a member");
        json!({ "kty": "EC", "crv": "P-256", "x": member("x"), "y": member("y") })
    }

    /// RFC 7638
    pub fn thumbprint(&self) -> String {
        let key = self.public();
        let json = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, key["x"], key["y"]);
        URL_SAFE_NO_PAD.encode(Sha256::digest(json))
    }

    /// The header of a proof.
    pub fn header(&self) -> Value {
        json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.public() })
    }

    /// The claims of a proof for a request.
    pub fn claims(&self, server: &TestServer, method: &str, path: &str) -> Value {
        json!({
            "jti": server.app.new_id(), "htm": method,
            "htu": format!("{}{path}", issuer(server)), "iat": server.clock.now().as_secs(),
        })
    }

    /// A JWT with any header and claims.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        sign(&self.0, header, claims)
    }

    /// A proof for a request.
    pub fn proof(&self, server: &TestServer, method: &str, path: &str) -> String {
        self.sign(&self.header(), &self.claims(server, method, path))
    }

    /// A proof for a request with an access token.
    pub fn proof_of(
        &self,
        server: &TestServer,
        method: &str,
        path: &str,
        access_token: &str,
    ) -> String {
        self.proof_at(server, method, &format!("{}{path}", issuer(server)), access_token)
    }

    /// As [`Key::proof_of`], for a request to another server.
    pub fn proof_at(
        &self,
        server: &TestServer,
        method: &str,
        url: &str,
        access_token: &str,
    ) -> String {
        let mut claims = self.claims(server, method, "");
        claims["htu"] = url.into();
        claims["ath"] = URL_SAFE_NO_PAD.encode(Sha256::digest(access_token)).into();
        self.sign(&self.header(), &claims)
    }

    /// Requests tokens with a proof, as a public client unless the form says who it is.
    pub async fn request_tokens(&self, server: &TestServer, fields: &[(&str, &str)]) -> Reply {
        let proof = self.proof(server, "POST", "/oauth2/token");
        request_tokens(server, fields, &proof).await
    }

    /// Exchanges a code of the public client `id`.
    pub async fn exchange_code(&self, server: &TestServer, id: &str, code: &str) -> Reply {
        self.request_tokens(server, &code_fields(id, code)).await
    }

    /// Refreshes as the public client `id`.
    pub async fn refresh(&self, server: &TestServer, id: &str, refresh_token: &str) -> Reply {
        self.request_tokens(server, &refresh_fields(id, refresh_token)).await
    }

    /// UserInfo by the scheme `DPoP`.
    pub async fn userinfo(&self, server: &TestServer, access_token: &str) -> Reply {
        let proof = self.proof_of(server, "GET", "/oauth2/userinfo", access_token);
        userinfo(server, access_token, &proof).await
    }
}

/// Requests tokens with this proof.
pub async fn request_tokens(server: &TestServer, fields: &[(&str, &str)], proof: &str) -> Reply {
    let request = server.request(Method::POST, "/oauth2/token").header("dpop", proof);
    send(request.form(fields)).await
}

/// UserInfo with this proof.
pub async fn userinfo(server: &TestServer, access_token: &str, proof: &str) -> Reply {
    let request = server.request(Method::GET, "/oauth2/userinfo").header("dpop", proof);
    send(request.header("authorization", format!("DPoP {access_token}"))).await
}

pub fn code_fields<'a>(id: &'a str, code: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("grant_type", "authorization_code"),
        ("client_id", id),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ]
}

pub fn refresh_fields<'a>(id: &'a str, refresh_token: &'a str) -> [(&'a str, &'a str); 3] {
    [("grant_type", "refresh_token"), ("client_id", id), ("refresh_token", refresh_token)]
}

/// The form of client credentials as a confidential client.
pub fn own_token_fields(id: &str) -> [(&str, &str); 3] {
    [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", SECRET)]
}
