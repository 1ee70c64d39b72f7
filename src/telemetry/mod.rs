//! Observability: logs and metrics.

mod logs;
mod metrics;

pub use self::{
    logs::{LogError, init_logs, log_to},
    metrics::{GatewayOutcome, LoginOutcome, Metrics, RefreshOutcome, TokenCheck},
};
