//! Conversions to the messages of `proto/`.

use super::proto::v1;
use crate::{
    clock::Timestamp,
    flows::oauth::{introspect::Introspection, token::TokenResponse},
    model::{revocation::WireRevocation, user::UserRecord},
    oauth::access_token::Audience,
};

impl From<TokenResponse> for v1::TokenResponse {
    fn from(issued: TokenResponse) -> Self {
        let seconds = |seconds| i64::try_from(seconds).unwrap_or(i64::MAX);
        let (session_id, refresh_expires_in) =
            issued.session.map(|one| (one.id, one.refresh_expires_in)).unwrap_or_default();
        Self {
            access_token: issued.access_token,
            refresh_token: issued.refresh_token,
            expires_in: seconds(issued.expires_in),
            scope: issued.scope.to_string(),
            id_token: issued.id_token,
            session_id: session_id.into(),
            refresh_expires_in: seconds(refresh_expires_in),
        }
    }
}

impl From<Introspection> for v1::ValidateResponse {
    fn from(introspection: Introspection) -> Self {
        let Some(facts) = introspection.facts else {
            return Self::default();
        };
        Self {
            active: true,
            iss: facts.iss,
            sub: facts.sub,
            aud: match facts.aud {
                Some(Audience::One(one)) => vec![one],
                Some(Audience::Several(several)) => several,
                None => vec![],
            },
            client_id: facts.client_id.into(),
            scope: facts.scope.unwrap_or_default(),
            token_type: facts.token_type.unwrap_or_default().to_owned(),
            iat: facts.iat,
            exp: facts.exp,
            jti: facts.jti.unwrap_or_default(),
            sid: facts.sid.unwrap_or_default().into(),
            auth_time: facts.auth_time,
            user_id: facts.user_id.unwrap_or_default(),
            email: facts.email.unwrap_or_default(),
            email_verified: facts.email_verified,
            role: facts.role.unwrap_or_default(),
            modules: facts.modules.unwrap_or_default(),
            cnf_jkt: facts.cnf.map(|bound| bound.jkt.to_string()).unwrap_or_default(),
        }
    }
}

impl From<&WireRevocation> for v1::Entry {
    fn from(entry: &WireRevocation) -> Self {
        use v1::entry::Target;
        let id = entry.id.clone();
        let issued_until = entry.issued_until.unwrap_or_default();
        let target = match entry.kind.as_str() {
            "token" => Some(Target::Token(id)),
            "session" => Some(Target::Session(id)),
            "subject" => Some(Target::Subject(v1::IssuedUntil { id, issued_until })),
            "scope" => Some(Target::SubjectScope(v1::SubjectScope {
                subject: id,
                scope: entry.scope.clone().unwrap_or_default(),
                issued_until,
            })),
            "client" => Some(Target::Client(v1::IssuedUntil { id, issued_until })),
            "key" => Some(Target::Key(id)),
            // A reader must treat an unknown target as matching every token.
            _ => None,
        };
        Self { target, expires_at: entry.expires_at }
    }
}

impl From<UserRecord> for v1::User {
    fn from(UserRecord { user, external_id, .. }: UserRecord) -> Self {
        Self {
            id: user.id.into(),
            email: user.email,
            username: user.username,
            role: user.role.as_str().to_owned(),
            is_verified: user.is_verified,
            created_at: Some(timestamp(user.created_at)),
            disabled_at: user.disabled_at.map(timestamp),
            external_id,
        }
    }
}

fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    const MICROS_PER_SECOND: i64 = 1_000_000;
    let micros = at.micros().rem_euclid(MICROS_PER_SECOND);
    prost_types::Timestamp {
        seconds: at.micros().div_euclid(MICROS_PER_SECOND),
        nanos: i32::try_from(micros * 1_000).unwrap_or_default(),
    }
}
