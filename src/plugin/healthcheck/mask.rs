//! Servers like to repeat what they were sent. Here secrets are taken out of what is shown and stored, in every form in
//! which they come back: as they are, percent-encoded, escaped for JSON or HTML, and inside of base64, where
//! `user:password` hides them.

use super::vault::Secrets;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// What stands there instead.
const MASK: &str = "***";

/// Shorter ones would be found everywhere: they are masked where they stand as a word of their own.
const WORD_CHARS_MAX: usize = 3;

/// So much of a secret at the end of a text that was cut is masked like the whole.
const CUT_CHARS_MIN: usize = 4;

/// Fewer characters of base64 say nothing.
const CORE_CHARS_MIN: usize = 4;

/// Finds the secrets of one check.
#[derive(Default)]
pub(super) struct Mask(Vec<Needle>);

struct Needle {
    text: Zeroizing<String>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Anywhere,
    Word,
    /// The characters around it hold bits of the secret as well, or are of the user before it.
    Base64,
}

impl Mask {
    /// For these secrets, which stand in these settings.
    pub(super) fn of(settings: &Value, secrets: &Secrets) -> Self {
        let mut mask = Self::default();
        for (place, secret) in secrets.iter().filter(|(_, secret)| !secret.trim().is_empty()) {
            let kind = if secret.chars().count() > WORD_CHARS_MAX { Kind::Anywhere } else { Kind::Word };
            mask.add(secret.trim(), kind);
            for core in cores(secret.as_bytes()) {
                mask.add(&core, Kind::Base64);
            }
            for user in users_beside(settings, place) {
                let pair = Zeroizing::new(format!("{user}:{}", secret.as_str()));
                mask.add(&STANDARD_NO_PAD.encode(pair.as_bytes()), Kind::Base64);
                mask.add(&URL_SAFE_NO_PAD.encode(pair.as_bytes()), Kind::Base64);
            }
        }
        mask
    }

    fn add(&mut self, text: &str, kind: Kind) {
        if !self.0.iter().any(|known| known.kind == kind && *known.text == text) {
            self.0.push(Needle { text: Zeroizing::new(text.to_owned()), kind });
        }
    }

    /// A text without secrets.
    pub(super) fn text(&self, text: String) -> String {
        let mut spans: Vec<_> = self.0.iter().flat_map(|needle| needle.spans(&text)).collect();
        if spans.is_empty() {
            return text;
        }
        spans.sort_unstable();
        let (mut masked, mut done) = (String::with_capacity(text.len()), 0);
        for (start, end) in spans {
            if start >= done {
                masked.push_str(text.get(done..start).unwrap_or_default());
                masked.push_str(MASK);
            }
            done = done.max(end);
        }
        masked.push_str(text.get(done..).unwrap_or_default());
        masked
    }

    /// Every text of a value, and the names in it.
    pub(super) fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(std::mem::take(text)),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(object) => self.object(object),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// The same for what stands in an object.
    pub(super) fn object(&self, object: &mut Map<String, Value>) {
        if self.0.is_empty() {
            return;
        }
        let masked = std::mem::take(object).into_iter().map(|(name, mut value)| {
            self.value(&mut value);
            (self.text(name), value)
        });
        *object = masked.collect();
    }
}

impl Needle {
    /// Where it stands.
    fn spans(&self, text: &str) -> Vec<(usize, usize)> {
        let (bytes, mut spans, mut at) = (text.as_bytes(), vec![], 0);
        let first = self.text.bytes().next().unwrap_or_default();
        while let Some(byte) = bytes.get(at).copied() {
            let may_begin = byte == first || matches!(byte, b'%' | b'\\' | b'&' | b'+');
            let end = if may_begin { self.end_at(bytes, at) } else { None };
            match end.and_then(|end| self.whole(bytes, at, end)) {
                Some((start, end)) => {
                    spans.push((start, end));
                    at = end.max(at + 1);
                }
                None => at += 1,
            }
        }
        spans
    }

    /// Where it ends if it begins here. What looks like an escape may be part of the secret, so both are tried.
    fn end_at(&self, bytes: &[u8], at: usize) -> Option<usize> {
        self.follow(bytes, at, true).or_else(|| self.follow(bytes, at, false))
    }

