//! Who acted, as of then: what is kept beside what was done, so that it stays true when an application is renamed.

use super::{Caller, Identity};
use crate::proto::checkmate::common::v1 as pb;
use serde::Deserialize;

/// What kind of identity acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A person with an account.
    User,
    /// A program with a key.
    Application,
    /// The server by itself, or its operator.
    Server,
    /// Somebody without a credential.
    Anonymous,
}

/// Who acted. As columns: `created_by_kind`, `created_by_id`, `created_by_name`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, sqlx::FromRow)]
pub struct Actor {
    /// What kind of identity.
    #[sqlx(rename = "created_by_kind")]
    pub kind: ActorKind,
    /// Its id; `server` and `anonymous` where there is none.
    #[sqlx(rename = "created_by_id")]
    pub id: String,
    /// Its name at that time.
    #[sqlx(rename = "created_by_name")]
    pub name: String,
}

impl Actor {
    /// The caller.
    #[must_use]
    pub fn of(caller: &Caller) -> Self {
        let (kind, id, name) = match &caller.identity {
            Identity::Application { id, name, .. } => (ActorKind::Application, id.to_string(), name.to_string()),
            Identity::Anonymous => (ActorKind::Anonymous, "anonymous".to_owned(), "anonymous".to_owned()),
            Identity::Server(why) => (ActorKind::Server, "server".to_owned(), (*why).to_owned()),
        };
        Self { kind, id, name }
    }

    /// As a message.
    #[must_use]
    pub fn message(&self) -> pb::Actor {
        let kind = match self.kind {
            ActorKind::User => pb::ActorType::User,
            ActorKind::Application => pb::ActorType::Application,
            ActorKind::Server => pb::ActorType::Server,
            ActorKind::Anonymous => pb::ActorType::Anonymous,
        };
        pb::Actor { r#type: kind.into(), id: self.id.clone(), name: self.name.clone() }
    }
}
