//! The same application in axum and in poem.

use axum::{Router, routing::get as axum_get};
use http::HeaderMap;
use poem::{EndpointExt, Route, handler, listener::TcpAcceptor};
use propusk_client::{
    Error, Propusk, Session, SessionLayer, Visit, require_module, require_scope, require_session,
};

/// A running application; it ends with the runtime of the test.
pub struct App {
    pub framework: &'static str,
    pub base: String,
}

/// Both, for a server as it is seen through `propusk`.
pub async fn both(propusk: &Propusk) -> [App; 2] {
    let listener = || async { tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port") };
    let (one, other) = (listener().await, listener().await);
    let base = |listener: &tokio::net::TcpListener| {
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let apps = [
        App { framework: "axum", base: base(&one) },
        App { framework: "poem", base: base(&other) },
    ];
    let router = axum_app(propusk);
    tokio::spawn(async move { axum::serve(one, router).await });
    let route = poem_app(propusk);
    let acceptor = TcpAcceptor::from_tokio(other).expect("an acceptor");
    tokio::spawn(async move { poem::Server::new_with_acceptor(acceptor).run(route).await });
    apps
}

fn name_of(session: Option<&Session>) -> String {
    session.map_or("nobody".to_owned(), |session| session.email.clone())
}

fn axum_app(propusk: &Propusk) -> Router {
    let kit = propusk.clone();
    let by_password = move |visit: Visit, headers: HeaderMap| {
        let kit = kit.clone();
        async move {
            let login = headers["x-login"].to_str().expect("text");
            let password = headers["x-password"].to_str().expect("text");
            visit.log_in(&kit.log_in(login, password).await?)?;
            Ok::<_, Error>("logged in")
        }
    };
    let guarded = Router::new()
        .route("/guarded", axum_get(async || "guarded").post(async || "guarded"))
        .route_layer(require_session());
    let crm = Router::new()
        .route("/crm", axum_get(async || "crm"))
        .route_layer(require_module("crm").scope("crm:read"));
    let scoped = Router::new()
        .route("/scoped", axum_get(async || "scoped"))
        .route_layer(require_scope("crm:read"));
    Router::new()
        .route("/", axum_get(async |session: Option<Session>| name_of(session.as_ref())))
        .route("/account", axum_get(async |session: Session| session.email))
        .route(
            "/token",
            axum_get(async |visit: Visit| {
                Ok::<_, Error>(visit.access_token().await?.unwrap_or_default())
            }),
        )
        .route("/log-in", axum::routing::post(by_password))
        .route(
            "/sign-out",
            axum::routing::post(async |visit: Visit| {
                visit.sign_out().await?;
                Ok::<_, Error>("signed out")
            }),
        )
        .merge(guarded)
        .merge(crm)
        .merge(scoped)
        .nest("/nested", Router::new().route("/account", axum_get(async |_: Session| "nested")))
        .layer(SessionLayer::new(propusk))
}

#[handler]
fn home(session: Option<Session>) -> String {
    name_of(session.as_ref())
}

#[handler]
fn account(session: Session) -> String {
    session.email
}

#[handler]
async fn token(visit: Visit) -> poem::Result<String> {
    Ok(visit.access_token().await?.unwrap_or_default())
}

#[handler]
async fn log_in(
    visit: Visit,
    propusk: poem::web::Data<&Propusk>,
    headers: &HeaderMap,
) -> poem::Result<&'static str> {
    let login = headers["x-login"].to_str().expect("text");
    let password = headers["x-password"].to_str().expect("text");
    visit.log_in(&propusk.log_in(login, password).await?)?;
    Ok("logged in")
}

#[handler]
async fn sign_out(visit: Visit) -> poem::Result<&'static str> {
    visit.sign_out().await?;
    Ok("signed out")
}

fn poem_app(propusk: &Propusk) -> impl poem::Endpoint + 'static {
    let text = |text: &'static str| poem::endpoint::make_sync(move |_| text);
    let nested = Route::new().at("/account", poem::get(account));
    Route::new()
        .at("/", poem::get(home))
        .at("/account", poem::get(account))
        .at("/token", poem::get(token))
        .at("/log-in", poem::post(log_in))
        .at("/sign-out", poem::post(sign_out))
        .at("/guarded", poem::get(text("guarded")).post(text("guarded")).with(require_session()))
        .at("/crm", poem::get(text("crm")).with(require_module("crm").scope("crm:read")))
        .at("/scoped", poem::get(text("scoped")).with(require_scope("crm:read")))
        .nest("/nested", nested)
        .data(propusk.clone())
        .with(SessionLayer::new(propusk))
}
