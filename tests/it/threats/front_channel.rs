//! Attacks on redirects and pages.

use propusk::{
    model::client::{ApplicationType, Client, Metadata},
    oauth::scope::Scope,
};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::{assert_active, assert_revoked, codes, tokens, with_app};
use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    oauth::{
        AuthorizationRequest, AuthorizationResponse, CALLBACK, Form, VERIFIER, first_party_app,
        web_app,
    },
    send,
};

/// Markup that runs unless it is escaped.
const MARKUP: &str = "\"><svg onload=alert(1)>";

/// Fails the test unless an authorization request with this redirect URI leads to an error page.
async fn assert_no_redirect(server: &TestServer, request: &AuthorizationRequest) {
    let mut anonymous = server.browser();
    let mut ann = server.logged_in("ann").await;
    for browser in [&mut anonymous, &mut ann] {
        browser.open(&request.path()).await.expect_page(400);
        // POST continues as GET, with the same result.
        let post = server.request(Method::POST, "/oauth2/authorize");
        let reply = browser.send(post.form(&request.0)).await;
        let on = reply.header("location").to_owned();
        if on.is_empty() {
            reply.expect_page(400);
        } else {
            assert!(on.starts_with("/oauth2/authorize?"), "{reply:?}");
            browser.open(&on).await.expect_page(400);
        }
    }
    let pushed = request.clone().without("client_id").0;
    let pushed: Vec<_> = pushed.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    server.form_as("/oauth2/par", "app", &pushed).await.expect_oauth_error(400, "invalid_request");
    assert_eq!(codes(server).await, 0, "{request:?}");
}

/// The markup unescaped, as it must not be in a page.
#[track_caller]
fn assert_escaped(reply: &Reply) {
    assert!(!reply.text.contains("<svg onload"), "{reply:?}");
    let policy = reply.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{reply:?}");
}

backend_tests! {
    t01_only_a_registered_redirect_uri_gets_a_response,
    t02_redirect_uri_spellings_are_not_normalized,
    t03_a_loopback_redirect_uri_may_differ_in_port_only,
    t04_pages_never_link_to_a_script_scheme,
    t05_repeated_parameters_are_refused_at_every_endpoint,
    t06_a_request_changed_between_pages_is_validated_again,
    t07_request_parameters_are_escaped_on_every_page,
    t08_return_to_leads_only_to_an_authorization_request,
    t09_logout_redirects_to_registered_uris_for_the_right_user,
    t10_a_consent_form_is_bound_to_browser_and_request,
    t97_a_consent_is_valid_for_what_was_shown,
    t11_every_authorization_response_carries_iss,
    t12_redirects_after_a_form_are_303,
}

async fn t01_only_a_registered_redirect_uri_gets_a_response(backend: Backend) {
    let uri = "https://c.example/cb";
    let server =
        with_app(backend, Metadata { redirect_uris: vec![uri.to_owned()], ..first_party_app() })
            .await;
    let others = [
        "https://c.example/cb/",
        "https://c.example/CB",
        "https://c.example/cb?x",
        "https://c.example/cb?",
        "https://c.example/cb#",
        "https://c.example@evil.example/cb",
        "https://c.example.evil.example/cb",
        "https://c.example:443/cb",
        "https://c.example:8443/cb",
        "http://c.example/cb",
        "https://C.example/cb",
        "HTTPS://c.example/cb",
        "https://c.example/",
        "//c.example/cb",
        "/cb",
        "https://evil.example/cb",
        "https://c.example/cb/../cb",
        "https://evil.example/https://c.example/cb",
        "https://c.example/cb https://evil.example/cb",
    ];
    for other in others {
        let request = AuthorizationRequest::of("app", "openid").with("redirect_uri", other);
        assert_no_redirect(&server, &request).await;
        // Another error in the request does not make it a redirect either.
        assert_no_redirect(&server, &request.with("response_type", "token").with("prompt", "none"))
            .await;
    }
    for request in [
        AuthorizationRequest::of("app", "openid"),
        AuthorizationRequest::of("nobody", "openid"),
        AuthorizationRequest::of("app", "openid").without("client_id"),
    ] {
        server
            .browser()
            .open(&request.with("redirect_uri", CALLBACK).path())
            .await
            .expect_page(400);
    }
    let answer = server
        .browser()
        .authorize(&AuthorizationRequest::of("app", "openid").with("redirect_uri", uri), "ann")
        .await;
    assert!(
        answer.location.as_str().starts_with("https://c.example/cb?code="),
        "the registered one works: {answer:?}"
    );
}

