//! Attacks on access control: who may call what, from which origin, and what does not count as
//! authentication.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use propusk::{
    flows::admin::users,
    model::{
        actor::Actor,
        client::{GrantType, Metadata},
        user::Role,
    },
};
use reqwest::{Method, RequestBuilder, StatusCode};

use super::with_app;
use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    oauth::{AuthorizationRequest, AuthorizationResponse, first_party_app},
    send,
};

/// The callers, each with a bearer token of their own: nobody, a user, another user, a client for
/// itself, an administrator.
const CALLERS: [&str; 5] = ["", "ann", "bob", "app", "root"];

/// Every endpoint, what is sent, and the status that each of [`CALLERS`] gets. A body in `{}` is
/// JSON, all other bodies are forms.
const TABLE: &[(&str, &str, &str, [u16; 5])] = &[
    // Public
    ("GET", "/", "", [200; 5]),
    ("GET", "/docs", "", [200; 5]),
    ("GET", "/docs/oauth2-redirect", "", [200; 5]),
    ("GET", "/openapi.json", "", [200; 5]),
    ("GET", "/.well-known/openid-configuration", "", [200; 5]),
    ("GET", "/.well-known/oauth-authorization-server", "", [200; 5]),
    ("GET", "/oauth2/jwks", "", [200; 5]),
    ("GET", "/api/v1/auth/health", "", [200; 5]),
    ("GET", "/api/v1/auth/health/live", "", [200; 5]),
    ("GET", "/api/v1/auth/health/ready", "", [200; 5]),
    ("GET", "/auth/health", "", [200; 5]),
    // The first-party API
    ("POST", "/api/v1/auth/register", "{}", [400; 5]),
    ("POST", "/api/v1/auth/login", "{}", [400; 5]),
    ("POST", "/api/v1/auth/login/mfa", "{}", [400; 5]),
    ("POST", "/api/v1/auth/login/mfa/setup", "{}", [400; 5]),
    ("POST", "/api/v1/auth/login/mfa/passkey", "{}", [400; 5]),
    ("POST", "/api/v1/auth/login/passkey", "{}", [400; 5]),
    // There are no passkeys at an IP address.
    ("POST", "/api/v1/auth/login/passkey/options", "", [409; 5]),
    ("POST", "/api/v1/auth/token/refresh", "{}", [401; 5]),
    ("POST", "/api/v1/auth/logout", "{}", [401, 200, 200, 401, 200]),
    ("DELETE", "/api/v1/auth/logout", "{}", [401, 200, 200, 401, 200]),
    ("GET", "/api/v1/auth/verify", "", [401, 200, 200, 200, 200]),
    ("GET", "/api/v1/auth/session", "", [200; 5]),
    ("POST", "/auth/register", "{}", [400; 5]),
    ("POST", "/auth/login", "{}", [400; 5]),
    ("POST", "/auth/logout", "{}", [401, 200, 200, 401, 200]),
    ("DELETE", "/auth/logout", "{}", [401, 200, 200, 401, 200]),
    // For users
    ("GET", "/api/v1/modules", "", [401, 200, 200, 403, 200]),
    ("POST", "/api/v1/modules/:module_id/enable", "", [401, 404, 404, 403, 404]),
    ("POST", "/api/v1/modules/:module_id/disable", "", [401, 404, 404, 403, 404]),
    ("GET", "/api/v1/account/second-factors", "", [401, 200, 200, 403, 200]),
    ("POST", "/api/v1/account/second-factors/totp", "", [401, 200, 200, 403, 200]),
    ("POST", "/api/v1/account/second-factors/totp/confirm", "{}", [400; 5]),
    ("POST", "/api/v1/account/second-factors/passkeys", "", [401, 409, 409, 403, 409]),
    ("POST", "/api/v1/account/second-factors/passkeys/confirm", "{}", [400; 5]),
    ("POST", "/api/v1/account/second-factors/recovery-codes", "", [401, 409, 409, 403, 409]),
    ("DELETE", "/api/v1/account/second-factors/:id", "", [401, 404, 404, 403, 404]),
    ("GET", "/api/v1/account/sessions", "", [401, 200, 200, 403, 200]),
    ("GET", "/api/v1/account/sessions/:id", "", [401, 404, 404, 403, 404]),
    ("DELETE", "/api/v1/account/sessions/:id", "", [401, 404, 404, 403, 404]),
    ("GET", "/api/v1/account/remembered-devices", "", [401, 200, 200, 403, 200]),
    ("DELETE", "/api/v1/account/remembered-devices/:id", "", [401, 404, 404, 403, 404]),
    ("POST", "/api/v1/account/sessions/revoke-others", "", [401, 200, 200, 403, 200]),
    ("GET", "/api/v1/account/applications", "", [401, 200, 200, 403, 200]),
    ("GET", "/api/v1/account/applications/:client_id", "", [401, 404, 404, 403, 404]),
    ("DELETE", "/api/v1/account/applications/:client_id", "", [401, 404, 404, 403, 404]),
    ("GET", "/api/v1/account/export", "", [401, 200, 200, 403, 200]),
    ("DELETE", "/api/v1/account/deletion", "{}", [400; 5]),
    ("GET", "/api/v1/account/profile", "", [401, 200, 200, 403, 200]),
    ("PATCH", "/api/v1/account/profile", "{}", [401, 200, 200, 403, 200]),
    ("POST", "/api/v1/account/password", "{}", [400; 5]),
    ("PATCH", "/api/v1/account/username", "{}", [400; 5]),
    ("GET", "/api/v1/auth/upstream", "", [200; 5]),
    ("GET", "/api/v1/account/identities", "", [401, 200, 200, 403, 200]),
    ("DELETE", "/api/v1/account/identities/:id", "", [401, 404, 404, 403, 404]),
    ("GET", "/api/v1/services", "", [401, 200, 200, 403, 200]),
    ("DELETE", "/api/v1/services/:name/connection", "", [401, 404, 404, 403, 404]),
    ("GET", "/api/v1/services/:name/resources/:resource", "", [401, 404, 404, 404, 404]),
    // For back ends, with a scope of their own
    ("POST", "/api/v1/services/:name/token", "{}", [401, 403, 403, 403, 403]),
    ("POST", "/api/v1/tokens", "{}", [401, 403, 403, 403, 403]),
    ("POST", "/api/v1/tokens/refresh", "{}", [401, 403, 403, 403, 403]),
    ("POST", "/api/v1/tokens/verify", "{}", [401, 403, 403, 403, 403]),
    ("POST", "/api/v1/tokens/revoke", "{}", [401, 403, 403, 403, 403]),
    // For gateways, with a scope of their own
    ("GET", "/oauth2/revocations", "", [401, 403, 403, 403, 403]),
    // For clients: none of them accepts a user's token as client authentication.
    (
        "POST",
        "/oauth2/token",
        "grant_type=client_credentials&client_id=app",
        [400, 401, 401, 401, 401],
    ),
    ("POST", "/oauth2/par", "client_id=app&response_type=code", [400, 401, 401, 401, 401]),
    (
        "POST",
        "/oauth2/device_authorization",
        "client_id=app&scope=openid",
        [400, 401, 401, 401, 401],
    ),
    ("POST", "/oauth2/introspect", "client_id=app&token=x", [400, 401, 401, 401, 401]),
    ("POST", "/oauth2/revoke", "client_id=app&token=x", [400, 401, 401, 401, 401]),
    ("POST", "/oauth2/register", "{}", [400; 5]),
    ("GET", "/oauth2/register/:client_id", "", [401; 5]),
    ("PUT", "/oauth2/register/:client_id", "{}", [401; 5]),
    ("DELETE", "/oauth2/register/:client_id", "", [401; 5]),
    ("GET", "/oauth2/userinfo", "", [401, 200, 200, 403, 200]),
    ("POST", "/oauth2/userinfo", "", [401, 200, 200, 403, 200]),
    // For gateways: any method
    ("GET", "/forward-auth", "", [401, 200, 200, 401, 200]),
    ("GET", "/forward-auth/envoy/*request", "", [401, 200, 200, 401, 200]),
    // For browsers: none of them accepts a token instead of a cookie, nor a form without a CSRF
    // token.
    ("GET", "/oauth2/authorize", "", [400; 5]),
    ("POST", "/oauth2/authorize", "response_type=code", [303; 5]),
    ("GET", "/oauth2/logout", "", [200; 5]),
    ("POST", "/oauth2/logout", "decision=logout", [303; 5]),
    ("GET", "/session/start", "", [303; 5]),
    ("GET", "/login", "", [200; 5]),
    ("POST", "/login", "login=ann&password=seven+blue+herons+at+dawn", [403; 5]),
    ("POST", "/login/passkey", "passkey_token=x&credential=x", [403; 5]),
    ("GET", "/login/second-factor", "", [303; 5]),
    ("POST", "/login/second-factor", "code=123456", [303; 5]),
    ("GET", "/account", "", [303; 5]),
    ("GET", "/account/sessions", "", [303; 5]),
    ("POST", "/account/sessions", "others=1", [303; 5]),
    ("GET", "/account/applications", "", [303; 5]),
    ("POST", "/account/applications", "client_id=app", [303; 5]),
    ("GET", "/account/modules", "", [303; 5]),
    ("POST", "/account/modules", "module=crm&action=enable", [303; 5]),
    ("GET", "/account/export", "", [303; 5]),
    ("POST", "/account/export", "csrf=x", [303; 5]),
    ("GET", "/account/delete", "", [303; 5]),
    ("POST", "/account/delete", "csrf=x", [303; 5]),
    ("GET", "/account/restore", "", [303; 5]),
    ("POST", "/account/restore", "csrf=x", [403; 5]),
    ("GET", "/account/security", "", [303; 5]),
    ("GET", "/account/security/totp", "", [303; 5]),
    ("POST", "/account/security/totp", "code=123456", [303; 5]),
    ("GET", "/account/security/passkey", "", [303; 5]),
    ("POST", "/account/security/passkey", "passkey_token=x", [303; 5]),
    ("GET", "/account/security/recovery-codes", "", [303; 5]),
    ("POST", "/account/security/recovery-codes", "confirm=1", [303; 5]),
    ("GET", "/account/security/remove", "", [303; 5]),
    ("POST", "/account/security/remove", "id=01a1fca5-0ae5-741a-b136-32b4b1af948e", [303; 5]),
    ("GET", "/.well-known/change-password", "", [303; 5]),
    ("GET", "/account/profile", "", [303; 5]),
    ("POST", "/account/profile", "name=Eve", [303; 5]),
    ("GET", "/account/password", "", [303; 5]),
    ("POST", "/account/password", "current_password=x&password=y", [303; 5]),
    ("GET", "/account/username", "", [303; 5]),
    ("POST", "/account/username", "current_password=x&username=eve", [303; 5]),
    ("GET", "/register", "", [200; 5]),
    ("POST", "/register", "email=eve%40example.org&password=seven+blue+herons+at+dawn", [403; 5]),
    ("GET", "/select-account", "", [303; 5]),
    ("POST", "/select-account", "choice=continue", [403; 5]),
    (
        "POST",
        "/consent",
        "decision=allow&request=client_id%3Dapp%26response_type%3Dcode%26scope%3Dopenid%26code_challenge_method%3DS256%26code_challenge%3DE9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        [403; 5],
    ),
    ("GET", "/device", "", [200; 5]),
    ("POST", "/device", "user_code=BCDF-GHJK", [403; 5]),
    ("GET", "/device/confirm", "", [303; 5]),
    ("POST", "/device/confirm", "user_code=BCDF-GHJK&decision=allow", [403; 5]),
    ("GET", "/login/upstream/:name", "", [404; 5]),
    ("GET", "/login/upstream/:name/callback", "", [404; 5]),
    ("GET", "/login/identity", "", [303; 5]),
    ("POST", "/login/identity/link", "csrf=x", [303; 5]),
    ("POST", "/login/identity/register", "csrf=x", [303; 5]),
    ("POST", "/account/security/unlink", "csrf=x", [303; 5]),
    ("GET", "/services", "", [303; 5]),
    ("GET", "/services/:name/connect", "", [404; 5]),
    ("POST", "/services/:name/connect", "csrf=x", [303; 5]),
    ("GET", "/services/:name/callback", "", [404; 5]),
    ("POST", "/services/:name/disconnect", "csrf=x", [303; 5]),
    ("POST", "/account/security/forget", "csrf=x", [303; 5]),
    ("GET", "/terms", "", [303; 5]),
    ("POST", "/terms", "csrf=x", [303; 5]),
    ("GET", "/admin", "", [303; 5]),
    ("GET", "/admin/users", "", [303; 5]),
    ("GET", "/admin/users/new", "", [303; 5]),
    ("POST", "/admin/users/new", "email=eve%40evil.example&role=admin", [303; 5]),
    ("GET", "/admin/users/:id", "", [303; 5]),
    ("POST", "/admin/users/:id", "action=delete&confirm_delete=1", [303; 5]),
    ("GET", "/admin/invitations", "", [303; 5]),
    ("POST", "/admin/invitations", "action=create&role=admin", [303; 5]),
    ("GET", "/admin/clients", "", [303; 5]),
    ("GET", "/admin/clients/new", "", [303; 5]),
    ("POST", "/admin/clients/new", "action=create&id=evil", [303; 5]),
    ("GET", "/admin/clients/:id", "", [303; 5]),
    ("POST", "/admin/clients/:id", "action=rotate", [303; 5]),
    ("GET", "/admin/issuers", "", [303; 5]),
    ("POST", "/admin/issuers", "action=create&id=evil", [303; 5]),
    ("GET", "/admin/issuers/:id", "", [303; 5]),
    ("POST", "/admin/issuers/:id", "action=delete&confirm=1", [303; 5]),
    ("GET", "/admin/modules", "", [303; 5]),
    ("POST", "/admin/modules", "action=create&id=evil", [303; 5]),
    ("GET", "/admin/modules/:id", "", [303; 5]),
    ("POST", "/admin/modules/:id", "action=delete&confirm=1", [303; 5]),
    ("GET", "/admin/roles", "", [303; 5]),
    ("POST", "/admin/roles", "action=create&name=evil", [303; 5]),
    ("GET", "/admin/roles/:name", "", [303; 5]),
    ("POST", "/admin/roles/:name", "action=delete&confirm=1", [303; 5]),
    ("GET", "/admin/explain", "", [303; 5]),
    ("GET", "/admin/audit", "", [303; 5]),
    ("GET", "/admin/keys", "", [303; 5]),
    ("POST", "/admin/keys", "action=rotate", [303; 5]),
    ("GET", "/admin/revocations", "", [303; 5]),
    ("GET", "/admin/revocations/new", "", [303; 5]),
    ("POST", "/admin/revocations/new", "kind=client&target=app&confirm=1", [303; 5]),
    ("GET", "/admin/sessions", "", [303; 5]),
    ("POST", "/admin/sessions", "action=revoke&id=01a1fca5-0ae5-741a-b136-32b4b1af948c", [303; 5]),
    ("GET", "/admin/service-tokens", "", [303; 5]),
    ("POST", "/admin/service-tokens", "action=remove&service=crm", [303; 5]),
    ("GET", "/admin/subjects", "", [303; 5]),
    ("POST", "/admin/subjects", "action=log-out&subject=crm%3A1&confirm=1", [303; 5]),
    ("GET", "/admin/events", "", [303; 5]),
    ("GET", "/admin/events/mails", "", [303; 5]),
    ("GET", "/admin/events/webhooks", "", [303; 5]),
    ("POST", "/admin/events/webhooks", "action=add&url=https%3A%2F%2Fevil.example", [303; 5]),
    ("GET", "/admin/events/webhooks/:id", "", [303; 5]),
    ("POST", "/admin/events/webhooks/:id", "action=delete&confirm=1", [303; 5]),
    // For administrators. There is no resource `:id`, and no `If-Match` is sent.
    ("GET", "/api/v1/admin/users", "", [401, 403, 403, 403, 200]),
    ("POST", "/api/v1/admin/users", "{}", [401, 403, 403, 403, 400]),
    ("GET", "/api/v1/admin/users/:id", "", [401, 403, 403, 403, 404]),
    ("PATCH", "/api/v1/admin/users/:id", "{}", [401, 403, 403, 403, 428]),
    ("DELETE", "/api/v1/admin/users/:id", "", [401, 403, 403, 403, 428]),
    ("GET", "/api/v1/admin/users/:id/saga", "", [401, 403, 403, 403, 404]),
    ("POST", "/api/v1/admin/users/:id/disable", "", [401, 403, 403, 403, 404]),
    ("POST", "/api/v1/admin/users/:id/enable", "", [401, 403, 403, 403, 404]),
    ("POST", "/api/v1/admin/users/:id/password", "{}", [401, 403, 403, 403, 404]),
    ("POST", "/api/v1/admin/users/:id/logout", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/users/:id/factors", "", [401, 403, 403, 403, 404]),
    ("DELETE", "/api/v1/admin/users/:id/factors", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/users/:id/identities", "", [401, 403, 403, 403, 404]),
    ("DELETE", "/api/v1/admin/users/:id/identities/:identity", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/sessions", "", [401, 403, 403, 403, 200]),
    ("GET", "/api/v1/admin/sessions/:id", "", [401, 403, 403, 403, 404]),
    ("DELETE", "/api/v1/admin/sessions/:id", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/users/:id/grants", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/users/:id/grant-history", "", [401, 403, 403, 403, 404]),
    ("PUT", "/api/v1/admin/users/:id/grants/:module", "{}", [401, 403, 403, 403, 404]),
    ("DELETE", "/api/v1/admin/users/:id/grants/:module", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/subjects/:subject/grants", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/subjects/:subject/grant-history", "", [401, 403, 403, 403, 404]),
    ("PUT", "/api/v1/admin/subjects/:subject/grants/:module", "{}", [401, 403, 403, 403, 404]),
    ("DELETE", "/api/v1/admin/subjects/:subject/grants/:module", "", [401, 403, 403, 403, 404]),
    ("POST", "/api/v1/admin/subjects/:subject/logout", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/clients", "", [401, 403, 403, 403, 200]),
    ("POST", "/api/v1/admin/clients", "{}", [401, 403, 403, 403, 400]),
    ("GET", "/api/v1/admin/clients/:id", "", [401, 403, 403, 403, 404]),
    ("PUT", "/api/v1/admin/clients/:id", "{}", [401, 403, 403, 403, 428]),
    ("PATCH", "/api/v1/admin/clients/:id", "{}", [401, 403, 403, 403, 428]),
    ("DELETE", "/api/v1/admin/clients/:id", "", [401, 403, 403, 403, 428]),
    ("POST", "/api/v1/admin/clients/:id/secret", "{}", [401, 403, 403, 403, 404]),
    ("POST", "/api/v1/admin/clients/:id/disable", "", [401, 403, 403, 403, 404]),
    ("POST", "/api/v1/admin/clients/:id/enable", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/modules", "", [401, 403, 403, 403, 200]),
    ("POST", "/api/v1/admin/modules", "{}", [401, 403, 403, 403, 400]),
    ("GET", "/api/v1/admin/modules/:id", "", [401, 403, 403, 403, 404]),
    ("PUT", "/api/v1/admin/modules/:id", "{}", [401, 403, 403, 403, 428]),
    ("DELETE", "/api/v1/admin/modules/:id", "", [401, 403, 403, 403, 428]),
    ("GET", "/api/v1/admin/modules/:id/grants", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/issuers", "", [401, 403, 403, 403, 200]),
    ("POST", "/api/v1/admin/issuers", "{}", [401, 403, 403, 403, 400]),
    ("GET", "/api/v1/admin/issuers/:id", "", [401, 403, 403, 403, 404]),
    ("PUT", "/api/v1/admin/issuers/:id", "{}", [401, 403, 403, 403, 428]),
    ("DELETE", "/api/v1/admin/issuers/:id", "", [401, 403, 403, 403, 428]),
    ("POST", "/api/v1/admin/issuers/:id/disable", "", [401, 403, 403, 403, 404]),
    ("POST", "/api/v1/admin/issuers/:id/enable", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/issuers/:id/links", "", [401, 403, 403, 403, 404]),
    ("POST", "/api/v1/admin/issuers/:id/links", "{}", [401, 403, 403, 403, 400]),
    ("DELETE", "/api/v1/admin/issuers/:id/links/:subject", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/invitations", "", [401, 403, 403, 403, 200]),
    ("POST", "/api/v1/admin/invitations", "{}", [401, 403, 403, 403, 201]),
    ("GET", "/api/v1/admin/invitations/:id", "", [401, 403, 403, 403, 404]),
    ("DELETE", "/api/v1/admin/invitations/:id", "", [401, 403, 403, 403, 428]),
    ("GET", "/api/v1/admin/roles", "", [401, 403, 403, 403, 200]),
    ("POST", "/api/v1/admin/roles", "{}", [401, 403, 403, 403, 400]),
    ("GET", "/api/v1/admin/roles/:name", "", [401, 403, 403, 403, 404]),
    ("PATCH", "/api/v1/admin/roles/:name", "{}", [401, 403, 403, 403, 428]),
    ("DELETE", "/api/v1/admin/roles/:name", "", [401, 403, 403, 403, 428]),
    ("GET", "/api/v1/admin/keys", "", [401, 403, 403, 403, 200]),
    ("POST", "/api/v1/admin/keys/rotate", "{}", [401, 403, 403, 403, 200]),
    ("POST", "/api/v1/admin/keys/:id/ban", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/revocations", "", [401, 403, 403, 403, 200]),
    ("POST", "/api/v1/admin/revocations", "{}", [401, 403, 403, 403, 400]),
    ("GET", "/api/v1/admin/audit", "", [401, 403, 403, 403, 200]),
    ("GET", "/api/v1/admin/mails", "", [401, 403, 403, 403, 200]),
    ("GET", "/api/v1/admin/events", "", [401, 403, 403, 403, 200]),
    ("GET", "/api/v1/admin/webhooks", "", [401, 403, 403, 403, 200]),
    ("POST", "/api/v1/admin/webhooks", "{}", [401, 403, 403, 403, 400]),
    ("GET", "/api/v1/admin/webhooks/:id", "", [401, 403, 403, 403, 404]),
    ("PUT", "/api/v1/admin/webhooks/:id", "{}", [401, 403, 403, 403, 428]),
    ("DELETE", "/api/v1/admin/webhooks/:id", "", [401, 403, 403, 403, 428]),
    ("POST", "/api/v1/admin/webhooks/:id/disable", "", [401, 403, 403, 403, 404]),
    ("POST", "/api/v1/admin/webhooks/:id/enable", "", [401, 403, 403, 403, 404]),
    ("POST", "/api/v1/admin/webhooks/:id/secret", "", [401, 403, 403, 403, 404]),
    ("POST", "/api/v1/admin/webhooks/:id/test", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/webhooks/:id/deliveries", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/webhooks/:id/deliveries/:event", "", [401, 403, 403, 403, 404]),
    ("POST", "/api/v1/admin/webhooks/:id/deliveries/:event/resend", "", [401, 403, 403, 403, 409]),
    ("POST", "/api/v1/auth/register/confirm", "{}", [400; 5]),
    ("POST", "/api/v1/auth/email/verification", "", [401, 403, 403, 403, 403]),
    ("POST", "/api/v1/auth/email/verify", "{}", [400; 5]),
    ("POST", "/api/v1/auth/email/change", "{}", [400; 5]),
    ("POST", "/api/v1/auth/email/change/confirm", "{}", [400; 5]),
    ("POST", "/api/v1/auth/email/change/object", "{}", [400; 5]),
    ("POST", "/api/v1/auth/password/reset/request", "{}", [400; 5]),
    ("POST", "/api/v1/auth/password/reset", "{}", [400; 5]),
    ("GET", "/email/verify", "", [303; 5]),
    ("POST", "/email/verify", "", [400; 5]),
    ("GET", "/email/change", "", [303; 5]),
    ("POST", "/email/change", "", [400; 5]),
    ("GET", "/email/change/confirm", "", [400; 5]),
    ("POST", "/email/change/confirm", "", [400; 5]),
    ("GET", "/email/change/object", "", [400; 5]),
    ("POST", "/email/change/object", "", [400; 5]),
    ("GET", "/password/reset", "", [403; 5]),
    ("POST", "/password/reset", "", [400; 5]),
    ("GET", "/register/confirm", "", [400; 5]),
    ("POST", "/register/confirm", "", [400; 5]),
    ("GET", "/api/v1/admin/service-tokens", "", [401, 403, 403, 403, 200]),
    ("DELETE", "/api/v1/admin/service-tokens/:service", "", [401, 403, 403, 403, 404]),
    ("GET", "/api/v1/admin/explain/:request_id", "", [401, 403, 403, 403, 404]),
    // At the end: it deletes the accounts of those who may, and root is the last administrator.
    ("GET", "/api/v1/account/terms", "", [401, 200, 200, 403, 200]),
    ("POST", "/api/v1/account/terms", r#"{"acceptedTerms":"1"}"#, [401, 409, 409, 403, 409]),
    ("POST", "/api/v1/account/deletion", "", [401, 200, 200, 403, 409]),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http")
}

/// The paths that the sources of the server name as routes, and the number of those that are not
/// literals.
fn routes_in(folder: &Path) -> (BTreeSet<String>, usize) {
    let (mut named, mut computed) = (BTreeSet::new(), 0);
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let (more, others) = routes_in(&path);
            named.extend(more);
            computed += others;
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for call in [".at(", ".page(", ".any_method(", ".nest("] {
            for (at, _) in code.match_indices(call) {
                match code[at + call.len()..].trim_start().strip_prefix('"') {
                    Some(rest) => {
                        named.insert(rest.split('"').next().unwrap_or_default().to_owned());
                    }
                    None => computed += 1,
                }
            }
        }
    }
    (named, computed)
}

async fn administrator(server: &TestServer) {
    let user = users::find(&server.app, "root").await.expect("known");
    users::set_role(&server.app, &user.id, Role::admin(), &Actor::operator())
        .await
        .expect("changed");
    // Tokens issued in the second of a role change count as old.
    server.clock.advance(std::time::Duration::from_secs(2));
}

/// A new token of a caller.
async fn token(server: &TestServer, caller: &str) -> Option<String> {
    match caller {
        "" => None,
        "app" => {
            let fields = [("grant_type", "client_credentials")];
            let reply = server.form_as("/oauth2/token", "app", &fields).await;
            Some(reply.field("access_token"))
        }
        name => Some(server.login(name).await.tokens().access),
    }
}

fn call(server: &TestServer, (method, path, body): (&str, &str, &str)) -> RequestBuilder {
    let method = method.parse::<Method>().expect("a method");
    let request = server.request(method, &path.replace("*request", "-/request"));
    match body {
        "" => request,
        json if json.starts_with('{') => {
            request.header("content-type", "application/json").body(json.to_owned())
        }
        form => request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned()),
    }
}

#[track_caller]
fn assert_no_cors(reply: &Reply, what: &str) {
    let allowing = reply.headers.keys().find(|name| name.as_str().starts_with("access-control-"));
    assert_eq!(allowing, None, "{what}: {reply:?}");
}

backend_tests! {
    t82_every_endpoint_answers_every_caller_per_the_table,
}

async fn t82_every_endpoint_answers_every_caller_per_the_table(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    server.register("bob").await;
    server.register("root").await;
    administrator(&server).await;
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    let mut wrong = vec![];
    for (method, path, body, expected) in TABLE {
        for (caller, expected) in CALLERS.iter().zip(expected) {
            let mut request = call(&server, (method, path, body));
            if let Some(token) = token(&server, caller).await {
                request = request.bearer_auth(token);
            }
            let reply = send(request).await;
            if reply.status.as_u16() != *expected {
                wrong.push(format!(
                    "{method} {path} as {caller:?}: {} and not {expected}",
                    reply.status
                ));
            }
            let sees_all = *caller == "root" && path.starts_with("/api/v1/admin/");
            if *caller != "ann" && !sees_all {
                assert!(
                    !reply.text.contains(ann.as_str()),
                    "{method} {path} reveals ann to {caller:?}: {reply:?}"
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t82_the_endpoint_table_is_complete() {
    let server = TestServer::start(Backend::Sqlite).await;
    let mut table: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (method, path, ..) in TABLE {
        table.entry(path).or_default().insert(method);
    }
    let (mut named, computed) = routes_in(&source());
    assert_eq!(
        computed, 11,
        "the files of pages and of an operator, those of /docs, the declared operations and the table's own calls are routes without a written \
         path; another one belongs into this test"
    );
    let document = server.get("/openapi.json").await.json();
    named.extend(
        document["paths"]
            .as_object()
            .expect("paths")
            .keys()
            .map(|path| path.replace('{', ":").replace('}', "")),
    );
    let known: BTreeSet<String> = table.keys().map(|path| (*path).to_owned()).collect();
    assert_eq!(named, known, "the table lists the routes of the server");
    let unknown = Method::from_bytes(b"BREW").expect("a method");
    for (path, methods) in table {
        if path.starts_with("/forward-auth") {
            let reply = send(call(&server, ("PATCH", path, ""))).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{path}");
            continue;
        }
        let reply = send(server.request(unknown.clone(), path)).await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        let allowed: BTreeSet<&str> = reply.header("allow").split(", ").collect();
        let allowed: BTreeSet<&str> =
            allowed.into_iter().filter(|name| !["HEAD", "OPTIONS"].contains(name)).collect();
        assert_eq!(allowed, methods, "{path}");
    }
}

backend_tests! {
    t84_cors_covers_client_endpoints_and_never_cookies,
    t89_identity_headers_have_no_effect,
}

async fn t84_cors_covers_client_endpoints_and_never_cookies(backend: Backend) {
    let metadata = Metadata {
        grant_types: vec![GrantType::AuthorizationCode, GrantType::ClientCredentials],
        allowed_origins: vec!["https://spa.example".to_owned()],
        ..first_party_app()
    };
    let server = with_app(backend, metadata).await;
    let ann = server.logged_in("ann").await;
    let cookies: Vec<String> =
        ann.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut opened = BTreeSet::new();
    for (method, path, body, _) in TABLE {
        for origin in [
            "https://evil.example",
            "null",
            "https://app.example.evil.example",
            "http://app.example",
            "https://spa.example.evil.example",
            "https://app.example",
            "https://spa.example",
        ] {
            let preflight = server
                .request(Method::OPTIONS, path)
                .header("access-control-request-method", *method)
                .header("access-control-request-headers", "authorization");
            for request in [call(&server, (method, path, body)), preflight] {
                let reply =
                    send(request.header("origin", origin).header("cookie", cookies.join("; ")))
                        .await;
                let what = format!("{method} {path} from {origin}");
                assert_eq!(
                    reply.headers.get("access-control-allow-credentials"),
                    None,
                    "{what}: {reply:?}"
                );
                let allowed = reply.header("access-control-allow-origin").to_owned();
                match allowed.as_str() {
                    "" => assert_no_cors(&reply, &what),
                    // Endpoints that everyone may read or, while registration is open, call.
                    "*" => assert!(
                        path.starts_with("/.well-known/")
                            || ["/oauth2/jwks", "/oauth2/register"].contains(path),
                        "{what}"
                    ),
                    named => {
                        assert_eq!(named, origin, "{what}");
                        assert!(
                            ["https://app.example", "https://spa.example"].contains(&origin),
                            "{what}: {reply:?}"
                        );
                        assert_eq!(reply.header("vary"), "origin", "{what}");
                        opened.insert(*path);
                    }
                }
            }
        }
    }
    assert_eq!(
        opened,
        BTreeSet::from([
            "/oauth2/device_authorization",
            "/oauth2/par",
            "/oauth2/revoke",
            "/oauth2/token",
            "/oauth2/userinfo",
        ])
    );
}

async fn t89_identity_headers_have_no_effect(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    server.register("bob").await;
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    let names = [
        "X-User",
        "X_User",
        "X-User-Id",
        "X-Forwarded-User",
        "X_Forwarded_User",
        "X-Auth-Request-User",
        "X_Auth_Request_User",
        "X-Auth-Request-Email",
        "X-Propusk-User",
        "X_Propusk_User",
        "Remote-User",
        "Remote_User",
        "REMOTE_USER",
        "X-Remote-User",
        "X-Authenticated-User",
        "X-WEBAUTH-USER",
        "X-Userinfo",
        "X-Access-Token",
        "X_Access_Token",
        "X-Forwarded-Access-Token",
        "X_Authorization",
        "Proxy-Authorization",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-Role",
        "X-Propusk-Role",
    ];
    let bob = server.login("bob").await.tokens();
    let ann_token = server.login("ann").await.tokens();
    for name in names {
        for value in [
            ann.as_str(),
            "ann",
            "ann@example.org",
            "admin",
            "/api/v1/auth/session",
            &ann_token.access,
            &format!("Bearer {}", ann_token.access),
        ] {
            let with = |request: RequestBuilder| send(request.header(name, value));
            with(server.request(Method::GET, "/api/v1/auth/verify"))
                .await
                .expect_error(401, "INVALID_TOKEN");
            with(server.request(Method::GET, "/oauth2/userinfo"))
                .await
                .expect(StatusCode::UNAUTHORIZED);
            let anonymous = with(server.request(Method::GET, "/api/v1/auth/session"))
                .await
                .expect(StatusCode::OK);
            assert!(anonymous.json()["data"].is_null(), "{name}: {anonymous:?}");
            let reply = with(server.request(
                Method::GET,
                &AuthorizationRequest::of("app", "openid").with("prompt", "none").path(),
            ))
            .await;
            AuthorizationResponse::of(reply.header("location")).expect_error("login_required");
            let response =
                with(server.request(Method::GET, "/api/v1/auth/verify").bearer_auth(&bob.access))
                    .await
                    .expect(StatusCode::OK);
            assert!(
                !response.text.contains(ann.as_str())
                    && response.text.contains("\"role\":\"user\""),
                "{name}: {response:?}"
            );
        }
        let form = [("grant_type", "client_credentials"), ("client_id", "app")];
        send(server.request(Method::POST, "/oauth2/token").header(name, "app").form(&form))
            .await
            .expect_oauth_error(400, "invalid_client");
    }
    // A cookie counts by its exact name only.
    let cookie = server.logged_in("ann").await.cookies["propusk_session"].clone();
    for name in [
        "Propusk_session",
        "propusk-session",
        "__Host-propusk_session",
        "xpropusk_session",
        "session",
    ] {
        let mut browser = server.browser();
        browser.cookies.insert(name.to_owned(), cookie.clone());
        let reply = browser
            .open(&AuthorizationRequest::of("app", "openid").with("prompt", "none").path())
            .await;
        AuthorizationResponse::of(reply.header("location")).expect_error("login_required");
    }
    server
        .post("/api/v1/auth/login", serde_json::json!({ "login": "ann", "password": PASSWORD }))
        .await
        .expect(StatusCode::OK);
}
