//! The one rule for passwords, wherever one is set: by users, administrators, services and the
//! command line.

use crate::{
    app::App,
    error::{Error, FieldError},
};

/// What is wrong with a password for the user of these names (email address, username): nothing, or
/// an error of the field `password` for each violated rule.
///
/// # Errors
/// [`Error::Overloaded`].
pub(crate) async fn check(
    app: &App,
    password: &str,
    names: &[&str],
) -> Result<Vec<FieldError>, Error> {
    // A longer one is not a valid name.
    let names: Vec<&str> =
        names.iter().map(|name| name.trim()).filter(|name| name.len() <= 1024).collect();
    let checked = app.hasher.check(&app.policy, password, &names).await?;
    let refuse = |message| FieldError { field: "password", message };
    Ok(checked.err().into_iter().flatten().map(refuse).collect())
}
