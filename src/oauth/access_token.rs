//! JWT access tokens (RFC 9068). josekit creates and verifies signatures; which claims are
//! required, their types and their values are checked here.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    ids::{ClientId, SessionId, UserId},
    oauth::{
        jwt::InvalidToken,
        scope::Scope,
        thumbprint::{Confirmation, Thumbprint},
    },
};

/// Accepted clock skew between processes of this server, in seconds.
const CLOCK_SKEW: i64 = 30;

/// The claims of an access token (RFC 9068 §2.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    pub iss: String,
    pub sub: String,
    pub aud: Audience,
    /// Seconds since the epoch, as `exp` and `auth_time`.
    pub iat: i64,
    pub exp: i64,
    pub jti: String,
    pub client_id: ClientId,
    /// Absent where it is empty (RFC 6749 §3.3).
    #[serde(default, skip_serializing_if = "Scope::is_empty")]
    pub scope: Scope,
    /// The session id (OpenID Connect Front-Channel Logout §3); absent for client credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// How the user has logged in (RFC 9068 §2.2.1, RFC 9470 §6); absent where nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Beside `email` (OpenID Connect Core §5.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_verified: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The user's modules at the audience of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modules: Option<Vec<String>>,
    /// The user's id where the token was issued to a first-party client; a back end's own id of the
    /// user where it keeps the user itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Who acts for the subject (RFC 8693 §4.1); absent: the subject itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<ActorClaim>,
    /// The only party that may act for the subject by token exchange (RFC 8693 §4.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_act: Option<MayAct>,
    /// The tokens that this one was exchanged for, the nearest first: it is revoked with each of
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derived_from: Vec<Origin>,
    /// The key that it is bound to (RFC 9449 §6.1); absent for a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
}

/// A party that acts for the subject of a token, and those that acted before it (RFC 8693 §4.1).
/// Only the outermost one counts for access decisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorClaim {
    /// The issuer that `sub` is from; absent: the issuer of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    pub sub: String,
    /// The client that presented the actor's token, unless `sub` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Self>>,
}

impl ActorClaim {
    /// The actors of the chain, the current one first.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |one| one.act.as_deref())
    }
}

/// Who may act (RFC 8693 §4.4). With a member that is unknown here nobody is known to be named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MayAct {
    /// The issuer that `sub` is from; absent: the issuer of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    pub sub: String,
}

/// What a token that was exchanged can be revoked by, beside its session and its subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Absent for an ID token, which has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    pub iat: i64,
    pub client_id: ClientId,
    pub kid: String,
}

/// `aud`: one audience or several (RFC 7519 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    /// The audience in this order; a single name becomes a string, as many consumers expect.
    pub fn of(mut names: Vec<String>) -> Self {
        if names.len() == 1 { Self::One(names.swap_remove(0)) } else { Self::Several(names) }
    }

    /// The audiences, in order.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }

    /// Whether the name is one of the audiences.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Several(several) => several.iter().any(|one| one == name),
        }
    }
}

/// The claims of a new token, except `iat`, `exp` and `jti`.
#[derive(Debug)]
pub struct NewAccessToken<'a> {
    pub issuer: &'a str,
    pub audience: Audience,
    pub subject: &'a str,
    pub client_id: &'a ClientId,
    pub scope: Scope,
    pub session: Option<&'a SessionId>,
    pub auth_time: Option<Timestamp>,
    pub acr: Option<&'a str>,
    pub amr: &'a [String],
    /// The email address, and whether it is verified.
    pub email: Option<(&'a str, bool)>,
    pub role: Option<&'a str>,
    pub modules: Option<Vec<String>>,
    pub user_id: Option<&'a str>,
    /// An upper bound of `exp`.
    pub until: Option<Timestamp>,
    /// The key that it is bound to; `None`: a bearer token.
    pub key: Option<Thumbprint>,
}

impl AccessClaims {
    /// The user, where the token acts for a whole account: the `sub` is the user's id then.
    pub fn account_user(&self) -> UserId {
        UserId::from(self.sub.as_str())
    }