async fn t02_redirect_uri_spellings_are_not_normalized(backend: Backend) {
    let server = with_app(
        backend,
        Metadata { redirect_uris: vec!["https://c.example/a/cb".to_owned()], ..first_party_app() },
    )
    .await;
    let others = [
        "https://c.example/a/..;/cb",
        "https://c.example/a/%2e%2e/a/cb",
        "https://c.example/a/./cb",
        "https://c.example\\@evil.example/a/cb",
        "https:\\\\c.example/a/cb",
        "https://c.example/a\\cb",
        "https://c.example/a/cb\t",
        "https://c.example/a/cb\n",
        "https://c.example/a/cb\r\nX: y",
        " https://c.example/a/cb",
        "https://c.example/a/%63b",
        "https://c.example/a/cb\u{0}",
        "https://c.example\u{3002}evil.example/a/cb",
        "https://\u{ff43}.example/a/cb",
        "https://c.example/a/cb\u{200b}",
    ];
    for other in others {
        let request = AuthorizationRequest::of("app", "openid").with("redirect_uri", other);
        assert_no_redirect(&server, &request).await;
    }
}

async fn t03_a_loopback_redirect_uri_may_differ_in_port_only(backend: Backend) {
    let metadata = Metadata {
        redirect_uris: vec![
            "http://127.0.0.1/cb".to_owned(),
            "http://[::1]/cb".to_owned(),
            "http://localhost:3000/here".to_owned(),
            "http://localhost/any".to_owned(),
        ],
        application_type: ApplicationType::Native,
        ..first_party_app()
    };
    let server = with_app(backend, metadata).await;
    for other in [
        "http://127.0.0.1:7777/cb?x",
        "http://127.0.0.1:7777/other",
        "http://localhost/cb",
        "http://localhost:7777/cb",
        "http://127.0.0.2:7777/cb",
        "http://127.1:7777/cb",
        "http://2130706433/cb",
        "http://127.0.0.1:7777@evil.example/cb",
        "https://127.0.0.1:7777/cb",
        "http://127.0.0.1:77777/cb",
        "http://127.0.0.1.evil.example/cb",
        "http://127.0.0.1:7777#/cb",
        "http://localhost:3001/here",
        "http://localhost/here",
        "http://127.0.0.1:3000/here",
        "http://127.0.0.1:7777/any",
        "http://localhost.evil.example/any",
        "http://localhost:7777@evil.example/any",
        "https://localhost/any",
    ] {
        assert_no_redirect(
            &server,
            &AuthorizationRequest::of("app", "openid").with("redirect_uri", other),
        )
        .await;
    }
    for port in [
        "http://127.0.0.1:7777/cb",
        "http://[::1]:50000/cb",
        "http://127.0.0.1/cb",
        "http://localhost:3000/here",
        "http://localhost:7777/any",
    ] {
        let answer = server
            .browser()
            .authorize(&AuthorizationRequest::of("app", "openid").with("redirect_uri", port), "ann")
            .await;
        assert!(answer.location.as_str().starts_with(&format!("{port}?code=")), "{answer:?}");
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", answer.code()),
            ("code_verifier", crate::support::oauth::VERIFIER),
        ];
        let elsewhere = [&fields[..], &[("redirect_uri", "http://127.0.0.1:1/cb")]].concat();
        server
            .form_as("/oauth2/token", "app", &elsewhere)
            .await
            .expect_oauth_error(400, "invalid_grant");
        let here = [&fields[..], &[("redirect_uri", port)]].concat();
        server.form_as("/oauth2/token", "app", &here).await.expect(StatusCode::OK);
    }
}

