//! A relying party and its user's browser, without a browser: forms are read from the pages and
//! submitted.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::{
    jwk::Jwk,
    jws::{self, JwsSigner},
};
use propusk::{
    error::FieldError,
    model::client::{AuthMethod, Client, Consent, GrantType, Metadata, Secret, Source},
    oauth::scope::Scope,
    storage::clients,
};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

use super::{PASSWORD, Reply, TestServer, send};

/// The redirect URI of [`web_app`].
pub const CALLBACK: &str = "https://app.example/cb";

/// The secret of every confidential client in the tests.
pub const SECRET: &str = "a secret of the application's own";

/// A PKCE verifier.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// Its challenge (RFC 7636 appendix B).
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A change of metadata, for `clients::update`.
pub fn changed(
    change: impl FnOnce(&mut Metadata),
) -> impl FnOnce(&Metadata) -> Result<Metadata, Vec<FieldError>> {
    |metadata| {
        let mut metadata = metadata.clone();
        change(&mut metadata);
        Ok(metadata)
    }
}

/// The metadata of a confidential web application.
pub fn web_app() -> Metadata {
    Metadata {
        client_name: "Example App".to_owned(),
        scope: Scope::parse("openid profile email offline_access api:read api:write")
            .expect("a scope"),
        redirect_uris: vec![CALLBACK.to_owned()],
        post_logout_redirect_uris: vec!["https://app.example/bye".to_owned()],
        grant_types: vec![
            GrantType::AuthorizationCode,
            GrantType::RefreshToken,
            GrantType::ClientCredentials,
        ],
        ..Metadata::default()
    }
}

/// The metadata of a first-party application: no consent page.
pub fn first_party_app() -> Metadata {
    Metadata { consent: Consent::Implicit, ..web_app() }
}

/// The metadata of a single-page application: no secret.
pub fn public_app() -> Metadata {
    Metadata {
        token_endpoint_auth_method: AuthMethod::None,
        grant_types: vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
        ..web_app()
    }
}

/// The metadata of a program on a device: no secret and no redirect URI.
pub fn device_app() -> Metadata {
    Metadata {
        client_name: "Example TV".to_owned(),
        token_endpoint_auth_method: AuthMethod::None,
        redirect_uris: vec![],
        post_logout_redirect_uris: vec![],
        grant_types: vec![GrantType::DeviceCode, GrantType::RefreshToken],
        ..web_app()
    }
}

/// The codes of a device (RFC 8628 §3.2).
#[derive(Clone, Debug)]
pub struct DeviceCodes {
    pub device: String,
    /// As shown, with its hyphen.
    pub user: String,
}

impl DeviceCodes {
    #[track_caller]
    pub fn of(reply: Reply) -> Self {
        let reply = reply.expect(StatusCode::OK);
        Self { device: reply.field("device_code"), user: reply.field("user_code") }
    }
}

impl TestServer {
    /// The codes of a device that runs the public client `id`.
    pub async fn device_codes(&self, id: &str, scope: &str) -> DeviceCodes {
        let fields = [("client_id", id), ("scope", scope)];
        DeviceCodes::of(self.form("/oauth2/device_authorization", &fields).await)
    }

    /// What a device of the public client `id` gets when it polls.
    pub async fn poll(&self, id: &str, codes: &DeviceCodes) -> Reply {
        let fields = [
            ("grant_type", GrantType::DeviceCode.as_str()),
            ("client_id", id),
            ("device_code", &codes.device),
        ];
        self.form("/oauth2/token", &fields).await
    }

    /// Registers a client as an operator would; confidential ones have [`SECRET`].
    pub async fn client(&self, id: &str, metadata: Metadata) {
        let now = self.clock.now();
        let secrets = if metadata.token_endpoint_auth_method.has_secret() {
            let hash = Sha256::digest(SECRET).to_vec();
            vec![Secret { hash, expires_at: None }]
        } else {
            vec![]
        };
        let client = Client {
            id: id.into(),
            source: Source::Operator,
            secrets,
            metadata,
            registration_token_hash: None,
            created_at: now,
            updated_at: now,
            expires_at: None,
            disabled_at: None,
        };
        let mut tx = self.app.db.begin().await.expect("a transaction");
        clients::insert(&mut tx, &client).await.expect("a client");
        tx.commit().await.expect("a client");
    }

