//! `propusk keys import` and `propusk keys show`.

use std::{path::PathBuf, process::Output, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use openssl::{
    ec::{EcGroup, EcKey},
    nid::Nid,
    pkey::{PKey, Private},
    rsa::Rsa,
    symm::Cipher,
};
use propusk::clock::Clock;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Backend, Database, TestServer, backend_tests, process::run};

/// A server whose clock stands at the present: commands read the system's.
async fn server(backend: Backend, settings: &[(&str, &str)]) -> TestServer {
    let (database, now) = (Database::new(backend).await, Clock::system().now());
    TestServer::on(Arc::new(database), Clock::fake(now), settings).await
}

fn ec(curve: Nid) -> EcKey<Private> {
    EcKey::generate(&EcGroup::from_curve_name(curve).expect("a curve")).expect("a key")
}

fn rsa(bits: u32) -> Rsa<Private> {
    Rsa::generate(bits).expect("a key")
}

/// The thumbprint of RFC 7638, from OpenSSL's numbers.
fn thumbprint(key: &PKey<Private>) -> String {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let members = if let Ok(rsa) = key.rsa() {
        json!({ "e": b64(&rsa.e().to_vec()), "kty": "RSA", "n": b64(&rsa.n().to_vec()) })
    } else if let Ok(ec) = key.ec_key() {
        let mut context = openssl::bn::BigNumContext::new().expect("memory");
        let (mut x, mut y) = (
            openssl::bn::BigNum::new().expect("memory"),
            openssl::bn::BigNum::new().expect("memory"),
        );
        ec.public_key()
            .affine_coordinates(ec.group(), &mut x, &mut y, &mut context)
            .expect("a point");
        let padded =
            |number: &openssl::bn::BigNum| b64(&number.to_vec_padded(32).expect("32 bytes"));
        json!({ "crv": "P-256", "kty": "EC", "x": padded(&x), "y": padded(&y) })
    } else {
        json!({ "crv": "Ed25519", "kty": "OKP", "x": b64(&key.raw_public_key().expect("a key")) })
    };
    // serde_json sorts the members.
    b64(&Sha256::digest(members.to_string()))
}

struct Cli<'a> {
    server: &'a TestServer,
    settings: &'a [(&'a str, &'a str)],
}

