//! Claims about the user: those of OpenID Connect Core §5.1 that the scope or the `claims`
//! parameter requests.

use serde_json::{Map, Value};

use crate::{
    model::{
        client::{Client, UserClaim},
        session::{Profile, SessionDetails},
    },
    oauth::{claims_request::ClaimsRequest, scope::Scope},
};

/// The claims about a user that are supported, for the discovery document.
pub const NAMES: [&str; 3] = ["email", "email_verified", "preferred_username"];

/// The scope that covers a claim (Core §5.4): a client that may not request the scope cannot
/// request the claim either.
pub fn covering(claim: &str) -> Option<&'static str> {
    match claim {
        "email" | "email_verified" => Some("email"),
        "preferred_username" => Some("profile"),
        _ => None,
    }
}

/// Where claims are returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Those the scope covers, and those requested individually.
    UserInfo,
    /// Only those requested individually: the rest is at the UserInfo endpoint (Core §5.4), unless
    /// the client has registered `claims_in_id_token`.
    IdToken,
}

/// Role and modules of a user, for the clients that an operator grants these claims.
pub fn standing(client: &Client, user: &Profile<'_>, modules: &[String]) -> Map<String, Value> {
    let mut claims = Map::new();
    for claim in &client.metadata.user_claims {
        let (name, value) = match claim {
            UserClaim::Role => ("role", user.role.map(Value::from)),
            UserClaim::Modules => ("modules", Some(modules.into())),
        };
        claims.extend(value.map(|value| (name.to_owned(), value)));
    }
    claims
}

/// The claims about a user, without `sub`, as far as the client may still request them.
pub fn of(
    client: &Client,
    user: &Profile<'_>,
    scope: &Scope,
    details: &SessionDetails,
    place: Place,
) -> Map<String, Value> {
    let asked = |request: &ClaimsRequest, name: &str| match place {
        Place::UserInfo => request.userinfo.contains_key(name),
        Place::IdToken => request.id_token.contains_key(name),
    };
    let wanted = |name: &str, by: &str| {
        let one_by_one = details.claims.as_ref().is_some_and(|c| asked(c, name))
            && client.metadata.scope.contains(by);
        let by_scope = place == Place::UserInfo || client.metadata.claims_in_id_token;
        one_by_one || (by_scope && scope.contains(by))
    };
    let mut claims = Map::new();
    if let Some((email, is_verified)) = user.email {
        if wanted("email", "email") {
            claims.insert("email".to_owned(), email.into());
        }
        if wanted("email_verified", "email") {
            claims.insert("email_verified".to_owned(), is_verified.into());
        }
    }
    if let Some(name) = user.username.filter(|_| wanted("preferred_username", "profile")) {
        claims.insert("preferred_username".to_owned(), name.into());
    }
    claims
}
