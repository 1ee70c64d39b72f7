//! What the crate offers: errors and settings.

use std::collections::BTreeSet;

use propusk_client::{Error, Propusk, Registration};

use crate::support::server::{PASSWORD, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_server_are_typed() {
    let server = Server::start(&[]).await;
    let propusk = Propusk::builder(&server.issuer).build().expect("settings");
    let registration = Registration {
        email: "no email".to_owned(),
        username: Some("a b".to_owned()),
        password: PASSWORD.to_owned(),
    };
    let invalid = propusk.register(&registration).await.expect_err("two fields are invalid");
    let Error::Server(error) = &invalid else { panic!("{invalid:?}") };
    let fields: BTreeSet<_> = error.details.iter().map(|detail| detail.field.as_str()).collect();
    assert_eq!(fields, BTreeSet::from(["email", "username"]));
    assert_eq!((invalid.status(), invalid.code()), (error.status, "VALIDATION_ERROR"));
    assert!(error.request_id.is_some());
    let wrong = propusk.log_in("vera", "wrong").await.expect_err("no such user");
    assert_eq!((wrong.status(), wrong.code()), (401, "INVALID_CREDENTIALS"));
    assert!(!wrong.is_refused() && !wrong.is_temporary(), "no session was refused");
    let registration =
        Registration { email: "vera@example.org".to_owned(), username: None, ..registration };
    let tokens = propusk.register(&registration).await.expect("an account");
    assert_eq!(tokens.user.email, "vera@example.org");
    let debug = format!("{tokens:?} {registration:?} {propusk:?}");
    for secret in [&tokens.access_token, &tokens.refresh_token, PASSWORD] {
        assert!(!debug.contains(secret), "{debug}");
    }
    drop(server);
    let lost = propusk.log_in("vera", PASSWORD).await.expect_err("nothing listens");
    assert!(matches!(&lost, Error::Network { .. }) && lost.is_temporary(), "{lost}");
    assert!(!lost.to_string().contains(PASSWORD));
}

#[test]
fn settings_are_checked() {
    for builder in [
        Propusk::builder("id.example.com"),
        Propusk::builder("ftp://id.example.com"),
        Propusk::builder("https://id.example.com").url("propusk:8080"),
        // Without a feed, the server verifies tokens of its own API only.
        Propusk::builder("https://id.example.com").audience("https://api.example.com"),
        // Outside of a runtime.
        Propusk::builder("https://id.example.com").feed("gateway", "secret"),
        Propusk::builder("https://id.example.com").cookie_domain("example.com\r\nx: y"),
    ] {
        let text = format!("{builder:?}");
        assert!(matches!(builder.build(), Err(Error::Configuration(_))), "{text}");
    }
    let secure = Propusk::builder("https://id.example.com").build().expect("settings");
    assert_eq!(secure.cookies().access_name(), "__Host-propusk_access");
    let cleared = secure.cookies().clear().expect("cookies");
    let expected = "__Host-propusk_access=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure";
    assert_eq!(cleared[0], expected);
    let wide = Propusk::builder("https://id.example.com").cookie_domain("example.com");
    let wide = wide.build().expect("settings");
    assert_eq!(wide.cookies().refresh_name(), "__Secure-propusk_refresh");
    assert!(
        wide.cookies().clear().expect("cookies")[1]
            .to_str()
            .is_ok_and(|value| { value.ends_with("; Secure; Domain=example.com") })
    );
}
