//! Modules: a user's grants become scopes, and stop being so at once.

use std::{sync::Arc, time::Duration};

use propusk::{
    clock::{Clock, Timestamp},
    error::Error,
    flows::{
        admin::{access::Precondition, modules, users},
        maintenance,
    },
    model::{actor::Actor, user::Role},
};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{
    Backend, Database, START, TestServer, backend_tests,
    oauth::{AuthorizationRequest, first_party_app, payload},
};

/// The entries of a withdrawal match the tokens of the second after it, too.
async fn pass_three_seconds(server: &TestServer) {
    server.clock.advance(Duration::from_secs(3));
}

fn scopes_of(token: &str) -> String {
    payload(token)["scope"].as_str().expect("a scope").to_owned()
}

async fn user(server: &TestServer, name: &str) -> String {
    users::find(&server.app, name).await.expect("known").id.into()
}

backend_tests! {
    the_next_token_carries_the_scopes_of_an_enabled_module,
    a_withdrawn_module_is_refused_and_a_refresh_keeps_the_rest,
    a_client_gets_the_requested_scopes_that_the_user_has,
    a_temporary_module_grant_limits_the_token_lifetime,
    the_module_history_records_periods_and_who_granted_them,
    concurrent_module_switches_leave_a_consistent_history,
    the_token_after_a_change_of_a_module_has_its_scopes,
    module_changes_reach_other_processes_at_the_next_check,
    a_scope_removed_from_a_module_is_refused_to_all_its_users,
    permitted_clients_see_the_role_and_modules_claims,
    modules_and_roles_from_a_file_exist_at_startup,
}

async fn the_next_token_carries_the_scopes_of_an_enabled_module(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:read crm:write", None, true).await;
    server.module("billing", "billing:read", None, false).await;
    let ann = server.register("ann").await;
    assert_eq!(scopes_of(&ann.access), "openid profile email");

    for path in ["/api/v1/modules/", "/api/v1/modules"] {
        let list = server.get_as(path, &ann.access).await.expect(StatusCode::OK).json();
        assert_eq!(
            list["data"][1],
            json!({
                "id": "crm", "name": "The crm", "description": "All about it", "scopes": ["crm:read", "crm:write"],
                "resource": null, "selfService": true, "enabled": false, "grantedAt": null, "validUntil": null,
            }),
            "{list}"
        );
        assert_eq!(list["data"][0]["id"], "billing");
    }
    let russian = server
        .request(reqwest::Method::GET, "/api/v1/modules/")
        .bearer_auth(&ann.access)
        .header("accept-language", "ru");
    assert_eq!(crate::support::send(russian).await.json()["data"][1]["name"], "Модуль crm");

    for path in
        ["/api/v1/modules/crm/enable", "/api/v1/modules/crm/enable/", "/api/v1/modules/crm/enable"]
    {
        let on = server.post_as(path, &ann.access).await.expect(StatusCode::OK).json();
        assert_eq!(on["data"]["enabled"], true);
        assert_eq!(on["data"]["grantedAt"], "2026-11-21T00:00:00Z");
    }
    let refreshed = server.refresh(&ann.refresh).await.expect(StatusCode::OK).tokens();
    assert_eq!(scopes_of(&refreshed.access), "openid profile email crm:read crm:write");
    assert_eq!(payload(&refreshed.access)["modules"], json!(["crm"]));
    let session = server.get_as("/api/v1/auth/session", &refreshed.access).await.json();
    assert_eq!(session["data"]["modules"], json!(["crm"]), "{session}");

    let off =
        server.switch(&refreshed.access, "crm", "disable").await.expect(StatusCode::OK).json();
    assert_eq!(off["data"]["enabled"], false);
    server.switch(&ann.access, "crm", "disable").await.expect(StatusCode::OK);
    // One event for each change.
    let events = server.events().await;
    let of_modules: Vec<_> =
        events.iter().filter(|(kind, _)| kind.starts_with("module.")).collect();
    let kinds: Vec<_> = of_modules.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["module.enabled", "module.disabled"]);
    let id = user(&server, "ann").await;
    assert_eq!(
        of_modules[0].1,
        json!({ "userId": id, "moduleId": "crm", "by": id, "validUntil": null })
    );

    server
        .switch(&ann.access, "billing", "enable")
        .await
        .expect_error(403, "MODULE_NOT_SELF_SERVICE");
    server
        .switch(&ann.access, "billing", "disable")
        .await
        .expect_error(403, "MODULE_NOT_SELF_SERVICE");
    server.switch(&ann.access, "nothing", "enable").await.expect_error(404, "MODULE_NOT_FOUND");
    server.get("/api/v1/modules/").await.expect_error(401, "INVALID_TOKEN");
}