    /// Changes a registered client.
    pub async fn change_client(&self, id: &str, change: impl FnOnce(&mut Client)) {
        let mut tx = self.app.db.begin().await.expect("a transaction");
        if let Some(mut client) = clients::lock(&mut tx, &id.into()).await.expect("locked") {
            change(&mut client);
            clients::update(&mut tx, &client).await.expect("changed");
        }
        tx.commit().await.expect("changed");
    }

    /// A browser without cookies.
    pub fn browser(&self) -> Browser<'_> {
        Browser { server: self, cookies: HashMap::new() }
    }

    /// A browser in which `name` (see [`TestServer::register`]) is logged in.
    pub async fn logged_in(&self, name: &str) -> Browser<'_> {
        let mut browser = self.browser();
        browser.log_in("/login", name).await;
        browser
    }

    /// Sends a form to an OAuth endpoint, authenticated by header as `id`.
    pub async fn form_as(&self, path: &str, id: &str, fields: &[(&str, &str)]) -> Reply {
        send(self.request(Method::POST, path).basic_auth(id, Some(SECRET)).form(fields)).await
    }

    /// Sends a form without authentication.
    pub async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        send(self.request(Method::POST, path).form(fields)).await
    }

    /// Exchanges a code as the client `id`.
    pub async fn exchange_code(&self, id: &str, code: &str) -> Reply {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        self.form_as("/oauth2/token", id, &fields).await
    }

    /// Refreshes as the client `id`.
    pub async fn refresh_as(&self, id: &str, refresh_token: &str) -> Reply {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        self.form_as("/oauth2/token", id, &fields).await
    }

    /// The introspection response that `id` gets.
    pub async fn introspect(&self, id: &str, token: &str) -> Value {
        let reply = self.form_as("/oauth2/introspect", id, &[("token", token)]).await;
        reply.expect(StatusCode::OK).json()
    }
}

/// A browser and its user.
pub struct Browser<'a> {
    pub server: &'a TestServer,
    pub cookies: HashMap<String, String>,
}

