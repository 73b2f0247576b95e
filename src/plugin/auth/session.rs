//! What a caller can learn about itself: `SessionService`.

use super::domain::ANONYMOUS;
use crate::access::{Call, Identity};
use crate::database::Timestamp;
use crate::error::{Error, Reply, reply};
use crate::proto::checkmate::auth::v1::{self as pb, session_service_server::SessionService};
use tonic::Request;

/// The service.
pub(super) struct Session;

#[tonic::async_trait]
impl SessionService for Session {
    async fn permissions(&self, request: Request<pb::PermissionsRequest>) -> Reply<pb::PermissionsResponse> {
        let (call, _) = Call::open(request)?;
        reply(pb::PermissionsResponse { permissions: call.caller.grants().names() })
    }

    async fn who_am_i(&self, request: Request<pb::WhoAmIRequest>) -> Reply<pb::WhoAmIResponse> {
        let (call, _) = Call::open(request)?;
        let Identity::Application { id, name, expires_at } = &call.caller.identity else {
            return Err(Error::NoCredential.into());
        };
        reply(pb::WhoAmIResponse {
            r#type: pb::IdentityType::Application.into(),
            id: id.to_string(),
            name: name.to_string(),
            roles: call.caller.roles.iter().map(|role| role.id.clone()).filter(|role| role != ANONYMOUS).collect(),
            permissions: call.caller.grants().names(),
            expires_at: expires_at.map(Timestamp::message),
        })
    }
}
