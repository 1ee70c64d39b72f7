//! `/admin`: the state of the server.

use poem::{Response, Result, handler};

use super::{Admin, Content};
use crate::{
    error::Error,
    flows::readiness,
    http::views::{AdminSection, Block, Cell, Facts},
};

/// Shows whether the server can do its work.
#[handler]
pub async fn show(admin: Admin) -> Result<Response> {
    let ready = match readiness::check(&admin.app).await {
        Ok(()) => Cell::good(admin.text("admin-ready-yes")),
        Err(error) => {
            let reason = match error {
                Error::Unavailable(cause) => cause.to_string(),
                other => other.to_string(),
            };
            Cell::bad(admin.t.with("admin-ready-no", &[("reason", reason.as_str())]))
        }
    };
    let facts = vec![
        (admin.text("admin-ready"), ready),
        (admin.text("admin-version"), Cell::Text(env!("CARGO_PKG_VERSION").to_owned())),
        (admin.text("admin-issuer"), Cell::Code(admin.app.config.server.issuer.clone())),
    ];
    admin.show(Content {
        section: AdminSection::Overview,
        title: admin.text("admin-title"),
        above: vec![],
        blocks: vec![Block::Facts(Facts { heading: Some(admin.text("admin-server")), facts })],
    })
}
