//! Login at other OpenID providers.

mod documentation;
mod threats;

use std::{collections::HashMap, time::Duration};

use propusk::{
    error::Error,
    flows::{
        accounts::second_factors::{self, Login},
        admin::users,
        upstream::identity,
    },
    ids::UserId,
    model::actor::{Actor, RequestContext},
    storage::{
        self, Row, Statement, browser_sessions,
        second_factors::{self as factor_rows, Secret},
        users::set_verified,
    },
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    exchange::Idp,
    external_server::ExternalServer,
    oauth::{AuthorizationRequest, Browser, first_party_app},
    second_factor::next_step,
};

backend_tests! {
    an_unknown_identity_registers_without_a_password,
    a_login_continues_with_the_request_that_brought_the_user,
    a_second_factor_is_asked_for_unless_the_provider_has,
    reauthentication_is_passed_on_and_checked,
    identities_are_listed_linked_and_unlinked,
    linking_waits_for_a_reset_of_the_account,
    the_last_passkey_of_a_user_without_a_password_stays,
    a_user_without_a_password_can_keep_an_account_to_be_deleted,
}

/// A server with two providers, `acme` and `beta`, which are two paths of one other server.
pub struct World {
    op: ExternalServer,
    pub server: TestServer,
    idps: HashMap<&'static str, Idp>,
}

/// The parameters of an authorization request to a provider.
type Sent = HashMap<String, String>;

const NAMES: [&str; 2] = ["acme", "beta"];

impl World {
    pub async fn start(backend: Backend) -> Self {
        Self::with(backend, &[]).await
    }

    /// With further settings of both providers, such as `("TRUST_EMAIL", "true")`, or of the server:
    /// `("PROPUSK_…", "…")`.
    pub async fn with(backend: Backend, more: &[(&str, &str)]) -> Self {
        let op = ExternalServer::start().await;
        let mut settings: Vec<(String, String)> =
            op.settings().map(|(key, value)| (key.to_owned(), value)).into();
        let mut idps = HashMap::new();
        for name in NAMES {
            let issuer: &'static str = format!("{}/{name}", op.base).leak();
            let idp = Idp::new(issuer);
            let path = |what: &str| format!("/{name}/{what}");
            let metadata = json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
                "jwks_uri": format!("{issuer}/jwks"),
                "userinfo_endpoint": format!("{issuer}/userinfo"),
                "authorization_response_iss_parameter_supported": name == "beta",
            });
            op.put(&path(".well-known/openid-configuration"), 200, "", metadata.to_string());
            op.put(&path("jwks"), 200, "", idp.jwks().to_string());
            idps.insert(name, idp);
            let upper = name.to_uppercase();
            let mut add = |key: &str, value: &str| {
                settings.push((format!("PROPUSK_UPSTREAM__{upper}__{key}"), value.to_owned()));
            };
            add("ISSUER", issuer);
            add("CLIENT_ID", "propusk");
            add("CLIENT_SECRET", "canary");
            for (key, value) in more.iter().filter(|(key, _)| !key.starts_with("PROPUSK_")) {
                add(key, value);
            }
        }
        let own = more.iter().filter(|(key, _)| key.starts_with("PROPUSK_"));
        settings.extend(own.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let server = TestServer::with(backend, &settings).await;
        Self { op, server, idps }
    }

    /// The claims of an ID token for this request, with others or in place of them.
    fn claims(&self, name: &str, sent: &Sent, more: &Value) -> Value {
        let mut all = json!({
            "aud": "propusk", "sub": "vera-1", "nonce": sent["nonce"], "jti": null,
            "email": "vera@example.org", "email_verified": true, "preferred_username": "vera",
            "auth_time": self.server.clock.now().as_secs(),
        });
        for (key, value) in more.as_object().expect("an object") {
            all[key] = value.clone();
        }
        self.idps[name].claims(&self.server, all)
    }

    /// The provider answers the next code with this ID token.
    fn grant(&self, name: &str, id_token: &str) {
        let body = json!({
            "access_token": "at", "token_type": "Bearer", "expires_in": 60, "id_token": id_token,
        });
        self.op.put(&format!("/{name}/token"), 200, "", body.to_string());
    }

    /// The user logs in at the provider, with these claims; returns the path of the redirect back.
    fn decide(&self, name: &str, sent: &Sent, more: &Value) -> String {
        let claims = self.claims(name, sent, more);
        self.grant(name, &self.idps[name].sign(&json!({ "alg": "ES256" }), &claims));
        self.callback(name, sent)
    }

    fn callback(&self, name: &str, sent: &Sent) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("code", "a code")
            .append_pair("state", &sent["state"])
            .append_pair("iss", self.idps[name].issuer)
            .finish();
        format!("/login/upstream/{name}/callback?{query}")
    }

    /// Logs in at a provider from the URL of one of our pages.
    async fn log_in(&self, browser: &mut Browser<'_>, start: &str, more: Value) -> Reply {
        let name = start.split(['/', '?']).nth(3).expect("a name").to_owned();
        let sent = begin(browser, start).await;
        let callback = self.decide(&name, &sent, &more);
        browser.open(&callback).await.expect(StatusCode::SEE_OTHER)
    }

    /// Registers the user of an identity.
    async fn register(&self, browser: &mut Browser<'_>, more: Value) -> Reply {
        let reply = self.log_in(browser, "/login/upstream/acme", more).await;
        let page = browser.open(reply.header("location")).await.expect(StatusCode::OK);
        let typed = [("email", "vera@example.org"), ("username", "vera")];
        browser.submit(&page, &typed).await.expect(StatusCode::SEE_OTHER)
    }

    /// The users who have identities, with the `sub` of each.
    async fn linked(&self) -> Vec<(String, String)> {
        let statement = Statement::new(
            "SELECT u.email, i.subject FROM upstream_identities i JOIN users u ON u.id = i.user_id \
             ORDER BY i.id",
        );
        let rows = self.server.app.db.read(statement).await.expect("rows");
        let text = |row: &Row, name: &str| row.get::<String>(name).expect("text");
        rows.iter().map(|row| (text(row, "email"), text(row, "subject"))).collect()
    }
}

