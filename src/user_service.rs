//! The client of a user service, which creates a profile for each account
//! (`proto/propusk/provisioning/v1/user.proto`).

use std::{path::PathBuf, time::Duration};

use tonic::{
    Code, Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use self::proto::{
    CreateUserRequest, DeleteUserRequest, GetUserRequest,
    user_provisioning_client::UserProvisioningClient,
};
use crate::{
    config::{self, Provisioning},
    ids::UserId,
};

/// The code generated from the service's definition.
pub mod proto {
    #[allow(missing_docs, clippy::all)]
    mod generated {
        include!(concat!(env!("OUT_DIR"), "/provisioning.rs"));
    }
    pub use generated::propusk::provisioning::v1::*;
}

/// The pause before a repeated call, which doubles.
const PAUSE: Duration = Duration::from_millis(100);

/// The user service, by gRPC.
#[derive(Clone, Debug)]
pub struct UserService {
    client: UserProvisioningClient<Channel>,
    timeout: Duration,
    retries: u32,
    token_file: Option<PathBuf>,
}

/// What the user service answered to the creation of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Created,
    /// It refuses the account; the text is for the log.
    Refused {
        why: String,
        /// An earlier attempt got no answer: it may have created the profile.
        is_repeated: bool,
    },
    /// It did not answer, or cannot create the profile now.
    Unavailable(String),
}

impl UserService {
    /// The configured service; `None` without one that is called by gRPC. Nothing is connected yet.
    ///
    /// # Errors
    /// What is wrong with the URL or a file.
    pub fn new(config: &config::UserService) -> Result<Option<Self>, String> {
        if config.mode != Provisioning::Grpc {
            return Ok(None);
        }
        let invalid = |error| format!("user_service.url: {error}");
        let mut endpoint = Endpoint::from_shared(config.url.clone())
            .map_err(invalid)?
            .connect_timeout(config.timeout)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(5));
        if config.url.starts_with("https:") {
            let read = |key: &str, path: &PathBuf| {
                let content = std::fs::read(path);
                content.map_err(|error| format!("user_service.{key}: {}: {error}", path.display()))
            };
            let mut tls = ClientTlsConfig::new();
            tls = match &config.ca_file {
                Some(file) => tls.ca_certificate(Certificate::from_pem(read("ca_file", file)?)),
                None => tls.with_webpki_roots(),
            };
            if let (Some(certificate), Some(key)) = (&config.certificate, &config.key) {
                let (certificate, key) = (read("certificate", certificate)?, read("key", key)?);
                tls = tls.identity(Identity::from_pem(certificate, key));
            }
            endpoint = endpoint.tls_config(tls).map_err(invalid)?;
        }
        Ok(Some(Self {
            client: UserProvisioningClient::new(endpoint.connect_lazy()),
            timeout: config.timeout,
            retries: config.retries,
            token_file: config.token_file.clone(),
        }))
    }

    /// Creates a profile.
    pub async fn create(&self, account: CreateUserRequest) -> Answer {
        let id = account.id.clone();
        let created = self
            .call(account, async |mut client, request| client.create_user(request).await.map(drop));
        let (created, repetitions) = created.await;
        let status = match created {
            Ok(()) => return Answer::Created,
            Err(status) => status,
        };
        let text = describe(&status);
        match status.code() {
            Code::InvalidArgument | Code::FailedPrecondition | Code::PermissionDenied => {
                Answer::Refused { why: text, is_repeated: repetitions > 0 }
            }
            // Its own profile from an earlier call, or one of another account with these names.
            Code::AlreadyExists => match self.has(id).await {
                Ok(true) => Answer::Created,
                Ok(false) => Answer::Refused { why: text, is_repeated: false },
                Err(status) => Answer::Unavailable(describe(&status)),
            },
            _ => Answer::Unavailable(text),
        }
    }

    async fn has(&self, id: String) -> Result<bool, Status> {
        let request = GetUserRequest { id };
        let found = self
            .call(request, async |mut client, request| client.get_user(request).await.map(drop));
        match found.await.0 {
            Ok(()) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status),
        }
    }

    /// Deletes a profile; there may be none.
    ///
    /// # Errors
    /// Why it did not succeed, for the log.
    pub async fn delete(&self, id: &UserId, saga_id: &str) -> Result<(), String> {
        let request = DeleteUserRequest { id: id.as_str().to_owned(), saga_id: saga_id.to_owned() };
        let deleted = self
            .call(request, async |mut client, request| client.delete_user(request).await.map(drop));
        match deleted.await.0 {
            Ok(()) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(describe(&status)),
        }
    }

    /// Calls a method, again while it is unavailable; returns how often, too.
    async fn call<M: Clone>(
        &self,
        message: M,
        method: impl AsyncFn(UserProvisioningClient<Channel>, Request<M>) -> Result<(), Status>,
    ) -> (Result<(), Status>, u32) {
        let mut attempt = 0;
        loop {
            let mut request = Request::new(message.clone());
            request.set_timeout(self.timeout);
            if let Err(status) = self.authorize(&mut request) {
                return (Err(status), attempt);
            }
            let called = method(self.client.clone(), request);
            let called = tokio::time::timeout(self.timeout, called).await;
            let outcome = called.unwrap_or_else(|_| {
                Err(Status::deadline_exceeded("no answer within user_service.timeout"))
            });
            match outcome {
                Err(status) if status.code() == Code::Unavailable && attempt < self.retries => {
                    tokio::time::sleep(PAUSE * 2_u32.saturating_pow(attempt)).await;
                    attempt += 1;
                }
                outcome => return (outcome, attempt),
            }
        }
    }

    /// Adds the token in `user_service.token_file`, which may be renewed meanwhile.
    fn authorize<M>(&self, request: &mut Request<M>) -> Result<(), Status> {
        let Some(file) = &self.token_file else {
            return Ok(());
        };
        let token = std::fs::read_to_string(file)
            .map_err(|error| Status::unknown(format!("user_service.token_file: {error}")))?;
        let value = format!("Bearer {}", token.trim());
        let value = value.parse().map_err(|_| {
            Status::unknown("user_service.token_file has characters that no token has")
        })?;
        request.metadata_mut().insert("authorization", value);
        Ok(())
    }
}

fn describe(status: &Status) -> String {
    format!("user service: {:?}: {}", status.code(), status.message())
}
