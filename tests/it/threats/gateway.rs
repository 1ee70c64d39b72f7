//! Threats at a gateway, and threats to the server's memory.

use std::time::Duration;

use poem::Request;
use propusk::{
    flows::tokens::verify::inspect,
    http::views::Locale,
    model::{
        actor::Actor,
        client::{Metadata, Source},
        key::SigningAlgorithm,
        revocation::NewRevocation,
    },
    oauth::{jwt::TokenType, scope::Scope},
    storage::Statement,
};
use reqwest::{
    Method, RequestBuilder, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::with_app;
use crate::{
    gateway::{id_of, module, with_session},
    nginx::{Setup, received},
    support::{
        Backend, Reply, TestServer, backend_tests,
        oauth::{AuthorizationRequest, first_party_app, web_app},
        send,
    },
};

/// Ids that are easily confused when they are concatenated, and their parts.
const NAMES: [&str; 12] =
    ["a", "a:b", "a|b", "a:b|c", "a b", "a\u{0}b", "a\u{0}", "b", "b|c", "b:c", "A:B", "a::b"];

/// A token with these claims, signed by the server's own key.
async fn token(server: &TestServer, sub: &str, client: &str, sid: &str, scope: &str) -> String {
    let app = &server.app;
    let now = app.clock.now();
    let claims = json!({
        "iss": app.config.server.issuer, "aud": app.config.audience(), "sub": sub, "client_id": client, "sid": sid,
        "scope": scope, "iat": now.as_secs(), "exp": now.as_secs() + 600, "jti": format!("{sub}/{client}/{sid}/{scope}"),
    });
    let signed = app.keys.sign(TokenType::Access, &claims, SigningAlgorithm::Es256, now);
    signed.await.expect("signed")
}

async fn revoke(server: &TestServer, target: NewRevocation) {
    let mut tx = server.app.begin(&Actor::operator()).await.expect("a transaction");
    tx.revoke(vec![target], "test").await.expect("revoked");
    tx.commit().await.expect("revoked");
}

fn forward_auth(server: &TestServer) -> RequestBuilder {
    server.request(Method::GET, "/forward-auth")
}

/// The access token that a client gets for `ann`.
pub async fn access_token(server: &TestServer, request: &AuthorizationRequest) -> String {
    let answer = server.browser().authorize(request, "ann").await;
    let client = &request.0[0].1;
    server.exchange_code(client, answer.code()).await.expect(StatusCode::OK).field("access_token")
}

/// The response to a gateway with this query, for a bearer token.
async fn ask(server: &TestServer, query: &str, token: &str) -> Reply {
    send(server.request(Method::GET, &format!("/forward-auth{query}")).bearer_auth(token)).await
}

backend_tests! {
    t40_ids_with_separators_never_share_a_decision,
    t65_invalid_gateway_sessions_are_limited_by_network,
    t95_an_applications_token_does_not_pass_a_gateway,
    t95_a_clients_own_token_is_no_user_at_a_gateway,
}

async fn t40_ids_with_separators_never_share_a_decision(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    // PostgreSQL's text cannot hold this one, so it cannot be revoked.
    let writable: Vec<_> = NAMES.into_iter().filter(|name| !name.contains('\0')).collect();
    let mut tokens = vec![];
    for sub in NAMES {
        for client in ["app", "a:b", "a|b", "b"] {
            tokens.push((sub, client, token(&server, sub, client, sub, "crm:read").await));
        }
    }
    // Twice: the second time the tokens are cached.
    for _ in 0..2 {
        for (sub, client, token) in &tokens {
            let reply = ask(&server, "?scope=crm:read", token).await;
            if sub.contains('\0') {
                assert_ne!(reply.status, StatusCode::OK, "{sub:?} is no header: {reply:?}");
                assert_eq!(reply.header("x-propusk-user"), "");
                continue;
            }
            let reply = reply.expect(StatusCode::OK);
            assert_eq!(
                [
                    reply.header("x-propusk-user"),
                    reply.header("x-propusk-session"),
                    reply.header("x-propusk-client")
                ],
                [*sub, *sub, *client]
            );
            let received = server.verify(token).await.expect(StatusCode::OK).json();
            assert_eq!(
                (&received["data"]["user"]["id"], &received["data"]["clientId"]),
                (&json!(sub), &json!(client))
            );
        }
    }
    // One after the other is revoked: that one is refused, and no other.
    for (n, gone) in writable.iter().enumerate() {
        let sub = (*gone).to_owned();
        let target = match n % 4 {
            0 => NewRevocation::Session(sub),
            1 => NewRevocation::Subject(sub),
            2 => NewRevocation::Scope { sub, scope: "crm:read".to_owned() },
            _ => {
                // Another user's scope that looks like this one's.
                let sub_of_other = format!("{sub}:crm");
                let other = NewRevocation::Scope { sub: sub_of_other, scope: "read".to_owned() };
                revoke(&server, other).await;
                NewRevocation::Session(sub)
            }
        };
        revoke(&server, target).await;
        for (sub, _, token) in &tokens {
            let reply = ask(&server, "?scope=crm:read", token).await;
            let revoked = writable[..=n].iter().position(|gone| gone == sub);
            if let Some(kind) = revoked.map(|at| at % 4) {
                // A lost scope that is required is 403: a refresh would not help.
                match kind {
                    2 => reply.expect_error(403, "INSUFFICIENT_SCOPE"),
                    _ => reply.expect_error(401, "INVALID_TOKEN"),
                };
            } else if !sub.contains('\0') {
                reply.expect(StatusCode::OK);
            }
        }
    }
}

async fn t95_an_applications_token_does_not_pass_a_gateway(backend: Backend) {
    const API: &str = "https://wiki.example";
    let server = TestServer::with(backend, &[("PROPUSK_GATEWAY__AUDIENCES", API)]).await;
    server.register("ann").await;
    server.module("crm", "crm:read", None, true).await;
    let row = "INSERT INTO resources (id, name, default_scope, created_at) \
               VALUES ('https://wiki.example', 'The wiki', '', 0)";
    server.app.db.write(Statement::new(row)).await.expect("a resource");
    let all = Scope::parse("openid profile email offline_access crm:read wiki:read");
    let metadata = Metadata {
        scope: all.expect("a scope"),
        resources: vec![API.to_owned()],
        ..first_party_app()
    };
    server.client("app", metadata).await;
    server.client("self-registered", web_app()).await;
    server.change_client("self-registered", |client| client.source = Source::Registration).await;
    server.switch(&server.login("ann").await.tokens().access, "crm", "enable").await;

    let app = access_token(&server, &AuthorizationRequest::of("app", "openid email")).await;
    let other = access_token(&server, &AuthorizationRequest::of("self-registered", "openid")).await;
    for token in [&app, &other] {
        // What the application knows of its user says nothing about who sends the request.
        for query in ["", "?scope=openid", "?max_age=300"] {
            let reply = ask(&server, query, token).await.expect_error(401, "INVALID_TOKEN");
            assert_eq!(reply.header("x-propusk-user"), "", "{query}");
        }
        // The cookie of a gateway session is another way in.
        let cookie = forward_auth(&server).header("cookie", format!("propusk_access={token}"));
        send(cookie).await.expect_error(401, "INVALID_TOKEN");
    }
    // The user's own session passes, and so does a token that is meant for what stands behind.
    let own = server.login("ann").await.tokens().access;
    ask(&server, "", &own).await.expect(StatusCode::OK);
    ask(&server, "?scope=openid", &own).await.expect(StatusCode::OK);
    let for_wiki = AuthorizationRequest::of("app", "openid wiki:read").with("resource", API);
    let meant = access_token(&server, &for_wiki).await;
    ask(&server, "", &meant).await.expect(StatusCode::OK);
    let for_crm = AuthorizationRequest::of("app", "openid crm:read");
    let entitled = access_token(&server, &for_crm).await;
    for query in ["?module=crm", "?scope=crm:read"] {
        let reply = ask(&server, query, &entitled).await.expect(StatusCode::OK);
        assert_ne!(reply.header("x-propusk-user"), "");
    }
    ask(&server, "?module=crm", &app).await.expect_error(403, "INSUFFICIENT_SCOPE");
}

async fn t95_a_clients_own_token_is_no_user_at_a_gateway(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let form = [("grant_type", "client_credentials"), ("scope", "api:read")];
    let token = server.form_as("/oauth2/token", "app", &form).await.expect(StatusCode::OK);
    let token = token.field("access_token");
    ask(&server, "", &token).await.expect_error(401, "INVALID_TOKEN");
    let reply = ask(&server, "?scope=api:read", &token).await.expect(StatusCode::OK);
    assert_eq!((reply.header("x-propusk-user"), reply.header("x-propusk-client")), ("", "app"));
}

async fn t65_invalid_gateway_sessions_are_limited_by_network(backend: Backend) {
    let settings = [
        ("PROPUSK_LIMITS__ENABLED", "true"),
        ("PROPUSK_LIMITS__ADDRESS_BURST", "10"),
        ("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    let mut ann = with_session(&server, "ann").await;
    let guess = |n: usize, forwarded: String| {
        send(
            forward_auth(&server)
                .header("cookie", format!("propusk_refresh=guess{n}"))
                .header("x-forwarded-for", forwarded),
        )
    };
    for (kind, forwarded) in [
        (
            "another address of one /64",
            (|n| format!("2001:db8:1:2:{n:x}::{n:x}")) as fn(usize) -> String,
        ),
        ("an entry written by the client", |n| format!("203.0.113.{n}, 198.51.100.7")),
        ("an entry that is not an address", |n| format!("203.0.113.{n}, unknown{n}")),
    ] {
        let mut refused = 0;
        for n in 0..20 {
            let reply = guess(n, forwarded(n)).await;
            match reply.status.as_u16() {
                401 => {}
                429 => refused += 1,
                _ => panic!("{kind}: {reply:?}"),
            }
        }
        // The proxy's own address has logged in and registered meanwhile.
        assert!((10..=14).contains(&refused), "{kind}: {refused} of 20 were refused");
        server.clock.advance(Duration::from_secs(60));
    }
    // Requests with a session are not delayed by those without one, nor by their own number.
    server.clock.advance(Duration::from_secs(900));
    for _ in 0..40 {
        let request = forward_auth(&server).header("x-forwarded-for", "198.51.100.9");
        ann.cookies.remove("propusk_access");
        ann.send(request).await.expect(StatusCode::OK);
    }
}

backend_tests! {
    requires "nginx": t89_client_identity_headers_never_reach_the_application,
    t100_no_cookie_of_propusk_reaches_the_application,
    t100_ambiguous_paths_are_refused_on_every_route,
}

async fn t89_client_identity_headers_never_reach_the_application(backend: Backend) {
    let setup = Setup::new(backend).await;
    let token = setup.server.login("ann").await.tokens().access;
    let ann = id_of(&setup.server, "ann").await;
    let names =
        ["user", "role", "modules", "email", "email-verified", "scope", "client", "session"];
    let mut spoofed = HeaderMap::new();
    for name in names {
        for spelling in [
            format!("x-propusk-{name}"),
            format!("x_propusk_{name}"),
            format!("x-propusk_{name}"),
            format!("x_propusk-{name}"),
        ] {
            let spelling = HeaderName::from_bytes(spelling.as_bytes()).expect("a name");
            spoofed
                .append(spelling.clone(), HeaderValue::from_static("crm admin root@example.org"));
            spoofed.append(spelling, HeaderValue::from_static("admin"));
        }
    }
    let expected = |reply: &Reply| {
        let all: Vec<_> =
            names.iter().map(|name| received(reply, &format!("x-propusk-{name}"))).collect();
        assert!(
            !reply.text.contains("root@example.org") && !reply.text.contains("admin"),
            "{reply:?}"
        );
        assert!(all.iter().all(|values| values.len() <= 1), "{reply:?}");
        all
    };
    let request = |path: &str| setup.request(Method::GET, path).headers(spoofed.clone());
    let all = expected(&send(request("/").bearer_auth(&token)).await.expect(StatusCode::OK));
    assert_eq!((&all[0], &all[1]), (&vec![ann], &vec!["user".to_owned()]));
    assert_eq!(all[2], Vec::<String>::new(), "she has no module");
    let all = expected(&send(request("/public/")).await.expect(StatusCode::OK));
    assert!(all.iter().all(Vec::is_empty), "{all:?}");
    send(request("/")).await.expect(StatusCode::UNAUTHORIZED);
    send(request("/crm/").bearer_auth(&token)).await.expect(StatusCode::FORBIDDEN);
    // A requirement comes from the gateway, whatever the query of the original request says.
    let reply =
        send(request("/crm/?module=&redirect=never&scope=openid").bearer_auth(&token)).await;
    reply.expect(StatusCode::FORBIDDEN);
}

/// Another host of the domain, or another path, may have set a cookie of the same name.
async fn t100_no_cookie_of_propusk_reaches_the_application(backend: Backend) {
    let setup = Setup::new(backend).await;
    let token = setup.server.login("ann").await.tokens().access;
    let ours = format!("propusk_access={token}");
    let cookies = async |path: &str, sent: &str| {
        let reply = send(setup.request(Method::GET, path).header("cookie", sent)).await;
        let reply = reply.expect(StatusCode::OK);
        assert!(
            !reply.text.contains(&token) && !reply.text.contains("SECRET"),
            "{sent}: {reply:?}"
        );
        received(&reply, "cookie")
    };
    for path in ["/", "/public/"] {
        for (sent, arrives) in [
            (format!("a=1; {ours}; b=2"), "a=1; b=2"),
            (format!("{ours}; propusk_refresh=r; propusk_session=s; propusk_csrf=c; z=9"), "z=9"),
            (format!("{ours}; propusk_device=SECRET; __Host-propusk_login=SECRET; z=9"), "z=9"),
            (
                format!("my_propusk_access=x; {ours};propusk_refresh=r; __Host-propusk_session=s"),
                "my_propusk_access=x; ",
            ),
            (
                format!("{ours}; a=1; propusk_refresh=SECRET; b=2; propusk_refresh=decoy"),
                "a=1; b=2; ",
            ),
            (format!("propusk_refresh=decoy; {ours}; propusk_refresh=SECRET; a=1"), "a=1"),
            (
                format!(
                    "{ours}; propusk_access=2; propusk_refresh=SECRET; propusk_refresh=4; propusk_session=5; \
                         __Host-propusk_session=SECRET; propusk_csrf=7; __Host-propusk_csrf=8; a=1"
                ),
                "a=1",
            ),
        ] {
            assert_eq!(cookies(path, &sent).await, [arrives], "{path}: {sent}");
        }
        // More than any browser has for a reason: none at all.
        for decoys in [8, 20] {
            let decoys = "propusk_refresh=decoy; ".repeat(decoys);
            for sent in [
                format!("a=1; {ours}; {decoys}propusk_refresh=SECRET"),
                format!("{ours}; propusk_refresh=SECRET; {decoys}a=1"),
            ] {
                assert_eq!(cookies(path, &sent).await, Vec::<String>::new(), "{path}: {sent}");
            }
        }
        assert_eq!(cookies(path, &ours).await, Vec::<String>::new());
    }
}

async fn t100_ambiguous_paths_are_refused_on_every_route(backend: Backend) {
    let setup = Setup::new(backend).await;
    let address = setup.gateway.strip_prefix("http://").expect("http");
    for path in [
        "/public/..;/admin",
        "/public/..;a=b/admin",
        "/public/.;/..;/admin",
        "/public/%2e%2e;/admin",
        "/public/..%3b/admin",
        "/public/..%5cadmin",
        "/public/%5C..%5Cadmin",
        "/public/..\\admin",
        "/orders/..;/crm/",
    ] {
        // As it is: a URL type would normalize the path.
        let answer = raw_get(address, path).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
    for path in ["/public/a;b=c", "/public/?q=..;/%5c", "/public/a..;/x", "/public/..a/"] {
        let answer = raw_get(address, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        assert!(answer.contains(&format!("GET {path} ")), "{path}: {answer}");
    }
    // A path that nginx normalizes is not an open one.
    for path in ["/public/../orders", "/public/%2e%2e/orders", "/public/..%2forders"] {
        let answer = raw_get(address, path).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{path}: {answer}");
    }
}

/// The answer to a GET whose path is sent unchanged.
async fn raw_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("nginx");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = vec![];
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t86_100000_unknown_names_are_not_remembered() {
    let server = with_app(Backend::Sqlite, first_party_app()).await;
    module(&server, "crm", "crm:read", None).await;
    let app = &server.app;
    for n in 0..100_000 {
        let request = Request::builder()
            .header("accept-language", format!("x-{n},y{n};q=0.{n}"))
            .uri_str(format!("/?lang=z{n}"))
            .finish();
        let found = Locale::of_request(&request, Some(&format!("w{n}")));
        assert!(Locale::all().iter().any(|one| std::ptr::eq(one, found)));
    }
    let good = server.login("ann").await.tokens().access;
    let (_, rest) = good.split_once('.').expect("a token");
    for n in 0..100_000 {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let header = format!("{{\"alg\":\"ES256\",\"typ\":\"at+jwt\",\"kid\":\"kid{n}\"}}");
        let token = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
        assert!(inspect(app, &token).is_err());
    }
    for n in 0..5_000 {
        let id = format!("client{n}");
        assert!(app.client(&id.as_str().into()).await.expect("an answer").is_none());
        assert!(app.directory.cached(&id.as_str().into()).is_none());
    }
    let series = app.metrics.render().lines().count();
    for n in 0..2_000 {
        let path = format!("/forward-auth/envoy/-/{n}?a={n}");
        let reply = send(server.request(Method::GET, &path).bearer_auth(format!("{n}.b.c"))).await;
        reply.expect(StatusCode::UNAUTHORIZED);
        send(forward_auth(&server).header("cookie", format!("propusk_refresh={n}")))
            .await
            .expect(StatusCode::UNAUTHORIZED);
    }
    assert!(app.verified_tokens.is_empty(), "only verified tokens are cached");
    let metrics = app.metrics.render();
    assert!(metrics.lines().count() <= series + 40, "an unknown path is no label: {metrics}");
    assert!(metrics.contains("/forward-auth/envoy/*request"), "{metrics}");
}
