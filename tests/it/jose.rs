//! Attacks on access tokens: forged, altered and malformed ones are refused, and the server keeps
//! running.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::{
    jwe,
    jwk::Jwk,
    jws::{self, JwsSigner, JwsVerifier},
};
use propusk::{clock::Clock, storage::Statement};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Backend, Database, START, TestServer, backend_tests};

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn part(token: &str, at: usize) -> Value {
    let text = token.split('.').nth(at).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("JSON")
}

/// The server's private signing key, which no attacker has: for tokens in which only the claims or
/// headers are wrong.
async fn private_key(server: &TestServer) -> Jwk {
    let statement =
        Statement::new("SELECT private_jwe FROM keys WHERE algorithm = 'ES256' ORDER BY number");
    let rows = server.app.db.read(statement).await.expect("rows");
    let sealed: String = rows[0].get("private_jwe").expect("text");
    let master =
        std::fs::read(server.database.folder.path().join("master.key")).expect("the master key");
    let decrypter = jwe::Dir.decrypter_from_bytes(master).expect("a key");
    let (secret, _) = jwe::deserialize_compact(&sealed, &decrypter).expect("it opens");
    Jwk::from_bytes(secret).expect("a JWK")
}

fn sign(key: &Jwk, header: &Value, payload: &str) -> String {
    let signer = jws::ES256.signer_from_jwk(key).expect("a signer");
    let message = format!("{}.{}", encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = signer.sign(message.as_bytes()).expect("a signature");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

async fn assert_refused(server: &TestServer, token: &str, what: &str) {
    let reply = server.verify(token).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{what}: {reply:?}");
    assert!(reply.header("www-authenticate").starts_with("Bearer"), "{what}");
    let session = server.get_as("/api/v1/auth/session", token).await;
    let session = session.expect(StatusCode::OK).json();
    assert!(session.get("data").is_some_and(Value::is_null), "{what}: {session}");
}

#[tokio::test]
async fn t43_only_the_algorithm_of_the_key_is_accepted() {
    let server = TestServer::start(Backend::Sqlite).await;
    let good = server.register("vera").await.access;
    let (header, payload) = (part(&good, 0), good.split('.').nth(1).expect("a payload"));
    let kid = &header["kid"];
    for alg in ["none", "nOnE", "HS256", "RS256", "ES384", ""] {
        let header = encode(&json!({ "alg": alg, "typ": "at+jwt", "kid": kid }));
        assert_refused(&server, &format!("{header}.{payload}."), alg).await;
        let signature = good.rsplit('.').next().expect("a signature");
        assert_refused(&server, &format!("{header}.{payload}.{signature}"), alg).await;
    }
    // The public key as an HMAC secret, in each encoding it is published in.
    let jwks = server.get("/oauth2/jwks").await.json();
    for secret in [jwks["keys"][0].to_string(), jwks.to_string(), jwks["keys"][0]["x"].to_string()]
    {
        let message = format!(
            "{}.{payload}",
            encode(&json!({ "alg": "HS256", "typ": "at+jwt", "kid": kid }))
        );
        let signer = jws::HS256.signer_from_bytes(format!("{secret:-<32}")).expect("a signer");
        let signature = URL_SAFE_NO_PAD.encode(signer.sign(message.as_bytes()).expect("signed"));
        assert_refused(&server, &format!("{message}.{signature}"), "HMAC with the public key")
            .await;
    }
    // r = s = 0
    let message = good.rsplit_once('.').expect("a dot").0;
    let zero = URL_SAFE_NO_PAD.encode([0; 64]);
    assert_refused(&server, &format!("{message}.{zero}"), "r = s = 0").await;
    server.verify(&good).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn t44_a_signature_of_another_encoding_or_length_is_refused() {
    let server = TestServer::start(Backend::Sqlite).await;
    let good = server.register("vera").await.access;
    let (message, signature) = good.rsplit_once('.').expect("a dot");
    let raw = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let integer = |half: &[u8]| {
        let mut bytes = vec![0];
        bytes.extend_from_slice(half);
        [vec![2, bytes.len() as u8], bytes].concat()
    };
    let both = [integer(&raw[..32]), integer(&raw[32..])].concat();
    let der = [vec![0x30, both.len() as u8], both].concat();
    for (bad, what) in [
        (der, "DER"),
        (raw[..63].to_vec(), "63 bytes"),
        ([&raw[..], &[0]].concat(), "65 bytes"),
        (vec![], "none"),
        (raw.iter().rev().copied().collect(), "reversed"),
    ] {
        assert_refused(&server, &format!("{message}.{}", URL_SAFE_NO_PAD.encode(bad)), what).await;
    }
}

#[tokio::test]
async fn t45_t46_t49_t50_a_foreign_jose_header_is_refused_unfetched() {
    let server = TestServer::start(Backend::Sqlite).await;
    let good = server.register("vera").await.access;
    let key = private_key(&server).await;
    let (header, payload) = (part(&good, 0), part(&good, 1).to_string());
    server.verify(&sign(&key, &header, &payload)).await.expect(StatusCode::OK);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
    let attacker = Jwk::generate_ec_key(josekit::jwk::alg::ec::EcCurve::P256).expect("a key");
    let public = serde_json::to_value(attacker.to_public_key().expect("public")).expect("JSON");
    let with = |name: &str, value: Value| {
        let mut header = header.clone();
        header[name] = value;
        header
    };
    for (header, what) in [
        (with("crit", json!(["exp"])), "crit"),
        (with("crit", json!([])), "empty crit"),
        (with("b64", json!(false)), "b64"),
        (with("zip", json!("DEF")), "zip"),
        (with("jwk", public.clone()), "jwk"),
        (with("jku", json!(url)), "jku"),
        (with("x5u", json!(url)), "x5u"),
        (with("x5c", json!(["AAAA"])), "x5c"),
        (with("typ", json!("JWT")), "an ID token's typ"),
        (with("typ", json!("logout+jwt")), "a logout token's typ"),
        (with("kid", json!("../x")), "kid ../x"),
        (with("kid", json!("' OR 1=1")), "kid with SQL"),
        (with("kid", json!("k".repeat(4_000))), "a long kid"),
        (with("kid", json!(7)), "a numeric kid"),
        (json!({ "alg": "ES256", "kid": header["kid"] }), "no typ"),
        (json!({ "alg": "ES256", "typ": "at+jwt" }), "no kid"),
    ] {
        assert_refused(&server, &sign(&key, &header, &payload), what).await;
        assert_refused(&server, &sign(&attacker, &header, &payload), what).await;
    }
    assert_refused(&server, &sign(&attacker, &header, &payload), "another key under our kid").await;
    let anonymous = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(anonymous.is_err(), "the URL in the header was fetched");
}

#[tokio::test]
async fn t47_an_altered_payload_is_refused() {
    let server = TestServer::start(Backend::Sqlite).await;
    let good = server.register("vera").await.access;
    let mut payload = part(&good, 1);
    payload["role"] = json!("admin");
    let parts: Vec<_> = good.split('.').collect();
    let altered = format!("{}.{}.{}", parts[0], encode(&payload), parts[2]);
    assert_refused(&server, &altered, "role").await;
}

#[tokio::test]
async fn t48_t50_malformed_claims_are_refused_despite_the_signature() {
    let server = TestServer::start(Backend::Sqlite).await;
    let good = server.register("vera").await.access;
    let key = private_key(&server).await;
    let (header, payload) = (part(&good, 0), part(&good, 1));
    for name in ["exp", "iat"] {
        for value in [
            "\"1795219300\"",
            "9.3e18",
            "1e300",
            "-1e300",
            "null",
            "-1",
            "1.5",
            "99999999999999999999",
            "[]",
            "true",
        ] {
            let good = format!("\"{name}\":{}", payload[name]);
            let text = payload.to_string().replace(&good, &format!("\"{name}\":{value}"));
            assert_ne!(text, payload.to_string());
            // An iat of -1 is unusual, but an integer in the past.
            if (name, value) != ("iat", "-1") {
                assert_refused(&server, &sign(&key, &header, &text), &format!("{name} {value}"))
                    .await;
            }
        }
    }
    for name in ["exp", "aud", "iss", "sub", "iat", "jti", "client_id"] {
        let mut without = payload.clone();
        without.as_object_mut().expect("an object").remove(name);
        assert_refused(&server, &sign(&key, &header, &without.to_string()), &format!("no {name}"))
            .await;
    }
    for (name, value) in [
        ("aud", json!("https://other.example.org")),
        ("aud", json!(["https://other.example.org"])),
        ("iss", json!("https://other.example.org")),
        ("sub", json!("")),
        ("sub", json!(["a"])),
        ("nbf", json!(9_999_999_999_i64)),
        ("nbf", json!("now")),
        ("iat", json!(9_999_999_999_i64)),
    ] {
        let mut other = payload.clone();
        other[name] = value.clone();
        assert_refused(
            &server,
            &sign(&key, &header, &other.to_string()),
            &format!("{name} {value}"),
        )
        .await;
    }
    for text in ["", "null", "[]", "{", "{\"exp\":1}{", "\"text\"", &"[".repeat(2_000)] {
        assert_refused(&server, &sign(&key, &header, text), text).await;
    }
    let twice = payload.to_string().replacen('{', "{\"sub\":\"another user\",", 1);
    assert_refused(&server, &sign(&key, &header, &twice), "sub twice").await;
    server.verify(&good).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn t51_t52_t53_malformed_and_huge_bearer_tokens_are_refused() {
    let server = TestServer::start(Backend::Sqlite).await;
    let good = server.register("vera").await.access;
    let jwe =
        |header: Value| format!("{}.{}.{}.{}.{}", encode(&header), "AAAA", "AAAA", "AAAA", "AAAA");
    for (bearer, what) in [
        (jwe(json!({ "alg": "dir", "enc": "A256GCM", "zip": "DEF" })), "JWE with zip"),
        (
            jwe(
                json!({ "alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2_147_483_648_u64, "p2s": "AAAA" }),
            ),
            "p2c",
        ),
        (jwe(json!({ "alg": "RSA1_5", "enc": "A128GCM" })), "RSA1_5"),
        ("....".to_owned(), "an empty JWE"),
        ("a.b.c.d".to_owned(), "four parts"),
        (".".repeat(10_000), "dots"),
        ("%00".to_owned(), "an escape"),
    ] {
        assert_refused(&server, &bearer, what).await;
    }
    for size in [20_000, 1_000_000] {
        let reply = server
            .request(reqwest::Method::GET, "/api/v1/auth/verify")
            .bearer_auth(".".repeat(size))
            .send()
            .await;
        if let Ok(reply) = reply {
            assert!(
                [400, 401, 431].contains(&reply.status().as_u16()),
                "{size} dots: {}",
                reply.status()
            );
        }
    }
    server.verify(&good).await.expect(StatusCode::OK);
}

backend_tests! {
    tokens_of_every_algorithm_verify_against_the_jwks,
}

async fn tokens_of_every_algorithm_verify_against_the_jwks(backend: Backend) {
    // One database: two RSA keys are slow to generate.
    let database = Arc::new(Database::new(backend).await);
    for name in ["ES256", "RS256", "PS256", "EdDSA", "Ed25519"] {
        let settings = [
            ("PROPUSK_KEYS__ALGORITHMS", "ES256,RS256,PS256,EdDSA"),
            ("PROPUSK_TOKENS__SIGNING_ALGORITHM", name),
        ];
        let server = TestServer::on(Arc::clone(&database), Clock::fake(START), &settings).await;
        let token = server.register(&name.to_lowercase()).await.access;
        server.verify(&token).await.expect(StatusCode::OK);
        let header = part(&token, 0);
        assert_eq!((&header["alg"], &header["typ"]), (&json!(name), &json!("at+jwt")));
        let jwks = server.get("/oauth2/jwks").await.json();
        let keys = jwks["keys"].as_array().expect("keys");
        assert_eq!(keys.len(), 4);
        for key in keys {
            for private in ["d", "p", "q", "dp", "dq", "qi", "k", "oth"] {
                assert!(key.get(private).is_none(), "{private} of {name} is published");
            }
            assert_eq!(key["use"], "sig");
        }
        let key =
            keys.iter().find(|key| key["kid"] == header["kid"]).expect("the key is published");
        // RFC 9864: an Ed25519 key signs under two names.
        let both = ["EdDSA", "Ed25519"].contains(&name);
        assert_eq!(key["alg"], if both { Value::Null } else { json!(name) });
        let key = Jwk::from_bytes(key.to_string()).expect("a JWK");
        let verifier: Box<dyn JwsVerifier> = match name {
            "ES256" => Box::new(jws::ES256.verifier_from_jwk(&key).expect("a verifier")),
            "RS256" => Box::new(jws::RS256.verifier_from_jwk(&key).expect("a verifier")),
            "PS256" => Box::new(jws::PS256.verifier_from_jwk(&key).expect("a verifier")),
            _ => Box::new(jws::EdDSA.verifier_from_jwk(&key).expect("a verifier")),
        };
        let (message, signature) = token.rsplit_once('.').expect("a dot");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        verifier.verify(message.as_bytes(), &signature).expect("the signature is good");
        let claims = part(&token, 1);
        for claim in [
            "iss",
            "sub",
            "aud",
            "exp",
            "iat",
            "jti",
            "client_id",
            "scope",
            "sid",
            "email",
            "role",
            "auth_time",
        ] {
            assert!(claims.get(claim).is_some(), "{claim} is missing");
        }
        assert_eq!(
            claims["exp"].as_i64().expect("exp") - claims["iat"].as_i64().expect("iat"),
            900
        );
    }
}
