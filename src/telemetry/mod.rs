//! Observability: logs and metrics.

mod logs;
mod metrics;
mod process;

pub use self::{
    logs::{LogError, init_logs, log_to},
    metrics::{
        DeletionOutcome, DeliveryOutcome, DeviceOutcome, FactorOutcome, GatewayOutcome,
        LoginOutcome, MailOutcome, Metrics, ProfileOutcome, RefreshOutcome, ServiceOutcome,
        StatementKind, TokenCheck, UpstreamOutcome,
    },
};
