//! The contract as the other modules want it: plain values, read once from the descriptors.
//!
//! Whatever the generator could get wrong without notice is refused here, with the name of the culprit.

// The paths are written out because the tests of what is refused read this file, too.
#[path = "agreement.rs"]
mod agreement;
#[path = "stream.rs"]
mod stream;
#[path = "value.rs"]
mod value;

use super::Result;
use heck::{ToLowerCamelCase, ToShoutySnakeCase, ToSnakeCase, ToUpperCamelCase};
use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    MethodDescriptor, ServiceDescriptor,
};
use std::collections::{BTreeMap, BTreeSet};
use value::{flag, inner, list, number, signed, text, texts, unsigned};

/// Everything that `proto/` says.
pub(super) struct Contract {
    pub(super) plugins: Vec<Plugin>,
    pub(super) services: Vec<Service>,
    /// By full name.
    pub(super) messages: BTreeMap<String, Message>,
    /// By full name.
    pub(super) enums: BTreeMap<String, Enum>,
}

pub(super) struct Plugin {
    pub(super) id: String,
    pub(super) summary: String,
    pub(super) permissions: Vec<Permission>,
}

pub(super) struct Permission {
    pub(super) id: String,
    pub(super) description: String,
    pub(super) synonyms: Vec<String>,
    pub(super) initial_roles: Vec<String>,
}

pub(super) struct Service {
    pub(super) plugin: String,
    pub(super) name: String,
    pub(super) full_name: String,
    pub(super) package: String,
    pub(super) methods: Vec<Method>,
}

#[expect(clippy::struct_excessive_bools, reason = "each says something else about a method")]
pub(super) struct Method {
    /// `getSystems`.
    pub(super) json_name: String,
    /// `get_systems`.
    pub(super) rust_name: String,
    /// `/checkmate.catalog.v1.CatalogService/GetSystems`.
    pub(super) path: String,
    pub(super) doc: String,
    pub(super) input: String,
    pub(super) output: String,
    pub(super) permissions: Vec<String>,
    pub(super) service_only: bool,
    /// Whether anybody may call it.
    pub(super) open: bool,
    pub(super) query: bool,
    /// Whether it answers with a stream.
    pub(super) streams: bool,
    /// The plugins from whose data its answer follows, if that is all it follows from.
    pub(super) depends_on: Vec<String>,
    pub(super) aliases: Vec<String>,
    /// The JSON name of the method that is meant by an input that it knows.
    pub(super) unpaged: Option<String>,
    pub(super) bare_input: Option<String>,
    pub(super) bare_output: Option<String>,
}

pub(super) struct Message {
    pub(super) full_name: String,
    pub(super) doc: String,
    pub(super) fields: Vec<Field>,
    pub(super) has_rules: bool,
    /// Whether a caller sends it.
    pub(super) is_input: bool,
    /// Whether a caller receives it.
    pub(super) is_output: bool,
}

pub(super) struct Field {
    pub(super) proto_name: String,
    pub(super) rust_name: String,
    pub(super) json_name: String,
    pub(super) doc: String,
    pub(super) kind: FieldKind,
    /// `Option<T>` in Rust.
    pub(super) optional: bool,
    pub(super) repeated: bool,
    pub(super) rules: Rules,
}

