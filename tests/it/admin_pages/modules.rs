//! Modules, roles and trusted issuers by the pages of administrators.

use std::time::Duration;

use propusk::{
    flows::admin::{issuers, modules, roles, users},
    model::{actor::Actor, user::Role},
};
use reqwest::StatusCode;

use super::{administrator, submit};
use crate::support::{
    Backend, TestServer, backend_tests,
    oauth::{Form, payload},
};

fn scopes_of(token: &str) -> String {
    payload(token)["scope"].as_str().expect("a scope").to_owned()
}

/// What the form for a new module is filled in with.
const CRM: [(&str, &str); 5] = [
    ("id", "crm"),
    ("names", "en=Customers\r\nru = Клиенты\r\n"),
    ("descriptions", ""),
    ("scope", "crm:read  crm:write"),
    ("self_service", "1"),
];

backend_tests! {
    a_module_is_granted_by_a_form_until_a_day,
    a_module_is_changed_and_deleted_by_forms,
    roles_are_created_changed_and_deleted_by_forms,
    issuers_are_added_changed_and_deleted_by_forms,
}

async fn a_module_is_granted_by_a_form_until_a_day(backend: Backend) {
    let server = TestServer::start(backend).await;
    let ann = server.register("ann").await;
    let mut olga = administrator(&server).await;
    let page = olga.open("/admin/modules").await.expect(StatusCode::OK);
    let form = Form::that_does(&page.text, "create");
    let created = olga.submit_form(form.clone(), &CRM).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(created.header("location"), "/admin/modules/crm?done=module-created");
    let again = olga.submit_form(form, &CRM).await.expect(StatusCode::CONFLICT);
    assert!(again.text.contains("value=\"crm:read  crm:write\""), "{again:?}");

    // Until tomorrow has ended: it is 2026-11-21 here.
    let path = "/admin/modules/crm";
    let typed = [("user", "ann@example.org"), ("validUntil", "2026-11-22")];
    let typed_by_name = [("user", "ann"), typed[1]];
    for (wrong, why) in [
        ([("user", "nobody"), typed[1]], "there is no user"),
        ([("user", "ann"), ("validUntil", "soon")], "must be a day"),
        ([("user", "ann"), ("validUntil", "2026-11-20")], "must be in the future"),
    ] {
        let refused = submit(&mut olga, path, "grant", &wrong).await;
        let refused = refused.expect(StatusCode::BAD_REQUEST);
        assert!(refused.text.contains(why), "{refused:?}");
        assert!(refused.text.contains(&format!("value=\"{}\"", wrong[1].1)), "{refused:?}");
    }
    submit(&mut olga, path, "grant", &typed_by_name).await.expect(StatusCode::SEE_OTHER);
    let with = server.refresh(&ann.refresh).await.expect(StatusCode::OK).tokens();
    assert_eq!(scopes_of(&with.access), "openid profile email crm:read crm:write");
    let page = olga.open(path).await.expect(StatusCode::OK);
    let id = users::find(&server.app, "ann").await.expect("known").id;
    assert!(page.text.contains(&format!("href=\"/admin/users/{id}\"")), "{page:?}");
    assert!(page.text.contains("2026-11-23 00:00"), "{page:?}");

    // It is withdrawn and granted again, which the history tells; then its day comes.
    submit(&mut olga, path, "withdraw", &[]).await.expect(StatusCode::SEE_OTHER);
    server.verify(&with.access).await.expect_error(401, "INVALID_TOKEN");
    let page = olga.open(path).await.expect(StatusCode::OK);
    assert!(page.text.contains("No user has the module."), "{page:?}");
    server.clock.advance(Duration::from_secs(3));
    submit(&mut olga, path, "grant", &typed_by_name).await.expect(StatusCode::SEE_OTHER);
    let with = server.refresh(&with.refresh).await.expect(StatusCode::OK).tokens();
    assert_eq!(scopes_of(&with.access), "openid profile email crm:read crm:write");
    server.clock.advance(Duration::from_secs(2 * 86_400));
    server.verify(&with.access).await.expect_error(401, "INVALID_TOKEN");
    let without = server.refresh(&with.refresh).await.expect(StatusCode::OK).tokens();
    assert_eq!(scopes_of(&without.access), "openid profile email");
    let history = modules::history(&server.app, &id).await.expect("a history");
    let olga_id = users::find(&server.app, "olga").await.expect("known").id;
    assert_eq!(history.len(), 2, "{history:?}");
    assert_eq!(history[1].ended_by.as_deref(), Some(olga_id.as_str()));
    olga = server.logged_in("olga").await;
    let page = olga.open(path).await.expect(StatusCode::OK);
    let (_, history) = page.text.split_once(">History<").expect("a history");
    assert_eq!(history.matches(&format!("href=\"/admin/users/{id}\"")).count(), 2, "{page:?}");
    assert_eq!(history.matches(&format!("<code>{olga_id}</code>")).count(), 3, "{page:?}");
}

