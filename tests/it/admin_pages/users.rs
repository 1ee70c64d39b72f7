//! `/admin/users`.

use std::time::Duration;

use propusk::{
    flows::{accounts::register::Registration, admin::users as accounts},
    model::{actor::Actor, user::Role},
};
use reqwest::StatusCode;
use serde_json::json;

use super::{administrator, submit};
use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    oauth::{Browser, Form, payload},
};

backend_tests! {
    a_user_is_found_by_the_beginning_of_a_name,
    an_administrator_creates_a_user_whose_password_is_shown_once,
    an_administrator_disables_and_enables_a_user,
    what_an_administrator_types_wrong_stays_in_the_form,
    two_administrators_do_not_overwrite_each_other,
    a_module_is_granted_until_the_end_of_a_day,
    t245_a_change_takes_a_recent_login_and_the_form_of_this_login,
    an_administrator_ends_sessions_and_resets_factors,
    users_are_listed_page_by_page,
    an_administrator_invites_a_user_and_revokes_an_invitation,
}

/// As [`submit`], where it succeeds: the page that says so.
async fn done(olga: &mut Browser<'_>, path: &str, action: &str, typed: &[(&str, &str)]) -> Reply {
    let reply = submit(olga, path, action, typed).await.expect(StatusCode::SEE_OTHER);
    olga.open(reply.header("location")).await.expect(StatusCode::OK)
}

async fn log_in(server: &TestServer, name: &str, password: &str) -> Reply {
    server.post("/api/v1/auth/login", json!({ "login": name, "password": password })).await
}

async fn path_of(server: &TestServer, name: &str) -> String {
    let user = propusk::flows::admin::users::find(&server.app, name).await.expect("known");
    format!("/admin/users/{}", user.id)
}

async fn a_user_is_found_by_the_beginning_of_a_name(backend: Backend) {
    let server = TestServer::start(backend).await;
    for name in ["anna", "annabel", "boris"] {
        server.register(name).await;
    }
    let mut olga = administrator(&server).await;
    let page = olga.open("/admin/users?login=ann").await.expect(StatusCode::OK);
    let found = |name: &str| page.text.contains(&format!("{name}@example.org"));
    assert!(found("anna") && found("annabel") && !found("boris"), "{page:?}");
    // A whole one leads to the user, in whatever case.
    let reply = olga.open("/admin/users?login=BORIS").await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), path_of(&server, "boris").await);
    let page = olga.open("/admin/users?login=nobody").await.expect(StatusCode::OK);
    assert!(page.text.contains("No user matches."), "{page:?}");
    let page = olga.open("/admin/users?role=admin&lang=ru").await.expect(StatusCode::OK);
    assert!(page.text.contains("olga@example.org") && !page.text.contains("boris"), "{page:?}");
    assert!(page.text.contains("Пользователи"), "{page:?}");
    olga.open("/admin/users/no-such-user").await.expect_page(404);
}

async fn an_administrator_creates_a_user_whose_password_is_shown_once(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut olga = administrator(&server).await;
    let page = olga.open("/admin/users/new").await.expect(StatusCode::OK);
    let typed = [("email", "pia@example.org"), ("username", "pia"), ("role", "user")];
    let page = olga.submit(&page, &typed).await.expect(StatusCode::OK);
    let (_, rest) = page.text.split_once("<pre").expect("a password");
    let (_, rest) = rest.split_once("<code>").expect("a password");
    let password = rest.split('<').next().expect("a password").to_owned();
    log_in(&server, "pia", &password).await.expect(StatusCode::OK);
    let page = olga.open(&path_of(&server, "pia").await).await.expect(StatusCode::OK);
    assert!(!page.text.contains(&password), "{page:?}");
    // The same form again is told what is taken, and keeps what was typed.
    let page = olga.open("/admin/users/new").await.expect(StatusCode::OK);
    let again = olga.submit(&page, &typed).await.expect_page(409);
    assert!(again.text.contains("value=\"pia@example.org\""), "{again:?}");
}

