//! Module grants that were withdrawn.

use std::time::Duration;

use propusk::{
    flows::admin::{
        access::Precondition,
        clients::{self, catalogue},
        modules, users,
    },
    model::{actor::Actor, client::GrantType, user::Role},
    oauth::scope::Scope,
    storage::{self as rows, Statement},
};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{
    Backend, TestServer, backend_tests,
    chromium::until,
    oauth::{AuthorizationRequest, AuthorizationResponse, first_party_app, payload},
};

async fn with_module(backend: crate::support::Backend) -> TestServer {
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:read", None, true).await;
    let mut app = first_party_app();
    app.scope = Scope::parse("openid api:read crm:read offline_access").expect("a scope");
    app.grant_types.push(GrantType::ClientCredentials);
    server.client("app", app).await;
    server
}

backend_tests! {
    t23_no_grant_type_issues_an_ungranted_module_scope,
    t32_a_withdrawn_module_is_refused_by_the_next_check,
    t32_pairwise_tokens_are_revoked_by_module_and_role_changes,
    t37_a_module_withdrawn_mid_session_is_refused_at_authorize,
    t96_removing_a_module_closes_its_scopes,
    t98_modules_withdrawn_at_once_leave_no_scope,
    t98_a_scope_remains_only_through_a_lasting_module,
    t99_tokens_issued_while_a_change_waits_are_covered,
}

/// The scope of a new token of each kind for `ann`, who has no module.
async fn scopes_without_modules(server: &TestServer) -> [String; 3] {
    let request = AuthorizationRequest::of("app", "openid api:read crm:read");
    let code = server.browser().authorize(&request, "ann").await;
    let tokens = server.exchange_code("app", code.code()).await.expect(StatusCode::OK);
    let refreshed = server.refresh_as("app", &tokens.field("refresh_token")).await;
    let form = [("grant_type", "client_credentials")];
    let own = server.form_as("/oauth2/token", "app", &form).await;
    [tokens, refreshed, own].map(|reply| reply.expect(StatusCode::OK).field("scope"))
}

async fn t96_removing_a_module_closes_its_scopes(backend: Backend) {
    let server = with_module(backend).await;
    server.register("ann").await;
    let bob = server.register("bob").await;
    server.switch(&bob.access, "crm", "enable").await.expect(StatusCode::OK);
    let of_bob = server.refresh(&bob.refresh).await.tokens();
    assert!(server.verify(&of_bob.access).await.text.contains("crm:read"));
    let closed = ["openid api:read", "openid api:read", "api:read"].map(str::to_owned);
    assert_eq!(scopes_without_modules(&server).await, closed);
    // A module that drops the scope, and one that is removed: nobody has it afterwards.
    let put = |scope: &'static str| server.module("crm", scope, None, true);
    put("crm:write").await;
    assert_eq!(scopes_without_modules(&server).await, closed);
    server.verify(&of_bob.access).await.expect_error(401, "INVALID_TOKEN");
    put("crm:read crm:write").await;
    server.clock.advance(Duration::from_secs(3));
    let again = server.refresh(&of_bob.refresh).await.tokens();
    assert!(server.verify(&again.access).await.text.contains("crm:read"));
    let by = Actor::operator();
    modules::delete(&server.app, "crm", &Precondition::Any, &by).await.expect("removed");
    assert_eq!(scopes_without_modules(&server).await, closed);
    server.verify(&again.access).await.expect_error(401, "INVALID_TOKEN");
    // Only an operator's word makes it general.
    server.module("wiki", "crm:read", None, true).await;
    let refused = catalogue::release_scope(&server.app, "crm:read", &by).await;
    assert!(refused.is_err_and(|error| format!("{error:?}").contains("wiki")));
    modules::delete(&server.app, "wiki", &Precondition::Any, &by).await.expect("removed");
    catalogue::release_scope(&server.app, "crm:read", &by).await.expect("released");
    let open = ["openid api:read crm:read", "openid api:read crm:read", "api:read crm:read"];
    assert_eq!(scopes_without_modules(&server).await, open);
    assert!(catalogue::release_scope(&server.app, "api:read", &by).await.is_err());
}