    /// The claims of a token issued now.
    pub fn new(
        new: NewAccessToken<'_>,
        jti: String,
        now: Timestamp,
        ttl: std::time::Duration,
    ) -> Self {
        Self {
            iss: new.issuer.to_owned(),
            sub: new.subject.to_owned(),
            aud: new.audience,
            iat: now.as_secs(),
            exp: new.until.map_or(now + ttl, |until| until.min(now + ttl)).as_secs(),
            jti,
            client_id: new.client_id.to_owned(),
            scope: new.scope,
            sid: new.session.cloned(),
            auth_time: new.auth_time.map(Timestamp::as_secs),
            acr: new.acr.map(str::to_owned),
            amr: new.amr.to_vec(),
            email: new.email.map(|(email, _)| email.to_owned()),
            email_verified: new.email.map(|(_, is_verified)| is_verified),
            role: new.role.map(str::to_owned),
            modules: new.modules,
            user_id: new.user_id.map(str::to_owned),
            act: None,
            may_act: None,
            derived_from: vec![],
            cnf: new.key.map(|jkt| Confirmation { jkt }),
            nbf: None,
        }
    }

    /// The user the token is about; `None` for a client that acts for itself (RFC 9068 §2.2: `sub`
    /// is the client then).
    pub fn user(&self) -> Option<&str> {
        (self.sid.is_some() || self.sub != self.client_id.as_str()).then_some(self.sub.as_str())
    }

    /// Validates the audience (RFC 9068 §4).
    ///
    /// # Errors
    /// If the token is for another audience.
    pub fn check_audience(&self, audience: &str) -> Result<(), InvalidToken> {
        if self.aud.contains(audience) { Ok(()) } else { Err(InvalidToken("audience mismatch")) }
    }

    /// Validates every claim but the audience (RFC 9068 §4).
    ///
    /// # Errors
    /// The first violated rule.
    pub fn check(&self, issuer: &str, now: Timestamp) -> Result<(), InvalidToken> {
        let now = now.as_secs();
        if self.iss != issuer {
            return Err(InvalidToken("issuer mismatch"));
        }
        if self.exp <= now {
            return Err(InvalidToken("token expired"));
        }
        if self.iat > now.saturating_add(CLOCK_SKEW)
            || self.nbf.is_some_and(|nbf| nbf > now.saturating_add(CLOCK_SKEW))
        {
            return Err(InvalidToken("token not valid yet"));
        }
        if self.sub.is_empty() || self.jti.is_empty() || self.client_id.is_empty() {
            return Err(InvalidToken("`sub`, `jti` and `client_id` must not be empty"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;
    use crate::oauth::jwt::{TokenType, Unverified, encoded_header};

    fn claims(text: &str) -> Result<AccessClaims, InvalidToken> {
        let header = encoded_header("ES256", "k", TokenType::Access);
        let token = format!("{header}{}.AAAA", URL_SAFE_NO_PAD.encode(text));
        Unverified::parse(&token, TokenType::Access)?.claims()
    }

    const VALID: &str =
        r#"{"iss":"i","sub":"s","aud":"a","iat":1,"exp":100,"jti":"j","client_id":"c","scope":""}"#;

    #[test]
    fn t48_token_dates_must_be_integers_in_range() {
        assert!(claims(VALID).is_ok());
        for bad in [
            "\"100\"",
            "9.3e18",
            "1e300",
            "-1e300",
            "null",
            "100.5",
            "9223372036854775808",
            "[100]",
        ] {
            let text = VALID.replace("\"exp\":100", &format!("\"exp\":{bad}"));
            assert!(claims(&text).is_err(), "{text}");
            let text = VALID.replace("\"exp\":100", &format!("\"exp\":100,\"nbf\":{bad}"));
            assert!(claims(&text).is_err() || bad == "null", "{text}");
        }
        for missing in ["\"exp\":100,", "\"aud\":\"a\",", "\"iss\":\"i\",", "\"sub\":\"s\","] {
            assert!(claims(&VALID.replace(missing, "")).is_err(), "{missing}");
        }
        let negative = claims(&VALID.replace("100", "-9223372036854775808")).expect("a number");
        assert!(negative.check("i", Timestamp(0)).is_err());
        let huge = claims(&VALID.replace("100", "9223372036854775807")).expect("a number");
        assert!(huge.check("i", Timestamp(i64::MAX)).is_ok(), "no arithmetic overflows");
    }

    #[test]
    fn a_token_is_valid_for_its_issuer_audience_and_time_only() {
        let token = claims(VALID).expect("valid");
        let at = |secs| Timestamp::from_secs(secs).expect("fits");
        assert_eq!(token.check("i", at(99)), Ok(()));
        assert!(token.check("x", at(99)).is_err());
        assert!(token.check_audience("a").is_ok());
        assert!(token.check_audience("x").is_err());
        assert!(token.check("i", at(100)).is_err());
        assert!(token.check("i", at(-30)).is_err());
    }
}
