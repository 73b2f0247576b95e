//! JSON Schema 2020-12 of every message, and the OpenAPI 3.1 document made of them.

use super::model::{Contract, Field, FieldKind, Format, Message, Method, Service};
use serde_json::{Map, Value, json};

/// The input of a method, whole: without references to anything.
pub(super) fn input(contract: &Contract, method: &Method) -> Value {
    let whole = object(contract, &method.input, Refs::Inline, true);
    match bare_field(contract, &method.input, method.bare_input.as_ref()) {
        Some(field) => json!({"anyOf": [field_schema(contract, field, Refs::Inline, true), whole]}),
        None => whole,
    }
}

/// The result of a method, whole.
pub(super) fn output(contract: &Contract, method: &Method) -> Value {
    result(contract, method, Refs::Inline)
}

/// Whether a message stands in place or is referred to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refs {
    Inline,
    Components,
}

fn result(contract: &Contract, method: &Method, refs: Refs) -> Value {
    match bare_field(contract, &method.output, method.bare_output.as_ref()) {
        Some(field) => field_schema(contract, field, refs, false),
        None => message_schema(contract, &method.output, refs, false),
    }
}

fn bare_field<'c>(contract: &'c Contract, message: &str, field: Option<&String>) -> Option<&'c Field> {
    contract.messages.get(message)?.fields.iter().find(|known| Some(&known.proto_name) == field)
}

fn short(full_name: &str) -> &str {
    full_name.rsplit('.').next().unwrap_or(full_name)
}

fn message_schema(contract: &Contract, name: &str, refs: Refs, is_input: bool) -> Value {
    match refs {
        Refs::Inline => object(contract, name, refs, is_input),
        Refs::Components => json!({"$ref": format!("#/components/schemas/{}", short(name))}),
    }
}

fn object(contract: &Contract, name: &str, refs: Refs, is_input: bool) -> Value {
    let Some(Message { doc, fields, .. }) = contract.messages.get(name) else { return json!({}) };
    let shown = || fields.iter().filter(|field| field.kind != FieldKind::Mask);
    let mut properties: Map<_, _> =
        shown().map(|field| (field.json_name.clone(), field_schema(contract, field, refs, is_input))).collect();
    for field in shown().filter(|_| is_input) {
        for alias in &field.rules.aliases {
            let mut schema = field_schema(contract, field, refs, is_input);
            schema["description"] = json!(format!("Another name for {}; give one of the two.", field.json_name));
            schema["deprecated"] = json!(true);
            properties.insert(alias.clone(), schema);
        }
    }
    let always = |field: &&Field| {
        if is_input { field.rules.required } else { !field.optional || field.rules.nullable }
    };
    let required: Vec<_> = shown().filter(always).map(|field| field.json_name.clone()).collect();
    let mut schema = json!({"type": "object", "description": doc, "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if is_input {
        schema["additionalProperties"] = json!(false);
    }
    schema
}

fn field_schema(contract: &Contract, field: &Field, refs: Refs, is_input: bool) -> Value {
    let one = value_schema(contract, field, refs, is_input);
    let mut schema = if let (Some((_, value)), FieldKind::Message(item)) = (&field.rules.map, &field.kind) {
        let shown = bare_field(contract, item, Some(value));
        let values = shown.map_or_else(|| json!({}), |shown| field_schema(contract, shown, refs, is_input));
        json!({"type": "object", "additionalProperties": values})
    } else if field.repeated {
        let mut list = json!({"type": "array", "items": one});
        if field.rules.items_max > 0 {
            list["maxItems"] = json!(field.rules.items_max);
        }
        list
    } else if field.rules.nullable && field.kind != FieldKind::Any {
        nullable(one)
    } else {
        one
    };
    schema["description"] = json!(field.doc);
    schema
}

fn nullable(mut schema: Value) -> Value {
    match schema.get("type").cloned() {
        Some(kind) => {
            schema["type"] = json!([kind, "null"]);
            schema
        }
        None => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}

fn value_schema(contract: &Contract, field: &Field, refs: Refs, is_input: bool) -> Value {
    let rules = &field.rules;
    match &field.kind {
        FieldKind::Text => {
            let mut schema = json!({"type": "string"});
            if is_input && rules.required {
                schema["minLength"] = json!(1);
            }
            if rules.length_max > 0 {
                schema["maxLength"] = json!(rules.length_max);
            }
            match rules.format {
                Format::Uuid => schema["format"] = json!("uuid"),
                Format::Email => schema["format"] = json!("email"),
                Format::Any | Format::PageToken | Format::Cursor => {}
            }
            schema
        }
        FieldKind::Bool => json!({"type": "boolean"}),
        FieldKind::Int32 | FieldKind::Int64 if (rules.minimum, rules.maximum) != (0, 0) => {
            json!({"type": "integer", "minimum": rules.minimum, "maximum": rules.maximum})
        }
        FieldKind::Int32 | FieldKind::Int64 => json!({"type": "integer"}),
        FieldKind::Double => json!({"type": "number"}),
        FieldKind::Enum(name) => {
            let names = contract.enums.get(name).map(|found| &found.values[..]).unwrap_or_default();
            json!({"type": "string", "enum": names.iter().map(|(name, _)| name).collect::<Vec<_>>()})
        }
        FieldKind::Message(name) => message_schema(contract, name, refs, is_input),
        FieldKind::Timestamp => json!({"type": "string", "format": "date-time"}),
        FieldKind::Object => json!({"type": "object", "additionalProperties": true}),
        FieldKind::Any | FieldKind::Mask => json!({}),
    }
}

/// The OpenAPI document: every path that answers JSON.
pub(super) fn open_api(contract: &Contract) -> Value {
    let mut paths = Map::new();
    for plugin in &contract.plugins {
        let services: Vec<_> = contract.services.iter().filter(|service| service.plugin == plugin.id).collect();
        if services.is_empty() {
            continue;
        }
        paths.insert(
            format!("/api/{}/", plugin.id),
            json!({"get": describe(&plugin.id), "post": batch(contract, &services)}),
        );
        for method in services.iter().flat_map(|service| &service.methods) {
            let path = format!("/api/{}/{}", plugin.id, method.json_name);
            let mut item = json!({"post": single(contract, &plugin.id, method)});
            if method.streams {
                item = follow(contract, &plugin.id, method);
            } else if method.query {
                item["get"] = fetch(contract, &plugin.id, method);
            }
            paths.insert(path, item);
        }
    }
    for (path, summary, kind) in [
        ("/api/openapi.json", "This document.", "application/json"),
        ("/healthz", "200 while the process runs.", "application/json"),
        ("/readyz", "200 when the database answers and is migrated, else 503.", "application/json"),
        ("/metrics", "Metrics in the OpenMetrics text format.", "application/openmetrics-text"),
    ] {
        let ok = json!({"description": summary, "content": {kind: {}}});
        paths.insert(path.into(), json!({"get": {"summary": summary, "security": [], "responses": {"200": ok}}}));
    }
    let mut schemas: Map<_, _> = contract
        .messages
        .values()
        .filter(|message| message.is_input || message.is_output)
        .map(|m| (short(&m.full_name).to_owned(), object(contract, &m.full_name, Refs::Components, m.is_input)))
        .collect();
    schemas.insert("Error".into(), error_schema());
    schemas.insert("EnvelopedError".into(), enveloped_error_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Checkmate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every capability is a procedure of a plugin. Several procedures go in one batch at \
                            /api/{pluginId}/; one goes to /api/{pluginId}/{procedure}. The same procedures answer gRPC \
                            on the same port.",
        },
        "security": [{"applicationKey": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"applicationKey": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "ck_{applicationId}_{secret}",
                "description": "The key of an application.",
            }},
        },
    })
}

