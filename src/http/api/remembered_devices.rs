//! `/api/v1/account/remembered-devices`: where the current user is not asked for the second factor.

use poem_openapi::{Object, OpenApi, param::Path, types::Example};
use serde::{Deserialize, Serialize};

use super::{Tag, data::Nothing};
use crate::{
    clock::Timestamp,
    flows::accounts::remembered_devices,
    http::{
        context::Context,
        failure::{Failure, codes},
        json::Answer,
        security::Credentials,
    },
    model::{device, user_agent::Device},
};

#[derive(Debug)]
pub struct RememberedDevicesApi;

/// A browser in which a user is not asked for the second factor.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct RememberedDevice {
    pub id: String,
    /// The browser as it named itself; null if it is not a known one.
    pub browser: Option<String>,
    /// The system as the browser named it.
    pub system: Option<String>,
    /// When the user chose it (RFC 3339, UTC).
    pub created_at: String,
    /// When it last took the place of the second factor (RFC 3339, UTC).
    pub last_used_at: Option<String>,
    /// When the second factor is asked for again (RFC 3339, UTC).
    pub expires_at: String,
}

impl From<device::RememberedDevice> for RememberedDevice {
    fn from(remembered: device::RememberedDevice) -> Self {
        let device = Device::of(remembered.user_agent.as_deref());
        Self {
            id: remembered.id,
            browser: device.browser.map(str::to_owned),
            system: device.system.map(str::to_owned),
            created_at: remembered.created_at.rfc3339(),
            last_used_at: remembered.last_used_at.map(Timestamp::rfc3339),
            expires_at: remembered.expires_at.rfc3339(),
        }
    }
}

impl Example for RememberedDevice {
    fn example() -> Self {
        Self {
            id: "01a1fca5-0ae5-741a-b136-32b4b1af948e".to_owned(),
            browser: Some("Firefox".to_owned()),
            system: Some("Linux".to_owned()),
            created_at: "2026-11-20T18:04:00Z".to_owned(),
            last_used_at: Some("2026-11-21T09:30:00Z".to_owned()),
            expires_at: "2026-12-20T18:04:00Z".to_owned(),
        }
    }
}

codes!(ListErrors: InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(ForgetErrors: InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout, TooManyRequests,
    Internal, Unavailable);

#[OpenApi(prefix_path = "/api/v1/account/remembered-devices", tag = "Tag::Authentication")]
impl RememberedDevicesApi {
    /// List remembered devices
    ///
    /// The browsers in which the current user has chosen not to be asked for the second factor, the
    /// newest first. Logins of the JSON API always ask.
    #[oai(path = "/", method = "get", operation_id = "listRememberedDevices")]
    async fn list(
        &self,
        context: Context,
        credentials: Credentials,
    ) -> Result<Answer<Vec<RememberedDevice>>, Failure<ListErrors>> {
        let user_id = credentials.account(&context.app).await?.claims.account_user();
        let devices = remembered_devices::of_user(&context.app, &user_id).await?;
        let data = devices.into_iter().map(From::from).collect();
        Ok(Answer::new("Remembered devices listed.", data))
    }

    /// Forget a remembered device
    ///
    /// The next login there asks for the second factor.
    #[oai(path = "/:id", method = "delete", operation_id = "forgetRememberedDevice")]
    async fn forget(
        &self,
        context: Context,
        credentials: Credentials,
        /// The id of the remembered device.
        id: Path<String>,
    ) -> Result<Answer<Nothing>, Failure<ForgetErrors>> {
        let user_id = credentials.account(&context.app).await?.claims.account_user();
        remembered_devices::forget(&context.app, &user_id, &id.0, &context.caller).await?;
        Ok(Answer::new("Remembered device forgotten.", Nothing {}))
    }
}