/// Begins a login at a provider: what it is sent.
async fn begin(browser: &mut Browser<'_>, start: &str) -> Sent {
    let reply = browser.open(start).await.expect(StatusCode::SEE_OTHER);
    let url = url::Url::parse(reply.header("location")).expect("a URL");
    assert!(url.path().ends_with("/authorize"), "{url}");
    url.query_pairs().into_owned().collect()
}

/// An operator, or a mail, has verified the address of a user.
async fn verify_address(server: &TestServer, user_id: &UserId) {
    let mut tx = server.app.db.begin().await.expect("a transaction");
    set_verified(&mut tx, user_id, server.clock.now()).await.expect("verified");
    tx.commit().await.expect("verified");
}

/// Who is logged in, as the account page says.
async fn account(browser: &mut Browser<'_>) -> Option<String> {
    let page = browser.open("/account/security").await;
    let text = page.text.split("class=\"who\"><bdi>").nth(1)?;
    text.split('<').next().map(str::to_owned)
}

async fn an_unknown_identity_registers_without_a_password(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    let mut browser = server.browser();
    let page = browser.open("/login").await.expect(StatusCode::OK);
    assert!(page.text.contains("Continue with"), "{page:?}");
    assert!(browser.open("/register").await.text.contains("/login/upstream/beta"));
    let sent = begin(&mut browser, "/login/upstream/acme").await;
    let expected = [
        ("response_type", "code"),
        ("response_mode", "query"),
        ("client_id", "propusk"),
        ("scope", "openid profile email"),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in expected {
        assert_eq!(sent[name], value);
    }
    assert!(sent["redirect_uri"].ends_with("/login/upstream/acme/callback"));
    assert!(!sent.contains_key("prompt") && !sent.contains_key("max_age"));
    // The address is read at the UserInfo endpoint, where the ID token has none.
    let userinfo =
        json!({ "sub": "vera-1", "email": "vera@example.org", "preferred_username": "Vera" });
    world.op.put("/acme/userinfo", 200, "", userinfo.to_string());
    let callback = world.decide("acme", &sent, &json!({ "email": null }));
    let reply = browser.open(&callback).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), "/login/identity");
    let posted = world.op.posted("/acme/token").expect("a request");
    assert!(posted.contains("grant_type=authorization_code") && posted.contains("code_verifier="));
    let (head, _) = world.op.requests("/acme/token").remove(0);
    assert!(head.to_ascii_lowercase().contains("authorization: basic"), "{head}");
    let page = browser.open("/login/identity").await.expect(StatusCode::OK);
    assert!(page.text.contains("value=\"vera@example.org\""), "{page:?}");
    assert!(page.text.contains("value=\"Vera\""), "{page:?}");
    // The rules of registration hold.
    let bad = browser.submit(&page, &[("email", "vera"), ("username", "v")]).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    assert!(bad.text.contains("email-error") && bad.text.contains("username-error"), "{bad:?}");
    let typed = [("email", "vera@example.org"), ("username", "Vera")];
    let done = browser.submit(&page, &typed).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(done.header("location"), "/account");
    assert_eq!(account(&mut browser).await.as_deref(), Some("Vera"));
    let user = users::find(&server.app, "vera").await.expect("a user");
    assert!(!user.is_verified, "the provider is not trusted with addresses");
    server.login("vera").await.expect_error(401, "INVALID_CREDENTIALS");
    let kinds: Vec<_> = server.events().await.into_iter().map(|(kind, _)| kind).collect();
    for kind in ["user.created", "identity.linked"] {
        assert!(kinds.iter().any(|known| known == kind), "{kind}: {kinds:?}");
    }
    // From now on the identity logs in, whatever its address has become.
    let mut again = server.browser();
    let more = json!({ "email": "other@example.org" });
    let reply = world.log_in(&mut again, "/login/upstream/acme", more).await;
    assert_eq!(reply.header("location"), "/account");
    assert_eq!(account(&mut again).await.as_deref(), Some("Vera"));
    // Not the same `sub` of another provider.
    let reply = world.log_in(&mut again, "/login/upstream/beta", json!({})).await;
    assert_eq!(reply.header("location"), "/login/identity");
    // Disabled users are refused.
    users::disable(&server.app, &user.id, &Actor::operator()).await.expect("disabled");
    let reply = world.log_in(&mut server.browser(), "/login/upstream/acme", json!({})).await;
    assert_eq!(reply.header("location"), "/login?upstream=refused");
    // A deployment without registration.
    let closed = World::with(backend, &[("PROPUSK_REGISTRATION__MODE", "closed")]).await;
    let mut browser = closed.server.browser();
    closed.log_in(&mut browser, "/login/upstream/acme", json!({})).await;
    let page = browser.open("/login/identity").await.expect(StatusCode::OK);
    assert!(!page.text.contains("/login/identity/register"), "{page:?}");
    assert!(page.text.contains("id=\"log-in\""), "{page:?}");
}