async fn t04_pages_never_link_to_a_script_scheme(backend: Backend) {
    for bad in [
        "JaVaScRiPt:alert(1)//",
        "javascript://c.example/%0aalert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:alert(1)",
    ] {
        let uri = Some(bad.to_owned());
        let metadata = Metadata {
            client_uri: uri.clone(),
            policy_uri: uri.clone(),
            tos_uri: uri.clone(),
            logo_uri: uri,
            ..web_app()
        };
        let server = with_app(backend, metadata).await;
        let mut ann = server.browser();
        let to_login = ann.open(&AuthorizationRequest::of("app", "openid").path()).await;
        let login = ann.open(to_login.header("location")).await.expect(StatusCode::OK);
        let register = ann
            .open(&to_login.header("location").replace("/login", "/register"))
            .await
            .expect(StatusCode::OK);
        let after = ann.log_in(to_login.header("location"), "ann").await;
        let consent = ann.open(after.header("location")).await.expect(StatusCode::OK);
        assert!(consent.text.contains("name=\"decision\""));
        let account = ann
            .open(
                &AuthorizationRequest::of("app", "openid").with("prompt", "select_account").path(),
            )
            .await;
        let account = ann.open(account.header("location")).await.expect(StatusCode::OK);
        let logout = ann.open("/oauth2/logout?client_id=app").await.expect(StatusCode::OK);
        let scheme = bad.split(':').next().expect("a scheme").to_lowercase();
        for page in [login, register, consent, account, logout] {
            let html = page.text.to_lowercase();
            assert!(
                !html.contains(&format!("=\"{scheme}:"))
                    && !html.contains(&format!("{scheme}://c.example")),
                "{page:?}"
            );
        }
    }
}

async fn t05_repeated_parameters_are_refused_at_every_endpoint(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let mut ann = server.logged_in("ann").await;
    let good = AuthorizationRequest::of("app", "openid").query();
    for twice in [
        "state=other",
        "redirect_uri=https%3A%2F%2Fevil.example%2Fcb",
        "client_id=app",
        "scope=openid",
        "response_type=code",
        "%73tate=other",
        "unknown=1&unknown=2",
        "prompt=none&prompt=login",
        "nonce=other",
        "code_challenge_method=S256",
    ] {
        ann.open(&format!("/oauth2/authorize?{good}&{twice}")).await.expect_page(400);
        let post = server
            .request(Method::POST, "/oauth2/authorize")
            .header("content-type", "application/x-www-form-urlencoded");
        ann.send(post.body(format!("{good}&{twice}"))).await.expect_page(400);
    }
    let post = server
        .request(Method::POST, &format!("/oauth2/authorize?{good}"))
        .header("content-type", "application/x-www-form-urlencoded");
    ann.send(post.body("prompt=none")).await.expect_page(400);
    assert_eq!(codes(&server).await, 0);

    let granted = tokens(&server, "app", "openid", "ann").await;
    let access = granted.field("access_token");
    let refresh = granted.field("refresh_token");
    let cases = [
        (
            "/oauth2/par",
            "redirect_uri=https%3A%2F%2Fapp.example%2Fcb&scope=openid&scope=email".to_owned(),
        ),
        ("/oauth2/device_authorization", "scope=openid&scope=email".to_owned()),
        ("/oauth2/introspect", format!("token={access}&token={refresh}")),
        ("/oauth2/revoke", format!("token={access}&token={refresh}")),
        (
            "/oauth2/token",
            format!("grant_type=refresh_token&refresh_token={refresh}&scope=openid&scope=email"),
        ),
    ];
    for (path, body) in cases {
        for path in [path.to_owned(), format!("{path}?token=x")] {
            let once = body.rsplit_once('&').expect("two").0;
            let body = if path.contains('?') { once } else { &body };
            let request = server
                .request(Method::POST, &path)
                .basic_auth("app", Some(crate::support::oauth::SECRET));
            let request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body.to_owned());
            send(request).await.expect_oauth_error(400, "invalid_request");
        }
    }
    // RFC 6750 §2: one way to send a token, and never in the URL.
    let form = [("access_token", access.as_str())];
    send(server.request(Method::POST, "/oauth2/userinfo").bearer_auth(&access).form(&form))
        .await
        .expect(StatusCode::BAD_REQUEST);
    send(server.request(Method::POST, "/oauth2/userinfo").form(&[form[0], form[0]]))
        .await
        .expect(StatusCode::BAD_REQUEST);
    server
        .get(&format!("/oauth2/userinfo?access_token={access}"))
        .await
        .expect(StatusCode::UNAUTHORIZED);
    for path in [
        "/oauth2/logout?state=a&state=b",
        "/login?return_to=a&return_to=b",
        "/register?lang=en&lang=ru",
        "/select-account?return_to=a&return_to=b",
        "/device?user_code=a&user_code=b",
        "/device/confirm?user_code=a&user_code=b",
    ] {
        ann.open(path).await.expect_page(400);
    }
    for path in [
        "/login",
        "/register",
        "/select-account",
        "/consent",
        "/device",
        "/device/confirm",
        "/oauth2/logout",
    ] {
        let post = server
            .request(Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded");
        ann.send(post.body("csrf=a&csrf=b&decision=logout")).await.expect_page(400);
    }
    ann.open("/oauth2/logout").await.expect(StatusCode::OK);
    assert_active(&server, "app", &granted).await;
}