#[derive(Default)]
pub(super) struct Rules {
    pub(super) required: bool,
    pub(super) nullable: bool,
    pub(super) aliases: Vec<String>,
    pub(super) trimmed: bool,
    pub(super) length_max: u32,
    pub(super) format: Format,
    pub(super) items_max: u32,
    pub(super) minimum: i64,
    pub(super) maximum: i64,
    pub(super) json_bytes_max: u32,
    /// JSON writes the list as an object: the fields of an item that are key and value, as Rust names them.
    pub(super) map: Option<(String, String)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Format {
    #[default]
    Any,
    Uuid,
    Email,
    PageToken,
    Cursor,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum FieldKind {
    Text,
    Bool,
    Int32,
    Int64,
    Double,
    Enum(String),
    Message(String),
    Timestamp,
    /// `google.protobuf.Struct`.
    Object,
    /// `google.protobuf.Value`.
    Any,
    /// `google.protobuf.FieldMask`, which JSON expresses by the keys that are present.
    Mask,
}

pub(super) struct Enum {
    pub(super) full_name: String,
    /// JSON spelling and number; the unspecified value is not among them.
    pub(super) values: Vec<(String, i32)>,
}

impl Message {
    /// The fields that JSON knows.
    pub(super) fn json_fields(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| field.kind != FieldKind::Mask)
    }

    pub(super) fn has_mask(&self) -> bool {
        self.fields.iter().any(|field| field.kind == FieldKind::Mask)
    }
}

/// `checkmate.catalog.v1.System` → `crate::proto::checkmate::catalog::v1::System`.
pub(super) fn rust_path(full_name: &str) -> String {
    let mut parts: Vec<_> = full_name.split('.').collect();
    let name = parts.pop().unwrap_or_default().to_upper_camel_case();
    format!("crate::proto::{}::{name}", parts.join("::"))
}

impl Contract {
    pub(super) fn read(pool: &DescriptorPool) -> Result<Self> {
        let options = Options::find(pool)?;
        let mut contract =
            Self { plugins: vec![], services: vec![], messages: BTreeMap::new(), enums: BTreeMap::new() };
        for file in pool.files().filter(|file| is_ours(file.package_name())) {
            contract.plugins.extend(options.plugin(&file)?);
            for service in file.services() {
                contract.services.push(options.service(&service)?);
            }
            for message in file.messages() {
                contract.messages.insert(message.full_name().to_owned(), options.message(&message)?);
            }
            for descriptor in file.enums() {
                contract.enums.insert(descriptor.full_name().to_owned(), read_enum(&descriptor)?);
            }
        }
        contract.plugins.sort_by(|a, b| a.id.cmp(&b.id));
        contract.mark_directions()?;
        contract.check_permissions()?;
        contract.check_names()?;
        contract.check_unpaged()?;
        contract.check_maps()?;
        Ok(contract)
    }

    /// JSON is written for what goes out and read for what comes in, so only that is generated.
    fn mark_directions(&mut self) -> Result<()> {
        let roots: Vec<_> =
            self.services.iter().flat_map(|s| &s.methods).map(|m| (m.input.clone(), m.output.clone())).collect();
        let (mut inputs, mut outputs) = (BTreeSet::new(), BTreeSet::new());
        for (input, output) in roots {
            self.reach(&input, &mut inputs)?;
            self.reach(&output, &mut outputs)?;
        }
        for message in self.messages.values_mut() {
            message.is_input = inputs.contains(&message.full_name);
            message.is_output = outputs.contains(&message.full_name);
        }
        Ok(())
    }

    fn reach(&self, name: &str, found: &mut BTreeSet<String>) -> Result<()> {
        if !found.insert(name.to_owned()) {
            return Ok(());
        }
        let message = self.messages.get(name).ok_or_else(|| format!("{name}: only messages of this contract"))?;
        for field in &message.fields {
            if let FieldKind::Message(inner) = &field.kind {
                self.reach(inner, found)?;
            }
        }
        Ok(())
    }
}

fn is_ours(package: &str) -> bool {
    package.starts_with("checkmate.") && !package.starts_with("checkmate.options.")
}

/// The extensions of `options.proto`, looked up once.
struct Options {
    plugin: prost_reflect::ExtensionDescriptor,
    plugin_id: prost_reflect::ExtensionDescriptor,
    access: prost_reflect::ExtensionDescriptor,
    cache: prost_reflect::ExtensionDescriptor,
    json: prost_reflect::ExtensionDescriptor,
    message: prost_reflect::ExtensionDescriptor,
    field: prost_reflect::ExtensionDescriptor,
}

impl Options {
    fn find(pool: &DescriptorPool) -> Result<Self> {
        let get = |name: &str| {
            let name = format!("checkmate.options.v1.{name}");
            pool.get_extension_by_name(&name).ok_or(format!("{name} is missing"))
        };
        Ok(Self {
            plugin: get("plugin")?,
            plugin_id: get("plugin_id")?,
            access: get("access")?,
            cache: get("cache")?,
            json: get("json")?,
            message: get("message")?,
            field: get("field")?,
        })
    }