async fn a_login_continues_with_the_request_that_brought_the_user(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    server.client("app", first_party_app()).await;
    world.register(&mut server.browser(), json!({})).await;
    let mut browser = server.browser();
    let request = AuthorizationRequest::of("app", "openid email").with("login_hint", "vera");
    let login = browser.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    let page = browser.open(login.header("location")).await.expect(StatusCode::OK);
    let (_, link) = page.text.split_once("id=\"upstream-acme\" href=\"").expect("a link");
    let link = link.split('"').next().expect("a URL").replace("&#38;", "&").replace("&amp;", "&");
    let sent = begin(&mut browser, &link).await;
    assert_eq!(sent["login_hint"], "vera");
    let callback = world.decide("acme", &sent, &json!({ "amr": ["pwd", "otp"], "acr": "x" }));
    let reply = browser.open(&callback).await.expect(StatusCode::SEE_OTHER);
    assert!(reply.header("location").starts_with("/oauth2/authorize?"), "{reply:?}");
    let answer = browser.open(reply.header("location")).await;
    let location = answer.header("location").to_owned();
    let location = url::Url::parse(&location).expect("the application");
    let fields: HashMap<_, _> = location.query_pairs().into_owned().collect();
    let tokens = server.exchange_code("app", &fields["code"]).await.expect(StatusCode::OK);
    let claims = crate::support::oauth::payload(&tokens.field("id_token"));
    // What the provider says about methods is not what this server knows.
    assert_eq!(claims.get("amr"), None, "{claims}");
    assert_eq!(claims["acr"], "urn:propusk:acr:password");
    assert_eq!(claims["auth_time"], server.clock.now().as_secs());
    // The user denies at the provider: the login page again, with the request.
    let mut browser = server.browser();
    let sent = begin(&mut browser, &link).await;
    let denied = format!(
        "/login/upstream/acme/callback?error=access_denied&error_description=no&state={}",
        sent["state"]
    );
    let back = browser.open(&denied).await.expect(StatusCode::SEE_OTHER);
    assert!(back.header("location").contains("return_to=%2Foauth2%2Fauthorize"), "{back:?}");
    let page = browser.open(back.header("location")).await;
    assert!(page.text.contains("did not log you in") && page.text.contains("name=\"password\""));
}

