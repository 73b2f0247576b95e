//! Validation, the same for both protocols: what the .proto says about fields, plus the rules of a plugin.
//!
//! It runs after authorisation and before anything else happens; texts come out trimmed.

use super::issue::{Issues, Path};
use super::page::{PageKey, Paged};
use crate::access::Grant;
use crate::database::Place;
use crate::json::{Names, encode};
use prost_types::value::Kind;

/// How deep free JSON may nest. A level of it is three of Protobuf, whose readers stop at a hundred: what is stored
/// through one protocol must be readable through the other.
pub const FREE_JSON_DEPTH_MAX: usize = 32;

/// A message whose fields can be checked. Generated.
pub trait Validate {
    /// Reports what is wrong, and brings texts into their final form.
    fn validate(&mut self, check: &mut Checker<'_>);
}

/// Rules of a whole message that the .proto announces with `has_rules`; a plugin's `domain.rs` has them.
pub trait Rules {
    /// Reports what is wrong.
    fn rules(&self, check: &mut Checker<'_>);
}

/// What a text must be like.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Must not be blank.
    pub required: bool,
    /// White space around it is removed first.
    pub trimmed: bool,
    /// The most characters; 0: no bound but the size of the request.
    pub length_max: usize,
    /// What it must look like.
    pub format: Format,
}

/// What a text must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Anything.
    Any,
    /// A hyphenated UUID.
    Uuid,
    /// An e-mail address.
    Email,
    /// From where a stream is resumed.
    Cursor,
}

/// Where checking stands, and what was wrong so far.
pub struct Checker<'c> {
    pages: &'c PageKey,
    path: Path,
    issues: Issues,
}

impl<'c> Checker<'c> {
    /// Starts with what decoding already found.
    #[must_use]
    pub fn new(pages: &'c PageKey, found: Issues) -> Self {
        Self { pages, path: Path::default(), issues: found }
    }

    /// What was wrong.
    #[must_use]
    pub fn finish(self) -> Issues {
        self.issues
    }

    /// Reports a violation of a field.
    pub fn issue(&mut self, key: &str, message: impl Into<String>) {
        self.inside(key, |check| check.here(message));
    }

    /// Reports a violation of an item of a list.
    pub fn item_issue(&mut self, key: &str, index: usize, message: impl Into<String>) {
        self.inside(key, |check| {
            check.path.push_index(index);
            check.here(message);
            check.path.pop();
        });
    }

    /// A text that always has a value.
    pub fn text(&mut self, key: &str, text: &mut String, rule: &Text) {
        self.inside(key, |check| check.one_text(text, rule));
    }