fn content(schema: &Value) -> Value {
    json!({"application/json": {"schema": schema}})
}

fn describe(plugin: &str) -> Value {
    json!({
        "operationId": format!("{plugin}.describe"),
        "tags": [plugin],
        "summary": "The procedures of the plugin: schemas, permissions, and which of them the caller may call.",
        "security": [{}, {"applicationKey": []}],
        "responses": {"200": {"description": "The description.", "content": content(&json!({"type": "object"}))},
                      "default": failure("Error")},
    })
}

fn batch(contract: &Contract, services: &[&Service]) -> Value {
    let methods = || services.iter().flat_map(|service| &service.methods).filter(|method| !method.streams);
    let inputs: Map<_, _> = methods().map(|method| (method.json_name.clone(), input_ref(contract, method))).collect();
    let outputs: Map<_, _> = methods().map(|m| (m.json_name.clone(), result(contract, m, Refs::Components))).collect();
    let plugin = services.first().map_or("", |service| &service.plugin);
    json!({
        "operationId": format!("{plugin}.batch"),
        "tags": [plugin],
        "summary": "Several procedures in one request; the answer has one key per call, in the order written.",
        "description": "Nothing runs unless every call is known, permitted and valid. Queries run together, mutations \
                        one after another up to the first failure.",
        "parameters": [{
            "name": "prefer", "in": "header", "schema": {"type": "string"},
            "description": "`handling=lenient` answers 207 with failures under `$errors`.",
        }],
        "requestBody": {"required": true, "content": content(&json!({
            "type": "object", "minProperties": 1, "maxProperties": 50, "properties": inputs,
        }))},
        "responses": {
            "200": {"description": "All succeeded.",
                    "content": content(&json!({"type": "object", "properties": outputs}))},
            "207": {"description": "Some failed, and the caller prefers `handling=lenient`.",
                    "content": content(&json!({"type": "object", "properties": {"$errors": {
                        "type": "object", "additionalProperties": {"$ref": "#/components/schemas/Error"}}}}))},
            "default": failure("Error"),
        },
    })
}

fn input_ref(contract: &Contract, method: &Method) -> Value {
    let whole = message_schema(contract, &method.input, Refs::Components, true);
    match bare_field(contract, &method.input, method.bare_input.as_ref()) {
        Some(field) => json!({"anyOf": [field_schema(contract, field, Refs::Components, true), whole]}),
        None => whole,
    }
}