async fn t06_a_request_changed_between_pages_is_validated_again(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let mut ann = server.logged_in("ann").await;
    let again = AuthorizationRequest::of("app", "openid").with("prompt", "login");
    let to_login = ann.open(&again.path()).await.expect(StatusCode::SEE_OTHER);
    let return_to =
        AuthorizationResponse::of(&format!("https://here.example{}", to_login.header("location")))
            .fields["return_to"]
            .clone();
    assert!(return_to.contains("resume="), "{return_to}");
    // Changed to the implicit grant, an error after any login, and no token in any URL.
    for other in ["token", "id_token", "code token", "id_token token", "none"] {
        let changed = return_to
            .replace("response_type=code", &format!("response_type={}", other.replace(' ', "+")));
        let page = ann
            .open(&format!(
                "/login?{}",
                AuthorizationRequest(vec![("return_to".to_owned(), changed)]).query()
            ))
            .await;
        let reply = ann
            .submit(&page, &[("login", "ann"), ("password", PASSWORD)])
            .await
            .expect(StatusCode::SEE_OTHER);
        let reply = ann.open(reply.header("location")).await.expect(StatusCode::SEE_OTHER);
        let answer = AuthorizationResponse::of(reply.header("location"));
        answer.expect_error("unsupported_response_type");
        assert!(
            !reply.header("location").contains("token=") && answer.location.fragment().is_none(),
            "{reply:?}"
        );
    }
    // What the pages settled counts for that request only, and cannot be forged.
    let cases = [
        return_to.replace("scope=openid", "scope=openid+email"),
        return_to.replace("state=a+state", "state=b"),
        return_to.replace("prompt=login", "prompt=login+consent"),
        format!("{}A", return_to.trim_end_matches(|c: char| c != '=')),
        format!(
            "{}{}",
            again.path(),
            "&resume=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        ),
    ];
    for changed in cases {
        assert_ne!(changed, return_to);
        let reply = ann.open(&changed).await.expect(StatusCode::SEE_OTHER);
        assert!(reply.header("location").starts_with("/login"), "{reply:?}");
    }
    // The consent form, with the request within it changed.
    let reply = ann.log_in(to_login.header("location"), "ann").await;
    let page = ann.open(reply.header("location")).await.expect(StatusCode::OK);
    for (from, to) in [
        ("response_type=code", "response_type=token"),
        ("scope=openid", "scope=openid+email"),
        (
            "redirect_uri=https%3A%2F%2Fapp.example%2Fcb",
            "redirect_uri=https%3A%2F%2Fevil.example%2Fcb",
        ),
        ("client_id=app", "client_id=other"),
    ] {
        let mut form = Form::of(&page.text);
        let changed = form.field("request").replace(from, to);
        assert_ne!(changed, form.field("request"));
        form.hidden.retain(|(name, _)| name != "request");
        form.hidden.push(("request".to_owned(), changed));
        let reply = ann.submit_form(form, &[("decision", "allow")]).await;
        assert!(
            !reply.header("location").contains("code=")
                && !reply.header("location").contains("evil.example"),
            "{reply:?}"
        );
        assert_eq!(codes(&server).await, 0);
    }
}

async fn t07_request_parameters_are_escaped_on_every_page(backend: Backend) {
    let metadata = Metadata {
        client_name: MARKUP.to_owned(),
        client_uri: Some(format!("https://c.example/{MARKUP}")),
        ..web_app()
    };
    let server = with_app(backend, metadata).await;
    let mut ann = server.browser();
    let mut request = AuthorizationRequest::of("app", "openid");
    for name in [
        "state",
        "nonce",
        "login_hint",
        "ui_locales",
        "claims_locales",
        "acr_values",
        "display",
        "unknown",
    ] {
        request = request.with(name, MARKUP);
    }
    let to_login = ann.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    let login = ann.open(to_login.header("location")).await.expect(StatusCode::OK);
    assert!(login.text.contains("svg onload"), "the hint and the name are shown: {login:?}");
    assert_escaped(&login);
    let wrong = ann
        .submit(&login, &[("login", MARKUP), ("password", "wrong")])
        .await
        .expect(StatusCode::BAD_REQUEST);
    assert!(wrong.text.contains("svg onload"));
    assert_escaped(&wrong);
    let register = ann
        .open(&to_login.header("location").replace("/login", "/register"))
        .await
        .expect(StatusCode::OK);
    assert_escaped(&register);
    let refused = ann
        .submit(&register, &[("email", MARKUP), ("username", MARKUP), ("password", MARKUP)])
        .await
        .expect(StatusCode::BAD_REQUEST);
    assert!(refused.text.contains("svg onload"));
    assert_escaped(&refused);
    let consent = ann.log_in(to_login.header("location"), "ann").await;
    let consent = ann.open(consent.header("location")).await.expect(StatusCode::OK);
    assert!(consent.text.contains("svg onload"));
    assert_escaped(&consent);
    // The response as a form: state comes back unchanged, as text.
    let posted = AuthorizationRequest::of("app", "openid")
        .with("state", MARKUP)
        .with("response_mode", "form_post")
        .with("prompt", "none");
    let page = ann.open(&posted.path()).await.expect(StatusCode::OK);
    assert_escaped(&page);
    assert_eq!(Form::of(&page.text).field("state"), MARKUP);
    // Error pages, and pages that repeat a request.
    for (name, value) in
        [("client_id", MARKUP), ("redirect_uri", MARKUP), ("response_mode", MARKUP)]
    {
        let page = ann.open(&request.clone().with(name, value).path()).await.expect_page(400);
        assert_escaped(&page);
    }
    for path in [
        "/oauth2/logout?state={}&ui_locales={}&logout_hint={}",
        "/oauth2/logout?id_token_hint={}",
        "/oauth2/logout?client_id=app&post_logout_redirect_uri={}",
        "/login?return_to={}&login={}",
        "/register?email={}&username={}",
        "/select-account?return_to={}",
        "/{}",
    ] {
        let markup: String = url::form_urlencoded::byte_serialize(MARKUP.as_bytes()).collect();
        let page = ann.open(&path.replace("{}", &markup)).await;
        assert!(!page.text.contains("<svg onload"), "{page:?}");
    }
}

async fn t08_return_to_leads_only_to_an_authorization_request(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    for to in [
        "javascript:alert(1)",
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "https://evil.example/oauth2/authorize?client_id=app",
        "/oauth2/authorize@evil.example/?a=b",
        "/oauth2/authorize.evil.example?a=b",
        "\t//evil.example",
        "/oauth2/logout?client_id=app",
        "oauth2/authorize?a=b",
        "/docs",
        "/oauth2/authorize/../logout?a=b",
        "/oauth2/authorize\r\nLocation: https://evil.example",
    ] {
        for page in ["/login", "/register"] {
            let mut browser = server.browser();
            let address = format!(
                "{page}?{}",
                AuthorizationRequest(vec![("return_to".to_owned(), to.to_owned())]).query()
            );
            let html = browser.open(&address).await.expect(StatusCode::OK);
            assert!(
                !html.text.contains("evil.example") && !html.text.contains("javascript:"),
                "{html:?}"
            );
            let form = Form::of(&html.text);
            let typed = if page == "/login" {
                vec![("login", "ann"), ("password", PASSWORD), ("return_to", to)]
            } else {
                vec![("email", "new@example.org"), ("password", PASSWORD), ("return_to", to)]
            };
            let reply = browser.submit_form(form, &typed).await;
            // The second registration of an email is refused without a redirect as well.
            assert!(["/account", ""].contains(&reply.header("location")), "{to}: {reply:?}");
        }
        let mut ann = server.logged_in("ann").await;
        let address = format!(
            "/select-account?{}",
            AuthorizationRequest(vec![("return_to".to_owned(), to.to_owned())]).query()
        );
        assert_eq!(ann.open(&address).await.header("location"), "/login");
    }
    // What looks like a request is kept: it is validated after the login.
    let evil = AuthorizationRequest::of("app", "openid")
        .with("redirect_uri", "https://evil.example/cb")
        .path();
    let mut ann = server.browser();
    let reply = ann
        .log_in(
            &format!(
                "/login?{}",
                AuthorizationRequest(vec![("return_to".to_owned(), evil)]).query()
            ),
            "ann",
        )
        .await;
    ann.open(reply.header("location")).await.expect_page(400);
}

async fn t09_logout_redirects_to_registered_uris_for_the_right_user(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    server
        .client(
            "other",
            Metadata {
                redirect_uris: vec!["https://other.example/cb".to_owned()],
                post_logout_redirect_uris: vec!["https://other.example/bye".to_owned()],
                ..first_party_app()
            },
        )
        .await;
    server.register("bob").await;
    let mut ann = server.browser();
    let answer = ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    let granted = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let hint = granted.field("id_token");
    let of_bob = tokens(&server, "app", "openid", "bob").await.field("id_token");
    let elsewhere = tokens(&server, "app", "openid", "ann").await.field("id_token");
    let (head, rest) = hint.split_once('.').expect("a JWT");
    let forged = format!("{head}.{}", rest.replacen("ey", "eZ", 1));
    // No redirect and no logout.
    for query in [
        format!("id_token_hint={hint}&post_logout_redirect_uri=https://evil.example/bye"),
        format!("id_token_hint={hint}&post_logout_redirect_uri=https://app.example/bye/"),
        format!("id_token_hint={hint}&post_logout_redirect_uri=https://app.example/cb"),
        format!("id_token_hint={hint}&post_logout_redirect_uri=https://other.example/bye"),
        format!(
            "id_token_hint={hint}&client_id=other&post_logout_redirect_uri=https://other.example/bye"
        ),
        format!("id_token_hint={hint}&post_logout_redirect_uri=//app.example/bye"),
        format!("id_token_hint={hint}&post_logout_redirect_uri=javascript:alert(1)"),
        format!(
            "id_token_hint={forged}&client_id=app&post_logout_redirect_uri=https://evil.example/bye"
        ),
        "post_logout_redirect_uri=https://app.example/bye".to_owned(),
        "client_id=nobody&post_logout_redirect_uri=https://app.example/bye".to_owned(),
    ] {
        ann.open(&format!("/oauth2/logout?{query}")).await.expect_page(400);
        let post = server
            .request(Method::POST, "/oauth2/logout")
            .header("content-type", "application/x-www-form-urlencoded");
        ann.send(post.body(format!("{query}&decision=logout"))).await.expect_page(400);
        assert_active(&server, "app", &granted).await;
    }
    // A question and no logout: no hint, another user's, another browser's, a foreign one, or no ID
    // token.
    for query in [
        String::new(),
        "client_id=app&post_logout_redirect_uri=https://app.example/bye&state=s".to_owned(),
        format!("id_token_hint={of_bob}"),
        format!("id_token_hint={elsewhere}&post_logout_redirect_uri=https://app.example/bye"),
        format!("id_token_hint={forged}&post_logout_redirect_uri=https://evil.example/bye"),
        format!("id_token_hint={}", granted.field("access_token")),
    ] {
        let page = ann.open(&format!("/oauth2/logout?{query}")).await.expect_page(200);
        assert_eq!(Form::of(&page.text).action, "/oauth2/logout");
        assert_active(&server, "app", &granted).await;
        // Another site cannot answer it.
        let post = server
            .request(Method::POST, "/oauth2/logout")
            .header("content-type", "application/x-www-form-urlencoded");
        ann.send(post.body(format!("{query}&decision=logout"))).await.expect_page(403);
        let mut form = Form::of(&page.text);
        form.hidden
            .iter_mut()
            .filter(|(name, _)| name == "csrf")
            .for_each(|(_, value)| *value = "A".repeat(43));
        ann.submit_form(form, &[("decision", "logout")]).await.expect_page(403);
        assert_active(&server, "app", &granted).await;
    }
    let page = ann
        .open(
            "/oauth2/logout?client_id=app&post_logout_redirect_uri=https://app.example/bye&state=s",
        )
        .await;
    let reply = ann.submit(&page, &[("decision", "logout")]).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), "https://app.example/bye?state=s");
    assert_revoked(&server, "app", &granted).await;
}