async fn a_module_is_changed_and_deleted_by_forms(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:read crm:write", None, false).await;
    let mut olga = administrator(&server).await;
    let path = "/admin/modules/crm";
    let page = olga.open(path).await.expect(StatusCode::OK);
    assert!(page.text.contains("The crm"), "{page:?}");
    let change = Form::that_does(&page.text, "change");
    let filled = |name: &'static str| {
        [("names", name), ("descriptions", ""), ("scope", "crm:read"), ("self_service", "1")]
    };
    olga.submit_form(change.clone(), &filled("en=One")).await.expect(StatusCode::SEE_OTHER);
    let stale = olga.submit_form(change, &filled("en=Two")).await;
    let stale = stale.expect(StatusCode::PRECONDITION_FAILED);
    assert!(stale.text.contains(">en=One</textarea>"), "{stale:?}");
    let module = modules::by_id(&server.app, "crm").await.expect("a module");
    assert_eq!((module.name("en"), module.scope.to_string().as_str()), ("One", "crm:read"));
    assert!(module.is_self_service);
    for (field, wrong) in [
        ("names", "One"),
        ("names", "en=One\nen=Two"),
        ("names", ""),
        ("scope", "openid"),
        ("resource", "nowhere"),
    ] {
        let mut typed = filled("en=Three").to_vec();
        typed.retain(|(name, _)| *name != field);
        typed.push((field, wrong));
        let refused = submit(&mut olga, path, "change", &typed).await;
        let refused = refused.expect(StatusCode::BAD_REQUEST);
        let shown = refused.text.split(&format!("id=\"change-{field}\"")).nth(1).expect("it");
        assert!(shown.split('>').next().expect("a tag").contains("aria-invalid"), "{refused:?}");
    }
    assert_eq!(modules::by_id(&server.app, "crm").await.expect("a module"), module);
    submit(&mut olga, path, "delete", &[]).await.expect(StatusCode::BAD_REQUEST);
    let deleted = submit(&mut olga, path, "delete", &[("confirm", "1")]).await;
    assert_eq!(
        deleted.expect(StatusCode::SEE_OTHER).header("location"),
        "/admin/modules?done=module-deleted"
    );
    olga.open(path).await.expect_page(404);
    for (path, english, russian) in [
        ("/admin/modules", "Create the module", "Создать модуль"),
        ("/admin/roles", "Create the role", "Создать роль"),
        ("/admin/roles/admin", "Every deployment has it", "Есть на каждом сервере"),
        ("/admin/issuers", "Add the issuer", "Добавить издателя"),
    ] {
        let page = olga.open(path).await.expect(StatusCode::OK);
        assert!(page.text.contains(english) && !page.text.contains(russian), "{page:?}");
        let page = olga.open(&format!("{path}?lang=ru")).await.expect(StatusCode::OK);
        assert!(page.text.contains(russian) && !page.text.contains(english), "{page:?}");
        olga.cookies.remove("lang");
    }
}