async fn a_withdrawn_module_is_refused_and_a_refresh_keeps_the_rest(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:read", None, true).await;
    let ann = server.register("ann").await;
    server.switch(&ann.access, "crm", "enable").await.expect(StatusCode::OK);
    let with = server.refresh(&ann.refresh).await.tokens();
    server.verify(&with.access).await.expect(StatusCode::OK);
    server.switch(&ann.access, "crm", "disable").await.expect(StatusCode::OK);
    server.verify(&with.access).await.expect_error(401, "INVALID_TOKEN");
    // The older token, which never had the scope, is still valid.
    server.verify(&ann.access).await.expect(StatusCode::OK);
    let without = server.refresh(&with.refresh).await.expect(StatusCode::OK).tokens();
    assert_eq!(scopes_of(&without.access), "openid profile email");
    server.verify(&without.access).await.expect(StatusCode::OK);
    pass_three_seconds(&server).await;
    server.switch(&without.access, "crm", "enable").await.expect(StatusCode::OK);
    let again = server.refresh(&without.refresh).await.tokens();
    server.verify(&again.access).await.expect(StatusCode::OK);
    assert!(scopes_of(&again.access).ends_with("crm:read"));
}

async fn a_client_gets_the_requested_scopes_that_the_user_has(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:read crm:write", None, true).await;
    server.module("far", "far:read", Some("https://far.example"), true).await;
    let mut app = first_party_app();
    app.scope = propusk::oauth::scope::Scope::parse(
        "openid api:read crm:read far:read propusk:admin offline_access",
    )
    .expect("a scope");
    server.client("app", app).await;
    let ann = server.register("ann").await;
    server.switch(&ann.access, "crm", "enable").await.expect(StatusCode::OK);
    server.switch(&ann.access, "far", "enable").await.expect(StatusCode::OK);
    let mut browser = server.logged_in("ann").await;
    let request = AuthorizationRequest::of(
        "app",
        "openid api:read crm:read crm:write far:read propusk:admin",
    );
    let code = browser.authorize(&request, "ann").await;
    let tokens = server.exchange_code("app", code.code()).await.expect(StatusCode::OK);
    // crm:write is not allowed to this client, far:read is for another audience, and ann is no
    // administrator.
    assert_eq!(tokens.field("scope"), "openid api:read crm:read");

    server.switch(&ann.access, "crm", "disable").await.expect(StatusCode::OK);
    let form = [("grant_type", "refresh_token"), ("refresh_token", &tokens.field("refresh_token"))];
    let narrowed = server.form_as("/oauth2/token", "app", &form).await.expect(StatusCode::OK);
    assert_eq!(narrowed.field("scope"), "openid api:read", "the response has the reduced scope");
    // A module she gets later was not part of the consent.
    pass_three_seconds(&server).await;
    server.switch(&ann.access, "crm", "enable").await.expect(StatusCode::OK);
    let form =
        [("grant_type", "refresh_token"), ("refresh_token", &narrowed.field("refresh_token"))];
    let again = server.form_as("/oauth2/token", "app", &form).await.expect(StatusCode::OK);
    assert_eq!(
        again.field("scope"),
        "openid api:read crm:read",
        "the consent is remembered, and she has the module again"
    );

    let id = user(&server, "ann").await;
    let found = users::find(&server.app, &id).await.expect("ann");
    users::set_role(&server.app, &found.id, Role::admin(), &Actor::operator())
        .await
        .expect("changed");
    pass_three_seconds(&server).await;
    let code = browser.authorize(&request, "ann").await;
    let tokens = server.exchange_code("app", code.code()).await.expect(StatusCode::OK);
    assert_eq!(tokens.field("scope"), "openid api:read crm:read propusk:admin");
}

