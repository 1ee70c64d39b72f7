//! Deleting a user leaves nothing that says who they were.

use std::time::Duration;

use propusk::{
    flows::admin::users,
    grpc::proto::v1::DeleteUserRequest,
    model::client::{Metadata, SubjectType},
    oauth::scope::Scope,
    storage::Statement,
};
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderValue},
};
use serde_json::json;

use crate::support::{
    Backend, TestServer, backend_tests,
    oauth::{AuthorizationRequest, web_app},
    process::run,
};

const SETTINGS: &[(&str, &str)] =
    &[("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.0/8"), ("PROPUSK_GRPC__LISTEN", "127.0.0.1:0")];

backend_tests! {
    t159_a_deleted_user_is_in_no_table,
    t159_the_command_says_what_is_kept,
}

/// From now on requests come from that address.
fn move_to(server: &mut TestServer, address: &'static str) {
    let mut headers = HeaderMap::new();
    headers.insert("x-forwarded-for", HeaderValue::from_static(address));
    server.http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .default_headers(headers)
        .timeout(Duration::from_secs(60))
        .build()
        .expect("an HTTP client");
}

/// Every column of every table, as `(table, column)`.
async fn columns(server: &TestServer) -> Vec<(String, String)> {
    let statement = Statement::new(match server.app.db.kind() {
        "postgres" => {
            "SELECT CAST(table_name AS TEXT) AS t, CAST(column_name AS TEXT) AS c \
             FROM information_schema.columns WHERE table_schema = 'public'"
        }
        _ => {
            "SELECT m.name AS t, p.name AS c FROM sqlite_master m JOIN pragma_table_info(m.name) p \
             WHERE m.type = 'table'"
        }
    });
    let rows = server.app.db.read(statement).await.expect("the schema");
    let column = |row: &propusk::storage::Row| {
        (row.get("t").expect("a table"), row.get("c").expect("a column"))
    };
    let columns: Vec<_> = rows.iter().map(column).collect();
    assert!(columns.len() > 100, "{columns:?}");
    columns
}

/// Where a text occurs, as `table.column`.
async fn found(server: &TestServer, text: &str) -> Vec<String> {
    let mut found = vec![];
    for (table, column) in columns(server).await {
        let sql = format!(
            "SELECT COUNT(*) AS n FROM \"{table}\" WHERE LOWER(CAST(\"{column}\" AS TEXT)) LIKE '%{text}%'"
        );
        let rows = server.app.db.read(Statement::new(Box::leak(sql.into_boxed_str()))).await;
        if rows.expect("rows")[0].get::<i64>("n").expect("a number") > 0 {
            found.push(format!("{table}.{column}"));
        }
    }
    found
}

/// A user who has used everything that stores something about them.
async fn busy_user(server: &TestServer, other: &TestServer, name: &str) -> String {
    let tokens = server.register(name).await;
    server.login(name).await.expect(StatusCode::OK);
    let wrong = json!({ "login": name, "password": "wrong" });
    server.post("/api/v1/auth/login", wrong).await.expect(StatusCode::UNAUTHORIZED);
    server.refresh(&tokens.refresh).await.expect(StatusCode::OK);
    server.get_as("/api/v1/admin/users", &tokens.access).await.expect(StatusCode::FORBIDDEN);
    server.switch(&tokens.access, "crm", "enable").await.expect(StatusCode::OK);
    let mut browser = server.browser();
    for app in ["app", "pairwise"] {
        let request = AuthorizationRequest::of(app, "openid email offline_access");
        let answer = browser.authorize(&request, name).await;
        let reply = server.exchange_code(app, answer.code()).await.expect(StatusCode::OK);
        let revoked = [("token", reply.field("refresh_token"))];
        let form: Vec<_> = revoked.iter().map(|(name, value)| (*name, value.as_str())).collect();
        server.form_as("/oauth2/revoke", app, &form).await.expect(StatusCode::OK);
    }
    // An administrator renames them: the old names must go as well.
    let user = users::find(&server.app, name).await.expect("known");
    let admin = other.admin_as("root").await;
    let renamed =
        json!({ "email": format!("{name}.new@example.com"), "username": format!("{name}new") });
    admin.patch(&format!("/users/{}", user.id), renamed).await.expect(StatusCode::OK);
    server.login(&format!("{name}new")).await.expect(StatusCode::OK);
    while server.app.denied_requests.write().await.expect("written") > 0 {}
    user.id.into()
}

