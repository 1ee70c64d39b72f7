//! Callers of the admin API.

use std::time::Duration;

use propusk::{
    flows::admin::users,
    model::{
        actor::Actor,
        client::{GrantType, Metadata},
        user::Role,
    },
    oauth::scope::Scope,
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

use super::{Reply, TestServer, send};

/// A caller with a token.
pub struct AdminApi<'a> {
    pub server: &'a TestServer,
    pub token: String,
}

impl TestServer {
    /// Registers `name` and makes them an administrator; returns their id.
    pub async fn promote(&self, name: &str) -> String {
        self.register(name).await;
        let user = users::find(&self.app, name).await.expect("known");
        users::set_role(&self.app, &user.id, Role::admin(), &Actor::operator())
            .await
            .expect("changed");
        // Tokens issued in the second of a role change count as old.
        self.clock.advance(Duration::from_secs(2));
        user.id.into()
    }

    /// A new administrator, logged in.
    pub async fn admin(&self, name: &str) -> AdminApi<'_> {
        self.promote(name).await;
        self.admin_as(name).await
    }

    /// An existing user, logged in.
    pub async fn admin_as(&self, name: &str) -> AdminApi<'_> {
        let tokens = self.login(name).await.expect(StatusCode::OK).tokens();
        AdminApi { server: self, token: tokens.access }
    }

    /// A service with a token of its own for this scope.
    pub async fn service(&self, id: &str, scope: &str) -> AdminApi<'_> {
        let metadata = Metadata {
            grant_types: vec![GrantType::ClientCredentials],
            scope: Scope::parse(scope).expect("a scope"),
            ..Metadata::default()
        };
        self.client(id, metadata).await;
        let fields = [("grant_type", "client_credentials"), ("scope", scope)];
        let reply = self.form_as("/oauth2/token", id, &fields).await;
        AdminApi { server: self, token: reply.expect(StatusCode::OK).field("access_token") }
    }
}

impl AdminApi<'_> {
    /// A request under `/api/v1/admin`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let path = format!("/api/v1/admin{path}");
        self.server.request(method, &path).bearer_auth(&self.token)
    }

    pub async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        send(self.request(Method::POST, path).json(&body)).await
    }

    /// As [`AdminApi::post`], under an `Idempotency-Key`.
    pub async fn post_once(&self, key: &str, path: &str, body: Value) -> Reply {
        let request = self.request(Method::POST, path).json(&body);
        send(request.header("idempotency-key", key)).await
    }

    /// Changes a resource in whatever state it is.
    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.patch_if("*", path, body).await
    }

    pub async fn patch_if(&self, etag: &str, path: &str, body: Value) -> Reply {
        let request = self.request(Method::PATCH, path).json(&body);
        send(request.header("if-match", etag)).await
    }

    /// Deletes a resource in whatever state it is.
    pub async fn delete(&self, path: &str) -> Reply {
        send(self.request(Method::DELETE, path).header("if-match", "*")).await
    }

    /// Every item of a list, in pages of three.
    pub async fn all(&self, path: &str) -> Vec<Value> {
        let (mut all, mut cursor) = (vec![], String::new());
        for _ in 0..100 {
            let mark = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{mark}limit=3{cursor}")).await;
            let data = page.expect(StatusCode::OK).json()["data"].clone();
            let items = data["items"].as_array().expect("items").clone();
            assert!(items.len() <= 3, "{data}");
            all.extend(items);
            match data["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
        panic!("the list of {path} does not end");
    }
}

impl Reply {
    /// The `data` of the envelope.
    #[track_caller]
    pub fn data(&self) -> Value {
        assert!(self.status.is_success(), "{self:?}");
        self.json()["data"].clone()
    }

    /// A field of the `data` that is text.
    #[track_caller]
    pub fn text_of(&self, pointer: &str) -> String {
        let data = self.data();
        let found = data.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_else(|| panic!("no {pointer}: {self:?}")).to_owned()
    }
}