async fn an_administrator_disables_and_enables_a_user(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let ann = server.login("ann").await.expect(StatusCode::OK).tokens();
    let mut olga = administrator(&server).await;
    let path = path_of(&server, "ann").await;
    let page = done(&mut olga, &path, "disable", &[]).await;
    assert!(page.text.contains("The user is disabled"), "{page:?}");
    assert!(page.text.contains("Disabled since"), "{page:?}");
    server.verify(&ann.access).await.expect(StatusCode::UNAUTHORIZED);
    server.login("ann").await.expect(StatusCode::UNAUTHORIZED);
    done(&mut olga, &path, "enable", &[]).await;
    server.login("ann").await.expect(StatusCode::OK);
    // Administrators cannot lock themselves out.
    let own = path_of(&server, "olga").await;
    let refused = submit(&mut olga, &own, "disable", &[]).await.expect_page(409);
    assert!(refused.text.contains("This was refused:"), "{refused:?}");
}

async fn what_an_administrator_types_wrong_stays_in_the_form(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let mut olga = administrator(&server).await;
    let path = path_of(&server, "ann").await;
    let typed = [("email", "no address"), ("username", "<script>"), ("role", "user")];
    let page = submit(&mut olga, &path, "update", &typed).await.expect_page(400);
    assert!(page.text.contains("value=\"no address\""), "{page:?}");
    assert!(page.text.contains("aria-invalid=\"true\""), "{page:?}");
    assert!(!page.text.contains("<script>"), "{page:?}");
    let page = submit(&mut olga, &path, "delete", &[]).await.expect_page(400);
    assert!(page.text.contains("Tick the box to confirm."), "{page:?}");
    server.login("ann").await.expect(StatusCode::OK);
    let page = done(&mut olga, &path, "delete", &[("confirm_delete", "1")]).await;
    assert!(page.text.contains("The user is deleted."), "{page:?}");
    server.login("ann").await.expect(StatusCode::UNAUTHORIZED);
}

async fn two_administrators_do_not_overwrite_each_other(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let mut olga = administrator(&server).await;
    let path = path_of(&server, "ann").await;
    let seen = olga.open(&path).await.expect(StatusCode::OK);
    let form = Form::that_does(&seen.text, "update");
    let typed = |name| [("email", "ann@example.org"), ("username", name), ("role", "user")];
    let first = olga.submit_form(form.clone(), &typed("anna")).await;
    first.expect(StatusCode::SEE_OTHER);
    let second = olga.submit_form(form, &typed("hanna")).await.expect_page(412);
    assert!(second.text.contains("This was refused:"), "{second:?}");
    // The form has the present state, which its new version is for.
    assert!(second.text.contains("value=\"anna\""), "{second:?}");
    assert!(!second.text.contains("hanna"), "{second:?}");
    let page = olga.open(&path).await.expect(StatusCode::OK);
    assert!(page.text.contains("anna") && !page.text.contains("hanna"), "{page:?}");
}

async fn a_module_is_granted_until_the_end_of_a_day(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    server.module("crm", "crm:read", None, false).await;
    let mut olga = administrator(&server).await;
    let path = path_of(&server, "ann").await;
    let today = server.clock.now().rfc3339();
    let today = today.get(..10).expect("a date");
    let page = done(&mut olga, &path, "grant", &[("module", "crm"), ("validUntil", today)]).await;
    assert!(page.text.contains("The module is granted."), "{page:?}");
    let scope = async || {
        let tokens = server.login("ann").await.expect(StatusCode::OK).tokens();
        payload(&tokens.access)["scope"].as_str().unwrap_or_default().to_owned()
    };
    assert!(scope().await.contains("crm:read"));
    let page = done(&mut olga, &path, "withdraw-module", &[]).await;
    assert!(page.text.contains("Former modules"), "{page:?}");
    assert!(!scope().await.contains("crm:read"));
    let refused =
        submit(&mut olga, &path, "grant", &[("module", "crm"), ("validUntil", "soon")]).await;
    let refused = refused.expect_page(400);
    assert!(refused.text.contains("value=\"soon\""), "{refused:?}");
    done(&mut olga, &path, "grant", &[("module", "crm"), ("validUntil", today)]).await;
    server.clock.advance(Duration::from_secs(24 * 3600));
    assert!(!scope().await.contains("crm:read"));
}