/// A query by GET.
fn fetch(contract: &Contract, plugin: &str, method: &Method) -> Value {
    let tag = json!({"etag": {"description": "Weak; the same answer has the same on every replica.",
                              "schema": {"type": "string"}}});
    let required = message_schema(contract, &method.input, Refs::Inline, true)["required"].is_array();
    json!({
        "operationId": format!("{plugin}.{}.get", method.json_name),
        "tags": [plugin],
        "summary": method.doc,
        "parameters": [
            {"name": "input", "in": "query", "required": required,
             "description": "The input as JSON.", "content": content(&input_ref(contract, method))},
            {"name": "if-none-match", "in": "header", "schema": {"type": "string"},
             "description": "The `etag` of an answer that the caller has."},
            {"name": "cache-control", "in": "header", "schema": {"type": "string"},
             "description": "`no-cache` has the answer made anew."},
        ],
        "responses": {
            "200": {"description": "The result.", "headers": tag,
                    "content": content(&result(contract, method, Refs::Components))},
            "304": {"description": "The caller has the answer already."},
            "default": failure("EnvelopedError"),
        },
    })
}

fn single(contract: &Contract, plugin: &str, method: &Method) -> Value {
    let envelope = |inner: Value| {
        let meta = json!({"type": "array", "items": {"type": "array"}});
        json!({"type": "object", "properties": {"json": inner, "meta": meta}, "additionalProperties": false})
    };
    let (input, output) = (input_ref(contract, method), result(contract, method, Refs::Components));
    json!({
        "operationId": format!("{plugin}.{}", method.json_name),
        "tags": [plugin],
        "summary": method.doc,
        "description": "A plain input is answered plainly. No body, or an object with no other keys than `json`, \
                        `meta` and `maps`, is an oRPC 1.13 envelope and is answered with one.",
        "x-permissions": method.permissions,
        "x-aliases": method.aliases,
        "requestBody": {"required": false, "content": content(&json!({"anyOf": [input, envelope(input.clone())]}))},
        "responses": {
            "200": {"description": "It succeeded.",
                    "content": content(&json!({"anyOf": [output, envelope(output.clone())]}))},
            "default": failure("EnvelopedError"),
        },
    })
}

/// A stream, by either verb.
fn follow(contract: &Contract, plugin: &str, method: &Method) -> Value {
    let message = message_schema(contract, &method.output, Refs::Components, false);
    let headers = json!([
        {"name": "accept", "in": "header", "schema": {"type": "string"},
         "description": "`application/x-ndjson` answers a line for each message instead of an event."},
        {"name": "last-event-id", "in": "header", "schema": {"type": "string"},
         "description": "The last cursor that was read; it goes before the input's."},
    ]);
    let responses = json!({
        "200": {"description": "Messages for as long as the caller listens. As events: `id` is the cursor, `event` \
                                the type, `data` the message; the event `error` is the last one.",
                "content": {"text/event-stream": {"itemSchema": message}, "application/x-ndjson": {"itemSchema": message}}},
        "default": failure("EnvelopedError"),
    });
    let input = input_ref(contract, method);
    let mut by_get = headers.clone();
    by_get.as_array_mut().into_iter().for_each(|parameters| {
        parameters.push(json!({"name": "input", "in": "query", "required": false,
                               "description": "The input as JSON.", "content": content(&input)}));
    });
    let operation = |name: String, parameters: &Value| {
        json!({
            "operationId": name,
            "tags": [plugin],
            "summary": method.doc,
            "x-permissions": method.permissions,
            "x-aliases": method.aliases,
            "parameters": parameters,
            "responses": responses,
        })
    };
    let mut post = operation(format!("{plugin}.{}", method.json_name), &headers);
    post["requestBody"] = json!({"required": false, "content": content(&input)});
    json!({"post": post, "get": operation(format!("{plugin}.{}.get", method.json_name), &by_get)})
}

fn failure(schema: &str) -> Value {
    let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
    json!({"description": "It was refused or failed.", "content": content(&schema)})
}

fn error_properties() -> Value {
    json!({
        "code": {"type": "string", "description": "FORBIDDEN, NOT_FOUND, …"},
        "message": {"type": "string"},
        "data": {"type": "object", "description": "`issues` of an invalid input; `procedure`, `results` and `errors` of a batch"},
    })
}

fn error_schema() -> Value {
    json!({"type": "object", "properties": error_properties(), "required": ["code", "message"]})
}

fn enveloped_error_schema() -> Value {
    let mut inner = error_properties();
    inner["defined"] = json!({"type": "boolean"});
    inner["status"] = json!({"type": "integer"});
    let inner = json!({"type": "object", "properties": inner, "required": ["defined", "code", "status", "message"]});
    json!({
        "type": "object",
        "properties": {"json": inner, "code": {"type": "string"}, "message": {"type": "string"}},
        "required": ["json", "code", "message"],
    })
}
