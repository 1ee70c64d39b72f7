//! An axum application whose users log in at Propusk's pages, at the same host: cookies do not
//! distinguish ports. See docs/quickstarts/axum.md.

use std::env::var;

use axum::{
    Json, Router,
    response::{Html, Redirect},
    routing::{get, post},
};
use propusk_client::{Error, Propusk, Session, SessionLayer, Visit, require_module};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let issuer = var("PROPUSK_URL").unwrap_or("http://127.0.0.1:8080".to_owned());
    let listen = var("LISTEN").unwrap_or("127.0.0.1:3000".to_owned());
    let propusk = Propusk::builder(&issuer)
        .feed("gateway", var("PROPUSK_FEED_SECRET")?)
        .login_url(format!("{issuer}/session/start"))
        .application_url(format!("http://{listen}"))
        .build()?;

    let crm = Router::new().route("/crm", get(crm)).route_layer(require_module("crm"));
    let application = Router::new()
        .route("/", get(home))
        .route("/account", get(account))
        .route("/sign-out", post(sign_out))
        .merge(crm)
        .layer(SessionLayer::new(&propusk));

    let listener = tokio::net::TcpListener::bind(&listen).await?;
    println!("http://{listen}/account");
    Ok(axum::serve(listener, application).await?)
}

/// For everybody.
async fn home(session: Option<Session>) -> String {
    session.map_or("Hello".to_owned(), |session| format!("Hello, {}", session.email))
}

/// Private, since it extracts a session.
async fn account(session: Session) -> Html<String> {
    Html(format!(
        "<h1>Account</h1><p>User {}</p>
         <form method=post action=/sign-out><button>Sign out</button></form>",
        session.user_id
    ))
}

/// For users with the module `crm`.
async fn crm(session: Session) -> Json<Vec<String>> {
    Json(session.modules)
}

async fn sign_out(visit: Visit) -> Result<Redirect, Error> {
    visit.sign_out().await?;
    Ok(Redirect::to("/"))
}
