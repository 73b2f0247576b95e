//! What the parts of a contract must agree on.

use super::{Contract, FieldKind, Method, Result};
use std::collections::BTreeSet;

impl Contract {
    /// JSON has one space of names for a plugin, and OpenAPI one for messages.
    pub(super) fn check_names(&self) -> Result<()> {
        let mut procedures = BTreeSet::new();
        for service in &self.services {
            for method in &service.methods {
                for name in std::iter::once(&method.json_name).chain(&method.aliases) {
                    if !procedures.insert((&service.plugin, name)) {
                        return Err(format!("{}: {}.{name} is taken", method.path, service.plugin).into());
                    }
                }
            }
        }
        let mut messages = BTreeSet::new();
        for name in self.messages.keys() {
            let short = name.rsplit('.').next().unwrap_or(name);
            if !messages.insert(short) {
                return Err(format!("{name}: another package has a message of this name").into());
            }
        }
        Ok(())
    }

    /// Whoever may call a paged list may call the one that stands for it without paging fields.
    pub(super) fn check_unpaged(&self) -> Result<()> {
        for service in &self.services {
            for method in &service.methods {
                let Some(name) = &method.unpaged else { continue };
                let other = service.methods.iter().find(|other| other.json_name == *name);
                let is_alike = |other: &Method| {
                    (&other.permissions, other.service_only, other.open, other.query)
                        == (&method.permissions, method.service_only, method.open, method.query)
                };
                if !other.is_some_and(is_alike) {
                    return Err(format!("{}: unpaged is no method with the same access", method.path).into());
                }
            }
        }
        Ok(())
    }

    /// A list that JSON shows as an object consists of messages with these fields, and is never read.
    pub(super) fn check_maps(&self) -> Result<()> {
        for message in self.messages.values() {
            for field in &message.fields {
                let Some((key, value)) = &field.rules.map else { continue };
                let item = match &field.kind {
                    FieldKind::Message(name) if field.repeated && !message.is_input => self.messages.get(name),
                    _ => None,
                };
                let has =
                    |name: &String| item.is_some_and(|item| item.fields.iter().any(|field| field.proto_name == *name));
                if !has(key) || !has(value) {
                    return Err(format!(
                        "{}.{}: map_key and map_value do not fit",
                        message.full_name, field.proto_name
                    )
                    .into());
                }
            }
        }
        Ok(())
    }

    pub(super) fn check_permissions(&self) -> Result<()> {
        for service in &self.services {
            let Some(plugin) = self.plugins.iter().find(|plugin| plugin.id == service.plugin) else {
                return Err(format!("{}: no file declares the plugin {:?}", service.full_name, service.plugin).into());
            };
            for method in &service.methods {
                if let Some(unknown) = method.depends_on.iter().find(|id| !self.plugins.iter().any(|p| p.id == **id)) {
                    return Err(format!("{}: there is no plugin {unknown:?} to depend on", method.path).into());
                }
                for permission in &method.permissions {
                    if !plugin.permissions.iter().any(|known| known.id == *permission) {
                        return Err(format!("{}: {permission} is not a permission of its plugin", method.path).into());
                    }
                }
            }
        }
        Ok(())
    }
}