    fn plugin(&self, file: &FileDescriptor) -> Result<Option<Plugin>> {
        let options = file.options();
        if !options.has_extension(&self.plugin) {
            return Ok(None);
        }
        let plugin = inner(&options.get_extension(&self.plugin))?;
        let id = text(&plugin, "id");
        let mut permissions = vec![];
        for permission in list(&plugin, "permissions") {
            let permission = inner(&permission)?;
            let known = Permission {
                id: text(&permission, "id"),
                description: text(&permission, "description"),
                synonyms: texts(&permission, "synonyms"),
                initial_roles: texts(&permission, "initial_roles"),
            };
            if !known.id.starts_with(&format!("{id}.")) || known.description.is_empty() {
                return Err(format!("{}: a permission starts with {id}. and has a description", known.id).into());
            }
            permissions.push(known);
        }
        // The comment on `package` (field 2 of a file) introduces the plugin.
        Ok(Some(Plugin { id, summary: comment(file, &[2]), permissions }))
    }

    fn service(&self, service: &ServiceDescriptor) -> Result<Service> {
        let plugin = match service.options().get_extension(&self.plugin_id).as_str() {
            Some(plugin) if !plugin.is_empty() => plugin.to_owned(),
            _ => return Err(format!("{}: no (checkmate.options.v1.plugin_id)", service.full_name()).into()),
        };
        Ok(Service {
            plugin,
            name: service.name().to_owned(),
            full_name: service.full_name().to_owned(),
            package: service.package_name().to_owned(),
            methods: service.methods().map(|method| self.method(&method)).collect::<Result<_>>()?,
        })
    }

    fn method(&self, method: &MethodDescriptor) -> Result<Method> {
        let name = method.full_name();
        let options = method.options();
        if !options.has_extension(&self.access) {
            return Err(format!("{name}: no (checkmate.options.v1.access): say who may call it").into());
        }
        let access = inner(&options.get_extension(&self.access))?;
        let cache = inner(&options.get_extension(&self.cache))?;
        let json = inner(&options.get_extension(&self.json))?;
        let doc = comment(&method.parent_file(), method.path());
        if doc.is_empty() {
            return Err(format!("{name}: no comment").into());
        }
        let found = Method {
            json_name: method.name().to_lower_camel_case(),
            rust_name: method.name().to_snake_case(),
            path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            doc,
            input: method.input().full_name().to_owned(),
            output: method.output().full_name().to_owned(),
            permissions: texts(&access, "permissions"),
            service_only: number(&access, "caller") == 1,
            open: number(&access, "caller") == 2,
            // NO_SIDE_EFFECTS = 1.
            query: number(&options, "idempotency_level") == 1,
            streams: method.is_server_streaming(),
            depends_on: texts(&cache, "depends_on"),
            aliases: texts(&json, "aliases"),
            unpaged: Some(text(&json, "unpaged").to_lower_camel_case()).filter(|name| !name.is_empty()),
            bare_input: Some(text(&json, "input")).filter(|field| !field.is_empty()),
            bare_output: Some(text(&json, "output")).filter(|field| !field.is_empty()),
        };
        if !found.query && !found.depends_on.is_empty() {
            return Err(format!("{name}: only the answer of a query can be kept").into());
        }
        stream::check(method, &found)?;
        let has = |message: MessageDescriptor, field: &Option<String>| {
            field.as_ref().is_none_or(|field| message.get_field_by_name(field).is_some())
        };
        if !has(method.input(), &found.bare_input) || !has(method.output(), &found.bare_output) {
            return Err(format!("{name}: (checkmate.options.v1.json) names a field that does not exist").into());
        }
        Ok(found)
    }