async fn t10_a_consent_form_is_bound_to_browser_and_request(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    server.register("mallory").await;
    let mut ann = server.logged_in("ann").await;
    let page =
        ann.open(&AuthorizationRequest::of("app", "openid").path()).await.expect(StatusCode::OK);
    let form = Form::of(&page.text);
    let mut mallory = server.logged_in("mallory").await;
    let mut again = server.logged_in("ann").await;
    let mut anonymous = server.browser();
    // Mallory's browser, another one of Ann's, and one that is logged out; with their own CSRF
    // cookie, with Ann's, and with none.
    for other in [&mut mallory, &mut again, &mut anonymous] {
        other.submit_form(form.clone(), &[("decision", "allow")]).await.expect_page(403);
        other.cookies.insert("propusk_csrf".to_owned(), ann.cookies["propusk_csrf"].clone());
        other.submit_form(form.clone(), &[("decision", "allow")]).await.expect_page(403);
        other.cookies.remove("propusk_csrf");
        other.submit_form(form.clone(), &[("decision", "allow")]).await.expect_page(403);
    }
    // Mallory's own form, submitted by Ann's browser from Mallory's page.
    let theirs = mallory
        .open(&AuthorizationRequest::of("app", "openid email").path())
        .await
        .expect(StatusCode::OK);
    ann.submit(&theirs, &[("decision", "allow")]).await.expect_page(403);
    assert_eq!(codes(&server).await, 0);
    // After a new login the open page belongs to the previous browser session; a new page works.
    let reply = ann.submit_form(form, &[("decision", "allow")]).await.expect(StatusCode::SEE_OTHER);
    AuthorizationResponse::of(reply.header("location")).code();
}