async fn t98_modules_withdrawn_at_once_leave_no_scope(backend: Backend) {
    let server = with_module(backend).await;
    let other = server.another(&[]).await;
    server.module("sales", "crm:read", None, true).await;
    for n in 0..6 {
        let name = format!("ann{n}");
        let own = server.register(&name).await;
        for module in ["crm", "sales"] {
            server.switch(&own.access, module, "enable").await.expect(StatusCode::OK);
        }
        let token = server.login(&name).await.tokens().access;
        assert!(server.verify(&token).await.text.contains("crm:read"));
        let id = users::find(&server.app, &name).await.expect("known").id;
        let by = Actor::operator();
        let (one, two) = tokio::join!(
            modules::withdraw(&server.app, &id, "crm", &by),
            modules::withdraw(&other.app, &id, "sales", &by),
        );
        one.and(two).expect("withdrawn");
        server.verify(&token).await.expect_error(401, "INVALID_TOKEN");
        other.verify(&token).await.expect_error(401, "INVALID_TOKEN");
    }
}

async fn t98_a_scope_remains_only_through_a_lasting_module(backend: Backend) {
    let server = with_module(backend).await;
    server.module("sales", "crm:read", None, true).await;
    let (by, minute) = (Actor::operator(), Duration::from_secs(60));
    for (n, (lasts, ends)) in
        [(None, Some(minute)), (Some(minute), None), (None, None)].into_iter().enumerate()
    {
        let name = format!("ann{n}");
        server.register(&name).await;
        let id = users::find(&server.app, &name).await.expect("known").id;
        let at = |after: Option<Duration>| after.map(|after| server.clock.now() + after);
        modules::grant(&server.app, &id, "crm", at(lasts), &by).await.expect("granted");
        modules::grant(&server.app, &id, "sales", at(ends), &by).await.expect("granted");
        let token = server.login(&name).await.tokens().access;
        modules::withdraw(&server.app, &id, "crm", &by).await.expect("withdrawn");
        server.clock.advance(minute + Duration::from_secs(1));
        let reply = server.verify(&token).await;
        match ends {
            Some(_) => reply.expect_error(401, "INVALID_TOKEN"),
            None => reply.expect(StatusCode::OK),
        };
    }
}

