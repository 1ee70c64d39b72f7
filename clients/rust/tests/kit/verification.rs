//! Verification of access tokens.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use propusk_client::{Error, Propusk};
use serde_json::{Value, json};

use crate::support::{
    Person,
    fake_feed::{FakeFeed, ISSUER, Signer},
    headers,
    server::Server,
};

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Claims of a token as the server issues it.
pub fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": [ISSUER, "https://api.example.com"], "sub": "s", "jti": "j",
        "client_id": "c", "sid": "i", "scope": "openid crm:read", "iat": 1_000,
        "exp": 4_000_000_000_i64, "modules": ["crm"], "extra": { "x": 1 },
    })
}

/// The claims with another value of one, or without it.
fn with(name: &str, value: Value) -> Value {
    let mut changed = claims();
    match value {
        Value::Null => drop(changed.as_object_mut().expect("an object").remove(name)),
        value => changed[name] = value,
    }
    changed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t194_a_forged_or_foreign_token_opens_no_session() {
    let server = Server::start(&[]).await;
    let secret = server.add_client("gateway", "propusk:revocations");
    let builder = || Propusk::builder(&server.issuer).feed("gateway", &secret);
    let propusk = builder().build().expect("settings");
    let ann = Person::new(&propusk).await;
    let session = propusk.session_of(ann.access()).await.expect("decided").expect("a session");
    assert_eq!((session.email, session.user_id), (ann.email.clone(), ann.tokens.user.id.clone()));
    let [head, body, signature] = ann.access().split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    let (header, body_of) = (decoded(head), decoded(body));
    let kid = header["kid"].as_str().expect("a kid");
    let mut admin = body_of.clone();
    admin["role"] = json!("admin");
    let other = Signer::new();
    // With the public key as a secret, in the forms in which it is published.
    let jwks = reqwest::get(format!("{}/oauth2/jwks", server.issuer)).await.expect("keys");
    let jwks = jwks.text().await.expect("text");
    let keys: Value = serde_json::from_str(&jwks).expect("JSON");
    let x = URL_SAFE_NO_PAD.decode(keys["keys"][0]["x"].as_str().expect("x")).expect("base64url");
    let hmac = |key: &[u8]| {
        let mut header = Header::new(Algorithm::HS256);
        (header.kid, header.typ) = (Some(kid.to_owned()), Some("at+jwt".to_owned()));
        encode(&header, &body_of, &EncodingKey::from_secret(key).expect("a key")).expect("a JWT")
    };
    let none = |alg: &str| encoded(&json!({ "alg": alg, "typ": "at+jwt", "kid": kid }));
    let mut critical = header.clone();
    critical["crit"] = json!(["exp"]);
    let forged = [
        format!("{}.{body}.", none("none")),
        format!("{}.{body}.{signature}", none("none")),
        format!("{}.{body}.{signature}", none("ES384")),
        format!("{head}.{body}."),
        format!("{head}.{}.{signature}", encoded(&admin)),
        format!("{}.{body}.{signature}", encoded(&critical)),
        other.sign(Some(kid), "at+jwt", &body_of),
        other.sign(Some("unknown"), "at+jwt", &body_of),
        other.sign(None, "at+jwt", &body_of),
        hmac(jwks.as_bytes()),
        hmac(&x),
        "a.b.c".to_owned(),
        String::new(),
        format!("{}.", ann.access()),
        format!(" {}", ann.access()),
        format!("{}=", ann.access()),
        "x".repeat(10_000),
    ];
    for token in forged {
        let outcome = propusk.verify(&token).await;
        assert!(matches!(outcome, Err(Error::InvalidToken(_))), "{token}: {outcome:?}");
        assert!(propusk.session_of(&token).await.expect("decided").is_none(), "{token}");
    }
    // A client's own token for the same API: valid, but nobody's session.
    let own = reqwest::Client::new()
        .post(format!("{}/oauth2/token", server.issuer))
        .basic_auth("gateway", Some(&secret))
        .form(&[("grant_type", "client_credentials")]);
    let own: Value = own.send().await.expect("an answer").json().await.expect("JSON");
    let own = own["access_token"].as_str().expect("a token");
    assert_eq!(propusk.verify(own).await.expect("valid").client_id, "gateway");
    let request = headers(&[("cookie", &format!("propusk_access={own}"))]);
    assert!(propusk.session(&Method::GET, &request).await.expect("decided").is_none());
    // Another resource, and another issuer at the same URL.
    let resource = builder().audience("https://api.example.com").build().expect("settings");
    let refused = resource.verify(ann.access()).await;
    assert!(matches!(&refused, Err(Error::InvalidToken(text)) if text.contains("audience")));
    let session = resource.session_of(ann.access()).await.expect("decided");
    assert!(session.is_some(), "sessions are of the issuer");
    let elsewhere = Propusk::builder(ISSUER)
        .url(&server.issuer)
        .feed("gateway", &secret)
        .build()
        .expect("settings");
    let refused = elsewhere.verify(ann.access()).await;
    assert!(matches!(&refused, Err(Error::Unavailable(text)) if text.contains("issuer")));
    assert_eq!(elsewhere.feed().expect("a feed").number(), None);
    // Without a feed, the server decides.
    let asking = Propusk::builder(&server.issuer).build().expect("settings");
    assert_eq!(asking.verify(ann.access()).await.expect("valid").sub, ann.tokens.user.id);
    assert!(matches!(asking.verify("a.b.c").await, Err(Error::InvalidToken(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t194_every_claim_is_verified() {
    let fake = FakeFeed::start().await;
    let sign = |claims: &Value| fake.signer.sign(Some("k"), "at+jwt", claims);
    let propusk = fake.builder().build().expect("settings");
    let verified = propusk.verify(&sign(&claims())).await.expect("valid");
    assert_eq!((verified.exp, verified.sid.as_deref()), (4_000_000_000, Some("i")));
    assert_eq!(verified.other["extra"], json!({ "x": 1 }));
    verified.require_scope("crm:read").expect("it has");
    verified.require_module("crm").expect("it has");
    assert!(matches!(verified.require_scope("crm"), Err(Error::MissingScope(_))));
    assert!(matches!(verified.require_module("cr"), Err(Error::MissingModule(_))));
    let one = sign(&with("aud", json!(ISSUER)));
    propusk.verify(&one).await.expect("an `aud` that is a string");
    let refused = [
        ("iss", json!("https://id.example.com/")),
        ("iss", Value::Null),
        ("aud", json!(["https://api.example.com"])),
        ("aud", json!("https://id.example.com.evil.example")),
        ("aud", Value::Null),
        ("exp", json!(1_000)),
        ("exp", json!("4000000000")),
        ("exp", Value::Null),
        ("nbf", json!(3_999_999_999_i64)),
        ("iat", Value::Null),
        ("jti", Value::Null),
        ("jti", json!("")),
        ("sub", Value::Null),
        ("sub", json!("")),
        ("client_id", Value::Null),
        ("derived_from", json!([{ "jti": "d" }])),
        ("cnf", json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" })),
    ];
    for (name, value) in refused {
        let outcome = propusk.verify(&sign(&with(name, value.clone()))).await;
        assert!(matches!(outcome, Err(Error::InvalidToken(_))), "{name} {value}: {outcome:?}");
    }
    for typ in ["JWT", "id+jwt", "revocations+jwt", "logout+jwt", ""] {
        let token = fake.signer.sign(Some("k"), typ, &claims());
        assert!(matches!(propusk.verify(&token).await, Err(Error::InvalidToken(_))), "{typ}");
    }
    for typ in ["AT+JWT", "application/at+jwt"] {
        let token = fake.signer.sign(Some("k"), typ, &claims());
        propusk.verify(&token).await.expect("RFC 9068 §4: the same type");
    }
    // A clock that is a little slow, and no more than that.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
    let expired = |ago: u64| sign(&with("exp", json!(now.as_secs() - ago)));
    let patient = fake.builder().leeway(Duration::from_secs(50)).build().expect("settings");
    patient.verify(&expired(20)).await.expect("within the leeway");
    assert!(matches!(patient.verify(&expired(50)).await, Err(Error::InvalidToken(_))));
    assert!(matches!(propusk.verify(&expired(1)).await, Err(Error::InvalidToken(_))));
    let eternal = fake.builder().leeway(Duration::from_secs(61)).build();
    assert!(matches!(eternal, Err(Error::Configuration(_))));
    // A token that was verified before expires like any other.
    let brief = sign(&with("exp", json!(now.as_secs() + 40)));
    propusk.verify(&brief).await.expect("valid");
    propusk.sleep_for_tests(Duration::from_secs(41));
    let outcome = propusk.verify(&brief).await;
    assert!(matches!(&outcome, Err(Error::InvalidToken(text)) if text.contains("expired")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t194_unknown_keys_cause_one_request() {
    let fake = FakeFeed::start().await;
    let long = Duration::from_secs(600);
    let propusk = fake.builder().timing_for_tests(long, long).build().expect("settings");
    let sign = |signer: &Signer, kid: &str| signer.sign(Some(kid), "at+jwt", &claims());
    propusk.verify(&sign(&fake.signer, "k")).await.expect("valid");
    assert_eq!(fake.count("jwks"), 1);
    // The key is known, so a token of another one has a wrong signature.
    let next = Signer::new();
    assert!(propusk.verify(&sign(&next, "k")).await.is_err());
    // Everybody can name keys that do not exist.
    let forged: Vec<_> = (0..50).map(|n| sign(&next, &format!("unknown-{n}"))).collect();
    let outcomes = forged.iter().map(|token| propusk.verify(token));
    for outcome in futures_util::future::join_all(outcomes).await {
        assert!(matches!(outcome, Err(Error::InvalidToken(_))), "{outcome:?}");
    }
    assert_eq!(fake.count("jwks"), 1, "they were fetched a moment ago");
    // A new key is found once that is over, by one request for all.
    {
        let mut state = fake.state();
        let unusable = [
            json!({ "kty": "oct", "kid": "next", "alg": "HS256", "k": "c2VjcmV0" }),
            json!({ "kty": "EC", "kid": "strange", "alg": "ES256" }),
            Value::Null,
        ];
        let mut encrypts = next.jwk("enc");
        encrypts["use"] = json!("enc");
        state.keys.extend(unusable);
        state.keys.extend([encrypts, next.jwk("next")]);
    }
    propusk.sleep_for_tests(Duration::from_secs(31));
    let tokens: Vec<_> = (0..20).map(|_| sign(&next, "next")).collect();
    let outcomes = tokens.iter().map(|token| propusk.verify(token));
    for outcome in futures_util::future::join_all(outcomes).await {
        outcome.expect("valid");
    }
    assert_eq!(fake.count("jwks"), 2);
    assert!(propusk.verify(&sign(&next, "enc")).await.is_err(), "no key for signatures");
    // Known keys are used on while they cannot be fetched; for others nothing is decided.
    fake.state().is_down = true;
    propusk.sleep_for_tests(Duration::from_secs(31));
    propusk.verify(&sign(&next, "next")).await.expect("valid");
    let outcome = propusk.verify(&sign(&next, "third")).await;
    assert!(outcome.as_ref().is_err_and(Error::is_temporary), "{outcome:?}");
    let outcome = propusk.verify(&sign(&next, "fourth")).await;
    assert!(outcome.as_ref().is_err_and(Error::is_temporary), "{outcome:?}");
}