async fn t97_a_consent_is_valid_for_what_was_shown(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let mut ann = server.logged_in("ann").await;
    // Neither scope nor redirect URI is in the request: both come from the client's registration.
    let request = AuthorizationRequest::of("app", "").without("redirect_uri").without("scope");
    let narrow = |client: &mut Client| {
        client.metadata.scope = Scope::parse("openid").expect("a scope");
        client.metadata.redirect_uris = vec![CALLBACK.to_owned()];
    };
    type Change = fn(&mut Client);
    let changes: [(&str, Change); 3] = [
        ("wider scope", |client| {
            client.metadata.scope = Scope::parse("openid email api:write").expect("a scope");
        }),
        ("another redirect URI", |client| {
            client.metadata.redirect_uris = vec!["https://evil.example/cb".to_owned()];
        }),
        ("another name", |client| client.metadata.client_name = "Ann's Bank".to_owned()),
    ];
    for (what, change) in changes {
        server.change_client("app", narrow).await;
        let page = ann.open(&request.path()).await.expect(StatusCode::OK);
        server.change_client("app", change).await;
        // The page is shown again, with what the client is now.
        let again = ann.submit(&page, &[("decision", "allow")]).await.expect(StatusCode::OK);
        assert!(again.text.contains("name=\"decision\""), "{what}: {again:?}");
        assert_eq!(codes(&server).await, 0, "{what}");
        let fields = Form::of(&page.text).hidden;
        let unbound = Form {
            hidden: fields.into_iter().filter(|(name, _)| name != "shown").collect(),
            ..Form::of(&page.text)
        };
        ann.submit_form(unbound, &[("decision", "allow")]).await.expect(StatusCode::OK);
        assert_eq!(codes(&server).await, 0, "{what}");
    }
    server.change_client("app", narrow).await;
    let page = ann.open(&request.path()).await.expect(StatusCode::OK);
    let reply = ann.submit(&page, &[("decision", "allow")]).await.expect(StatusCode::SEE_OTHER);
    let answer = AuthorizationResponse::of(reply.header("location"));
    let fields = [("grant_type", "authorization_code"), ("code", answer.code())];
    let granted = server
        .form_as("/oauth2/token", "app", &[&fields[..], &[("code_verifier", VERIFIER)]].concat())
        .await
        .expect(StatusCode::OK);
    assert_eq!(granted.field("scope"), "openid");
}