    fn follow(&self, bytes: &[u8], mut at: usize, is_escaped: bool) -> Option<usize> {
        let least = if self.kind == Kind::Base64 { CORE_CHARS_MIN + 2 } else { CUT_CHARS_MIN };
        for (place, letter) in self.text.chars().enumerate() {
            let rest = bytes.get(at..).unwrap_or_default();
            if place >= least && (rest.is_empty() || rest == "…".as_bytes()) {
                return Some(at);
            }
            let escaped = if is_escaped { escaped(rest).filter(|(found, _)| *found == letter) } else { None };
            at += match escaped {
                Some((_, length)) => length,
                None if rest.starts_with(letter.encode_utf8(&mut [0; 4]).as_bytes()) => letter.len_utf8(),
                None => return None,
            };
        }
        Some(at)
    }

    /// What is masked with it.
    fn whole(&self, bytes: &[u8], mut start: usize, mut end: usize) -> Option<(usize, usize)> {
        let at = |place: usize| bytes.get(place).copied().unwrap_or_default();
        match self.kind {
            Kind::Anywhere => Some((start, end)),
            Kind::Word => {
                let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte >= 0x80;
                let stands_alone = (start == 0 || !is_letter(at(start - 1))) && !is_letter(at(end));
                stands_alone.then_some((start, end))
            }
            Kind::Base64 => {
                let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
                while start > 0 && is_one(at(start - 1)) {
                    start -= 1;
                }
                while is_one(at(end)) {
                    end += 1;
                }
                Some((start, end))
            }
        }
    }
}

/// The character that an escape at the beginning stands for, and how long it is.
fn escaped(rest: &[u8]) -> Option<(char, usize)> {
    match rest {
        [b'+', ..] => Some((' ', 1)),
        [b'%', ..] => percent(rest),
        [b'\\', b'u', ..] => unicode(rest),
        [b'\\', letter, ..] => {
            let meant = match letter {
                b'n' => '\n',
                b't' => '\t',
                b'r' => '\r',
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'"' | b'\\' | b'/' | b'\'' => char::from(*letter),
                _ => return None,
            };
            Some((meant, 2))
        }
        [b'&', ..] => entity(rest),
        _ => None,
    }
}