impl Browser<'_> {
    /// Sends a request with this browser's cookies and stores those of the response; follows no
    /// redirect.
    pub async fn send(&mut self, request: reqwest::RequestBuilder) -> Reply {
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request =
            if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) };
        let reply = send(request).await;
        for line in reply.headers.get_all("set-cookie") {
            let line = line.to_str().expect("text");
            let (name, value) =
                line.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            if line.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        reply
    }

    /// Opens a URL of the server.
    pub async fn open(&mut self, address: &str) -> Reply {
        let path = address.strip_prefix(&self.server.base).unwrap_or(address);
        let request = self.server.request(Method::GET, path).header("accept", "text/html");
        self.send(request).await
    }

    /// Submits the form of a page: its hidden fields with what is typed or clicked.
    pub async fn submit(&mut self, page: &Reply, typed: &[(&str, &str)]) -> Reply {
        let form = Form::of(&page.text);
        self.submit_form(form, typed).await
    }

    pub async fn submit_form(&mut self, form: Form, typed: &[(&str, &str)]) -> Reply {
        let mut fields = form.hidden;
        fields.retain(|(name, _)| !typed.iter().any(|(typed, _)| typed == name));
        fields.extend(typed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let request = self.server.request(Method::POST, &form.action).form(&fields);
        self.send(request).await
    }

    /// As [`Browser::submit`], with a header.
    pub async fn submit_with(
        &mut self,
        page: &Reply,
        typed: &[(&str, &str)],
        (name, value): (&str, &str),
    ) -> Reply {
        let form = Form::of(&page.text);
        let mut fields = form.hidden;
        fields.extend(typed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let request = self.server.request(Method::POST, &form.action);
        self.send(request.header(name, value).form(&fields)).await
    }

    /// Opens the login page at `address` and logs in.
    pub async fn log_in(&mut self, address: &str, name: &str) -> Reply {
        let page = self.open(address).await.expect(StatusCode::OK);
        let reply = self.submit(&page, &[("login", name), ("password", PASSWORD)]).await;
        reply.expect(StatusCode::SEE_OTHER)
    }

    /// Enters the code of a device.
    pub async fn enter_code(&mut self, user_code: &str) -> Reply {
        let page = self.open("/device").await.expect(StatusCode::OK);
        self.submit(&page, &[("user_code", user_code)]).await
    }

    /// Enters the code of a device and opens the page that names the client.
    pub async fn device_page(&mut self, codes: &DeviceCodes) -> Reply {
        let entered = self.enter_code(&codes.user).await.expect(StatusCode::SEE_OTHER);
        self.open(entered.header("location")).await.expect(StatusCode::OK)
    }

    /// Enters the code of a device, and allows or denies the request.
    pub async fn decide(&mut self, codes: &DeviceCodes, decision: &str) -> Reply {
        let page = self.device_page(codes).await;
        self.submit(&page, &[("decision", decision)]).await.expect(StatusCode::OK)
    }

    /// Opens an authorization request, logs in as `name` and consents where asked. Returns the
    /// response to the application.
    pub async fn authorize(
        &mut self,
        request: &AuthorizationRequest,
        name: &str,
    ) -> AuthorizationResponse {
        let mut reply = self.open(&request.path()).await;
        for _ in 0..6 {
            let location = reply.header("location").to_owned();
            if location.starts_with("/login") {
                reply = self.log_in(&location, name).await;
            } else if location.starts_with('/') {
                reply = self.open(&location).await;
            } else if !location.is_empty() {
                return AuthorizationResponse::of(&location);
            } else if let Some(link) = reply.link_out() {
                return AuthorizationResponse::of(&link);
            } else if reply.text.contains("name=\"decision\"") {
                reply = self.submit(&reply, &[("decision", "allow")]).await;
            } else if reply.text.contains("name=\"iss\"") {
                return AuthorizationResponse::posted(&reply);
            } else {
                panic!("neither a page nor an authorization response: {reply:?}");
            }
        }
        panic!("no authorization response after six steps: {reply:?}");
    }
}

/// A form as it is in a page.
#[derive(Clone, Debug)]
pub struct Form {
    pub action: String,
    pub hidden: Vec<(String, String)>,
}

impl Form {
    /// The first form of a page with the method POST.
    #[track_caller]
    pub fn of(html: &str) -> Self {
        Self::containing(html, "")
    }

    /// The form with the method POST whose hidden field `action` names what it does.
    #[track_caller]
    pub fn that_does(html: &str, action: &str) -> Self {
        Self::containing(html, &format!("name=\"action\" value=\"{action}\""))
    }

    #[track_caller]
    fn containing(html: &str, text: &str) -> Self {
        let mut forms =
            html.split("<form").skip(1).map(|form| form.split("</form").next().unwrap_or_default());
        let is_post =
            |form: &str| form.split('>').next().is_some_and(|tag| tag.contains("method=\"post\""));
        let form = forms.find(|form| is_post(form) && form.contains(text));
        let form = form.unwrap_or_else(|| panic!("no form: {html}"));
        let form = form.split("</form").next().unwrap_or_default();
        let tag = form.split('>').next().unwrap_or_default();
        let action = attribute(tag, "action").expect("an action");
        let hidden = form
            .split('<')
            .filter(|tag| {
                tag.starts_with("input") && attribute(tag, "type").as_deref() == Some("hidden")
            })
            .map(|tag| {
                (
                    attribute(tag, "name").expect("a name"),
                    attribute(tag, "value").unwrap_or_default(),
                )
            })
            .collect();
        Self { action, hidden }
    }

    pub fn field(&self, name: &str) -> &str {
        let found = self.hidden.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let value = &tag[start..];
    let value = &value[..value.find('"')?];
    Some(
        value
            .replace("&#34;", "\"")
            .replace("&#38;", "&")
            .replace("&#39;", "'")
            .replace("&#60;", "<")
            .replace("&#62;", ">")
            .replace("&quot;", "\"")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&"),
    )
}

/// An authorization request under construction.
#[derive(Clone, Debug)]
pub struct AuthorizationRequest(pub Vec<(String, String)>);

impl AuthorizationRequest {
    /// A valid one of [`web_app`], with PKCE, state and nonce.
    pub fn of(client_id: &str, scope: &str) -> Self {
        let fields = [
            ("client_id", client_id),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("scope", scope),
            ("state", "a state"),
            ("nonce", "a nonce"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        Self(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    /// With a parameter replaced.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self
    }

    pub fn query(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }

    pub fn path(&self) -> String {
        format!("/oauth2/authorize?{}", self.query())
    }
}

/// The authorization response.
#[derive(Clone, Debug)]
pub struct AuthorizationResponse {
    pub location: Url,
    pub fields: HashMap<String, String>,
}

impl AuthorizationResponse {
    #[track_caller]
    pub fn of(location: &str) -> Self {
        let location = Url::parse(location).unwrap_or_else(|error| panic!("{location}: {error}"));
        let fields = location.query_pairs().into_owned().collect();
        Self { location, fields }
    }

    /// The response that a page posts to the application (Form Post Response Mode).
    #[track_caller]
    pub fn posted(page: &Reply) -> Self {
        let form = Form::of(&page.text);
        let location = Url::parse(&form.action).expect("an address");
        let fields = form.hidden.into_iter().collect();
        Self { location, fields }
    }

    #[track_caller]
    pub fn code(&self) -> &str {
        self.fields.get("code").unwrap_or_else(|| panic!("no code: {self:?}"))
    }

    #[track_caller]
    pub fn expect_error(&self, error: &str) -> &Self {
        assert_eq!(self.fields.get("error").map(String::as_str), Some(error), "{self:?}");
        assert!(!self.fields.contains_key("code"), "{self:?}");
        self
    }
}

/// A JWT with any header and claims, signed by ES256.
pub fn sign(key: &Jwk, header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let signer = jws::ES256.signer_from_jwk(key).expect("a signer");
    let signature = signer.sign(message.as_bytes()).expect("a signature");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The payload of a JWT, unverified.
#[track_caller]
pub fn payload(token: &str) -> Value {
    part(token, 1)
}

/// The header of a JWT.
#[track_caller]
pub fn header(token: &str) -> Value {
    part(token, 0)
}

#[track_caller]
fn part(token: &str, at: usize) -> Value {
    let part = token.split('.').nth(at).unwrap_or_else(|| panic!("no JWT: {token}"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

impl Reply {
    /// Fails the test unless this is that error of RFC 6749 §5.2.
    #[track_caller]
    pub fn expect_oauth_error(self, status: u16, error: &str) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        let json = self.json();
        assert_eq!(json["error"], error, "{self:?}");
        assert!(json["error_description"].is_string(), "{self:?}");
        assert_eq!(json["access_token"], Value::Null, "{self:?}");
        assert_eq!(self.header("cache-control"), "no-store");
        self
    }

    /// Where the page's button leads that asks before the browser leaves for an unverified site.
    pub fn link_out(&self) -> Option<String> {
        let (before, _) = self.text.split_once("\" rel=\"noreferrer\"")?;
        let (_, link) = before.rsplit_once("href=\"")?;
        Some(link.replace("&#38;", "&"))
    }

    /// A field of a JSON answer that is text.
    #[track_caller]
    pub fn field(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_else(|| panic!("no {name}: {self:?}")).to_owned()
    }

    /// Fails the test unless this is an error page without a redirect.
    #[track_caller]
    pub fn expect_page(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert!(self.header("content-type").starts_with("text/html"), "{self:?}");
        assert_eq!(self.header("location"), "", "{self:?}");
        self
    }
}
