//! What a streaming method must be like.

use super::{Method, Result};
use prost_reflect::{Cardinality, Kind, MethodDescriptor};

/// Refuses what transport could not carry: a stream can be resumed, says what each message is, and changes nothing.
pub(super) fn check(method: &MethodDescriptor, found: &Method) -> Result<()> {
    let name = method.full_name();
    if method.is_client_streaming() {
        return Err(format!("{name}: streams of callers are not generated").into());
    }
    if !found.streams {
        return Ok(());
    }
    let is_named = ["Watch", "Export"].iter().any(|verb| method.name().starts_with(verb));
    if !found.query || !is_named {
        return Err(format!("{name}: what streams is a query, and its name starts with Watch or Export").into());
    }
    if !found.depends_on.is_empty() || found.bare_output.is_some() {
        return Err(format!("{name}: a stream is not kept, and its messages are shown whole").into());
    }
    let (input, output) = (method.input(), method.output());
    let is_cursor = |message: &prost_reflect::MessageDescriptor| {
        let field = message.get_field_by_name("cursor");
        field.is_some_and(|field| {
            field.kind() == Kind::String && field.cardinality() == Cardinality::Optional && field.supports_presence()
        })
    };
    let says_what = output.get_field_by_name("type").is_some_and(|field| matches!(field.kind(), Kind::Enum(_)));
    if !is_cursor(&input) || !is_cursor(&output) || !says_what {
        return Err(
            format!("{name}: a stream has an optional cursor in its request and its messages, and their type").into()
        );
    }
    Ok(())
}
