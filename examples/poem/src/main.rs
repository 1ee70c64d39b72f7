//! A poem application whose users log in at Propusk's pages, at the same host: cookies do not
//! distinguish ports. See docs/quickstarts/poem.md.

use std::env::var;

use poem::{
    EndpointExt, Route, Server, get, handler,
    listener::TcpListener,
    post,
    web::{Html, Json, Redirect},
};
use propusk_client::{Propusk, Session, SessionLayer, Visit, require_module};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let issuer = var("PROPUSK_URL").unwrap_or("http://127.0.0.1:8080".to_owned());
    let listen = var("LISTEN").unwrap_or("127.0.0.1:3000".to_owned());
    let propusk = Propusk::builder(&issuer)
        .feed("gateway", var("PROPUSK_FEED_SECRET")?)
        .login_url(format!("{issuer}/session/start"))
        .application_url(format!("http://{listen}"))
        .build()?;

    let application = Route::new()
        .at("/", get(home))
        .at("/account", get(account))
        .at("/crm", get(crm).with(require_module("crm")))
        .at("/sign-out", post(sign_out))
        .with(SessionLayer::new(&propusk));

    println!("http://{listen}/account");
    Ok(Server::new(TcpListener::bind(listen)).run(application).await?)
}

/// For everybody.
#[handler]
fn home(session: Option<Session>) -> String {
    session.map_or("Hello".to_owned(), |session| format!("Hello, {}", session.email))
}

/// Private, since it extracts a session.
#[handler]
fn account(session: Session) -> Html<String> {
    Html(format!(
        "<h1>Account</h1><p>User {}</p>
         <form method=post action=/sign-out><button>Sign out</button></form>",
        session.user_id
    ))
}

/// For users with the module `crm`.
#[handler]
fn crm(session: Session) -> Json<Vec<String>> {
    Json(session.modules)
}

#[handler]
async fn sign_out(visit: Visit) -> poem::Result<Redirect> {
    visit.sign_out().await?;
    Ok(Redirect::see_other("/"))
}
