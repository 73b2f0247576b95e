//! The secrets in settings: taken out before they are stored, sealed, and put back to look with.
//!
//! The schema of a strategy says what is a secret (`writeOnly`); nothing here knows a strategy.

use super::domain::CheckId;
use crate::access::InstanceKey;
use crate::error::{Error, Result};
use crate::world::Entropy;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Secrets by their place in the settings, a JSON Pointer.
pub(super) type Secrets = BTreeMap<String, Zeroizing<String>>;

const NONCE_BYTES: usize = 24;

/// A reference of a schema to itself is followed so far.
const DEPTH_MAX: usize = 16;

/// Takes the secrets out of settings. One that is `null` is answered apart: it is to be forgotten.
pub(super) fn take_out(settings: &mut Value, schema: &Value) -> (Secrets, Vec<String>) {
    let (mut secrets, mut forgotten) = (Secrets::new(), vec![]);
    let mut places = vec![];
    find(settings, schema, schema, &mut String::new(), 0, &mut places);
    for place in places {
        let Some((parent, key)) = place.rsplit_once('/') else { continue };
        let Some(Value::Object(parent)) = settings.pointer_mut(parent) else { continue };
        match parent.remove(&unescaped(key)) {
            Some(Value::String(text)) => drop(secrets.insert(place, Zeroizing::new(text))),
            Some(Value::Null) => forgotten.push(place),
            // Not a text: it stays where it is, and reading the settings says what is wrong with it.
            Some(other) => drop(parent.insert(unescaped(key), other)),
            None => {}
        }
    }
    (secrets, forgotten)
}

/// Puts the secrets back.
pub(super) fn put_back(settings: &mut Value, secrets: &Secrets) {
    for (place, secret) in secrets {
        let mut at = &mut *settings;
        for key in place.split('/').skip(1).map(unescaped) {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            let Value::Object(object) = at else { break };
            at = object.entry(key).or_insert(Value::Null);
        }
        *at = Value::String(secret.to_string());
    }
}

/// How a place is shown: `basicAuth.password`.
pub(super) fn shown(place: &str) -> String {
    place.split('/').skip(1).map(unescaped).collect::<Vec<_>>().join(".")
}

/// Seals secrets for one check. The name of the key stands in front, so that it is known which one opens it.
pub(super) fn seal(secrets: &Secrets, id: CheckId, key: &InstanceKey, entropy: Entropy) -> Result<Option<String>> {
    if secrets.is_empty() {
        return Ok(None);
    }
    let plain: BTreeMap<&str, &str> = secrets.iter().map(|(place, secret)| (place.as_str(), secret.as_str())).collect();
    let plain = Zeroizing::new(serde_json::to_vec(&plain).map_err(|_| Error::bug("secrets are texts"))?);
    let nonce = entropy.bits256()?;
    let nonce = nonce.first_chunk::<NONCE_BYTES>().ok_or_else(|| Error::bug("a nonce has 24 bytes"))?;
    let payload = Payload { msg: &plain, aad: id.0.as_bytes() };
    let sealed = key.secret_seal().encrypt(&XNonce::from(*nonce), payload);
    let sealed = sealed.map_err(|_| Error::bug("secrets could not be sealed"))?;
    Ok(Some(format!("{}:{}", key.name, STANDARD_NO_PAD.encode([&nonce[..], &sealed].concat()))))
}

/// Opens what was sealed for this check, under the current key or one before it.
pub(super) fn open(sealed: Option<&str>, id: CheckId, key: &InstanceKey, old: &[InstanceKey]) -> Result<Secrets> {
    let Some(sealed) = sealed else { return Ok(Secrets::new()) };
    let other = || Error::Refused("The secrets were sealed under another instance key; give them again".into());
    let (name, text) = sealed.split_once(':').ok_or_else(other)?;
    let key = std::iter::once(key).chain(old).find(|key| key.name == name).ok_or_else(other)?;
    let seal: XChaCha20Poly1305 = key.secret_seal();
    let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| other())?;
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(other)?;
    let payload = Payload { msg: sealed, aad: id.0.as_bytes() };
    let plain = Zeroizing::new(seal.decrypt(&XNonce::from(*nonce), payload).map_err(|_| other())?);
    let found: BTreeMap<String, String> = serde_json::from_slice(&plain).map_err(|_| other())?;
    Ok(found.into_iter().map(|(place, secret)| (place, Zeroizing::new(secret))).collect())
}

