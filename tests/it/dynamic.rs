//! Calls methods from their descriptors, as a client does that has nothing of ours but the contract.
//!
//! The JSON of the contract is written down here a second time, from the descriptors, so that the two can be compared.

use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, SerializeOptions,
};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

pub static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(checkmate::contract::DESCRIPTORS).unwrap());

/// Every method of the contract.
pub fn methods() -> impl Iterator<Item = MethodDescriptor> {
    let ours = |service: &prost_reflect::ServiceDescriptor| service.full_name().starts_with("checkmate.");
    POOL.services().filter(ours).flat_map(|service| service.methods().collect::<Vec<_>>())
}

/// `catalog.getSystems`, as JSON callers name it.
pub fn procedure(method: &MethodDescriptor) -> String {
    let service = method.parent_service();
    let plugin = POOL.get_extension_by_name("checkmate.options.v1.plugin_id").unwrap();
    let plugin = service.options().get_extension(&plugin).as_str().unwrap().to_owned();
    let (first, rest) = method.name().split_at(1);
    format!("{plugin}.{}{rest}", first.to_lowercase())
}

fn method(path: &str) -> MethodDescriptor {
    methods().find(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()) == path).unwrap()
}

fn json_option(method: &MethodDescriptor, field: &str) -> Option<String> {
    let json = POOL.get_extension_by_name("checkmate.options.v1.json").unwrap();
    let options = method.options();
    let json = options.get_extension(&json);
    let value = json.as_message().unwrap().get_field_by_name(field).unwrap();
    Some(value.as_str().unwrap().to_owned()).filter(|text| !text.is_empty())
}

/// The request message for an input in JSON.
pub fn request(path: &str, input: &Value) -> DynamicMessage {
    let method = method(path);
    let input = match (json_option(&method, "input"), input) {
        (Some(field), input) if !input.is_object() => json!({field: input}),
        (_, input) => input.clone(),
    };
    let canonical = canonical(&method.input(), &input);
    DynamicMessage::deserialize(method.input(), canonical).unwrap()
}

/// A response message from its bytes.
pub fn response(path: &str, bytes: &[u8]) -> DynamicMessage {
    DynamicMessage::decode(method(path).output(), bytes).unwrap()
}

/// The JSON result for a response message.
pub fn result(path: &str, message: &DynamicMessage) -> Value {
    let method = method(path);
    let options = SerializeOptions::new().skip_default_fields(false).stringify_64_bit_integers(false);
    let canonical = message.serialize_with_options(serde_json::value::Serializer, &options).unwrap();
    let mut value = contractual(&method.output(), &canonical);
    match json_option(&method, "output") {
        Some(field) => value[method.output().get_field_by_name(&field).unwrap().json_name()].take(),
        None => value,
    }
}

/// Our JSON to Protobuf's: enums by their full names, `null` and the mask as gRPC has them.
fn canonical(descriptor: &MessageDescriptor, value: &Value) -> Value {
    let mut out = Map::new();
    let has_mask = descriptor.get_field_by_name("update_mask").is_some();
    let mut mask = vec![];
    for (key, value) in value.as_object().unwrap() {
        let field =
            descriptor.fields().find(|field| field.json_name() == key).unwrap_or_else(|| panic!("no field {key}"));
        if has_mask && !["id", "configurationId"].contains(&key.as_str()) {
            mask.push(key.clone());
        }
        if !value.is_null() {
            out.insert(
                key.clone(),
                each(&field, value, &canonical, &|name, prefix| format!("{prefix}{}", name.to_uppercase())),
            );
        }
    }
    if has_mask {
        out.insert("updateMask".into(), mask.join(",").into());
    }
    Value::Object(out)
}

/// Protobuf's JSON to ours: enums in lower case, times in milliseconds, what is nullable and unset as `null`.
fn contractual(descriptor: &MessageDescriptor, value: &Value) -> Value {
    let mut out = Map::new();
    for field in descriptor.fields() {
        match value.get(field.json_name()) {
            Some(value) if !(value.is_null() && is_nullable(&field)) => {
                let lower = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase();
                let value = each(&field, value, &contractual, &lower);
                out.insert(field.json_name().into(), as_map(&field, value));
            }
            _ if is_nullable(&field) => drop(out.insert(field.json_name().into(), Value::Null)),
            _ => {}
        }
    }
    Value::Object(out)
}

/// A list that the contract shows as an object.
fn as_map(field: &FieldDescriptor, value: Value) -> Value {
    let option = |name| field_option(field, name).as_str().unwrap().to_owned();
    let (key, shown) = (option("map_key"), option("map_value"));
    if key.is_empty() {
        return value;
    }
    let json_name = |name: &str| {
        let Kind::Message(item) = field.kind() else { panic!("a map of messages") };
        item.get_field_by_name(name).unwrap().json_name().to_owned()
    };
    let (key, shown) = (json_name(&key), json_name(&shown));
    let entry = |item: &Value| (item[&key].as_str().unwrap().to_owned(), item[&shown].clone());
    Value::Object(value.as_array().unwrap().iter().map(entry).collect())
}

fn field_option(field: &FieldDescriptor, name: &str) -> prost_reflect::Value {
    let extension = POOL.get_extension_by_name("checkmate.options.v1.field").unwrap();
    let options = field.options();
    let rules = options.get_extension(&extension);
    rules.as_message().unwrap().get_field_by_name(name).unwrap().into_owned()
}

fn is_nullable(field: &FieldDescriptor) -> bool {
    field_option(field, "nullable").as_bool().unwrap()
}

fn each(
    field: &FieldDescriptor,
    value: &Value,
    inner: &dyn Fn(&MessageDescriptor, &Value) -> Value,
    enum_name: &dyn Fn(&str, &str) -> String,
) -> Value {
    if let (true, Some(items)) = (field.is_list(), value.as_array()) {
        return items.iter().map(|item| one(field, item, inner, enum_name)).collect();
    }
    one(field, value, inner, enum_name)
}

fn one(
    field: &FieldDescriptor,
    value: &Value,
    inner: &dyn Fn(&MessageDescriptor, &Value) -> Value,
    enum_name: &dyn Fn(&str, &str) -> String,
) -> Value {
    match field.kind() {
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            let text = value.as_str().unwrap();
            // What jiff cannot hold goes to the server as it is.
            text.parse::<jiff::Timestamp>().map_or(text.into(), |time| format!("{time:.3}").into())
        }
        Kind::Message(message) if message.full_name().starts_with("checkmate.") => inner(&message, value),
        Kind::Enum(names) => {
            let zero = names.get_value(0).unwrap();
            let prefix = zero.name().trim_end_matches("UNSPECIFIED").to_owned();
            enum_name(value.as_str().unwrap(), &prefix).into()
        }
        _ => value.clone(),
    }
}

/// A codec for one method's messages.
pub struct DynamicCodec(MessageDescriptor);

impl DynamicCodec {
    pub fn of(path: &str) -> Self {
        Self(method(path).output())
    }
}

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for DynamicCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|why| Status::internal(why.to_string()))
    }
}

impl Decoder for DynamicCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.0.clone(), buffer).map(Some).map_err(|why| Status::internal(why.to_string()))
    }
}

/// A value that a field takes.
pub fn good(field: &FieldDescriptor) -> Value {
    match field.kind() {
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => "2026-01-01T00:00:00Z".into(),
        Kind::Enum(names) => {
            let (zero, one) = (names.get_value(0).unwrap(), names.get_value(1).unwrap());
            one.name().trim_start_matches(zero.name().trim_end_matches("UNSPECIFIED")).to_lowercase().into()
        }
        _ => "x".into(),
    }
}
