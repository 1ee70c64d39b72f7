//! Clients by the pages of administrators.

use std::time::Duration;

use propusk::{
    flows::admin::clients,
    model::{
        actor::Actor,
        client::{GrantType, Metadata},
    },
    oauth::scope::Scope,
};
use reqwest::{Method, StatusCode};

use super::{administrator, submit};
use crate::support::{
    Backend, Reply, TestServer, backend_tests,
    oauth::{
        AuthorizationRequest, Browser, CALLBACK, Form, SECRET, VERIFIER, device_app, public_app,
        web_app,
    },
    send,
};

/// The metadata of a service that acts for itself.
fn service() -> Metadata {
    Metadata {
        client_name: "A program".to_owned(),
        scope: Scope::parse("api:read api:write").expect("a scope"),
        grant_types: vec![GrantType::ClientCredentials],
        ..Metadata::default()
    }
}

/// What a page shows to be copied.
#[track_caller]
fn copied(page: &Reply) -> &str {
    let (_, rest) = page.text.split_once("<pre class=\"copy\"").expect("something to copy");
    let (_, rest) = rest.split_once("<code>").expect("code");
    rest.split("</code>").next().expect("its end")
}

/// Requests a token of the client's own.
async fn token(server: &TestServer, id: &str, secret: &str) -> Reply {
    let request = server.request(Method::POST, "/oauth2/token").basic_auth(id, Some(secret));
    send(request.form(&[("grant_type", "client_credentials")])).await
}

/// What a form for a new web application is filled in with.
const SHOP: [(&str, &str); 8] = [
    ("id", "shop"),
    ("client_name", "<script>alert(1)</script>"),
    ("kind", "web"),
    ("framework", "go"),
    ("redirect_uris", CALLBACK),
    ("scope", "openid  email"),
    ("claims_in_id_token", "1"),
    ("first_party", "1"),
];

backend_tests! {
    a_client_is_created_by_a_form_and_logs_users_in,
    a_client_secret_is_rotated_and_ended_by_forms,
    a_client_is_disabled_enabled_and_deleted_by_forms,
    a_client_form_of_an_outdated_state_changes_nothing,
    a_refused_client_form_shows_what_was_typed,
    an_old_login_changes_no_client,
    clients_are_listed_and_described_in_both_languages,
    a_client_page_shows_code_for_every_framework,
}

async fn a_client_is_created_by_a_form_and_logs_users_in(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let mut olga = administrator(&server).await;
    let page = olga.open("/admin/clients/new").await.expect(StatusCode::OK);
    let form = Form::that_does(&page.text, "create");
    let created = olga.submit_form(form.clone(), &SHOP).await.expect(StatusCode::OK);
    assert!(!created.text.contains("<script>alert"), "{created:?}");
    assert!(created.text.contains("&#60;script&#62;alert(1)"), "{created:?}");
    let secret = copied(&created).to_owned();
    assert_eq!(secret.len(), 43, "{created:?}");
    assert_eq!(created.text.matches(&secret).count(), 1, "{created:?}");
    assert!(created.text.contains("oidc.NewProvider"), "{created:?}");

    let request = AuthorizationRequest::of("shop", "openid email");
    let response = server.browser().authorize(&request, "ann").await;
    let exchange =
        server.request(Method::POST, "/oauth2/token").basic_auth("shop", Some(&secret)).form(&[
            ("grant_type", "authorization_code"),
            ("code", response.code()),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ]);
    send(exchange).await.expect(StatusCode::OK).field("id_token");

    // It is shown once, and a form that is sent twice creates one client.
    let client = olga.open("/admin/clients/shop").await.expect(StatusCode::OK);
    assert!(!client.text.contains(&secret), "{client:?}");
    let again = olga.submit_form(form, &SHOP).await.expect(StatusCode::CONFLICT);
    assert!(again.text.contains("a client of this id exists"), "{again:?}");
    assert!(again.text.contains("value=\"openid  email\""), "{again:?}");
    let api = server.admin_as("olga").await;
    let entries = api.all("/audit?action=client.add").await;
    let user = propusk::flows::admin::users::find(&server.app, "olga").await.expect("known");
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(
        (&entries[0]["actor"], &entries[0]["subject"]),
        (&user.id.as_str().into(), &"shop".into())
    );
    assert!(!entries[0].to_string().contains(&secret), "{entries:?}");

    // A session of the client is revoked by a button of its page.
    let revoked = submit(&mut olga, "/admin/clients/shop", "revoke", &[]).await;
    let list = olga.open(revoked.expect(StatusCode::SEE_OTHER).header("location")).await;
    assert!(list.text.contains("The session was revoked."), "{list:?}");
    assert!(list.text.contains("The client has no sessions."), "{list:?}");
}