async fn a_temporary_module_grant_limits_the_token_lifetime(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:read", None, false).await;
    let ann = server.register("ann").await;
    let id = user(&server, "ann").await;
    let end = START + Duration::from_secs(300);
    modules::grant(&server.app, &id, "crm", Some(end), &Actor::operator()).await.expect("granted");
    let with = server.refresh(&ann.refresh).await.expect(StatusCode::OK);
    assert_eq!(with.json()["data"]["expiresIn"], 300, "{with:?}");
    let with = with.tokens();
    assert_eq!(payload(&with.access)["exp"], end.as_secs());
    server.clock.advance(Duration::from_secs(301));
    server.verify(&with.access).await.expect_error(401, "INVALID_TOKEN");
    let without = server.refresh(&with.refresh).await.expect(StatusCode::OK);
    assert_eq!(without.json()["data"]["expiresIn"], 900);
    assert_eq!(scopes_of(&without.tokens().access), "openid profile email");
    maintenance::sweep(&server.app).await.expect("swept");
    let (kind, data) = server
        .events()
        .await
        .into_iter()
        .rfind(|(kind, _)| kind.starts_with("module."))
        .expect("an event");
    assert_eq!(
        (kind.as_str(), &data["validUntil"]),
        ("module.expired", &json!("2026-11-21T00:05:00Z"))
    );
    assert!(
        modules::grant(&server.app, &id, "crm", Some(end), &Actor::operator()).await.is_err(),
        "it has passed"
    );
}

async fn the_module_history_records_periods_and_who_granted_them(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:read", None, true).await;
    let ann = server.register("ann").await;
    let id = user(&server, "ann").await;
    let hour = Duration::from_secs(3_600);
    let moment = |hours: u32| START + hour * hours;
    server.switch(&ann.access, "crm", "enable").await.expect(StatusCode::OK); // at 0
    server.clock.advance(hour);
    modules::withdraw(&server.app, &id, "crm", &Actor::operator()).await.expect("withdrawn"); // at 1
    server.clock.advance(hour);
    modules::grant(&server.app, &id, "crm", Some(moment(4)), &Actor::operator())
        .await
        .expect("granted"); // from 2 to 4
    server.clock.advance(hour);
    modules::grant(&server.app, &id, "crm", Some(moment(4)), &Actor::operator())
        .await
        .expect("the same again");
    modules::grant(&server.app, &id, "crm", None, &Actor::operator())
        .await
        .expect("without an end"); // from 3
    server.clock.advance(hour * 3);
    let describe = |grants: Vec<propusk::model::module::ModuleGrant>| -> Vec<_> {
        let hours = |at: Timestamp| (at - START).as_secs() / 3_600;
        grants
            .into_iter()
            .map(|g| (hours(g.valid_from), g.valid_until.map(hours), g.granted_by, g.ended_by))
            .collect()
    };
    let cli = || "cli".to_owned();
    let all = describe(modules::history(&server.app, &id).await.expect("a history"));
    assert_eq!(
        all,
        [
            (3, None, cli(), None),
            (2, Some(3), cli(), Some(cli())),
            (0, Some(1), id.clone(), Some(cli())),
        ]
    );
    let at = async |hours: u32, minutes: u64| {
        let moment = moment(hours) + Duration::from_secs(60 * minutes);
        describe(modules::at(&server.app, &id, moment).await.expect("read"))
            .into_iter()
            .map(|(from, ..)| from)
            .collect::<Vec<_>>()
    };
    assert_eq!(at(0, 30).await, [0]);
    assert_eq!(at(1, 30).await, [] as [u64; 0]);
    assert_eq!(at(2, 30).await, [2]);
    assert_eq!(at(5, 0).await, [3]);
}

