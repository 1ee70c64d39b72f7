//! `propusk.v1.ServiceTokens`: tokens of customer services for back ends.

use tonic::{Request, Response, Status};

use super::{
    edge::{Call, required},
    proto::v1::{
        GetServiceTokenRequest, GetServiceTokenResponse, service_tokens_server::ServiceTokens,
    },
};
use crate::{flows::services, ids::UserId};

pub(super) struct Services;

#[tonic::async_trait]
impl ServiceTokens for Services {
    async fn get(
        &self,
        request: Request<GetServiceTokenRequest>,
    ) -> Result<Response<GetServiceTokenResponse>, Status> {
        let call = Call::of(&request)?;
        let GetServiceTokenRequest { service, user_id } = request.get_ref();
        required(&call, "service", service)?;
        let client = &call.identity()?.client.client;
        let user_id = user_id.as_deref().map(UserId::from);
        let issued = services::token_for_client(&call.app, client, service, user_id.as_ref()).await;
        let issued = issued.map_err(|error| call.refuse(error))?;
        Ok(Response::new(GetServiceTokenResponse {
            access_token: issued.access_token,
            token_type: "Bearer".to_owned(),
            expires_in: i64::try_from(issued.expires_in.as_secs()).unwrap_or(i64::MAX),
        }))
    }
}