async fn a_client_secret_is_rotated_and_ended_by_forms(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("bot", service()).await;
    let mut olga = administrator(&server).await;
    let path = "/admin/clients/bot";
    let page = olga.open(path).await.expect(StatusCode::OK);
    assert!(!page.text.contains("value=\"end-secret\""), "{page:?}");
    let rotated = submit(&mut olga, path, "rotate", &[("overlap", "86400")]).await;
    let secret = copied(&rotated.expect(StatusCode::OK)).to_owned();
    for good in [SECRET, &secret] {
        token(&server, "bot", good).await.expect(StatusCode::OK);
    }
    let ended = submit(&mut olga, path, "end-secret", &[]).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(ended.header("location"), "/admin/clients/bot?done=client-secret-ended");
    token(&server, "bot", SECRET).await.expect_oauth_error(401, "invalid_client");
    token(&server, "bot", &secret).await.expect(StatusCode::OK);
    let page = olga.open(ended.header("location")).await.expect(StatusCode::OK);
    assert!(page.text.contains("The previous secret is no longer valid."), "{page:?}");
    assert!(!page.text.contains("value=\"end-secret\""), "{page:?}");
    let api = server.admin_as("olga").await;
    let entries = api.all("/audit?subject=bot").await;
    let actions: Vec<_> = entries.iter().filter_map(|entry| entry["action"].as_str()).collect();
    assert_eq!(actions, ["client.end_old_secret", "client.rotate_secret"]);
    // Without an overlap the previous one ends at once.
    let rotated = submit(&mut olga, path, "rotate", &[("overlap", "0")]).await;
    let next = copied(&rotated.expect(StatusCode::OK)).to_owned();
    token(&server, "bot", &secret).await.expect_oauth_error(401, "invalid_client");
    token(&server, "bot", &next).await.expect(StatusCode::OK);
    for wrong in ["x", "-1", "7776001"] {
        let refused = submit(&mut olga, path, "rotate", &[("overlap", wrong)]).await;
        refused.expect(StatusCode::BAD_REQUEST);
    }
    token(&server, "bot", &next).await.expect(StatusCode::OK);
}

async fn a_client_is_disabled_enabled_and_deleted_by_forms(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("bot", service()).await;
    let mut olga = administrator(&server).await;
    let path = "/admin/clients/bot";
    let access = token(&server, "bot", SECRET).await.expect(StatusCode::OK).field("access_token");
    submit(&mut olga, path, "disable", &[]).await.expect(StatusCode::SEE_OTHER);
    server.verify(&access).await.expect_error(401, "INVALID_TOKEN");
    token(&server, "bot", SECRET).await.expect_oauth_error(401, "invalid_client");
    let page = olga.open(path).await.expect(StatusCode::OK);
    assert!(page.text.contains("class=\"status bad\">Disabled"), "{page:?}");
    submit(&mut olga, path, "enable", &[]).await.expect(StatusCode::SEE_OTHER);
    token(&server, "bot", SECRET).await.expect(StatusCode::OK);

    let kept = submit(&mut olga, path, "delete", &[]).await.expect(StatusCode::BAD_REQUEST);
    assert!(kept.text.contains("Tick the box to confirm."), "{kept:?}");
    token(&server, "bot", SECRET).await.expect(StatusCode::OK);
    let deleted = submit(&mut olga, path, "delete", &[("confirm", "1")]).await;
    let deleted = deleted.expect(StatusCode::SEE_OTHER);
    assert_eq!(deleted.header("location"), "/admin/clients?done=client-deleted");
    let list = olga.open(deleted.header("location")).await.expect(StatusCode::OK);
    assert!(list.text.contains("The client was deleted."), "{list:?}");
    token(&server, "bot", SECRET).await.expect_oauth_error(401, "invalid_client");
    olga.open(path).await.expect_page(404);
    // What is part of Propusk has no forms that would change it.
    let own = olga.open("/admin/clients/propusk").await.expect(StatusCode::OK);
    for action in ["change", "replace", "rotate", "disable", "delete"] {
        let hidden = format!("name=\"action\" value=\"{action}\"");
        assert!(!own.text.contains(&hidden), "{action}: {own:?}");
    }
    // Nor does a form that is made up.
    server.client("bot", service()).await;
    let unknown = submit(&mut olga, path, "disable", &[("action", "surprise")]).await;
    unknown.expect(StatusCode::BAD_REQUEST);
}

