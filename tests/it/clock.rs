//! A clock that was ahead and was set back: nothing it has stored holds until that time comes.

use std::time::Duration;

use reqwest::StatusCode;

use crate::support::{
    Backend, START, TestServer, backend_tests,
    oauth::{AuthorizationRequest, AuthorizationResponse, web_app},
};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

backend_tests! {
    the_replay_window_is_not_open_until_a_clock_catches_up,
    a_login_of_the_future_is_no_fresh_login,
}

async fn the_replay_window_is_not_open_until_a_clock_catches_up(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.clock.set(START + YEAR);
    let first = server.register("ann").await;
    let second = server.refresh(&first.refresh).await.expect(StatusCode::OK).tokens();
    let other = server.register("eve").await;
    server.clock.set(START);
    // The last token of a session stays valid, and reuse of an older one is detected.
    server.refresh(&other.refresh).await.expect(StatusCode::OK);
    server.refresh(&first.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    server.refresh(&second.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
}

async fn a_login_of_the_future_is_no_fresh_login(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    server.client("app", web_app()).await;
    let request = AuthorizationRequest::of("app", "openid");
    server.clock.set(START + YEAR);
    let mut browser = server.browser();
    browser.authorize(&request, "ann").await.code();
    server.clock.set(START);
    for (name, value) in [("max_age", "60"), ("prompt", "login")] {
        let silent = request.clone().with("prompt", "none").with("max_age", "60");
        let answer = browser.open(&silent.path()).await;
        AuthorizationResponse::of(answer.header("location")).expect_error("login_required");
        let asked = browser.open(&request.clone().with(name, value).path()).await;
        assert!(asked.header("location").starts_with("/login"), "{asked:?}");
    }
    browser.authorize(&request.clone().with("max_age", "60"), "ann").await.code();
    let silent = request.with("prompt", "none").with("max_age", "60");
    let answer = browser.open(&silent.path()).await;
    AuthorizationResponse::of(answer.header("location")).code();
}
