//! The pages of administrators, as a browser without scripts uses them.

mod clients;
mod modules;
mod operation;
mod users;

use std::time::Duration;

use propusk::{
    flows::admin::users as accounts,
    model::{actor::Actor, user::Role},
};
use reqwest::StatusCode;

use crate::support::{
    Backend, Reply, TestServer, backend_tests,
    documentation::{Page, run_commands},
    oauth::{Browser, Form},
    second_factor::next_step,
};

/// A server with an administrator, Olga, who is logged in.
pub async fn administrator(server: &TestServer) -> Browser<'_> {
    server.promote("olga").await;
    server.logged_in("olga").await
}

/// Sends the form of the page at `path` that does `action`.
async fn submit(
    browser: &mut Browser<'_>,
    path: &str,
    action: &str,
    typed: &[(&str, &str)],
) -> Reply {
    let page = browser.open(path).await.expect(StatusCode::OK);
    browser.submit_form(Form::that_does(&page.text, action), typed).await
}

backend_tests! {
    t245_the_administration_is_for_administrators,
    an_administrator_with_a_second_factor_uses_it,
    t245_a_role_that_requires_a_second_factor_opens_nothing_without,
}

async fn t245_the_administration_is_for_administrators(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut nobody = server.browser();
    let login = nobody.open("/admin?x=1").await.expect(StatusCode::SEE_OTHER);
    assert_eq!(login.header("location"), "/login?return_to=%2Fadmin%3Fx%3D1");
    // Users see neither the pages nor a link to them.
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    ann.open("/admin").await.expect_page(403);
    let account = ann.open("/account").await.expect(StatusCode::OK);
    assert!(!account.text.contains("/admin"), "{account:?}");
    // Nor does a user who was one until now.
    let mut olga = administrator(&server).await;
    let account = olga.open("/account").await.expect(StatusCode::OK);
    assert!(account.text.contains("href=\"/admin\""), "{account:?}");
    let page = olga.open("/admin").await.expect(StatusCode::OK);
    assert!(page.text.contains("Ready"), "{page:?}");
    server.promote("pavel").await;
    let user = accounts::find(&server.app, "olga").await.expect("known");
    let operator = Actor::operator();
    accounts::set_role(&server.app, &user.id, Role::user(), &operator).await.expect("changed");
    olga.open("/admin").await.expect_page(403);
}

async fn an_administrator_with_a_second_factor_uses_it(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut olga = administrator(&server).await;
    let api = server.admin_as("olga").await;
    let (authenticator, _) = server.set_up_totp(&api.token).await;
    next_step(&server);
    let second = olga.open("/admin").await.expect(StatusCode::SEE_OTHER);
    assert_eq!(second.header("location"), "/login/second-factor?return_to=%2Fadmin");
    let page = olga.open(second.header("location")).await.expect(StatusCode::OK);
    let code = authenticator.code(&server.clock);
    let back = olga.submit(&page, &[("code", &code)]).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(back.header("location"), "/admin");
    olga.open("/admin").await.expect(StatusCode::OK);
    // The pages can be read for as long as the browser is logged in.
    server.clock.advance(Duration::from_secs(3600));
    olga.open("/admin").await.expect(StatusCode::OK);
}

async fn t245_a_role_that_requires_a_second_factor_opens_nothing_without(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut olga = administrator(&server).await;
    olga.open("/admin").await.expect(StatusCode::OK);
    // As the documentation says.
    run_commands(&server, &Page::read("docs/administration.md").block("require-second-factor"));
    // The session is older than the requirement, and Olga has no factor yet.
    let second = olga.open("/admin").await.expect(StatusCode::SEE_OTHER);
    assert_eq!(second.header("location"), "/login/second-factor?return_to=%2Fadmin");
    let setup = olga.open(second.header("location")).await.expect(StatusCode::OK);
    assert!(setup.text.contains("setup_token"), "{setup:?}");
}