async fn t11_every_authorization_response_carries_iss(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let issuer = server.app.config.server.issuer.clone();
    let mut ann = server.logged_in("ann").await;
    let good = AuthorizationRequest::of("app", "openid");
    let errors = [
        (good.clone().with("response_type", "token"), "unsupported_response_type"),
        (good.clone().with("scope", "admin"), "invalid_scope"),
        (good.clone().with("prompt", "none"), "consent_required"),
        (good.clone().without("code_challenge"), "invalid_request"),
        (good.clone().with("prompt", "none login"), "invalid_request"),
        (good.clone().with("max_age", "soon"), "invalid_request"),
        (good.clone().with("resource", "https://nobody.example"), "invalid_target"),
    ];
    for (request, error) in errors {
        let reply = ann.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
        let answer = AuthorizationResponse::of(reply.header("location"));
        answer.expect_error(error);
        assert_eq!((&answer.fields["iss"], answer.fields["state"].as_str()), (&issuer, "a state"));
        let page = ann
            .open(&request.with("response_mode", "form_post").path())
            .await
            .expect(StatusCode::OK);
        let form = Form::of(&page.text);
        assert_eq!(
            (form.action.as_str(), form.field("error"), form.field("iss"), form.field("state")),
            (CALLBACK, error, issuer.as_str(), "a state")
        );
    }
    let page = ann.open(&good.path()).await;
    let denied = AuthorizationResponse::of(
        ann.submit(&page, &[("decision", "deny")]).await.header("location"),
    );
    assert_eq!(denied.expect_error("access_denied").fields["iss"], issuer);
    let answer = ann.authorize(&good, "ann").await;
    assert_eq!(answer.fields["iss"], issuer);
    answer.code();
    let page =
        ann.open(&good.with("response_mode", "form_post").path()).await.expect(StatusCode::OK);
    let form = Form::of(&page.text);
    assert_eq!(form.field("iss"), issuer);
    assert!(!form.field("code").is_empty());
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let document = server.get(path).await.json();
        assert_eq!(
            (&document["issuer"], &document["authorization_response_iss_parameter_supported"]),
            (&Value::from(issuer.as_str()), &true.into())
        );
    }
}