async fn concurrent_module_switches_leave_a_consistent_history(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:read", None, true).await;
    let ann = server.register("ann").await;
    let id = user(&server, "ann").await;
    let switching = (0..50).map(|n| {
        let (server, token) = (&server, &ann.access);
        async move {
            let action = if n % 2 == 0 { "enable" } else { "disable" };
            server.switch(token, "crm", action).await.expect(StatusCode::OK);
        }
    });
    futures_util::future::join_all(switching).await;
    let mut history = modules::history(&server.app, &id).await.expect("a history");
    // The clock stands still: only the open one is certain to be the last.
    history.sort_by_key(|grant| grant.closed_at.is_none());
    let open = history.iter().filter(|grant| grant.closed_at.is_none()).count();
    assert!(open <= 1, "{history:?}");
    for pair in history.windows(2) {
        assert!(pair[0].valid_until.is_some_and(|until| until <= pair[1].valid_from), "{pair:?}");
    }
    let events =
        server.events().await.into_iter().filter(|(kind, _)| kind.starts_with("module.")).count();
    assert_eq!(events, 2 * history.len() - open, "one event per change, and none without a change");
}

/// No version check comes between the answer and the next request.
async fn the_token_after_a_change_of_a_module_has_its_scopes(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:0", None, true).await;
    let mut ann = server.register("ann").await;
    server.switch(&ann.access, "crm", "enable").await.expect(StatusCode::OK);
    for n in 1..=100 {
        let scope = format!("crm:{n}");
        server.module("crm", &scope, None, true).await;
        ann = server.refresh(&ann.refresh).await.tokens();
        assert_eq!(scopes_of(&ann.access), format!("openid profile email {scope}"));
    }
}

async fn module_changes_reach_other_processes_at_the_next_check(backend: Backend) {
    let one = TestServer::start(backend).await;
    let other = one.another(&[]).await;
    one.module("crm", "crm:read", None, true).await;
    let ann = other.register("ann").await;
    other.switch(&ann.access, "crm", "enable").await.expect(StatusCode::OK);
    let with = one.refresh(&ann.refresh).await.tokens();
    other.verify(&with.access).await.expect(StatusCode::OK);
    one.switch(&ann.access, "crm", "disable").await.expect(StatusCode::OK);
    other.verify(&with.access).await.expect_error(401, "INVALID_TOKEN");
    modules::delete(&one.app, "crm", &Precondition::Any, &Actor::operator())
        .await
        .expect("removed");
    other.switch(&ann.access, "crm", "enable").await.expect_error(404, "MODULE_NOT_FOUND");
}

async fn a_scope_removed_from_a_module_is_refused_to_all_its_users(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:read crm:write", None, true).await;
    let mut tokens = vec![];
    for name in ["ann", "bob"] {
        let first = server.register(name).await;
        server.switch(&first.access, "crm", "enable").await.expect(StatusCode::OK);
        tokens.push(server.refresh(&first.refresh).await.tokens());
    }
    let eve = server.register("eve").await;
    server.module("crm", "crm:read", None, true).await;
    for token in &mut tokens {
        server.verify(&token.access).await.expect_error(401, "INVALID_TOKEN");
        pass_three_seconds(&server).await;
        *token = server.refresh(&token.refresh).await.tokens();
        assert!(scopes_of(&token.access).ends_with("email crm:read"));
        server.verify(&token.access).await.expect(StatusCode::OK);
    }
    server.verify(&eve.access).await.expect(StatusCode::OK);
    modules::delete(&server.app, "crm", &Precondition::Any, &Actor::operator())
        .await
        .expect("removed");
    for token in &tokens {
        server.verify(&token.access).await.expect_error(401, "INVALID_TOKEN");
        let id = user(&server, "ann").await;
        let history = modules::history(&server.app, &id).await.expect("a history");
        assert!(history[0].closed_at.is_some(), "the history stays");
    }
}