async fn a_second_factor_is_asked_for_unless_the_provider_has(backend: Backend) {
    let world = World::with(backend, &[("MFA_AMR_VALUES", "mfa")]).await;
    let server = &world.server;
    let (app, _) = server.register_with_totp("ann").await;
    // The identity is linked by a login with both factors.
    let mut browser = server.browser();
    let reply = world.log_in(&mut browser, "/login/upstream/acme", json!({})).await;
    let page = browser.open(reply.header("location")).await.expect(StatusCode::OK);
    let (_, link) = page.text.split_once("id=\"log-in\" href=\"").expect("a link");
    let link = link.split('"').next().expect("a URL").to_owned();
    next_step(server);
    let back = browser.log_in_with(&link, "ann", &app).await;
    assert_eq!(back, "/login/identity");
    let page = browser.open(&back).await.expect(StatusCode::OK);
    browser.submit(&page, &[]).await.expect(StatusCode::SEE_OTHER);

    let mut browser = server.browser();
    let reply = world.log_in(&mut browser, "/login/upstream/acme", json!({})).await;
    assert_eq!(reply.header("location"), "/login/second-factor");
    assert_eq!(account(&mut browser).await, None);
    next_step(server);
    let page = browser.open("/login/second-factor").await.expect(StatusCode::OK);
    let done = browser.submit(&page, &[("code", &app.code(&server.clock))]).await;
    done.expect(StatusCode::SEE_OTHER);
    assert_eq!(account(&mut browser).await.as_deref(), Some("ann"));
    let amr = async || {
        let statement = Statement::new("SELECT amr FROM browser_sessions ORDER BY id DESC LIMIT 1");
        let rows = server.app.db.read(statement).await.expect("rows");
        rows[0].get::<String>("amr").expect("text")
    };
    assert_eq!(amr().await, "otp mfa", "no password was entered here");
    // Where the operator counts what the provider says, it is enough.
    next_step(server);
    let mut browser = server.browser();
    let more = json!({ "amr": ["mfa"] });
    let reply = world.log_in(&mut browser, "/login/upstream/acme", more).await;
    assert_eq!(reply.header("location"), "/account");
    assert_eq!(
        (account(&mut browser).await.as_deref(), amr().await.as_str()),
        (Some("ann"), "mfa")
    );
}

async fn reauthentication_is_passed_on_and_checked(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    server.client("app", first_party_app()).await;
    let mut browser = server.browser();
    world.register(&mut browser, json!({})).await;
    server.clock.advance(Duration::from_secs(600));
    let now = || server.clock.now().as_secs();
    let request = AuthorizationRequest::of("app", "openid").with("max_age", "300");
    let start = async |browser: &mut Browser<'_>, request: &AuthorizationRequest| -> String {
        let login = browser.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
        let page = browser.open(login.header("location")).await.expect(StatusCode::OK);
        assert!(!page.text.contains("upstream-beta"), "the user has no identity there");
        let (_, link) = page.text.split_once("id=\"upstream-acme\" href=\"").expect("a link");
        let link = link.split('"').next().expect("a URL");
        link.replace("&#38;", "&").replace("&amp;", "&")
    };
    let link = start(&mut browser, &request).await;
    let sent = begin(&mut browser, &link).await;
    assert_eq!((sent["prompt"].as_str(), sent["max_age"].as_str()), ("login", "0"));
    for auth_time in [json!(null), json!(now() - 400), json!(now() - 31), json!(now() + 31)] {
        let sent = begin(&mut browser, &link).await;
        let callback = world.decide("acme", &sent, &json!({ "auth_time": auth_time }));
        let reply = browser.open(&callback).await.expect(StatusCode::SEE_OTHER);
        assert!(reply.header("location").contains("upstream=failed"), "{auth_time}");
    }
    let reply = world.log_in(&mut browser, &link, json!({ "auth_time": now() })).await;
    let done = browser.open(reply.header("location")).await;
    assert!(done.header("location").contains("code="), "{done:?}");
    // An older login at the provider is the time of the login here.
    let mut other = server.browser();
    let hours_ago = json!({ "auth_time": now() - 7_200 });
    world.log_in(&mut other, "/login/upstream/acme", hours_ago).await;
    let page = other.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    assert!(page.header("location").starts_with("/login"), "{page:?}");
    let security = other.open("/account/security/totp").await.expect(StatusCode::SEE_OTHER);
    assert!(security.header("location").contains("reauthenticate=1"));
    // A provider that does not say when the user has authenticated: perhaps days ago.
    let mut unattended = server.browser();
    let silent = json!({ "auth_time": null });
    world.log_in(&mut unattended, "/login/upstream/acme", silent).await;
    assert_eq!(account(&mut unattended).await.as_deref(), Some("vera"));
    for page in ["/account/security/totp", "/account/delete"] {
        let asked = unattended.open(page).await.expect(StatusCode::SEE_OTHER);
        assert!(asked.header("location").contains("reauthenticate=1"), "{page}: {asked:?}");
    }
    let request = AuthorizationRequest::of("app", "openid").with("max_age", "86400");
    let asked = unattended.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    assert!(asked.header("location").starts_with("/login"), "{asked:?}");
}