/// Waits until a transaction of this database waits for another one's lock. On SQLite writers take
/// turns, and the waiting one has not begun.
async fn until_one_waits(server: &TestServer, backend: Backend) {
    if backend == Backend::Sqlite {
        return;
    }
    until("a transaction that waits", || async {
        let statement = Statement::new(
            "SELECT COUNT(*) AS n FROM pg_stat_activity \
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        );
        let rows = server.app.db.read(statement).await.expect("an answer");
        (rows[0].get::<i64>("n").expect("a number") > 0).then_some(())
    })
    .await;
}

async fn t99_tokens_issued_while_a_change_waits_are_covered(backend: Backend) {
    let server = with_module(backend).await;
    server.register("ann").await;
    let id = users::find(&server.app, "ann").await.expect("known").id;
    let long = Duration::from_secs(5);
    let token_of_app = async || {
        let form = [("grant_type", "client_credentials")];
        let reply = server.form_as("/oauth2/token", "app", &form).await.expect(StatusCode::OK);
        reply.field("access_token")
    };
    // A client that is disabled.
    let mut holder = server.app.db.begin().await.expect("a transaction");
    rows::clients::lock(&mut holder, &"app".into()).await.expect("locked");
    let app = server.app.clone();
    let disabling =
        tokio::spawn(
            async move { clients::disable(&app, &"app".into(), &Actor::operator()).await },
        );
    until_one_waits(&server, backend).await;
    server.clock.advance(long);
    let token = token_of_app().await;
    holder.commit().await.expect("committed");
    disabling.await.expect("it ends").expect("disabled");
    clients::enable(&server.app, &"app".into(), &Actor::operator()).await.expect("enabled");
    assert_eq!(server.introspect("app", &token).await, json!({ "active": false }));

    // A user whose role changes; on SQLite nothing is refreshed while another transaction is open.
    if backend == Backend::Sqlite {
        return;
    }
    let own = server.login("ann").await.tokens();
    let mut holder = server.app.db.begin().await.expect("a transaction");
    rows::users::lock(&mut holder, &id).await.expect("locked");
    let (app, role) = (server.app.clone(), Role::admin());
    let changing =
        tokio::spawn(async move { users::set_role(&app, &id, role, &Actor::operator()).await });
    until_one_waits(&server, backend).await;
    server.clock.advance(long);
    let refreshed = server.refresh(&own.refresh).await.tokens().access;
    holder.commit().await.expect("committed");
    changing.await.expect("it ends").expect("changed");
    server.verify(&refreshed).await.expect_error(401, "INVALID_TOKEN");
}

/// Only PostgreSQL has a reader wait: for a lock on its table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn t99_a_token_issued_slowly_is_covered_by_a_change() {
    let server = with_module(Backend::Postgres).await;
    let other = server.another(&[]).await;
    server.register("ann").await;
    let id = users::find(&server.app, "ann").await.expect("known").id;
    let own = server.login("ann").await.tokens();
    // The server has to read the catalogue again, once it has read the user's role.
    other.module("wiki", "wiki:read", None, true).await;
    server.app.revocations.sync().await.expect("synced");
    let mut holder = other.app.db.begin().await.expect("a transaction");
    let lock = Statement::new("LOCK TABLE scopes IN ACCESS EXCLUSIVE MODE");
    holder.run(lock).await.expect("locked");
    let change = async {
        until_one_waits(&other, Backend::Postgres).await;
        let by = Actor::operator();
        users::set_role(&other.app, &id, Role::admin(), &by).await.expect("changed");
        server.clock.advance(Duration::from_secs(5));
        holder.commit().await.expect("committed");
    };
    let (refreshed, ()) = tokio::join!(server.refresh(&own.refresh), change);
    server.verify(&refreshed.tokens().access).await.expect_error(401, "INVALID_TOKEN");
}

async fn t23_no_grant_type_issues_an_ungranted_module_scope(backend: Backend) {
    let server = with_module(backend).await;
    let request = [("grant_type", "client_credentials"), ("scope", "crm:read")];
    server.form_as("/oauth2/token", "app", &request).await.expect_oauth_error(400, "invalid_scope");
    let by_default = [("grant_type", "client_credentials")];
    let token = server.form_as("/oauth2/token", "app", &by_default).await.expect(StatusCode::OK);
    assert_eq!(token.field("scope"), "api:read");

    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    let code =
        ann.authorize(&AuthorizationRequest::of("app", "openid api:read crm:read"), "ann").await;
    let tokens = server.exchange_code("app", code.code()).await.expect(StatusCode::OK);
    assert_eq!(tokens.field("scope"), "openid api:read");
    let refresh = tokens.field("refresh_token");
    let wider = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh.as_str()),
        ("scope", "openid crm:read"),
    ];
    server.form_as("/oauth2/token", "app", &wider).await.expect_oauth_error(400, "invalid_scope");
    // A module enabled now was not requested when she logged in there.
    let own = server.login("ann").await.tokens();
    server.switch(&own.access, "crm", "enable").await.expect(StatusCode::OK);
    let refreshed = server.refresh_as("app", &refresh).await.expect(StatusCode::OK);
    assert_eq!(refreshed.field("scope"), "openid api:read");
}