impl Cli<'_> {
    fn run(&self, args: &[&str]) -> (bool, String, String) {
        let output: Output = run(&self.server.database, self.settings, args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    fn import(&self, algorithm: &str, pem: &[u8], args: &[&str]) -> (bool, String) {
        let file: PathBuf = self.server.database.folder.path().join("key.pem");
        let _ = std::fs::remove_file(&file);
        std::fs::write(&file, pem).expect("written");
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("a mode");
        let file = file.to_str().expect("a path");
        let import = ["keys", "import", "--algorithm", algorithm, "--file", file];
        let (done, stdout, stderr) = self.run(&[&import[..], args].concat());
        let secret = String::from_utf8_lossy(&pem[60..90.min(pem.len())]).into_owned();
        assert!(!stdout.contains(&secret) && !stderr.contains(&secret), "{stdout}{stderr}");
        (done, stdout + &stderr)
    }
}

fn kid(token: &str) -> String {
    let header = token.split('.').next().expect("a header");
    let header = URL_SAFE_NO_PAD.decode(header).expect("base64url");
    let header: Value = serde_json::from_slice(&header).expect("JSON");
    header["kid"].as_str().expect("a kid").to_owned()
}

async fn published(server: &TestServer) -> Vec<String> {
    let jwks = server.get("/oauth2/jwks").await.expect(StatusCode::OK);
    for member in ["\"d\"", "\"p\"", "\"q\"", "\"dp\"", "\"dq\"", "\"qi\""] {
        assert!(!jwks.text.contains(member), "{member} is published");
    }
    let jwks = jwks.json();
    let keys = jwks["keys"].as_array().expect("keys").iter();
    keys.map(|key| key["kid"].as_str().expect("a kid").to_owned()).collect()
}

backend_tests! {
    an_imported_key_is_published_and_then_signs,
    an_imported_key_signs_at_once_when_activated,
    every_format_and_algorithm_of_a_key_is_imported,
    t158_an_unfit_key_is_refused,
}

async fn an_imported_key_is_published_and_then_signs(backend: Backend) {
    let server = server(backend, &[]).await;
    let cli = Cli { server: &server, settings: &[] };
    server.register("vera").await;
    let key = PKey::from_ec_key(ec(Nid::X9_62_PRIME256V1)).expect("a key");
    let pem = key.private_key_to_pem_pkcs8().expect("PEM");
    let expected = thumbprint(&key);
    let (done, said) = cli.import("ES256", &pem, &[]);
    assert!(done && said.contains(&format!("imported key {expected}")), "{said}");
    assert!(published(&server).await.contains(&expected), "published at once");
    let before = server.login("vera").await.tokens().access;
    assert_ne!(kid(&before), expected, "and it does not sign yet");
    let (_, said) = cli.import("ES256", &pem, &[]);
    assert!(said.contains("is here already") && said.contains(&expected), "{said}");
    let ahead = server.app.config.keys.publish_ahead;
    server.clock.set(Clock::system().now() + ahead + Duration::from_secs(1));
    let after = server.login("vera").await.tokens().access;
    assert_eq!(kid(&after), expected);
    server.verify(&after).await.expect(StatusCode::OK);
    let audit = server.admin("root").await.all("/audit?action=keys.import").await;
    assert_eq!((audit.len(), &audit[0]["subject"]), (1, &json!(expected)));
    assert_eq!(audit[0]["detail"], json!({ "algorithm": "ES256", "atOnce": false }));
}

async fn an_imported_key_signs_at_once_when_activated(backend: Backend) {
    let server = server(backend, &[]).await;
    let cli = Cli { server: &server, settings: &[] };
    let before = server.register("vera").await.access;
    let key = PKey::from_ec_key(ec(Nid::X9_62_PRIME256V1)).expect("a key");
    let (done, said) =
        cli.import("es256", &key.private_key_to_pem_pkcs8().expect("PEM"), &["--activate"]);
    assert!(done, "{said}");
    // The command's clock was later than the server's, which then reads the keys.
    server.clock.set(Clock::system().now());
    assert!(published(&server).await.contains(&thumbprint(&key)));
    let after = server.login("vera").await.tokens().access;
    assert_eq!(kid(&after), thumbprint(&key));
    for token in [&before, &after] {
        server.verify(token).await.expect(StatusCode::OK);
    }
    let (done, ban, _) = cli.run(&["keys", "ban", &thumbprint(&key)]);
    assert!(done, "{ban}");
    server.verify(&after).await.expect_error(401, "INVALID_TOKEN");
    // A banned key does not come back.
    let (done, said) =
        cli.import("ES256", &key.private_key_to_pem_pkcs8().expect("PEM"), &["--activate"]);
    assert!(!done && said.contains("banned"), "{said}");
    let (done, _, said) = cli.run(&["keys", "show", &thumbprint(&key), "--pem"]);
    assert!(!done && said.contains("banned"), "{said}");
}

const ALL: &[(&str, &str)] = &[("PROPUSK_KEYS__ALGORITHMS", "ES256,RS256,PS256,EdDSA")];

async fn every_format_and_algorithm_of_a_key_is_imported(backend: Backend) {
    let server = server(backend, ALL).await;
    let cli = Cli { server: &server, settings: ALL };
    let p256 = ec(Nid::X9_62_PRIME256V1);
    // As `openssl ecparam -genkey` writes it.
    let parameters =
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let sec1 = [&parameters[..], &p256.private_key_to_pem().expect("PEM")].concat();
    let (pkcs1, other) = (rsa(2048), rsa(3072));
    let ed = PKey::generate_ed25519().expect("a key");
    for (algorithm, pem, key) in [
        ("ES256", sec1, PKey::from_ec_key(p256).expect("a key")),
        ("RS256", pkcs1.private_key_to_pem().expect("PEM"), PKey::from_rsa(pkcs1).expect("a key")),
        (
            "PS256",
            PKey::from_rsa(other.clone()).expect("a key").private_key_to_pem_pkcs8().expect("PEM"),
            PKey::from_rsa(other).expect("a key"),
        ),
        ("EdDSA", ed.private_key_to_pem_pkcs8().expect("PEM"), ed),
    ] {
        let (done, said) = cli.import(algorithm, &pem, &["--activate"]);
        assert!(done, "{algorithm}: {said}");
        let kid = thumbprint(&key);
        assert!(published(&server).await.contains(&kid), "{algorithm}");
        let (done, shown, stderr) = cli.run(&["keys", "show", &kid, "--pem"]);
        assert!(done, "{stderr}");
        assert_eq!(shown.as_bytes(), key.public_key_to_pem().expect("PEM"), "{algorithm}");
        let (_, shown, _) = cli.run(&["keys", "show", &kid, "--json"]);
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!((&shown["id"], &shown["algorithm"]), (&json!(kid), &json!(algorithm)));
        assert_eq!(shown["state"], "active");
    }
    let (_, listed, _) = cli.run(&["keys", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    for key in listed.as_array().expect("keys") {
        let id = key["id"].as_str().expect("an id");
        let (done, shown, stderr) = cli.run(&["keys", "show", id, "--pem"]);
        let is_symmetric = key["algorithm"] == "refresh-chain" || key["algorithm"] == "derivation";
        assert_eq!(done, !is_symmetric, "{shown}{stderr}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
    let (done, _, said) = cli.run(&["keys", "show", "-nothing"]);
    assert!(!done && said.contains("no key has the id -nothing"), "{said}");
}

async fn t158_an_unfit_key_is_refused(backend: Backend) {
    let server = server(backend, &[]).await;
    let cli = Cli { server: &server, settings: &[] };
    let before = published(&server).await;
    let pkcs8 = |key: PKey<Private>| key.private_key_to_pem_pkcs8().expect("PEM");
    let of_rsa = |bits| PKey::from_rsa(rsa(bits)).expect("a key");
    let of_ec = |curve| PKey::from_ec_key(ec(curve)).expect("a key");
    let encrypted = of_rsa(2048)
        .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret")
        .expect("PEM");
    let public = of_rsa(2048).public_key_to_pem().expect("PEM");
    let ed = PKey::generate_ed25519().expect("a key");
    for (algorithm, pem, says) in [
        ("RS256", pkcs8(of_rsa(1024)), "2048 to 4096 bits; this one has 1024"),
        ("RS256", pkcs8(of_ec(Nid::X9_62_PRIME256V1)), "RS256 requires an RSA key"),
        ("ES256", pkcs8(of_rsa(2048)), "ES256 requires an EC key"),
        ("ES256", pkcs8(of_ec(Nid::SECP384R1)), "the curve P-256"),
        ("ES256", pkcs8(of_ec(Nid::SECP256K1)), "the curve P-256"),
        ("ES256", pkcs8(ed), "ES256 requires an EC key"),
        ("RS256", encrypted, "encrypted with a passphrase"),
        ("RS256", public, "not a private key in PEM"),
        ("RS256", b"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\n-----END PRIVATE KEY-----\n".to_vec(), "not a private key in PEM"),
        ("PS256", pkcs8(of_rsa(2048)), "PS256 is not in keys.algorithms"),
    ] {
        let (done, said) = cli.import(algorithm, &pem, &["--activate"]);
        assert!(!done && said.contains(says), "{says}: {said}");
    }
    assert_eq!(published(&server).await, before, "nothing was imported");
    let (done, _, said) = cli.run(&["keys", "import", "--algorithm", "HS256", "--file", "x"]);
    assert!(!done && said.contains("ES256"), "{said}");
    let (done, _, said) =
        cli.run(&["keys", "import", "--algorithm", "ES256", "--file", "/nowhere"]);
    assert!(!done && said.contains("/nowhere"), "{said}");
}