/// Where in settings there are secrets, by the schema.
fn find(value: &Value, schema: &Value, root: &Value, at: &mut String, depth: usize, places: &mut Vec<String>) {
    if depth > DEPTH_MAX {
        return;
    }
    if schema.get("writeOnly") == Some(&Value::Bool(true)) {
        if !places.contains(at) {
            places.push(at.clone());
        }
        return;
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str)
        && let Some(schema) = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer))
    {
        find(value, schema, root, at, depth + 1, places);
    }
    for several in ["oneOf", "anyOf", "allOf"] {
        for schema in schema.get(several).and_then(Value::as_array).into_iter().flatten() {
            find(value, schema, root, at, depth + 1, places);
        }
    }
    let Value::Object(object) = value else { return };
    for (key, value) in object {
        let known = schema.get("properties").and_then(|properties| properties.get(key));
        if let Some(schema) = known.or_else(|| schema.get("additionalProperties")) {
            let length = at.len();
            at.push('/');
            at.push_str(&key.replace('~', "~0").replace('/', "~1"));
            find(value, schema, root, at, depth + 1, places);
            at.truncate(length);
        }
    }
}

fn unescaped(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({
            "properties": {
                "url": {"type": "string"},
                "token": {"type": ["string", "null"], "writeOnly": true},
                "auth": {"anyOf": [{"$ref": "#/$defs/Auth"}, {"type": "null"}]},
                "headers": {"additionalProperties": {"type": "string", "writeOnly": true}}
            },
            "$defs": {"Auth": {"properties": {"user": {}, "password": {"writeOnly": true}}}}
        })
    }

    #[test]
    fn secrets_come_out_and_go_back_where_they_were() {
        let whole =
            json!({"url": "u", "token": "t", "auth": {"user": "a", "password": "p"}, "headers": {"x/~.y": "h"}});
        let mut settings = whole.clone();
        let (secrets, forgotten) = take_out(&mut settings, &schema());
        assert_eq!(settings, json!({"url": "u", "auth": {"user": "a"}, "headers": {}}));
        let shown: Vec<_> = secrets.keys().map(|place| shown(place)).collect();
        assert_eq!((shown, forgotten), (vec!["auth.password".into(), "headers.x/~.y".into(), "token".into()], vec![]));
        put_back(&mut settings, &secrets);
        assert_eq!(settings, whole);
    }

    #[test]
    fn null_forgets_a_secret_and_what_is_no_text_stays() {
        let mut settings = json!({"token": null, "auth": {"password": 7}});
        let (secrets, forgotten) = take_out(&mut settings, &schema());
        assert_eq!((secrets.len(), forgotten), (0, vec!["/token".to_owned()]));
        assert_eq!(settings, json!({"auth": {"password": 7}}));
    }

    #[test]
    fn what_is_sealed_is_opened_for_its_check_under_its_key_only() {
        let secrets = Secrets::from([("/token".to_owned(), Zeroizing::new("hunter2".to_owned()))]);
        let id = |n| CheckId(uuid::Uuid::from_u128(n));
        let (key, other) = (InstanceKey::new(&[1; 32]), InstanceKey::new(&[2; 32]));
        let sealed = seal(&secrets, id(1), &key, Entropy).unwrap().unwrap();
        assert!(!sealed.contains("hunter2"));
        assert_eq!(open(Some(&sealed), id(1), &key, &[]).unwrap(), secrets);
        assert!(open(Some(&sealed), id(2), &key, &[]).is_err() && open(Some(&sealed), id(1), &other, &[]).is_err());
        assert_eq!(open(Some(&sealed), id(1), &other, &[InstanceKey::new(&[1; 32])]).unwrap(), secrets);
        let second = seal(&secrets, id(1), &key, Entropy).unwrap().unwrap();
        assert_ne!(sealed, second, "a nonce is used once");
    }
}
