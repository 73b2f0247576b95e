//! Messages into values of the domain, and back.

use super::domain::{
    Contact, ContactKind, Group, GroupChanges, GroupId, System, SystemChanges, SystemId, View, ViewChanges,
};
use crate::contract::Change;
use crate::json::{Value, decode, encode};
use crate::proto::checkmate::catalog::v1 as pb;
use std::collections::HashMap;

/// Free JSON was checked before it was stored; what cannot be read any more is shown as nothing.
const STORED_JSON_DEPTH_MAX: usize = 128;

impl From<System> for pb::System {
    fn from(system: System) -> Self {
        Self {
            id: system.id.to_string(),
            name: system.name,
            description: system.description,
            owner: system.owner,
            metadata: system.metadata.as_deref().and_then(object),
            created_at: Some(system.created_at.message()),
            updated_at: Some(system.updated_at.message()),
        }
    }
}

impl From<View> for pb::View {
    fn from(view: View) -> Self {
        Self {
            id: view.id.to_string(),
            name: view.name,
            description: view.description,
            configuration: view.configuration.as_deref().and_then(any),
            created_at: Some(view.created_at.message()),
            updated_at: Some(view.updated_at.message()),
        }
    }
}

impl From<Contact> for pb::SystemContact {
    fn from(contact: Contact) -> Self {
        let kind = match contact.kind {
            ContactKind::User => pb::ContactType::User,
            ContactKind::Mailbox => pb::ContactType::Mailbox,
        };
        Self {
            id: contact.id.to_string(),
            system_id: contact.system_id.to_string(),
            r#type: kind.into(),
            user_id: contact.user_id,
            email: contact.email,
            label: contact.label,
            created_at: Some(contact.created_at.message()),
        }
    }
}

/// A group with its members.
pub(super) fn group(group: Group, members: &[SystemId]) -> pb::Group {
    pb::Group {
        id: group.id.to_string(),
        name: group.name,
        system_ids: members.iter().map(SystemId::to_string).collect(),
        metadata: group.metadata.as_deref().and_then(object),
        created_at: Some(group.created_at.message()),
        updated_at: Some(group.updated_at.message()),
    }
}

/// Groups with their members.
pub(super) fn groups(found: Vec<Group>, memberships: Vec<(GroupId, SystemId)>) -> Vec<pb::Group> {
    let mut members: HashMap<GroupId, Vec<SystemId>> = HashMap::new();
    for (group, system) in memberships {
        members.entry(group).or_default().push(system);
    }
    let with_members = |found: Group| {
        let members = members.remove(&found.id).unwrap_or_default();
        group(found, &members)
    };
    found.into_iter().map(with_members).collect()
}

impl From<pb::SystemChanges> for SystemChanges {
    fn from(data: pb::SystemChanges) -> Self {
        let mask = data.update_mask.as_ref();
        Self {
            name: Change::of(mask, "name", data.name).binds().1,
            description: Change::of(mask, "description", data.description),
            owner: Change::of(mask, "owner", data.owner),
            metadata: Change::of(mask, "metadata", data.metadata).map(|object| encode::object_text(&object)),
        }
    }
}

impl From<pb::GroupChanges> for GroupChanges {
    fn from(data: pb::GroupChanges) -> Self {
        let mask = data.update_mask.as_ref();
        Self {
            name: Change::of(mask, "name", data.name).binds().1,
            metadata: Change::of(mask, "metadata", data.metadata).map(|object| encode::object_text(&object)),
        }
    }
}

impl From<pb::ViewChanges> for ViewChanges {
    fn from(data: pb::ViewChanges) -> Self {
        let mask = data.update_mask.as_ref();
        Self {
            name: Change::of(mask, "name", data.name).binds().1,
            description: Change::of(mask, "description", data.description),
            configuration: Change::of(mask, "configuration", data.configuration).map(|value| encode::any_text(&value)),
        }
    }
}

/// The text of a new resource's metadata: `{}` unless something else is given.
pub(super) fn metadata_text(metadata: Option<prost_types::Struct>) -> String {
    encode::object_text(&metadata.unwrap_or_default())
}

fn object(text: &str) -> Option<prost_types::Struct> {
    let value = Value::parse(text.as_bytes(), STORED_JSON_DEPTH_MAX).ok()?;
    decode::object(&value, &mut decode::Decoder::default())
}

fn any(text: &str) -> Option<prost_types::Value> {
    let value = Value::parse(text.as_bytes(), STORED_JSON_DEPTH_MAX).ok()?;
    decode::any(&value, &mut decode::Decoder::default())
}