    /// A text that may be absent, but not blank where it is named as required or trimmed to a name.
    pub fn optional_text(&mut self, key: &str, text: &mut Option<String>, rule: &Text) {
        match text {
            Some(text) => {
                // A field with a bound that is trimmed is a name: given, it must say something. `null` clears.
                let rule = Text { required: rule.required || (rule.trimmed && rule.length_max > 0), ..*rule };
                self.inside(key, |check| check.one_text(text, &rule));
            }
            None if rule.required => self.issue(key, "Required"),
            None => {}
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &str, texts: &mut [String], rule: &Text, items_max: usize) {
        self.inside(key, |check| {
            if items_max > 0 && texts.len() > items_max {
                return check.here(format!("Must have at most {items_max} items"));
            }
            for (index, text) in texts.iter_mut().enumerate() {
                check.path.push_index(index);
                check.one_text(text, &Text { required: true, ..*rule });
                check.path.pop();
            }
        });
    }

    /// A number with bounds, both included.
    pub fn range(&mut self, key: &str, value: Option<i64>, minimum: i64, maximum: i64) {
        if value.is_some_and(|value| !(minimum..=maximum).contains(&value)) {
            self.issue(key, format!("Must be between {minimum} and {maximum}"));
        }
    }

    /// An enum value: 0 is absence, a number without a name is none of ours.
    pub fn name(&mut self, key: &str, value: i32, names: Names, required: bool) {
        if value == 0 {
            if required {
                self.issue(key, "Required");
            }
        } else if !names.iter().any(|(_, number)| *number == value) {
            let known: Vec<_> = names.iter().map(|(name, _)| *name).collect();
            self.issue(key, format!("Must be one of {}", known.join(", ")));
        }
    }

    /// A message inside of a message.
    pub fn message<M: Validate>(&mut self, key: &str, message: &mut Option<M>, required: bool) {
        match message {
            Some(message) => self.inside(key, |check| message.validate(check)),
            None if required => self.issue(key, "Required"),
            None => {}
        }
    }

    /// A list of messages.
    pub fn messages<M: Validate>(&mut self, key: &str, messages: &mut [M], items_max: usize) {
        self.inside(key, |check| {
            if items_max > 0 && messages.len() > items_max {
                return check.here(format!("Must have at most {items_max} items"));
            }
            for (index, message) in messages.iter_mut().enumerate() {
                check.path.push_index(index);
                message.validate(check);
                check.path.pop();
            }
        });
    }

    /// A time between the years 1 and 9999, which RFC 3339 can write; less the last 26 hours, which jiff keeps free so
    /// that every time has a civil date in every time zone.
    pub fn time(&mut self, key: &str, time: Option<&prost_types::Timestamp>, required: bool) {
        const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_207_199;
        match time {
            Some(time) if !SECONDS.contains(&time.seconds) || !(0..1_000_000_000).contains(&time.nanos) => {
                self.issue(key, "Must be a time between the years 1 and 9999");
            }
            None if required => self.issue(key, "Required"),
            _ => {}
        }
    }

    /// A free JSON object.
    pub fn object(&mut self, key: &str, object: Option<&prost_types::Struct>, required: bool, bytes_max: usize) {
        match object {
            Some(object) => self.inside(key, |check| {
                if check.free_object(object, FREE_JSON_DEPTH_MAX) {
                    check.size(encode::object_text(object).len(), bytes_max);
                }
            }),
            None if required => self.issue(key, "Required"),
            None => {}
        }
    }

    /// A free JSON value.
    pub fn any(&mut self, key: &str, value: Option<&prost_types::Value>, required: bool, bytes_max: usize) {
        match value {
            Some(value) => self.inside(key, |check| {
                if check.free(value, FREE_JSON_DEPTH_MAX) {
                    check.size(encode::any_text(value).len(), bytes_max);
                }
            }),
            None if required => self.issue(key, "Required"),
            None => {}
        }
    }

    /// A field mask: the fields that it may name, their names in JSON, and whether each is set or may be cleared.
    pub fn mask(&mut self, key: &str, mask: Option<&prost_types::FieldMask>, known: &[(&str, &str, bool)]) {
        for path in mask.map_or(&[][..], |mask| &mask.paths) {
            match known.iter().find(|(name, ..)| name == path) {
                None => self.issue(key, format!("Unknown field: {}", path.chars().take(100).collect::<String>())),
                // JSON reports a null where it stands; here the mask names a field that has no value.
                Some((_, name, false)) => self.issue(name, "Must not be null"),
                Some((.., true)) => {}
            }
        }
    }

    /// A page token: issued here, for this list and these filters.
    pub fn page(&mut self, key: &str, request: &impl Paged) {
        if request.page_token().is_some() && self.pages.open(request).is_none() {
            self.issue(key, "Is not a page token of this list with these filters");
        }
    }

    /// A list of permissions and wildcards.
    pub fn known_permissions(&mut self, key: &str, permissions: &[String]) {
        self.inside(key, |check| {
            for (index, text) in permissions.iter().enumerate().filter(|(_, text)| Grant::parse(text).is_none()) {
                check.path.push_index(index);
                check.here(format!("Unknown permission: {}", text.chars().take(100).collect::<String>()));
                check.path.pop();
            }
        });
    }

    fn one_text(&mut self, text: &mut String, rule: &Text) {
        if rule.trimmed {
            let trimmed = text.trim();
            if trimmed.len() < text.len() {
                *text = trimmed.to_owned();
            }
        }
        if text.contains('\0') {
            return self.here("Must not contain the character NUL");
        }
        let blank = text.trim().is_empty();
        if blank {
            if rule.required {
                self.here("Required");
            } else if rule.format != Format::Any {
                self.here("Must not be empty");
            }
            return;
        }
        if rule.length_max > 0 && text.chars().count() > rule.length_max {
            return self.here(format!("Must have at most {} characters", rule.length_max));
        }
        match rule.format {
            Format::Any => {}
            Format::Uuid if is_uuid(text) => text.make_ascii_lowercase(),
            Format::Uuid => self.here("Must be a UUID"),
            Format::Email if is_email(text) => {}
            Format::Email => self.here("Must be an e-mail address"),
            Format::Cursor if Place::parse(text).is_some() => {}
            Format::Cursor => self.here("Is not a cursor that a stream gave"),
        }
    }

    fn free_object(&mut self, object: &prost_types::Struct, depth: usize) -> bool {
        let Some(depth) = self.deeper(depth) else { return false };
        // All of it is looked at: decoding JSON says every violation at its place too.
        object.fields.iter().fold(true, |good, (key, value)| {
            if key.contains('\0') {
                self.here("Must not contain the character NUL");
                return false;
            }
            self.inside(key, |check| check.free(value, depth)) && good
        })
    }

    fn free(&mut self, value: &prost_types::Value, depth: usize) -> bool {
        match &value.kind {
            Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() > encode::EXACT_INTEGER_MAX => {
                self.here("Whole numbers beyond 2^53 are not exact; send it as a string");
                false
            }
            Some(Kind::NumberValue(number)) if !number.is_finite() => {
                self.here("JSON has only finite numbers");
                false
            }
            Some(Kind::StringValue(text)) if text.contains('\0') => {
                self.here("Must not contain the character NUL");
                false
            }
            None | Some(Kind::NullValue(_) | Kind::BoolValue(_) | Kind::NumberValue(_) | Kind::StringValue(_)) => true,
            Some(Kind::ListValue(list)) => {
                let Some(depth) = self.deeper(depth) else { return false };
                list.values.iter().enumerate().fold(true, |good, (index, item)| {
                    self.path.push_index(index);
                    let is_good = self.free(item, depth);
                    self.path.pop();
                    is_good && good
                })
            }
            Some(Kind::StructValue(object)) => self.free_object(object, depth),
        }
    }

    fn deeper(&mut self, depth: usize) -> Option<usize> {
        let deeper = depth.checked_sub(1);
        if deeper.is_none() {
            self.here("Nests too deeply");
        }
        deeper
    }

    fn size(&mut self, bytes: usize, bytes_max: usize) {
        if bytes_max > 0 && bytes > bytes_max {
            self.here(format!("Must have at most {bytes_max} bytes as JSON, has {bytes}"));
        }
    }

    fn here(&mut self, message: impl Into<String>) {
        self.issues.add(&self.path, message);
    }

    fn inside<T>(&mut self, key: &str, check: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push_key(key);
        let done = check(self);
        self.path.pop();
        done
    }
}

fn is_uuid(text: &str) -> bool {
    // uuid also reads forms without hyphens, in braces and as URN.
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

/// What can be told without sending mail: one `@`, a local part, a domain with a dot (or `localhost`).
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let labels = || domain.split('.');
    let plain = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    !local.is_empty()
        && local.len() <= 64
        && !local.contains('@')
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
        && labels().all(plain)
        && (labels().count() > 1 || domain == "localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_other_text() {
        for good in ["a@b.co", "on-call+db@ops.example.org", "ünicode@exämple.org", "root@localhost"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "a", "@b.co", "a@", "a@b", "a@b..co", "a b@c.de", "a@b@c.de", "a@-b.co", "a@b.co\n"] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn only_the_hyphenated_form_is_a_uuid() {
        assert!(is_uuid("01890a5d-ac96-774b-bcce-b302099a8057"));
        assert!(!is_uuid("01890a5dac96774bbcceb302099a8057"));
        assert!(!is_uuid("{01890a5d-ac96-774b-bcce-b302099a80}"));
    }
}
