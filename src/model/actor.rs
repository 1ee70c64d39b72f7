//! Who asks, and who changes what is not their own.

use std::net::IpAddr;

/// Who asks, for the audit log and the limits.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub request_id: String,
    pub correlation_id: String,
    /// The real client's address, behind the trusted proxies.
    pub address: IpAddr,
    pub user_agent: Option<String>,
}

/// Who changes something that is not their own, for the audit log: an operator at the command line, or somebody who calls
/// the admin API or a gRPC service.
#[derive(Clone, Debug)]
pub struct Actor {
    /// A user id, a client id or `cli`.
    pub actor: String,
    /// `None` at the command line.
    pub caller: Option<RequestContext>,
}

impl Actor {
    /// Whoever runs a command.
    pub fn operator() -> Self {
        Self { actor: "cli".to_owned(), caller: None }
    }

    /// The user or client whose token a request carries.
    pub fn caller(actor: &str, caller: &RequestContext) -> Self {
        Self { actor: actor.to_owned(), caller: Some(caller.clone()) }
    }

    /// The id that runs through logs, events and answers, where there is one.
    pub fn correlation_id(&self) -> Option<&str> {
        let caller = self.caller.as_ref()?;
        Some(&caller.correlation_id)
    }
}
