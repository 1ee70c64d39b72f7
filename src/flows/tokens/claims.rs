//! What a client learns about a person: the claims of OpenID Connect Core §5.1 that the scope or the `claims` parameter
//! asks for.

use serde_json::{Map, Value};

use crate::{
    model::{
        client::{Client, UserClaim},
        session::SessionDetails,
        user::User,
    },
    oauth::{claims_request::ClaimsRequest, scope::Scope},
};

/// Every claim about a person that there is, for the discovery document.
pub const NAMES: [&str; 3] = ["email", "email_verified", "preferred_username"];

/// The scope that covers a claim (Core §5.4): whoever may not have the one gets the other in no other way either.
pub fn covering(claim: &str) -> Option<&'static str> {
    match claim {
        "email" | "email_verified" => Some("email"),
        "preferred_username" => Some("profile"),
        _ => None,
    }
}

/// Where claims are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// What the scope covers, and what was asked for one by one.
    UserInfo,
    /// Only what was asked for one by one: the rest is fetched from the UserInfo endpoint (Core §5.4).
    IdToken,
}

/// How a person stands here, for the clients that an operator lets know.
pub fn standing(client: &Client, user: &User, modules: &[String]) -> Map<String, Value> {
    let mut claims = Map::new();
    for claim in &client.metadata.user_claims {
        match claim {
            UserClaim::Role => claims.insert("role".to_owned(), user.role.as_str().into()),
            UserClaim::Modules => claims.insert("modules".to_owned(), modules.into()),
        };
    }
    claims
}

/// The claims about a person, `sub` not among them, as far as the client may still ask for them.
pub fn of(
    client: &Client,
    user: &User,
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
        one_by_one || (place == Place::UserInfo && scope.contains(by))
    };
    let mut claims = Map::new();
    if wanted("email", "email") {
        claims.insert("email".to_owned(), user.email.clone().into());
    }
    if wanted("email_verified", "email") {
        claims.insert("email_verified".to_owned(), user.is_verified.into());
    }
    if let Some(name) = user.username.as_ref().filter(|_| wanted("preferred_username", "profile")) {
        claims.insert("preferred_username".to_owned(), name.clone().into());
    }
    claims
}