async fn roles_are_created_changed_and_deleted_by_forms(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let mut olga = administrator(&server).await;
    let typed = [("name", "support"), ("description", "Answers <i>questions</i>")];
    let page = olga.open("/admin/roles").await.expect(StatusCode::OK);
    let form = Form::that_does(&page.text, "create");
    olga.submit_form(form.clone(), &typed).await.expect(StatusCode::SEE_OTHER);
    let again = olga.submit_form(form, &typed).await.expect(StatusCode::CONFLICT);
    assert!(again.text.contains("value=\"support\""), "{again:?}");
    assert!(again.text.contains("Answers &#60;i&#62;"), "{again:?}");
    let refused = submit(&mut olga, "/admin/roles", "create", &[("name", "Ü")]).await;
    assert!(refused.expect(StatusCode::BAD_REQUEST).text.contains("value=\"Ü\""));

    let path = "/admin/roles/support";
    let page = olga.open(path).await.expect(StatusCode::OK);
    let change = Form::that_does(&page.text, "change");
    let typed = [("description", "Answers"), ("require_second_factor", "1")];
    olga.submit_form(change.clone(), &typed).await.expect(StatusCode::SEE_OTHER);
    let stale = olga.submit_form(change, &[("description", "Old")]).await;
    stale.expect(StatusCode::PRECONDITION_FAILED);
    let role = roles::by_name(&server.app, "support").await.expect("a role");
    assert_eq!(role.settings.description, "Answers");
    assert!(role.settings.require_second_factor);

    let ann = users::find(&server.app, "ann").await.expect("known").id;
    let (support, by) = (Role::parse("support").expect("a role"), Actor::operator());
    users::set_role(&server.app, &ann, support, &by).await.expect("changed");
    let used = submit(&mut olga, path, "delete", &[("confirm", "1")]).await;
    let used = used.expect(StatusCode::CONFLICT);
    assert!(used.text.contains("the role is in use"), "{used:?}");
    users::set_role(&server.app, &ann, Role::user(), &by).await.expect("changed");
    submit(&mut olga, path, "delete", &[]).await.expect(StatusCode::BAD_REQUEST);
    submit(&mut olga, path, "delete", &[("confirm", "1")]).await.expect(StatusCode::SEE_OTHER);
    olga.open(path).await.expect_page(404);
    olga.open("/admin/roles/%00").await.expect_page(404);
    let own = olga.open("/admin/roles/admin").await.expect(StatusCode::OK);
    assert!(!own.text.contains("name=\"action\" value=\"delete\""), "{own:?}");
}

async fn issuers_are_added_changed_and_deleted_by_forms(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let mut olga = administrator(&server).await;
    let typed = [
        ("id", "acme"),
        ("issuer", "https://idp.acme.example"),
        ("jwksUri", "https://idp.acme.example/jwks"),
        ("id_jag", "1"),
        ("scopes", "notes:read"),
    ];
    let list = "/admin/issuers";
    let refused = submit(&mut olga, list, "create", &typed[..2]).await;
    let refused = refused.expect(StatusCode::BAD_REQUEST);
    assert!(refused.text.contains("is required, unless jwks is given"), "{refused:?}");
    assert!(refused.text.contains("value=\"https://idp.acme.example\""), "{refused:?}");
    let refused = submit(&mut olga, list, "create", &[("jwks", "{")]).await;
    assert!(refused.expect(StatusCode::BAD_REQUEST).text.contains("must be a JSON object"));
    let added = submit(&mut olga, list, "create", &typed).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(added.header("location"), "/admin/issuers/acme?done=issuer-created");

    let path = "/admin/issuers/acme";
    let page = olga.open(path).await.expect(StatusCode::OK);
    let change = Form::that_does(&page.text, "change");
    let filled = [typed[2], ("subject_token", "1"), ("clients", "one\r\ntwo"), typed[4]];
    olga.submit_form(change.clone(), &filled).await.expect(StatusCode::SEE_OTHER);
    olga.submit_form(change, &typed[2..]).await.expect(StatusCode::PRECONDITION_FAILED);
    let issuer = issuers::by_id(&server.app, "acme").await.expect("an issuer");
    assert_eq!(issuer.settings.clients, ["one", "two"]);
    let link = [("subject", "U/4 ü"), ("user", "ann")];
    submit(&mut olga, path, "link", &link).await.expect(StatusCode::SEE_OTHER);
    submit(&mut olga, path, "link", &link).await.expect(StatusCode::CONFLICT);
    submit(&mut olga, path, "unlink", &[]).await.expect(StatusCode::SEE_OTHER);
    submit(&mut olga, path, "disable", &[]).await.expect(StatusCode::SEE_OTHER);
    let issuer = issuers::by_id(&server.app, "acme").await.expect("an issuer");
    assert!(issuer.disabled_at.is_some());
    submit(&mut olga, path, "enable", &[]).await.expect(StatusCode::SEE_OTHER);
    submit(&mut olga, path, "delete", &[]).await.expect(StatusCode::BAD_REQUEST);
    submit(&mut olga, path, "delete", &[("confirm", "1")]).await.expect(StatusCode::SEE_OTHER);
    olga.open(path).await.expect_page(404);
}
