//! The first start: creates an administrator, whose password is read from a file or generated, and
//! on loopback a demo client.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::{
    app::App,
    error::{self, Error},
    flows::admin::users,
    ids::ClientId,
    model::{
        actor::Actor,
        client::{Client, GrantType, Metadata, Secret, Source},
        user::{Email, Role},
    },
    oauth::scope::Scope,
    storage::{self, clients, users as rows, users::NewUser},
};

/// What the first start has created. The secrets are shown once and stored as hashes only.
#[derive(Debug)]
pub struct FirstStart {
    pub admin_email: String,
    /// `None`: it is the one of `bootstrap.admin_password_file`.
    pub generated_password: Option<String>,
    /// The demo client's id and secret.
    pub demo_client: Option<(ClientId, String)>,
}

/// Bootstraps a deployment, once in its life: deleting the administrator does not allow it again.
/// `None` where it was done before.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn set_up(app: &App) -> Result<Option<FirstStart>, Error> {
    if rows::is_bootstrapped(&app.db).await? {
        return Ok(None);
    }
    let now = app.clock.now();
    let secret = || URL_SAFE_NO_PAD.encode(app.rng.bytes::<18>());
    let given = given_password(app).await?;
    let generated_password = given.is_none().then(secret);
    let admin_password = given.or_else(|| generated_password.clone()).unwrap_or_default();
    let email = Email::parse(&app.config.bootstrap.admin_email)
        .map_err(|why| Error::NotCreated(format!("bootstrap.admin_email: {why}").into()))?;
    let admin_email = email.address.clone();
    let admin = NewUser {
        id: app.new_id().into(),
        email,
        username: None,
        password_hash: app.hasher.hash(&admin_password, &app.rng).await?,
        role: Role::admin(),
    };
    let demo_secret = secret();
    let demo = (app.config.bootstrap.demo_client && app.config.is_local()).then(|| Client {
        id: "demo".into(),
        source: Source::Operator,
        secrets: vec![Secret { hash: Sha256::digest(&demo_secret).to_vec(), expires_at: None }],
        metadata: Metadata {
            client_name: "Demo".to_owned(),
            scope: Scope::parse("openid profile email offline_access demo:read demo:write")
                .unwrap_or_default(),
            redirect_uris: vec!["http://127.0.0.1/callback".to_owned()],
            grant_types: vec![
                GrantType::AuthorizationCode,
                GrantType::RefreshToken,
                GrantType::ClientCredentials,
            ],
            ..Metadata::default()
        },
        registration_token_hash: None,
        created_at: now,
        updated_at: now,
        expires_at: None,
        disabled_at: None,
    });
    let demo_client = demo.as_ref().map(|demo| (demo.id.clone(), demo_secret));
    let is_first = store(app, admin, demo).await?;
    Ok(is_first.then_some(FirstStart { admin_email, generated_password, demo_client }))
}

/// The first line of `bootstrap.admin_password_file`.
async fn given_password(app: &App) -> Result<Option<String>, Error> {
    let Some(path) = &app.config.bootstrap.admin_password_file else {
        return Ok(None);
    };
    let refused = |why: String| {
        let (key, path) = ("bootstrap.admin_password_file", path.display());
        Error::NotCreated(format!("{key} ({path}): {why}").into())
    };
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let password = text.lines().next().unwrap_or_default().to_owned();
    let about = [app.config.bootstrap.admin_email.as_str()];
    match app.hasher.check(&app.policy, &password, &about).await? {
        Ok(()) => Ok(Some(password)),
        Err(reasons) => Err(refused(error::joined(reasons))),
    }
}

/// Closes the bootstrap and stores what it has created; `false` where a process that started at the
/// same moment was first.
async fn store(app: &App, admin: NewUser, demo: Option<Client>) -> Result<bool, Error> {
    let mut tx = app.begin(&Actor::operator()).await?;
    let now = tx.now();
    match rows::mark_bootstrapped(&mut tx, now).await {
        Err(storage::Error::Conflict(_)) => return Ok(false),
        closed => closed?,
    }
    match users::insert(&mut tx, admin, "set_up").await {
        Err(Error::EmailTaken) => return Ok(false),
        inserted => inserted?,
    };
    if let Some(demo) = demo {
        match clients::insert(&mut tx, &demo).await {
            Err(storage::Error::Conflict(_)) => return Ok(false),
            inserted => inserted?,
        }
    }
    tx.commit().await?;
    Ok(true)
}