async fn identities_are_listed_linked_and_unlinked(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    let page = ann.open("/account/security").await.expect(StatusCode::OK);
    assert!(page.text.contains("/login/upstream/acme?link=1"), "{page:?}");
    let reply = world.log_in(&mut ann, "/login/upstream/acme?link=1", json!({})).await;
    assert_eq!(reply.header("location"), "/login/identity");
    let page = ann.open("/login/identity").await.expect(StatusCode::OK);
    let done = ann.submit(&page, &[]).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(done.header("location"), "/account/security");
    assert_eq!(world.linked().await, [("ann@example.org".to_owned(), "vera-1".to_owned())]);
    let again = world.log_in(&mut ann, "/login/upstream/acme?link=1", json!({})).await;
    assert_eq!(again.header("location"), "/account/security");
    // One of each provider.
    let more = json!({ "sub": "vera-2" });
    world.log_in(&mut ann, "/login/upstream/acme?link=1", more).await;
    let page = ann.open("/login/identity").await.expect(StatusCode::OK);
    let refused = ann.submit(&page, &[]).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    // Removing it needs a recent login.
    let user = users::find(&server.app, "ann").await.expect("a user");
    assert_eq!(identity::of_user(&server.app, &user.id).await.expect("a list").len(), 1);
    server.clock.advance(Duration::from_secs(3_600));
    let page = ann.open("/account/security").await.expect(StatusCode::OK);
    let asked = ann.submit(&page, &[]).await.expect(StatusCode::SEE_OTHER);
    assert!(asked.header("location").contains("reauthenticate=1"), "{asked:?}");
    let mut ann = server.logged_in("ann").await;
    let page = ann.open("/account/security").await.expect(StatusCode::OK);
    ann.submit(&page, &[]).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(world.linked().await, []);
    let audit = Statement::new(
        "SELECT action FROM audit_log WHERE action LIKE 'identity.%' ORDER BY number",
    );
    let rows = server.app.db.read(audit).await.expect("rows");
    let actions: Vec<String> = rows.iter().map(|row| row.get("action").expect("text")).collect();
    assert_eq!(actions, ["identity.linked", "identity.unlinked"]);
}

/// A reset by mail removes what another person has linked: also what they are linking meanwhile.
async fn linking_waits_for_a_reset_of_the_account(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    server.register("ann").await;
    let mut eve = server.logged_in("ann").await;
    world.log_in(&mut eve, "/login/upstream/acme?link=1", json!({})).await;
    let page = eve.open("/login/identity").await.expect(StatusCode::OK);
    let user = users::find(&server.app, "ann").await.expect("a user");
    let mut tx = server.app.db.begin().await.expect("a transaction");
    storage::users::lock(&mut tx, &user.id).await.expect("locked").expect("a user");
    let reset = async {
        // Real time: the form arrives at the lock meanwhile.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = server.clock.now();
        let revoked = browser_sessions::revoke_others(&mut tx, &user.id, None, now).await;
        assert_eq!(revoked.expect("revoked").len(), 1);
        tx.commit().await.expect("committed");
    };
    let (reply, ()) = tokio::join!(eve.submit(&page, &[]), reset);
    assert!(reply.header("location").starts_with("/login"), "{reply:?}");
    assert_eq!(world.linked().await, []);
}

