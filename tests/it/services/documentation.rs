//! The example of docs/customer-services.md.

use std::sync::Arc;

use propusk::clock::Clock;
use serde_json::{Value, json};

use super::{back_end, skew};
use crate::support::{
    Backend, Database, START, TestServer, backend_tests, customer_service::CustomerService,
    oauth::SECRET,
};

backend_tests! {
    requires "Node.js":
    the_documented_example_of_services_works,
}

/// The piece of the page that begins with this line.
fn documented(first: &str) -> &'static str {
    let page = include_str!("../../../docs/customer-services.md");
    let (_, rest) = page.split_once(&format!("```{first}\n")).expect("a piece");
    rest.split_once("\n```").expect("its end").0
}

async fn the_documented_example_of_services_works(backend: Backend) {
    let service = CustomerService::start().await;
    service.set(json!({ "skew": skew() })).await;
    let database = Arc::new(Database::prepared(backend).await);
    let file = database.folder.path().join("propusk.toml");
    let text = documented("toml").replace("https://crm.example.org", &service.base);
    let text =
        text.replace("\"propusk\"", &format!("{:?}", crate::support::customer_service::CLIENT_ID));
    std::fs::write(&file, text).expect("a file");
    // What the page says beside the file: the secret, and the outbound settings of this service.
    let others = ["CLIENT_SECRET", "OUTBOUND__ALLOWED_NETWORKS", "OUTBOUND__CA_FILE"];
    let mut settings = service.settings(&[]);
    settings.retain(|(key, _)| others.iter().any(|other| key.ends_with(other)));
    settings.push(("PROPUSK_CONFIG".to_owned(), file.display().to_string()));
    let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let server = TestServer::on(database, Clock::fake(START), &settings).await;
    server.client("shop", back_end()).await;
    let ann = server.register("ann").await.access;
    let run = async |piece: &str| -> Value {
        let running = tokio::process::Command::new("sh")
            .args(["-ec", documented(piece)])
            .envs([("BASE", server.base.as_str()), ("SHOP_SECRET", SECRET), ("ACCESS_TOKEN", &ann)])
            .output();
        let output = running.await.expect("sh and curl");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&printed).expect("JSON")
    };
    let token = run("sh token").await;
    assert_eq!(
        (&token["data"]["tokenType"], &token["data"]["expiresIn"]),
        (&json!("Bearer"), &json!(3_595))
    );
    let fields = run("sh resource").await;
    let expected =
        json!({ "name": "Vera", "contracts": [{ "number": "A-17" }, { "number": null }] });
    assert_eq!(fields["data"], expected);
}
