//! The example of docs/upstream.md: two servers, one of which is the provider of the other.

use std::sync::Arc;

use propusk::clock::Clock;
use reqwest::StatusCode;

use super::{account, begin};
use crate::support::{
    Backend, Database, TestServer,
    documentation::{Page, run_commands, secret_in},
    oauth::{AuthorizationRequest, Browser},
    process,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_example_of_two_servers_works() {
    let page = Page::read("docs/upstream.md");
    let provider = TestServer::at_its_issuer(&[]).await;
    provider.register("vera").await;
    let address = process::free_address();
    let issuer = format!("http://{address}");
    let command = page.block("client").replace("http://127.0.0.1:8080", &issuer);
    let secret = secret_in(&run_commands(&provider, &command));

    let database = Arc::new(Database::prepared_by_system_time(Backend::Sqlite).await);
    let file = database.folder.path().join("propusk.toml");
    let text = page.block("propusk.toml").replace("http://127.0.0.1:8081", &provider.base);
    assert!(text.contains(&provider.base), "{text}");
    std::fs::write(&file, text).expect("a file");
    let file = file.display().to_string();
    let settings = [
        ("PROPUSK_SERVER__LISTEN", address.as_str()),
        ("PROPUSK_SERVER__ISSUER", &issuer),
        ("PROPUSK_CONFIG", &file),
        ("PROPUSK_UPSTREAM__ACME__CLIENT_SECRET", &secret),
    ];
    let server = TestServer::on(database, Clock::system(), &settings).await;
    let mut browser = server.browser();
    let page = browser.open("/login").await.expect(StatusCode::OK);
    assert!(page.text.contains("Acme"), "{page:?}");
    let back = log_in(&provider, &mut browser).await;
    assert_eq!(back, "/login/identity");
    let page = browser.open("/login/identity").await.expect(StatusCode::OK);
    assert!(page.text.contains("value=\"vera@example.org\""), "{page:?}");
    let typed = [("email", "vera@example.org"), ("username", "vera")];
    browser.submit(&page, &typed).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(account(&mut browser).await.as_deref(), Some("vera"));
    // Again, in another browser.
    let mut browser = server.browser();
    assert_eq!(log_in(&provider, &mut browser).await, "/account");
    assert_eq!(account(&mut browser).await.as_deref(), Some("vera"));
}

/// Logs in as `vera` at the provider, from the button of our page; returns where it leads.
async fn log_in(provider: &TestServer, browser: &mut Browser<'_>) -> String {
    let sent = begin(browser, "/login/upstream/acme").await;
    let request = AuthorizationRequest(sent.into_iter().collect());
    let answer = provider.browser().authorize(&request, "vera").await;
    let back = browser.open(answer.location.as_str()).await.expect(StatusCode::SEE_OTHER);
    back.header("location").to_owned()
}