async fn the_last_passkey_of_a_user_without_a_password_stays(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    let app = &server.app;
    world.register(&mut server.browser(), json!({})).await;
    let user = users::find(app, "vera").await.expect("a user");
    let now = server.clock.now();
    let mut tx = app.db.begin().await.expect("a transaction");
    for id in ["first", "second"] {
        let secret = Secret::Passkey { credential_id: id.into(), credential: "{}".to_owned() };
        factor_rows::insert(&mut tx, &user.id, id, id, secret, now).await.expect("a passkey");
    }
    tx.commit().await.expect("added");
    let login = Login { at: Some(now), is_mfa: true };
    let context = RequestContext {
        request_id: "r".to_owned(),
        correlation_id: "c".to_owned(),
        address: [127, 0, 0, 1].into(),
        user_agent: None,
        device: None,
    };
    let removed = second_factors::remove(app, &user.id, "first", login, &context).await;
    removed.expect("the identity and a passkey are left");
    let linked = identity::of_user(app, &user.id).await.expect("a list");
    // A factor that was added after the caller has looked counts.
    let stale = (Login { is_mfa: false, ..login }, false);
    let refused = identity::unlink_own(app, &user.id, stale, &linked[0].id, &context).await;
    assert!(matches!(refused, Err(Error::NeedsLogin { second_factor: true, .. })), "{refused:?}");
    let unlinked = identity::unlink_own(app, &user.id, (login, true), &linked[0].id, &context);
    unlinked.await.expect("a passkey is left");
    let refused = second_factors::remove(app, &user.id, "second", login, &context).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    let overview = second_factors::overview(app, &user.id).await.expect("the factors");
    assert_eq!(overview.factors.len(), 1);
    users::set_password(app, &user.id, PASSWORD, &Actor::operator()).await.expect("set");
    let removed = second_factors::remove(app, &user.id, "second", login, &context).await;
    removed.expect("the password is left");
}

async fn a_user_without_a_password_can_keep_an_account_to_be_deleted(backend: Backend) {
    let limits = [("PROPUSK_LIMITS__ENABLED", "true"), ("PROPUSK_LIMITS__ADDRESS_BURST", "1000")];
    let world = World::with(backend, &limits).await;
    let server = &world.server;
    let mut browser = server.browser();
    world.register(&mut browser, json!({})).await;
    let page = browser.open("/account/delete").await.expect(StatusCode::OK);
    browser.submit(&page, &[]).await;
    assert!(account(&mut browser).await.is_none());
    let mut again = server.browser();
    let reply = world.log_in(&mut again, "/login/upstream/acme", json!({})).await;
    assert_eq!(reply.header("location"), "/account/restore");
    assert!(account(&mut again).await.is_none(), "the offer is no session");
    let page = again.open("/account/restore").await.expect(StatusCode::OK);
    again.submit(&page, &[]).await;
    let reply = world.log_in(&mut again, "/login/upstream/acme", json!({})).await;
    assert_eq!(reply.header("location"), "/account");
    assert_eq!(account(&mut again).await.as_deref(), Some("vera"));
    // Where the user logs in is remembered as after a password, and the device stays the same.
    let device = again.cookies["propusk_device"].clone();
    world.log_in(&mut again, "/login/upstream/acme", json!({})).await;
    assert_eq!(again.cookies["propusk_device"], device);
    // What takes a password says that there is none, instead of counting guesses.
    for path in ["/account/password", "/account/username"] {
        let page = again.open(path).await.expect(StatusCode::OK);
        for _ in 0..7 {
            let typed = [
                ("current_password", "a guess"),
                ("password", "seven blue herons at dawn"),
                ("username", "veronika"),
            ];
            let page = again.submit(&page, &typed).await.expect_page(400);
            assert!(page.text.contains("has no password yet"), "{page:?}");
        }
    }
    let rows = server.app.db.read(Statement::new("SELECT COUNT(*) AS n FROM known_sources")).await;
    let count: i64 = rows.expect("rows")[0].get("n").expect("a number");
    assert!(count >= 2, "a network and a device: {count}");
}
