//! Who makes a request, and who is recorded in the audit log.

use std::net::IpAddr;

/// The origin of a request, for the audit log and rate limits.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub request_id: String,
    pub correlation_id: String,
    /// The IP address of the client in front of the trusted proxies.
    pub address: IpAddr,
    pub user_agent: Option<String>,
}

/// Who performs an administrative change, for the audit log: an operator at the command line, or a
/// caller of the admin API or of a gRPC service.
#[derive(Clone, Debug)]
pub struct Actor {
    /// A user id, a client id or `cli`.
    pub actor: String,
    /// `None` at the command line.
    pub caller: Option<RequestContext>,
}

impl Actor {
    /// The operator who runs a CLI command.
    pub fn operator() -> Self {
        Self { actor: "cli".to_owned(), caller: None }
    }

    /// The user or client that the access token of a request identifies.
    pub fn caller(actor: &str, caller: &RequestContext) -> Self {
        Self { actor: actor.to_owned(), caller: Some(caller.clone()) }
    }

    /// The correlation id of the request, if there is one.
    pub fn correlation_id(&self) -> Option<&str> {
        let caller = self.caller.as_ref()?;
        Some(&caller.correlation_id)
    }
}
