//! JSON and validation of every message.
//!
//! What goes out gets `serde::Serialize` and `Dates` (where its dates are, for the oRPC envelope); what comes in gets
//! `Decode` and `Validate`. Decoding is not serde's: it must report every violation at once, and tell an absent key
//! from `null`.

use super::Result;
use super::model::{Contract, Enum, Field, FieldKind, Format, Message, Rules, rust_path};
use heck::ToShoutySnakeCase;
use std::fmt::Write;

pub(super) fn write(contract: &Contract) -> Result<String> {
    let mut code = String::new();
    for names in contract.enums.values() {
        write_enum(&mut code, names)?;
    }
    for message in contract.messages.values() {
        if message.is_output {
            write_serialize(&mut code, message)?;
            write_dates(&mut code, message)?;
        }
        if message.is_input {
            write_decode(&mut code, message)?;
            write_validate(&mut code, message)?;
            write_paged(&mut code, message)?;
        }
    }
    Ok(code)
}

fn enum_table(full_name: &str) -> String {
    full_name.to_shouty_snake_case()
}

fn write_enum(code: &mut String, names: &Enum) -> Result<()> {
    let table = enum_table(&names.full_name);
    writeln!(code, "static {table}: Names = &{:?};", names.values)?;
    Ok(())
}

fn write_serialize(code: &mut String, message: &Message) -> Result<()> {
    let mut body = String::new();
    for field in message.json_fields() {
        let (key, name) = (&field.json_name, &field.rust_name);
        if let Some((of_key, of_value)) = &field.rules.map {
            writeln!(
                body,
                "object.serialize_entry({key:?}, &encode::Map(|| self.{name}.iter().map(|item| (&item.{of_key}, &item.{of_value}))))?;"
            )?;
        } else if field.repeated {
            if !matches!(field.kind, FieldKind::Text | FieldKind::Message(_)) {
                return Err(format!("{}.{name}: a list of this is not generated", message.full_name).into());
            }
            writeln!(body, "object.serialize_entry({key:?}, &self.{name})?;")?;
        } else if field.optional {
            let some = serializable(field, "value");
            writeln!(body, "if let Some(value) = &self.{name} {{ object.serialize_entry({key:?}, {some})?; }}")?;
            if field.rules.nullable {
                writeln!(body, "else {{ object.serialize_entry({key:?}, &())?; }}")?;
            }
        } else {
            let value = serializable(field, &format!("&self.{name}"));
            writeln!(body, "object.serialize_entry({key:?}, {value})?;")?;
        }
    }
    writeln!(
        code,
        "impl serde::Serialize for {} {{
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {{
                let mut object = serializer.serialize_map(None)?;
                {body}
                object.end()
            }}
        }}",
        rust_path(&message.full_name)
    )?;
    Ok(())
}

/// An expression that serde can write, for a reference to the value of a field.
fn serializable(field: &Field, reference: &str) -> String {
    match &field.kind {
        FieldKind::Enum(name) => format!("&encode::Name(*({reference}), {})", enum_table(name)),
        FieldKind::Timestamp => format!("&encode::Time({reference})"),
        FieldKind::Object => format!("&encode::Object({reference})"),
        FieldKind::Any => format!("&encode::Any({reference})"),
        _ => reference.to_owned(),
    }
}

fn write_dates(code: &mut String, message: &Message) -> Result<()> {
    let mut body = String::new();
    for field in message.json_fields() {
        let (key, name) = (&field.json_name, &field.rust_name);
        match &field.kind {
            FieldKind::Timestamp => writeln!(body, "if self.{name}.is_some() {{ found.date({key:?}); }}")?,
            FieldKind::Message(_) => match &field.rules.map {
                Some((of_key, of_value)) => writeln!(
                    body,
                    "found.inside_map({key:?}, self.{name}.iter().map(|item| (&*item.{of_key}, &item.{of_value})));"
                )?,
                None => writeln!(body, "found.inside({key:?}, &self.{name});")?,
            },
            _ => {}
        }
    }
    let found = if body.is_empty() { "_" } else { "found" };
    let path = rust_path(&message.full_name);
    writeln!(code, "impl Dates for {path} {{ fn dates(&self, {found}: &mut DatePaths) {{ {body} }} }}")?;
    Ok(())
}