/// `%C3%A4`: a character is one to four bytes.
fn percent(rest: &[u8]) -> Option<(char, usize)> {
    let byte = |place: usize| {
        let (mark, digits) = rest.get(place * 3..place * 3 + 3)?.split_first()?;
        (*mark == b'%').then(|| hex(digits)).flatten().and_then(|value| u8::try_from(value).ok())
    };
    let length = match byte(0)? {
        0..=0x7f => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    let bytes: Vec<_> = (0..length).map(byte).collect::<Option<_>>()?;
    Some((std::str::from_utf8(&bytes).ok()?.chars().next()?, length * 3))
}

/// `\u00e4`, or two of them for what has no place in 16 bits.
fn unicode(rest: &[u8]) -> Option<(char, usize)> {
    let unit = |place: usize| {
        let part = rest.get(place * 6..place * 6 + 6)?;
        part.strip_prefix(b"\\u").and_then(hex).and_then(|value| u16::try_from(value).ok())
    };
    let units = [unit(0), unit(1)].into_iter().flatten();
    let letter = char::decode_utf16(units).next()?.ok()?;
    Some((letter, letter.len_utf16() * 6))
}

/// `&amp;`, `&#39;`, `&#x27;`.
fn entity(rest: &[u8]) -> Option<(char, usize)> {
    const LONGEST: usize = 10;
    let end = rest.iter().take(LONGEST).position(|byte| *byte == b';')?;
    let letter = match rest.get(1..end)? {
        b"amp" => '&',
        b"lt" => '<',
        b"gt" => '>',
        b"quot" => '"',
        b"apos" => '\'',
        [b'#', b'x' | b'X', digits @ ..] => char::from_u32(hex(digits)?)?,
        [b'#', digits @ ..] => char::from_u32(std::str::from_utf8(digits).ok()?.parse().ok()?)?,
        _ => return None,
    };
    Some((letter, end + 1))
}

fn hex(digits: &[u8]) -> Option<u32> {
    let is_good = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    is_good.then(|| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
}

/// The characters of base64 that are of these bytes alone, wherever among others they stand.
fn cores(bytes: &[u8]) -> Vec<Zeroizing<String>> {
    let mut cores = vec![];
    for before in 0..3 {
        let padded = Zeroizing::new([&vec![0; before], bytes, &[0; 2]].concat());
        let (from, to) = ((before * 8).div_ceil(6), (before + bytes.len()) * 8 / 6);
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = Zeroizing::new(engine.encode(padded.as_slice()));
            let core = text.get(from..to).unwrap_or_default();
            if core.len() >= CORE_CHARS_MIN {
                cores.push(Zeroizing::new(core.to_owned()));
            }
        }
    }
    cores
}

/// The users that stand beside a secret.
fn users_beside<'s>(settings: &'s Value, place: &str) -> impl Iterator<Item = &'s str> {
    let parent = place.rsplit_once('/').and_then(|(parent, _)| settings.pointer(parent)?.as_object());
    let users = parent.into_iter().flatten().filter(|(name, _)| name.to_lowercase().contains("user"));
    users.filter_map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::json;

    fn mask(secret: &str) -> Mask {
        let settings = json!({"basicAuth": {"username": "u", "password": secret}});
        Mask::of(&settings, &Secrets::from([("/basicAuth/password".into(), Zeroizing::new(secret.into()))]))
    }

    fn masked(secret: &str, text: &str) -> String {
        mask(secret).text(text.to_owned())
    }

    #[test]
    fn a_secret_is_masked_in_every_form() {
        for (secret, text, expected) in [
            ("hunter2", "no hunter2 here, hunter2", "no *** here, ***"),
            ("hunter2-hunter2", "Basic dTpodW50ZXIyLWh1bnRlcjI= and more", "Basic *** and more"),
            ("hunter2", r#"{"authorization":"Basic dTpodW50ZXIy"}"#, r#"{"authorization":"Basic ***"}"#),
            ("hunter2", "AGFsaWNlAGh1bnRlcjI=", "***"),
            ("pä ss/w&d", "q=p%C3%A4+ss%2Fw%26d&x", "q=***&x"),
            ("pä ss/w&d", "p%c3%a4%20ss/w&d", "***"),
            ("a\"b\\c\nd", r#"{"is":"a\"b\\c\nd"}"#, r#"{"is":"***"}"#),
            ("pä😀ss", r#""p\u00e4\ud83d\ude00ss""#, r#""***""#),
            ("it's<so>", "it&#39;s&lt;so&gt; it&#x27;s<so>", "*** ***"),
            ("100%25 sure", "100%25 sure, 100%2525%20sure", "***, ***"),
            ("x", "x is not an index, but x", "*** is not an index, but ***"),
            ("abc", "Basic dTphYmM= abcd abc", "Basic *** abcd ***"),
            ("hunter2-hunter2", "what was cut: hunter2-hun", "what was cut: ***"),
            ("hunter2-hunter2", "what was cut: hunter2-h…", "what was cut: ***…"),
            ("hunter2", "hunting", "hunting"),
        ] {
            assert_eq!(masked(secret, text), expected, "{secret} in {text}");
        }
    }

    #[test]
    fn values_and_names_are_masked_and_nothing_without_secrets() {
        let mut value = json!({"text": "no hunter2 here", "list": ["hunter2", 2], "hunter2": null});
        let before = value.clone();
        Mask::default().value(&mut value);
        assert_eq!(value, before);
        mask("hunter2").value(&mut value);
        assert_eq!(value, json!({"text": "no *** here", "list": ["***", 2], "***": null}));
    }

    proptest! {
        /// Wherever it stands in what is encoded, and whatever it is made of.
        #[test]
        fn nothing_of_it_is_left(secret in "[ -~äß€]{4,40}", before in "[a-z]{0,9}", behind in "[a-z]{0,9}") {
            prop_assume!(secret.trim().chars().count() > 3 && secret.trim() == secret);
            let percent: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            let whole = format!("{before}{secret}{behind}");
            for form in [secret.clone(), percent, json!(secret).to_string(), STANDARD.encode(&whole)] {
                let shown = masked(&secret, &format!("<{form}>"));
                prop_assert!(shown.contains(MASK) && !shown.contains(&form), "{} in {}", secret, shown);
            }
        }
    }
}