async fn permitted_clients_see_the_role_and_modules_claims(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:read", None, true).await;
    server.client("app", first_party_app()).await;
    let mut knowing = first_party_app();
    knowing.user_claims =
        vec![propusk::model::client::UserClaim::Role, propusk::model::client::UserClaim::Modules];
    server.client("knowing", knowing).await;
    let ann = server.register("ann").await;
    server.switch(&ann.access, "crm", "enable").await.expect(StatusCode::OK);
    let mut browser = server.logged_in("ann").await;
    for (client, expected) in
        [("app", (json!(null), json!(null))), ("knowing", (json!("user"), json!(["crm"])))]
    {
        let code =
            browser.authorize(&AuthorizationRequest::of(client, "openid api:read"), "ann").await;
        let tokens = server.exchange_code(client, code.code()).await.expect(StatusCode::OK);
        let userinfo =
            server.get_as("/oauth2/userinfo", &tokens.field("access_token")).await.json();
        for response in
            [payload(&tokens.field("access_token")), payload(&tokens.field("id_token")), userinfo]
        {
            assert_eq!(
                (response["role"].clone(), response["modules"].clone()),
                expected,
                "{client}: {response}"
            );
        }
    }
}

async fn modules_and_roles_from_a_file_exist_at_startup(backend: Backend) {
    let database = Arc::new(Database::prepared(backend).await);
    let file = database.folder.path().join("modules.toml");
    let path = file.display().to_string();
    let settings = [("PROPUSK_MODULES__FILE", path.as_str())];
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    write(
        "[module.crm]\nname = { en = \"Customers\" }\nscope = \"crm:read\"\nself_service = true\n[role.support]\ndescription = \"Answers.\"\n",
    );
    let server = TestServer::on(Arc::clone(&database), Clock::fake(START), &settings).await;
    for _ in 0..2 {
        modules::file::apply(&server.app).await.expect("applied");
    }
    let crm = modules::by_id(&server.app, "crm").await.expect("there");
    assert_eq!((crm.name("ru"), crm.is_self_service, crm.updated_at), ("Customers", true, START));
    server.register("ann").await;
    let ann = users::find(&server.app, "ann").await.expect("known");
    users::set_role(
        &server.app,
        &ann.id,
        Role::parse("support").expect("a role"),
        &Actor::operator(),
    )
    .await
    .expect("there is such a role");
    let unknown = users::set_role(
        &server.app,
        &ann.id,
        Role::parse("boss").expect("a role"),
        &Actor::operator(),
    )
    .await;
    assert!(matches!(unknown, Err(Error::Validation(_))), "{unknown:?}");
    for (wrong, why) in [
        ("[module.crm]\nname = { en = \"C\" }\nscope = \"openid\"", "scope must not have openid"),
        ("[module.CRM]\nname = { en = \"C\" }\nscope = \"a\"", "id must be 1 to 64"),
        ("[module.crm]\nname = {}\nscope = \"a\"", "names must have at least one"),
        ("[module.crm]\nnames = {}\nscope = \"a\"", "unknown field `names`"),
    ] {
        write(wrong);
        let error = modules::file::apply(&server.app).await.expect_err(wrong).to_string();
        assert!(error.contains(why) && error.contains("modules.toml"), "{error}");
    }
}

