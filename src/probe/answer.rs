//! What a stranger said, made fit to be kept and shown.

use super::Secret;
use serde_json::Value;
use std::error::Error;

/// What of a text is kept: enough for a sentence, too little for a page of somebody's data.
pub(super) const EXCERPT_CHARS: usize = 200;

/// A text for people: on one line, short, and without our secrets.
pub(super) fn excerpt(text: &str, secrets: &[&Secret]) -> String {
    // What comes after cannot be in the excerpt, and need not be searched; a secret may begin in it.
    let near: String = text.chars().take(EXCERPT_CHARS * 16).collect();
    let words: Vec<_> = masked(&near, secrets);
    words.join(" ").chars().take(EXCERPT_CHARS).collect()
}

fn masked(text: &str, secrets: &[&Secret]) -> Vec<String> {
    let text = without(text, secrets);
    let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The text with our secrets made unreadable.
pub(super) fn without(text: &str, secrets: &[&Secret]) -> String {
    let shown = secrets.iter().map(|secret| secret.reveal()).filter(|secret| !secret.is_empty());
    shown.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

/// An error with its reasons, of which the outer ones say little.
pub(super) fn reasons(why: &dyn Error, secrets: &[&Secret]) -> String {
    let mut text = why.to_string();
    let mut next = why.source();
    while let Some(why) = next {
        let reason = why.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        next = why.source();
    }
    excerpt(&text, secrets)
}

/// A value that came as text: a number if it is written as numbers are.
pub(super) fn value(text: &str, secrets: &[&Secret]) -> Value {
    let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text).map(Value::from);
    let is_decimal = text.contains('.') && text.trim_start_matches('-').chars().all(|c| c.is_ascii_digit() || c == '.');
    let decimal = || if is_decimal { text.parse::<f64>().ok().map(Value::from) } else { None };
    number.or_else(decimal).unwrap_or_else(|| excerpt(text, secrets).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        serde_json::from_value(text.into()).unwrap()
    }

    #[test]
    fn an_excerpt_is_one_short_line_without_secrets() {
        let (one, none) = (secret("hunter2"), secret(""));
        assert_eq!(excerpt("no\r\n\u{1b}[31m hunter2\0 here", &[&one, &none]), "no [31m *** here");
        assert_eq!(excerpt(&"x".repeat(100_000), &[&one]).len(), EXCERPT_CHARS);
    }

    #[test]
    fn a_value_is_a_number_only_where_it_is_written_as_one() {
        for (text, expected) in [("42", Value::from(42)), ("-1", (-1).into()), ("2.50", 2.5.into())] {
            assert_eq!(value(text, &[]), expected, "{text}");
        }
        for text in ["007", "1e5", "inf", "NaN", "1.2.3", "t", "+1", "99999999999999999999"] {
            assert_eq!(value(text, &[]), Value::from(text), "{text}");
        }
    }
}