async fn t159_a_deleted_user_is_in_no_table(backend: Backend) {
    let mut server = TestServer::with(backend, SETTINGS).await;
    let other = server.another(SETTINGS).await;
    server.module("crm", "crm:read", None, true).await;
    server.client("app", web_app()).await;
    let pairwise = Metadata { subject_type: SubjectType::Pairwise, ..web_app() };
    server.client("pairwise", pairwise).await;
    let scope = Scope::parse("propusk:users").expect("a scope");
    server.client("backend", Metadata { scope, ..web_app() }).await;
    other.promote("root").await;
    move_to(&mut server, "203.0.113.99");
    busy_user(&server, &other, "bystander").await;

    for (way, name, address) in [
        ("admin API", "zelda", "203.0.113.71"),
        ("command line", "ximena", "203.0.113.72"),
        ("gRPC", "quirin", "203.0.113.73"),
    ] {
        move_to(&mut server, address);
        let id = busy_user(&server, &other, name).await;
        let before = found(&server, name).await;
        for place in ["users.email", "outbox.data", "audit_log.detail"] {
            assert!(before.iter().any(|found| found == place), "{place} of {before:?}");
        }
        let before = found(&server, address).await;
        for place in ["sessions", "browser_sessions", "audit_log", "denied_requests"] {
            let place = format!("{place}.address");
            assert!(before.contains(&place), "{place} of {before:?}");
        }
        match way {
            "admin API" => {
                let admin = other.admin_as("root").await;
                admin.delete(&format!("/users/{id}")).await.expect(StatusCode::OK);
            }
            "command line" => {
                let output = run(&server.database, &[], &["user", "delete", &id]);
                assert!(output.status.success(), "{output:?}");
            }
            _ => {
                let caller = other.client_caller("backend", "propusk:users").await;
                caller.users().delete(DeleteUserRequest { id: id.clone() }).await.expect("deleted");
            }
        }
        for text in [name, address] {
            assert_eq!(found(&server, text).await, [""; 0], "{text}, deleted by {way}");
        }
        // Ids are kept where they are needed.
        let kept = found(&server, &id).await;
        for place in ["audit_log.subject", "outbox.subject", "revocations.target"] {
            assert!(kept.iter().any(|found| found == place), "{place} of {kept:?}");
        }
        for gone in ["sessions.", "browser_sessions.", "consents.", "module_grants.", "users."] {
            assert!(!kept.iter().any(|found| found.starts_with(gone)), "{gone} of {kept:?}");
        }
    }
    // Nobody else's data is touched.
    for place in ["users.email", "outbox.data", "audit_log.detail"] {
        assert!(found(&server, "bystander").await.iter().any(|found| found == place), "{place}");
    }
    assert!(found(&server, "203.0.113.99").await.iter().any(|found| found == "audit_log.address"));
    let deleted = server.events().await.into_iter().filter(|(kind, _)| kind == "user.deleted");
    assert_eq!(deleted.count(), 3);
}

async fn t159_the_command_says_what_is_kept(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("vera").await;
    let id = users::find(&server.app, "vera").await.expect("known").id;
    let settings = [("PROPUSK_AUDIT__RETENTION", "30d"), ("PROPUSK_EVENTS__RETENTION", "2d")];
    let output = run(&server.database, &settings, &["user", "delete", "vera"]);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    for says in
        [&id, "deleted user vera@example.org", "(30 day(s))", "(2 day(s))", "docs/privacy.md"]
    {
        assert!(stdout.contains(says), "{says} is not in: {stdout}");
    }
    let page = include_str!("../../docs/privacy.md");
    for table in [
        "`audit_log`",
        "`outbox`",
        "`revocations`",
        "`logout_deliveries`",
        "`webhook_deliveries`",
        "`denied_requests`",
        "`pushed_requests`",
    ] {
        assert!(page.contains(table), "docs/privacy.md does not say what {table} keeps");
    }
}