async fn t245_a_change_takes_a_recent_login_and_the_form_of_this_login(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let mut olga = administrator(&server).await;
    let path = path_of(&server, "ann").await;
    let page = olga.open(&path).await.expect(StatusCode::OK);
    let form = Form::that_does(&page.text, "disable");
    // An older login may read, and logs in again for a change.
    server.clock.advance(Duration::from_secs(11 * 60));
    olga.open(&path).await.expect(StatusCode::OK);
    let reply = olga.submit_form(form.clone(), &[]).await.expect(StatusCode::SEE_OTHER);
    let login = reply.header("location").to_owned();
    assert!(login.starts_with("/login?return_to=%2Fadmin%2Fusers%2F"), "{login}");
    server.login("ann").await.expect(StatusCode::OK);
    let back = olga.log_in(&login, "olga").await;
    assert_eq!(back.header("location"), path);
    // Without the token of the form, with that of another browser, and from another site.
    for csrf in ["", "AAAA"] {
        olga.submit_form(form.clone(), &[("csrf", csrf)]).await.expect_page(403);
    }
    let pavel = server.promote("pavel").await;
    let mut other = server.logged_in("pavel").await;
    let page = other.open(&format!("/admin/users/{pavel}")).await.expect(StatusCode::OK);
    let foreign = Form::that_does(&page.text, "disable");
    let csrf = foreign.field("csrf").to_owned();
    olga.submit_form(form.clone(), &[("csrf", &csrf)]).await.expect_page(403);
    let page = olga.open(&path).await.expect(StatusCode::OK);
    let request = server.request(reqwest::Method::POST, &path);
    let fields = Form::that_does(&page.text, "disable").hidden;
    let request = request.header("sec-fetch-site", "cross-site").form(&fields);
    olga.send(request).await.expect_page(403);
    server.login("ann").await.expect(StatusCode::OK);
    // A user who is no administrator changes nothing with a form of one.
    let mut ann = server.logged_in("ann").await;
    ann.submit_form(form, &[]).await.expect_page(403);
    server.login("ann").await.expect(StatusCode::OK);
}

