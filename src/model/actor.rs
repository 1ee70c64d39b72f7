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
    /// The hash of the cookie by which a browser that has logged in before is known.
    pub device: Option<String>,
}

/// Who performs an administrative change, for the audit log: an operator at the command line, or a
/// caller of the admin API or of a gRPC service.
#[derive(Clone, Debug)]
pub struct Actor {
    /// A user id, a client id, `cli` or `user-service`.
    pub actor: String,
    /// `None` at the command line, and for what no request does.
    pub caller: Option<RequestContext>,
    /// Of what no request does.
    correlation_id: Option<String>,
}

impl Actor {
    /// The operator who runs a CLI command.
    pub fn operator() -> Self {
        Self::service("cli", None)
    }

    /// The user or client that the access token of a request identifies.
    pub fn caller(actor: &str, caller: &RequestContext) -> Self {
        Self { caller: Some(caller.clone()), ..Self::service(actor, None) }
    }

    /// Who acts without a request, such as another service by a message.
    pub fn service(actor: &str, correlation_id: Option<String>) -> Self {
        Self { actor: actor.to_owned(), caller: None, correlation_id }
    }

    /// The correlation id of the request, if there is one.
    pub fn correlation_id(&self) -> Option<&str> {
        match &self.caller {
            Some(caller) => Some(&caller.correlation_id),
            None => self.correlation_id.as_deref(),
        }
    }
}