async fn t32_a_withdrawn_module_is_refused_by_the_next_check(backend: Backend) {
    let server = with_module(backend).await;
    let own = server.register("ann").await;
    server.switch(&own.access, "crm", "enable").await.expect(StatusCode::OK);
    let mut ann = server.logged_in("ann").await;
    let code =
        ann.authorize(&AuthorizationRequest::of("app", "openid api:read crm:read"), "ann").await;
    let tokens = server.exchange_code("app", code.code()).await.expect(StatusCode::OK);
    let access = tokens.field("access_token");
    assert_eq!(server.introspect("app", &access).await["scope"], "openid api:read crm:read");
    server.get_as("/oauth2/userinfo", &access).await.expect(StatusCode::OK);

    let id = users::find(&server.app, "ann").await.expect("known").id;
    modules::withdraw(&server.app, &id, "crm", &Actor::operator()).await.expect("withdrawn");
    assert_eq!(server.introspect("app", &access).await, json!({ "active": false }));
    server.get_as("/oauth2/userinfo", &access).await.expect(StatusCode::UNAUTHORIZED);
    server.verify(&access).await.expect_error(401, "INVALID_TOKEN");
    let refreshed =
        server.refresh_as("app", &tokens.field("refresh_token")).await.expect(StatusCode::OK);
    assert_eq!(refreshed.field("scope"), "openid api:read");
    server
        .get_as("/oauth2/userinfo", &refreshed.field("access_token"))
        .await
        .expect(StatusCode::OK);
    let refresh = server.introspect("app", &refreshed.field("refresh_token")).await;
    assert_eq!(refresh["scope"], "openid api:read", "{refresh}");
}

async fn t32_pairwise_tokens_are_revoked_by_module_and_role_changes(backend: Backend) {
    let server = with_module(backend).await;
    server
        .change_client("app", |app| {
            app.metadata.subject_type = propusk::model::client::SubjectType::Pairwise;
        })
        .await;
    let own = server.register("ann").await;
    server.switch(&own.access, "crm", "enable").await.expect(StatusCode::OK);
    let mut ann = server.logged_in("ann").await;
    let request = AuthorizationRequest::of("app", "openid api:read crm:read");
    let tokens = server
        .exchange_code("app", ann.authorize(&request, "ann").await.code())
        .await
        .expect(StatusCode::OK);
    let found = users::find(&server.app, "ann").await.expect("known");
    assert_ne!(payload(&tokens.field("access_token"))["sub"], found.id.as_str());
    modules::withdraw(&server.app, &found.id, "crm", &Actor::operator()).await.expect("withdrawn");
    assert_eq!(
        server.introspect("app", &tokens.field("access_token")).await,
        json!({ "active": false })
    );

    server.clock.advance(Duration::from_secs(3));
    let refreshed =
        server.refresh_as("app", &tokens.field("refresh_token")).await.expect(StatusCode::OK);
    assert_eq!(server.introspect("app", &refreshed.field("access_token")).await["active"], true);
    users::set_role(
        &server.app,
        &found.id,
        propusk::model::user::Role::admin(),
        &Actor::operator(),
    )
    .await
    .expect("changed");
    assert_eq!(
        server.introspect("app", &refreshed.field("access_token")).await,
        json!({ "active": false })
    );
}

async fn t37_a_module_withdrawn_mid_session_is_refused_at_authorize(backend: Backend) {
    let server = with_module(backend).await;
    let own = server.register("ann").await;
    server.switch(&own.access, "crm", "enable").await.expect(StatusCode::OK);
    let mut ann = server.logged_in("ann").await;
    let silent = AuthorizationRequest::of("app", "crm:read").with("prompt", "none");
    let code = AuthorizationResponse::of(ann.open(&silent.path()).await.header("location"))
        .code()
        .to_owned();
    let id = users::find(&server.app, "ann").await.expect("known").id;
    modules::withdraw(&server.app, &id, "crm", &Actor::operator()).await.expect("withdrawn");
    AuthorizationResponse::of(ann.open(&silent.path()).await.header("location"))
        .expect_error("invalid_scope");
    AuthorizationResponse::of(
        ann.open(&AuthorizationRequest::of("app", "crm:read").path()).await.header("location"),
    )
    .expect_error("invalid_scope");
    // A code issued before gives only the scopes that remain.
    let tokens = server.exchange_code("app", &code).await.expect(StatusCode::OK);
    assert_eq!(tokens.json().get("scope"), None);
}