    fn message(&self, message: &MessageDescriptor) -> Result<Message> {
        let name = message.full_name();
        if message.child_messages().len() + message.child_enums().len() > 0 {
            return Err(format!("{name}: nested types and maps are not generated; one name, one place").into());
        }
        if message.oneofs().any(|oneof| !oneof.is_synthetic()) {
            return Err(format!("{name}: oneofs are not generated").into());
        }
        let rules = inner(&message.options().get_extension(&self.message))?;
        Ok(Message {
            full_name: name.to_owned(),
            doc: comment(&message.parent_file(), message.path()),
            fields: message.fields().map(|field| self.field(&field)).collect::<Result<_>>()?,
            has_rules: flag(&rules, "has_rules"),
            is_input: false,
            is_output: false,
        })
    }

    fn field(&self, field: &FieldDescriptor) -> Result<Field> {
        let options = inner(&field.options().get_extension(&self.field))?;
        let rules = Rules {
            required: flag(&options, "required"),
            nullable: flag(&options, "nullable"),
            aliases: texts(&options, "aliases"),
            trimmed: flag(&options, "trimmed"),
            length_max: unsigned(&options, "length_max"),
            format: match number(&options, "format") {
                1 => Format::Uuid,
                2 => Format::Email,
                3 => Format::PageToken,
                4 => Format::Cursor,
                _ => Format::Any,
            },
            items_max: unsigned(&options, "items_max"),
            minimum: signed(&options, "minimum"),
            maximum: signed(&options, "maximum"),
            json_bytes_max: unsigned(&options, "json_bytes_max"),
            map: Some((text(&options, "map_key"), text(&options, "map_value"))).filter(|(key, _)| !key.is_empty()),
        };
        let repeated = field.cardinality() == Cardinality::Repeated;
        let optional = field.supports_presence() && !repeated;
        if rules.nullable && !optional {
            return Err(format!("{}: only what can be absent is nullable", field.full_name()).into());
        }
        let doc = comment(&field.parent_message().parent_file(), field.path());
        if doc.is_empty() {
            return Err(format!("{}: no comment", field.full_name()).into());
        }
        Ok(Field {
            proto_name: field.name().to_owned(),
            rust_name: if field.name() == "type" { "r#type".to_owned() } else { field.name().to_owned() },
            json_name: field.json_name().to_owned(),
            doc,
            kind: field_kind(field)?,
            optional,
            repeated,
            rules,
        })
    }
}

fn field_kind(field: &FieldDescriptor) -> Result<FieldKind> {
    Ok(match field.kind() {
        Kind::String => FieldKind::Text,
        Kind::Bool => FieldKind::Bool,
        Kind::Int32 => FieldKind::Int32,
        Kind::Int64 => FieldKind::Int64,
        Kind::Double => FieldKind::Double,
        Kind::Enum(inner) => FieldKind::Enum(inner.full_name().to_owned()),
        Kind::Message(inner) => match inner.full_name() {
            "google.protobuf.Timestamp" => FieldKind::Timestamp,
            "google.protobuf.Struct" => FieldKind::Object,
            "google.protobuf.Value" => FieldKind::Any,
            "google.protobuf.FieldMask" => FieldKind::Mask,
            name => FieldKind::Message(name.to_owned()),
        },
        other => return Err(format!("{}: {other:?} is not generated", field.full_name()).into()),
    })
}

/// `CONTACT_TYPE_USER` → `user`.
fn read_enum(descriptor: &EnumDescriptor) -> Result<Enum> {
    let prefix = format!("{}_", descriptor.name().to_shouty_snake_case());
    let mut values = vec![];
    for value in descriptor.values().filter(|value| value.number() != 0) {
        let Some(name) = value.name().strip_prefix(&prefix) else {
            return Err(format!("{}: does not start with {prefix}", value.full_name()).into());
        };
        values.push((name.to_lowercase(), value.number()));
    }
    Ok(Enum { full_name: descriptor.full_name().to_owned(), values })
}

/// The comment above a declaration, on one line.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let file = file.file_descriptor_proto();
    let locations = file.source_code_info.as_ref().map_or(&[][..], |info| &info.location);
    let found = locations.iter().find(|location| location.path == path);
    let text = found.map_or("", |location| location.leading_comments());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
