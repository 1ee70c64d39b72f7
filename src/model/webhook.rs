//! Webhooks: endpoints that events are posted to (Standard Webhooks 1.0).

use std::fmt;

use crate::clock::Timestamp;

/// Endpoints of a deployment: each has a delivery for every event.
pub const MOST_WEBHOOKS: i64 = 100;

/// An endpoint that events are posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub id: String,
    pub settings: WebhookSettings,
    /// As a JWE under the master key, like the previous one.
    pub secret: String,
    pub old_secret: Option<String>,
    /// Until then requests are signed with the previous secret as well.
    pub old_secret_expires_at: Option<Timestamp>,
    /// Failed attempts since the last success.
    pub failures: i64,
    /// When the first of them was.
    pub failing_since: Option<Timestamp>,
    /// Nothing is sent before.
    pub retry_at: Timestamp,
    pub created_at: Timestamp,
    /// By an operator, or when it was disabled.
    pub updated_at: Timestamp,
    pub disabled_at: Option<Timestamp>,
    pub disabled_for: Option<DisabledFor>,
}

/// What an operator decides about an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookSettings {
    pub url: String,
    pub description: String,
    /// The types of the events that it gets; empty: every type.
    pub event_types: Vec<String>,
}

impl WebhookSettings {
    /// Whether the endpoint gets events of this type.
    pub fn wants(&self, event_type: &str) -> bool {
        self.event_types.is_empty() || self.event_types.iter().any(|one| one == event_type)
    }
}

/// An enum with a text for each variant.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$about])* $variant),+ }

        impl $name {
            /// The stored form.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            pub fn parse(text: &str) -> Option<Self> {
                [$(Self::$variant),+].into_iter().find(|one| one.as_str() == text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// Why an endpoint was disabled.
    DisabledFor {
        /// By an administrator or operator.
        Operator = "operator",
        /// It responded with 410 Gone.
        Gone = "gone",
        /// Every attempt has failed for `webhooks.disable_after`.
        Failing = "failing",
    }
}

named! {
    /// What became of a delivery.
    DeliveryState {
        /// It will be sent, perhaps again.
        Pending = "pending",
        /// The endpoint has accepted it.
        Delivered = "delivered",
        /// It was not accepted, and is not sent any more.
        Abandoned = "abandoned",
    }
}

/// An event on its way to an endpoint.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Increases with each delivery.
    pub number: i64,
    pub webhook_id: String,
    /// `webhook-id`: the CloudEvents `id`.
    pub event_id: String,
    pub event_type: String,
    pub state: DeliveryState,
    /// The number of attempts, including one that is under way.
    pub attempts: i64,
    pub next_attempt_at: Timestamp,
    pub created_at: Timestamp,
    /// When it is abandoned.
    pub expires_at: Timestamp,
    pub attempted_at: Option<Timestamp>,
    /// The HTTP status of the last attempt.
    pub status: Option<i64>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    pub finished_at: Option<Timestamp>,
}