async fn a_client_form_of_an_outdated_state_changes_nothing(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("shop", web_app()).await;
    let mut olga = administrator(&server).await;
    let path = "/admin/clients/shop";
    let filled = |name: &'static str| {
        [
            ("client_name", name),
            ("redirect_uris", "https://app.example/cb\r\nhttps://app.example/other\r\n"),
            ("scope", "openid api:read"),
        ]
    };
    let page = olga.open(path).await.expect(StatusCode::OK);
    let (first, document, deletion) = (
        Form::that_does(&page.text, "change"),
        Form::that_does(&page.text, "replace"),
        Form::that_does(&page.text, "delete"),
    );
    olga.submit_form(first.clone(), &filled("One")).await.expect(StatusCode::SEE_OTHER);
    let stale = olga.submit_form(first, &filled("Two")).await;
    let stale = stale.expect(StatusCode::PRECONDITION_FAILED);
    assert!(stale.text.contains("value=\"One\""), "{stale:?}");
    assert!(!stale.text.contains("value=\"Two\""), "{stale:?}");
    let metadata =
        [("metadata", r#"{"client_name":"Three","redirect_uris":["https://a.example"]}"#)];
    let stale = olga.submit_form(document, &metadata).await;
    stale.expect(StatusCode::PRECONDITION_FAILED);
    let stale = olga.submit_form(deletion, &[("confirm", "1")]).await;
    let stale = stale.expect(StatusCode::PRECONDITION_FAILED);
    let client = clients::by_id(&server.app, &"shop".into()).await.expect("a client");
    assert_eq!(client.metadata.client_name, "One");
    assert_eq!(
        client.metadata.redirect_uris,
        ["https://app.example/cb", "https://app.example/other"]
    );
    assert_eq!(client.metadata.scope.to_string(), "openid api:read");
    assert_eq!(client.metadata.grant_types, web_app().grant_types, "not in the form: kept");
    // The page that was shown instead has the present state.
    let change = Form::that_does(&stale.text, "change");
    olga.submit_form(change, &filled("Four")).await.expect(StatusCode::SEE_OTHER);
    let document =
        [("metadata", r#"{ "client_name": "Five", "grant_types": ["client_credentials"] }"#)];
    submit(&mut olga, path, "replace", &document).await.expect(StatusCode::SEE_OTHER);
    let client = clients::by_id(&server.app, &"shop".into()).await.expect("a client");
    assert_eq!(client.metadata.client_name, "Five");
    assert_eq!(client.metadata.redirect_uris, [] as [&str; 0], "a document replaces everything");
    // A client that newly authenticates by a secret gets one, once.
    submit(
        &mut olga,
        path,
        "replace",
        &[(
            "metadata",
            r#"{"token_endpoint_auth_method":"none","redirect_uris":["https://a.example/cb"]}"#,
        )],
    )
    .await
    .expect(StatusCode::SEE_OTHER);
    let secret = submit(
        &mut olga,
        path,
        "replace",
        &[("metadata", r#"{"grant_types":["client_credentials"]}"#)],
    )
    .await
    .expect(StatusCode::OK);
    token(&server, "shop", copied(&secret)).await.expect(StatusCode::OK);
}

async fn a_refused_client_form_shows_what_was_typed(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut olga = administrator(&server).await;
    let wrong = [
        ("id", "a b"),
        ("client_name", "The \"shop\""),
        ("kind", "browser"),
        ("redirect_uris", "javascript:alert(1)"),
    ];
    let refused = submit(&mut olga, "/admin/clients/new", "create", &wrong).await;
    let refused = refused.expect(StatusCode::BAD_REQUEST);
    assert!(refused.text.contains("must be 1 to 128 letters"), "{refused:?}");
    for kept in ["value=\"a b\"", "The &#34;shop&#34;", "<option value=\"browser\" selected>"] {
        assert!(refused.text.contains(kept), "{kept}: {refused:?}");
    }
    let fixed = [wrong[1], wrong[2], wrong[3], ("id", "shop")];
    let refused = olga.submit_form(Form::that_does(&refused.text, "create"), &fixed).await;
    let refused = refused.expect(StatusCode::BAD_REQUEST);
    let field = refused.text.split("id=\"create-redirect_uris\"").nth(1).expect("the field");
    assert!(field.split('>').next().expect("a tag").contains("aria-invalid"), "{refused:?}");
    assert!(refused.text.contains("javascript:alert(1)</textarea>"), "{refused:?}");
    for (kind, scope) in [("toaster", "openid"), ("web", "\"")] {
        let typed = [("id", "shop"), ("kind", kind), ("scope", scope), ("redirect_uris", CALLBACK)];
        let refused = submit(&mut olga, "/admin/clients/new", "create", &typed).await;
        refused.expect(StatusCode::BAD_REQUEST);
    }
    clients::by_id(&server.app, &"shop".into()).await.expect_err("nothing was created");

    server.client("shop", web_app()).await;
    for document in [
        r#"{"scope": 1}"#,
        r#"{"client_name": "A", "client_name": "B"}"#,
        r#"{"surprise": true}"#,
        "[]",
        "</textarea><b>x",
    ] {
        let typed = [("metadata", document)];
        let refused = submit(&mut olga, "/admin/clients/shop", "replace", &typed).await;
        let refused = refused.expect(StatusCode::BAD_REQUEST);
        let field = refused.text.split("id=\"replace-metadata\"").nth(1).expect("the field");
        assert!(field.split('>').next().expect("a tag").contains("aria-invalid"), "{refused:?}");
        assert!(!refused.text.contains("</textarea><b>"), "{refused:?}");
    }
    let client = clients::by_id(&server.app, &"shop".into()).await.expect("a client");
    assert_eq!(client.metadata, web_app());
}

async fn an_old_login_changes_no_client(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("bot", service()).await;
    let mut olga = administrator(&server).await;
    let path = "/admin/clients/bot";
    let page = olga.open(path).await.expect(StatusCode::OK);
    let rotation = Form::that_does(&page.text, "rotate");
    server.clock.advance(Duration::from_secs(3_600));
    olga.open(path).await.expect(StatusCode::OK);
    let login = olga.submit_form(rotation.clone(), &[("overlap", "0")]).await;
    let login = login.expect(StatusCode::SEE_OTHER);
    assert!(login.header("location").starts_with("/login?"), "{login:?}");
    assert!(login.header("location").contains("%2Fadmin%2Fclients%2Fbot"), "{login:?}");
    let creation = olga.open("/admin/clients/new").await.expect(StatusCode::OK);
    let creation = Form::that_does(&creation.text, "create");
    olga.submit_form(creation, &SHOP).await.expect(StatusCode::SEE_OTHER);
    clients::by_id(&server.app, &"shop".into()).await.expect_err("nothing was created");
    token(&server, "bot", SECRET).await.expect(StatusCode::OK);
    let back = olga.log_in(login.header("location"), "olga").await;
    assert_eq!(back.header("location"), path);
    // After the login, the form does it.
    olga.submit_form(rotation, &[("overlap", "0")]).await.expect(StatusCode::OK);
    token(&server, "bot", SECRET).await.expect_oauth_error(401, "invalid_client");
}

async fn clients_are_listed_and_described_in_both_languages(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut olga = administrator(&server).await;
    server.client("aaa", web_app()).await;
    server.client("new", service()).await;
    clients::disable(&server.app, &"aaa".into(), &Actor::operator()).await.expect("disabled");
    let listed = async |olga: &mut Browser<'_>, query: &str| {
        let page = olga.open(&format!("/admin/clients{query}")).await.expect(StatusCode::OK);
        ["aaa", "new", "propusk"].map(|id| page.text.contains(&format!("<code>{id}</code>")))
    };
    for (query, expected) in [
        ("", [true, true, true]),
        ("?source=operator&disabled=", [true, true, false]),
        ("?source=built_in", [false, false, true]),
        ("?disabled=true", [true, false, false]),
        ("?disabled=false", [false, true, true]),
        ("?id=new", [false, true, false]),
        ("?id=nobody", [false, false, false]),
    ] {
        assert_eq!(listed(&mut olga, query).await, expected, "{query}");
    }
    // More than a page has, with the filters.
    for n in 0..51 {
        server.client(&format!("bot-{n:02}"), service()).await;
    }
    let path = "/admin/clients?source=operator&disabled=false";
    let page = olga.open(path).await.expect(StatusCode::OK);
    assert!(page.text.contains("<code>bot-49</code>"), "{page:?}");
    assert!(!page.text.contains("<code>bot-50</code>"), "{page:?}");
    let next = "/admin/clients?source=operator&#38;disabled=false&#38;after=bot-49";
    assert!(page.text.contains(next), "{page:?}");
    let page = olga.open(&next.replace("&#38;", "&")).await.expect(StatusCode::OK);
    assert!(page.text.contains("<code>bot-50</code>"), "{page:?}");
    // The page of a client whose id is that of the page for a new one.
    assert!(page.text.contains("href=\"/admin/clients/%6Eew\""), "{page:?}");
    let path = "/admin/clients/%6Eew";
    submit(&mut olga, path, "disable", &[]).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(listed(&mut olga, "?disabled=true").await, [true, true, false]);
    for (path, english, russian) in [
        ("/admin/clients", "Registered by", "Кем зарегистрирован"),
        ("/admin/clients/new", "Create the client", "Создать клиента"),
        ("/admin/clients/aaa", "All metadata", "Все метаданные"),
    ] {
        let page = olga.open(path).await.expect(StatusCode::OK);
        assert!(page.text.contains(english) && !page.text.contains(russian), "{page:?}");
        let page = olga.open(&format!("{path}?lang=ru")).await.expect(StatusCode::OK);
        assert!(page.text.contains(russian) && !page.text.contains(english), "{page:?}");
        olga.cookies.remove("lang");
    }
}

async fn a_client_page_shows_code_for_every_framework(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut olga = administrator(&server).await;
    server.client("app-web", web_app()).await;
    server.client("app-spa", public_app()).await;
    server.client("app-bot", service()).await;
    server.client("app-tv", device_app()).await;
    let odd =
        Metadata { redirect_uris: vec!["https://x.example/'\"$(id)`".to_owned()], ..web_app() };
    server.client("app-odd", odd).await;
    let bound = |metadata| Metadata { dpop_bound_access_tokens: true, ..metadata };
    server.client("app-bound", bound(public_app())).await;
    server.client("app-bound-bot", bound(service())).await;
    for (id, grant) in
        [("app-bound", "authorizationCodeGrant"), ("app-bound-bot", "clientCredentialsGrant")]
    {
        let page = olga.open(&format!("/admin/clients/{id}?snippet=curl")).await;
        let code = copied(&page);
        assert!(code.contains(grant) && code.contains("{ DPoP }"), "no bearer tokens: {code}");
        assert!(page.text.contains("Tokens bound to a key (DPoP) only"), "{page:?}");
    }
    let issuer = &server.app.config.server.issuer;
    for id in ["app-web", "app-spa", "app-bot", "app-tv", "app-odd"] {
        for framework in
            ["express", "nextjs", "browser", "spring-boot", "axum", "go", "python", "curl"]
        {
            let path = format!("/admin/clients/{id}?snippet={framework}");
            let page = olga.open(&path).await.expect(StatusCode::OK);
            let code = copied(&page);
            assert!(code.contains(issuer.as_str()) && code.contains(id), "{path}: {code}");
            for unwanted in [SECRET, "‹", "›", "§", "¤", "x.example"] {
                assert!(!code.contains(unwanted), "{path}: {unwanted}: {code}");
            }
            let has_secret = matches!(id, "app-web" | "app-bot" | "app-odd");
            let names_secret = code.contains("OIDC_CLIENT_SECRET");
            assert_eq!(
                names_secret,
                has_secret && framework != "browser" || {
                    id == "app-bot" && framework == "browser"
                },
                "{path}: {code}"
            );
        }
    }
    let path = "/admin/clients/app-web?snippet=curl";
    let code = olga.open(path).await.expect(StatusCode::OK);
    for endpoint in ["/oauth2/authorize", "/oauth2/token"] {
        assert!(copied(&code).contains(&format!("{issuer}{endpoint}")), "{code:?}");
    }
    let page = olga.open("/admin/clients/app-web?snippet=cobol").await.expect(StatusCode::OK);
    assert!(!page.text.contains("<pre"), "{page:?}");
}
