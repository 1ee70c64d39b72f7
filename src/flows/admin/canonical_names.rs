//! Canonical forms that were stored under earlier rules, or by an earlier version of Unicode.

use serde_json::json;

use crate::{
    app::App,
    error::Error,
    ids::UserId,
    model::{actor::Actor, user::Login},
    storage::{self, Conflict, users},
};

/// Users read at a time.
const PAGE: i64 = 500;

/// A name that is the same as another user's by today's rules.
#[derive(Debug)]
pub struct Collision {
    pub user_id: UserId,
    /// The email address or username.
    pub name: String,
    /// The user who has the canonical form.
    pub other_id: UserId,
}

/// What [`renew`] did.
#[derive(Debug, Default)]
pub struct Report {
    pub changed: usize,
    /// Left as they were: their users cannot log in with these names.
    pub collisions: Vec<Collision>,
}

/// Stores today's canonical form of every email address and username.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn renew(app: &App, actor: &Actor) -> Result<Report, Error> {
    let mut report = Report::default();
    let mut after = UserId::default();
    loop {
        let page = users::login_names(&app.db, &after, PAGE).await?;
        for user in &page {
            let email = (Some(&user.email), Some(&user.email_canonical));
            let username = (user.username.as_ref(), user.username_canonical.as_ref());
            for (name, stored) in [email, username] {
                let Some(name) = name else { continue };
                let canonical = Login::parse(name);
                if stored.is_some_and(|stored| stored == canonical.as_str()) {
                    continue;
                }
                match set(app, &user.id, name, &canonical, actor).await {
                    Ok(()) => report.changed += 1,
                    Err(storage::Error::Conflict(Conflict::Email | Conflict::Username)) => {
                        let other = users::by_login(&app.db, &canonical).await?;
                        report.collisions.push(Collision {
                            user_id: user.id.clone(),
                            name: name.clone(),
                            other_id: other.map(|other| other.user.id).unwrap_or_default(),
                        });
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        match page.last() {
            Some(last) => after.clone_from(&last.id),
            None => return Ok(report),
        }
    }
}

async fn set(
    app: &App,
    id: &UserId,
    name: &str,
    canonical: &Login,
    actor: &Actor,
) -> storage::Result<()> {
    let mut tx = app.begin(actor).await?;
    let stored = async {
        users::set_canonical(&mut tx, id, name, canonical).await?;
        tx.audit("user.canonicalize", Some(id), json!({})).await
    };
    match stored.await {
        Ok(()) => tx.commit().await,
        Err(error) => tx.rollback().await.and(Err(error)),
    }
}