/// The rule by brute force: a token may carry what was requested, is allowed to the client, and is
/// general or of a valid module of the audience.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_scope_follows_the_rule_for_every_combination() {
    use propusk::{
        flows::tokens::scope::{UserAccess, allowed},
        model::{
            catalogue::Catalogue,
            module::{Module, OpenGrant},
        },
        oauth::scope::Scope,
    };
    let resources: [&[String]; 2] = [&[], &["https://far.example".to_owned()]];
    let scope = |text: &str| Scope::parse(text).expect("a scope");
    let module = |id: &str, scopes: &str, resource: Option<&str>| Module {
        id: id.to_owned(),
        names: [("en".to_owned(), id.to_owned())].into(),
        descriptions: Default::default(),
        scope: scope(scopes),
        resource: resource.map(str::to_owned),
        is_self_service: true,
        created_at: START,
        updated_at: START,
    };
    let modules = [
        module("a", "a both", None),
        module("b", "b both", None),
        module("far", "far both", resources[1].first().map(String::as_str)),
    ];
    let catalogue = Catalogue {
        modules: modules.iter().map(|one| (one.id.clone(), one.clone())).collect(),
        module_scopes: ["a", "b", "both", "far", "once"].map(str::to_owned).into(),
        ..Catalogue::default()
    };
    // `once` belonged to a module that is gone.
    let names = ["openid", "api", "a", "b", "both", "far", "once", "propusk:admin"];
    let (mut seen, mut carried) = (0, 0);
    for request in 0..1_u32 << names.len() {
        let picked: Vec<&str> = names
            .iter()
            .enumerate()
            .filter(|(n, _)| request >> n & 1 == 1)
            .map(|(_, name)| *name)
            .collect();
        for had in 0..27_usize {
            // Each module: not granted, granted, or granted until a moment that has passed.
            let states = [had % 3, had / 3 % 3, had / 9];
            let grants: Vec<OpenGrant> = modules
                .iter()
                .zip(states)
                .filter(|(_, state)| *state > 0)
                .map(|(one, state)| OpenGrant {
                    module_id: one.id.clone(),
                    valid_until: (state == 2).then_some(START),
                })
                .collect();
            for of in resources {
                for role in [Role::user(), Role::admin()] {
                    let user = UserAccess { is_admin: role == Role::admin(), modules: &grants };
                    let granted = allowed(
                        &catalogue,
                        &Scope::of(picked.iter().copied()),
                        of,
                        Some(user),
                        START,
                    )
                    .scope;
                    for name in names {
                        let mut giving =
                            modules.iter().zip(states).filter(|(one, _)| one.scope.contains(name));
                        let general = ["openid", "api", "propusk:admin"].contains(&name);
                        let has = giving.any(|(one, state)| state == 1 && one.is_for(of));
                        let own = name.starts_with("propusk:") && role != Role::admin();
                        let expected = picked.contains(&name) && (general || has) && !own;
                        assert_eq!(
                            granted.contains(name),
                            expected,
                            "{name} of {picked:?} with {states:?} as {role:?} for {of:?}"
                        );
                        seen += 1;
                        carried += usize::from(expected);
                    }
                }
            }
        }
    }
    assert!(seen > 90_000 && carried > 10_000, "{carried} of {seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_consent_page_names_modules() {
    let server = TestServer::start(Backend::Sqlite).await;
    server.module("crm", "crm:read", None, true).await;
    let mut app = first_party_app();
    app.consent = propusk::model::client::Consent::Required;
    app.scope = propusk::oauth::scope::Scope::parse("openid crm:read").expect("a scope");
    server.client("app", app).await;
    let ann = server.register("ann").await;
    let mut browser = server.logged_in("ann").await;
    let request = AuthorizationRequest::of("app", "openid crm:read");
    let without = browser.open(&request.path()).await;
    assert!(
        !without.text.contains("The crm") && !without.text.contains("crm:read</code>"),
        "no consent is asked for a module she lacks"
    );
    server.switch(&ann.access, "crm", "enable").await.expect(StatusCode::OK);
    let page = browser.open(&request.path()).await;
    assert!(page.text.contains("<strong>The crm</strong>: All about it"), "{}", page.text);
    let russian = browser.open(&request.with("ui_locales", "ru").path()).await;
    assert!(russian.text.contains("<strong>Модуль crm</strong>: Всё о нём"), "{}", russian.text);
}