async fn t12_redirects_after_a_form_are_303(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let mut ann = server.browser();
    let request = AuthorizationRequest::of("app", "openid").with("prompt", "select_account");
    let post = server.request(Method::POST, "/oauth2/authorize").form(&request.0);
    let mut replies = vec![ann.send(post).await];
    let to = ann.open(replies[0].header("location")).await;
    let page = ann.open(to.header("location")).await;
    replies.push(ann.submit(&page, &[("login", "ann"), ("password", PASSWORD)]).await);
    let select = ann.open(&request.path()).await;
    let page = ann.open(select.header("location")).await;
    replies.push(ann.submit(&page, &[("choice", "continue")]).await);
    let page = ann.open(replies[2].header("location")).await;
    replies.push(ann.submit(&page, &[("decision", "allow")]).await);
    let page = ann.open(&AuthorizationRequest::of("app", "openid email").path()).await;
    replies.push(ann.submit(&page, &[("decision", "deny")]).await);
    let page = ann
        .open(
            "/oauth2/logout?client_id=app&post_logout_redirect_uri=https%3A%2F%2Fapp.example%2Fbye",
        )
        .await;
    replies.push(ann.submit(&page, &[("decision", "logout")]).await);
    let page = ann.open("/register").await;
    replies.push(ann.submit(&page, &[("email", "eve@example.org"), ("password", PASSWORD)]).await);
    for reply in &replies {
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{reply:?}");
        assert_eq!(
            (reply.header("cache-control"), reply.text.as_str()),
            ("no-store", ""),
            "{reply:?}"
        );
        assert!(!reply.header("location").contains(PASSWORD), "{reply:?}");
    }
    AuthorizationResponse::of(replies[3].header("location")).code();
}