async fn an_administrator_ends_sessions_and_resets_factors(backend: Backend) {
    let server = TestServer::start(backend).await;
    let (authenticator, _) = server.register_with_totp("ann").await;
    crate::support::second_factor::next_step(&server);
    let ann = server.login_with("ann", &authenticator).await;
    let mut olga = administrator(&server).await;
    let path = path_of(&server, "ann").await;
    done(&mut olga, &path, "log-out", &[]).await;
    server.verify(&ann.access).await.expect(StatusCode::UNAUTHORIZED);
    submit(&mut olga, &path, "reset-factors", &[]).await.expect_page(400);
    let page = done(&mut olga, &path, "reset-factors", &[("confirm_reset", "1")]).await;
    assert!(page.text.contains("The user has no second factor."), "{page:?}");
    let ann = server.login("ann").await.expect(StatusCode::OK).tokens();
    done(&mut olga, &path, "end-session", &[]).await;
    server.verify(&ann.access).await.expect(StatusCode::UNAUTHORIZED);
    let typed = [("password", "nine grey cranes at dusk")];
    let page = done(&mut olga, &path, "password", &typed).await;
    assert!(page.text.contains("The password is set"), "{page:?}");
    log_in(&server, "ann", PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    log_in(&server, "ann", typed[0].1).await.expect(StatusCode::OK);
}

async fn users_are_listed_page_by_page(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut olga = administrator(&server).await;
    for number in 0..60 {
        server.register(&format!("user{number:02}")).await;
    }
    let mut seen = 0;
    let mut next = Some("/admin/users?login=user".to_owned());
    let mut pages = 0;
    while let Some(path) = next {
        let page = olga.open(&path).await.expect(StatusCode::OK);
        seen += page.text.matches("<th scope=\"row\">").count();
        let more = page.text.split("<p class=\"more\"><a class=\"button plain\" href=\"").nth(1);
        next = more.and_then(|rest| rest.split('"').next()).map(|url| url.replace("&#38;", "&"));
        pages += 1;
    }
    assert_eq!((seen, pages), (60, 2));
}

async fn an_administrator_invites_a_user_and_revokes_an_invitation(backend: Backend) {
    let settings = [("PROPUSK_REGISTRATION__MODE", "invitation")];
    let server = TestServer::with(backend, &settings).await;
    let email = "olga@example.org";
    let operator = Actor::operator();
    let new = Registration {
        email: email.to_owned(),
        username: Some("olga".to_owned()),
        password: PASSWORD.to_owned(),
    };
    accounts::create(&server.app, new, Role::admin(), None, &operator).await.expect("created");
    server.module("crm", "crm:read", None, false).await;
    let mut olga = server.logged_in("olga").await;
    let path = "/admin/invitations";
    let page = olga.open(path).await.expect(StatusCode::OK);
    let form = Form::that_does(&page.text, "create");
    server.module("wiki", "wiki:read", None, false).await;
    let typed = [
        ("email", "ann@example.org"),
        ("role", "user"),
        ("expiresIn", "2"),
        ("modules", "crm"),
        ("modules", "wiki"),
    ];
    let wrong = olga.submit_form(form.clone(), &[("email", "ann"), ("expiresIn", "0")]).await;
    let wrong = wrong.expect_page(400);
    assert!(wrong.text.contains("value=\"ann\""), "{wrong:?}");
    let page = olga.submit_form(form.clone(), &typed).await.expect(StatusCode::OK);
    let link = page.text.split("<code>").find(|part| part.contains("/register?invitation="));
    let link = link.and_then(|part| part.split('<').next()).expect("a link").replace("&#38;", "&");
    let (_, register) = link.split_once("/register").expect("a link");
    let mut ann = server.browser();
    let page = ann.open(&format!("/register{register}")).await.expect(StatusCode::OK);
    let account = [("email", "ann@example.org"), ("username", "ann"), ("password", PASSWORD)];
    ann.submit(&page, &account).await.expect(StatusCode::SEE_OTHER);
    let tokens = server.login("ann").await.expect(StatusCode::OK).tokens();
    let scope = payload(&tokens.access)["scope"].as_str().unwrap_or_default().to_owned();
    assert!(scope.contains("crm:read") && scope.contains("wiki:read"), "{scope}");
    let page = olga.open(path).await.expect(StatusCode::OK);
    assert!(page.text.contains(&path_of(&server, "ann").await), "who has used it: {page:?}");
    // Another one is revoked before it is used.
    olga.submit_form(form, &[("role", "user"), ("expiresIn", "2")]).await.expect(StatusCode::OK);
    let page = olga.open(path).await.expect(StatusCode::OK);
    // In any order: ids of one millisecond have none.
    let mut forms = page.text.split("<form").filter_map(|form| form.split("</form").next());
    let open = forms.find(|form| form.contains("anyone with the link</span>"));
    let open = format!("<form{}", open.expect("a form"));
    let reply = olga.submit_form(Form::that_does(&open, "revoke"), &[]).await;
    let page = olga.open(reply.expect(StatusCode::SEE_OTHER).header("location")).await;
    assert!(page.text.contains("The invitation is revoked."), "{page:?}");
    assert!(!page.text.contains("anyone with the link"), "{page:?}");
}
