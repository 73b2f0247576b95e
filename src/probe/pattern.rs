//! Regular expressions, in linear time and with a bound to it.
//!
//! Linear is in the text only: a large pattern takes a microsecond for each byte of an unlucky text, and more. So where
//! their product is large, the pattern is tried with an automaton that is fast or gives up.

use regex::{Regex, RegexBuilder};
use regex_automata::hybrid::dfa;
use regex_automata::nfa::thompson::NFA;
use regex_automata::{Input, MatchError};

/// Longer ones are no patterns, but programs.
const CHARS_MAX: usize = 1_000;

/// What a pattern may take when it is ready: forty of `\w` do.
const SIZE_MAX: usize = 1 << 20;

/// More text is not looked through.
pub(super) const TEXT_BYTES_MAX: usize = 1 << 20;

/// The size of the pattern times that of the text, up to which any pattern takes less than 100 ms.
const PRODUCT_MAX: usize = 1 << 28;

/// So much of the product takes the time of a step of a `JSONPath`, mostly less.
const PRODUCT_OF_A_STEP: usize = 1 << 12;

const TOO_BIG: &str = "Is a regular expression that takes too much memory";

/// A regular expression that is ready.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    automaton: dfa::DFA,
    size: usize,
}

/// Whether it has to match a text from its beginning to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Yes,
    No,
}

impl Pattern {
    /// Compiles a pattern. What is wrong with it is said as a sentence without a full stop.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        if pattern.chars().count() > CHARS_MAX {
            return Err(format!("Must not be longer than {CHARS_MAX} characters"));
        }
        let regex = RegexBuilder::new(pattern).size_limit(SIZE_MAX).build().map_err(|why| {
            if let regex::Error::CompiledTooBig(_) = why {
                return TOO_BIG.to_owned();
            }
            // The last line says what, those before it draw where.
            let why = why.to_string();
            let last = why.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
            format!("Is not a regular expression: {last}")
        })?;
        let config = NFA::config().nfa_size_limit(Some(SIZE_MAX));
        let nfa = NFA::compiler().configure(config).build(pattern).map_err(|_| TOO_BIG)?;
        let size = nfa.memory_usage();
        let config = dfa::Config::new()
            .unicode_word_boundary(true)
            // For a large pattern more of the states that a word boundary needs.
            .skip_cache_capacity_check(true)
            // A new state takes as long as the pattern is large, so as many bytes have to be read with it.
            .minimum_cache_clear_count(Some(3))
            .minimum_bytes_per_state(Some(10 + size / 400));
        let automaton = dfa::Builder::new().configure(config).build_from_nfa(nfa).map_err(|_| TOO_BIG)?;
        Ok(Self { regex, automaton, size })
    }

    /// An I-Regexp (RFC 9485), which `JSONPath` has. `None`: it is none, and so matches nothing.
    pub(super) fn i_regexp(pattern: &str, whole: Whole) -> Option<Self> {
        let (mut translated, mut letters, mut in_class) = (String::new(), pattern.chars(), false);
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => {
                    translated.push(letter);
                    translated.extend(letters.next());
                    continue;
                }
                '[' => in_class = true,
                ']' => in_class = false,
                // Any character except line feed and carriage return; here, except the former.
                '.' if !in_class => {
                    translated.push_str(r"[^\n\r]");
                    continue;
                }
                _ => {}
            }
            translated.push(letter);
        }
        // By itself as well: `a)|(b` is one only between parentheses.
        Self::new(&translated).ok().and_then(|pattern| match whole {
            Whole::No => Some(pattern),
            Whole::Yes => Self::new(&format!("^(?:{translated})$")).ok(),
        })
    }

    /// Whether a text matches. `None`: that takes too long to say.
    pub(super) fn is_match(&self, text: &str) -> Option<bool> {
        if self.size.saturating_mul(text.len()) <= PRODUCT_MAX {
            return Some(self.regex.is_match(text));
        }
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        self.search(text).ok()
    }

    fn search(&self, text: &str) -> Result<bool, MatchError> {
        let mut cache = self.automaton.create_cache();
        let found = self.automaton.try_search_fwd(&mut cache, &Input::new(text).earliest(true))?;
        Ok(found.is_some())
    }

    /// How many steps of a `JSONPath` are as long.
    pub(super) fn steps(&self, text: &str) -> usize {
        1 + self.size.saturating_mul(text.len()) / PRODUCT_OF_A_STEP
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex_automata::MatchErrorKind;

    #[test]
    fn a_hostile_pattern_on_a_hostile_text_is_given_up_soon() {
        let mut bits = 12_345_u64;
        let mut text = String::new();
        while text.len() < TEXT_BYTES_MAX {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            text.push(if bits & 1 == 0 { 'a' } else { 'b' });
        }
        let zeros = "a".repeat(TEXT_BYTES_MAX - 1) + "b";
        for (pattern, text, expected) in [
            ("(a+)+$", zeros.as_str(), Some(false)),
            ("^(a|a)*b$", &zeros, Some(true)),
            ("(a|b)*a(a|b){400}c", &text, None),
            ("(a|b)*a(a|b){7000}c", &text, None),
            (r"\d{3}-\d{4}", &text, Some(false)),
            (r"\bversion \d+\.\d+\b", &text, Some(false)),
        ] {
            let pattern = Pattern::new(pattern).unwrap();
            assert_eq!(pattern.is_match(text), expected, "{}", pattern.regex);
            if expected.is_some() {
                continue;
            }
            let why = pattern.search(text).unwrap_err();
            let MatchErrorKind::GaveUp { offset } = why.kind() else { panic!("{}: {why}", pattern.regex) };
            // Where the compiler optimises that is at most some 150 ms.
            assert!(*offset < text.len() / 20, "{}: only after {offset} bytes", pattern.regex);
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_in_words() {
        for (pattern, word) in [("(", "unclosed group"), (r"(a)\1", "backreferences"), (r"\w{500}", "memory")] {
            let why = Pattern::new(pattern).unwrap_err();
            assert!(why.contains(word), "{pattern}: {why}");
        }
        assert!(Pattern::new(&"a".repeat(1_001)).unwrap_err().contains("1000 characters"));
    }
}