fn write_decode(code: &mut String, message: &Message) -> Result<()> {
    let mut arms = String::new();
    let mut checks = String::new();
    for field in message.json_fields() {
        let mut keys = vec![field.json_name.as_str()];
        keys.extend(field.rules.aliases.iter().map(String::as_str));
        if keys.len() > 1 {
            writeln!(checks, "at.only_one(entries, &{keys:?});")?;
        }
        let into = match (field.repeated, field.optional) {
            (true, _) => "list",
            (_, true) => "optional",
            _ => "plain",
        };
        let pattern: Vec<_> = keys.iter().map(|key| format!("{key:?}")).collect();
        let (pattern, name) = (pattern.join(" | "), &field.rust_name);
        writeln!(arms, "{pattern} => at.{into}(key, value, &mut message.{name}, {}),", decoder(field))?;
    }
    if message.has_mask() {
        let keys: Vec<_> = message.json_fields().flat_map(mask_keys).collect();
        let firm = message.json_fields().filter(|field| !field.rules.nullable && !field.rules.required);
        let firm: Vec<_> =
            firm.flat_map(|field| std::iter::once(&field.json_name).chain(&field.rules.aliases)).collect();
        writeln!(checks, "at.not_null(entries, &{firm:?});")?;
        writeln!(checks, "message.update_mask = Some(at.mask(entries, &{keys:?}));")?;
    }
    let message_binding = if arms.is_empty() { "message" } else { "mut message" };
    writeln!(
        code,
        "impl Decode for {} {{
            fn decode(value: &Value<'_>, at: &mut Decoder) -> Option<Self> {{
                let entries = at.entries(value)?;
                let {message_binding} = Self::default();
                {checks}
                for (key, {value}) in entries {{
                    match key.as_ref() {{ {arms} _ => at.unknown(key), }}
                }}
                Some(message)
            }}
        }}",
        rust_path(&message.full_name),
        value = if arms.is_empty() { "_" } else { "value" },
    )?;
    Ok(())
}

/// Every key of a field with the name that a field mask has for it. The id of the resource is not a change.
fn mask_keys(field: &Field) -> Vec<(String, String)> {
    if field.rules.required {
        return vec![];
    }
    let keys = std::iter::once(&field.json_name).chain(&field.rules.aliases);
    keys.map(|key| (key.clone(), field.proto_name.clone())).collect()
}

fn decoder(field: &Field) -> String {
    match &field.kind {
        FieldKind::Text => "decode::text".to_owned(),
        FieldKind::Bool => "decode::boolean".to_owned(),
        FieldKind::Int32 => "decode::int32".to_owned(),
        FieldKind::Int64 => "decode::int64".to_owned(),
        FieldKind::Double => "decode::double".to_owned(),
        FieldKind::Enum(name) => format!("|value, at| decode::name(value, at, {})", enum_table(name)),
        FieldKind::Message(name) => format!("<{} as Decode>::decode", rust_path(name)),
        FieldKind::Timestamp => "decode::time".to_owned(),
        FieldKind::Object => "decode::object".to_owned(),
        FieldKind::Any => "decode::any".to_owned(),
        FieldKind::Mask => unreachable!("JSON does not know masks"),
    }
}

fn write_validate(code: &mut String, message: &Message) -> Result<()> {
    let mut body = String::new();
    // The page token covers the other fields, so they take their final form first.
    let mut fields: Vec<_> = message.fields.iter().collect();
    fields.sort_by_key(|field| field.rules.format == Format::PageToken);
    for field in fields {
        write_check(&mut body, message, field)?;
    }
    if message.has_rules {
        writeln!(body, "crate::contract::Rules::rules(self, check);")?;
    }
    let check = if body.is_empty() { "_" } else { "check" };
    let path = rust_path(&message.full_name);
    writeln!(code, "impl Validate for {path} {{ fn validate(&mut self, {check}: &mut Checker<'_>) {{ {body} }} }}")?;
    Ok(())
}

fn write_check(body: &mut String, message: &Message, field: &Field) -> Result<()> {
    let Field { rust_name: name, json_name: key, rules, .. } = field;
    let Rules { required, minimum, maximum, json_bytes_max, items_max, .. } = rules;
    match &field.kind {
        FieldKind::Text if rules.format == Format::PageToken => writeln!(body, "check.page({key:?}, self);")?,
        FieldKind::Text => {
            let way = if field.repeated {
                "texts"
            } else if field.optional {
                "optional_text"
            } else {
                "text"
            };
            let items = if field.repeated { format!(", {items_max}") } else { String::new() };
            writeln!(body, "check.{way}({key:?}, &mut self.{name}, &{}{items});", text_rule(rules))?;
        }
        FieldKind::Int32 | FieldKind::Int64 if (*minimum, *maximum) != (0, 0) => {
            let value = if field.optional { format!("self.{name}") } else { format!("Some(self.{name})") };
            writeln!(body, "check.range({key:?}, {value}.map(i64::from), {minimum}, {maximum});")?;
        }
        FieldKind::Bool | FieldKind::Int32 | FieldKind::Int64 | FieldKind::Double => {}
        FieldKind::Enum(names) => {
            let value =
                if field.optional { format!("self.{name}.unwrap_or_default()") } else { format!("self.{name}") };
            writeln!(body, "check.name({key:?}, {value}, {}, {required});", enum_table(names))?;
        }
        FieldKind::Message(_) if field.repeated => {
            writeln!(body, "check.messages({key:?}, &mut self.{name}, {items_max});")?;
        }
        FieldKind::Message(_) => writeln!(body, "check.message({key:?}, &mut self.{name}, {required});")?,
        FieldKind::Timestamp => writeln!(body, "check.time({key:?}, self.{name}.as_ref(), {required});")?,
        FieldKind::Object => {
            writeln!(body, "check.object({key:?}, self.{name}.as_ref(), {required}, {json_bytes_max});")?;
        }
        FieldKind::Any => writeln!(body, "check.any({key:?}, self.{name}.as_ref(), {required}, {json_bytes_max});")?,
        FieldKind::Mask => {
            let mut known = String::new();
            for other in message.json_fields().filter(|other| !other.rules.required) {
                let clears = other.rules.nullable || other.repeated;
                let fine = if clears { "true".to_owned() } else { format!("self.{}.is_some()", other.rust_name) };
                write!(known, "({:?}, {:?}, {fine}),", other.proto_name, other.json_name)?;
            }
            writeln!(body, "check.mask({key:?}, self.{name}.as_ref(), &[{known}]);")?;
        }
    }
    Ok(())
}

fn text_rule(rules: &Rules) -> String {
    let format = match rules.format {
        Format::Any => "Any",
        Format::Uuid => "Uuid",
        Format::Email => "Email",
        Format::Cursor => "Cursor",
        Format::PageToken => unreachable!("checked with its message"),
    };
    format!(
        "Text {{ required: {}, trimmed: {}, length_max: {}, format: Format::{format} }}",
        rules.required, rules.trimmed, rules.length_max
    )
}

/// A request with a page token is a list; the token is bound to everything else that it says.
fn write_paged(code: &mut String, message: &Message) -> Result<()> {
    if !message.fields.iter().any(|field| field.rules.format == Format::PageToken) {
        return Ok(());
    }
    writeln!(
        code,
        "impl Paged for {} {{
            fn page_size(&self) -> Option<i32> {{ self.page_size }}
            fn page_token(&self) -> Option<&str> {{ self.page_token.as_deref() }}
            fn bound_to(&self) -> Vec<u8> {{
                let filters = Self {{ page_size: None, page_token: None, ..self.clone() }};
                let mut bytes = {:?}.as_bytes().to_vec();
                bytes.extend(prost::Message::encode_to_vec(&filters));
                bytes
            }}
        }}",
        rust_path(&message.full_name),
        message.full_name
    )?;
    Ok(())
}
