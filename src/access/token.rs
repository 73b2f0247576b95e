//! Keys of applications: `ck_{applicationId}_{secret}`.
//!
//! The secret is 43 base62 characters of 256 random bits and a checksum of 6, the CRC-32 of everything before it.
//! Typos and truncations are refused without a look-up, and a secret scanner can verify what it finds:
//! `ck_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}_[0-9A-Za-z]{49}`.

use super::ApplicationId;
use crate::error::Result;
use crate::world::Entropy;
use std::borrow::Cow;
use std::fmt;
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 62^43 is the first power that exceeds 2^256.
const RANDOM_CHARS: usize = 43;
/// 62^6 is the first power that exceeds 2^32.
const CHECKSUM_CHARS: usize = 6;
const UUID_CHARS: usize = 36;
const PREFIX: &str = "ck_";
const LENGTH: usize = PREFIX.len() + UUID_CHARS + 1 + RANDOM_CHARS + CHECKSUM_CHARS;

/// A complete key. It prints as its application only.
pub struct Token {
    /// Whose it is.
    pub application: ApplicationId,
    text: Zeroizing<String>,
}

impl Token {
    /// Makes a key for an application.
    pub fn generate(application: ApplicationId, entropy: Entropy) -> Result<Self> {
        let mut bits = entropy.bits256()?;
        let mut text = Zeroizing::new(String::with_capacity(LENGTH));
        text.push_str(PREFIX);
        text.push_str(&application.to_string());
        text.push('_');
        text.push_str(&base62::<RANDOM_CHARS>(&bits));
        bits.zeroize();
        let checksum = base62::<CHECKSUM_CHARS>(&crc32fast::hash(text.as_bytes()).to_be_bytes());
        text.push_str(&checksum);
        Ok(Self { application, text })
    }

    /// Reads a key; `None` if it is not in the form that [`Self::generate`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != LENGTH || !text.is_ascii() {
            return None;
        }
        let (id, secret) = text.strip_prefix(PREFIX)?.split_at_checked(UUID_CHARS)?;
        let secret = secret.strip_prefix('_')?;
        let application = Uuid::try_parse(id).ok()?;
        let canonical = application.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == id;
        if !canonical || !secret.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let (body, checksum) = text.split_at_checked(LENGTH - CHECKSUM_CHARS)?;
        let good = base62::<CHECKSUM_CHARS>(&crc32fast::hash(body.as_bytes()).to_be_bytes()).as_str() == checksum;
        good.then(|| Self { application: ApplicationId(application), text: Zeroizing::new(text.to_owned()) })
    }

    /// What a caller sent, without the secrets of keys that stand in it. A key in the wrong place would go back in the
    /// refusal, and from there into somebody's log.
    #[must_use]
    pub fn hidden_in(text: &str) -> Cow<'_, str> {
        if !text.contains(PREFIX) {
            return text.into();
        }
        let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((before, behind)) = rest.split_once(PREFIX) {
            shown.extend([before, PREFIX]);
            rest = behind;
            if let Some((id, secret)) = behind.split_at_checked(UUID_CHARS + 1)
                && id.ends_with('_')
            {
                shown.extend([id, "…"]);
                // Also of a key that was cut off.
                rest = secret.trim_start_matches(|char: char| char.is_ascii_alphanumeric());
            }
        }
        shown.push_str(rest);
        shown.into()
    }

    /// The whole key, to be shown once or tagged.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The secret part, to be hashed.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.text.get(LENGTH - RANDOM_CHARS - CHECKSUM_CHARS..).unwrap_or_default()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_…", self.application)
    }
}

/// A big-endian number in base 62, padded to `N` characters. Every number of 256 bits has its own text, so no
/// character is likelier than its place makes it: there is no modulo bias.
fn base62<const N: usize>(number: &[u8]) -> Zeroizing<String> {
    let mut digits = Zeroizing::new(number.to_vec());
    let mut text = Zeroizing::new([0_u8; N]);
    for place in text.iter_mut().rev() {
        // One step of long division by 62; the remainder is the next digit from the right.
        let mut remainder = 0_u32;
        for digit in digits.iter_mut() {
            let value = remainder << 8 | u32::from(*digit);
            *digit = u8::try_from(value / 62).unwrap_or(u8::MAX);
            remainder = value % 62;
        }
        *place = ALPHABET.get(remainder as usize).copied().unwrap_or(b'0');
    }
    Zeroizing::new(text.iter().map(|byte| char::from(*byte)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(id: u128, secret: [u8; 32]) -> Token {
        let text = format!("ck_{}_{}", Uuid::from_u128(id), *base62::<RANDOM_CHARS>(&secret));
        let checksum = base62::<CHECKSUM_CHARS>(&crc32fast::hash(text.as_bytes()).to_be_bytes());
        Token::parse(&format!("{text}{}", *checksum)).expect("well formed")
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(id: u128, secret: [u8; 32]) {
            let token = token(id, secret);
            prop_assert_eq!(token.application.0.as_u128(), id);
            prop_assert_eq!(token.reveal().len(), LENGTH);
            prop_assert_eq!(token.secret().len(), 49);
            prop_assert!(token.reveal().ends_with(token.secret()));
        }

        #[test]
        fn any_other_text_is_refused(text in ".{0,120}") {
            prop_assert!(Token::parse(&text).is_none());
        }

        #[test]
        fn one_wrong_character_is_refused(id: u128, secret: [u8; 32], at in 0..LENGTH, with in "[ -~]") {
            let good = token(id, secret).reveal().to_owned();
            let mut bad = good.clone();
            bad.replace_range(at..=at, &with);
            prop_assert_eq!(Token::parse(&bad).is_some(), bad == good);
        }

        #[test]
        fn a_piece_is_refused(id: u128, secret: [u8; 32], from in 0..LENGTH, to in 0..LENGTH) {
            let good = token(id, secret).reveal().to_owned();
            prop_assert!(Token::parse(&good[from.min(to)..to.max(from)]).is_none());
        }

        #[test]
        fn numbers_keep_their_order_in_base_62(a: [u8; 32], b: [u8; 32]) {
            // ASCII order is the order of the alphabet, so equal lengths sort as the numbers do: the code is injective.
            prop_assert_eq!(a.cmp(&b), base62::<RANDOM_CHARS>(&a).as_str().cmp(base62::<RANDOM_CHARS>(&b).as_str()));
        }
    }

    #[test]
    fn the_largest_number_fits() {
        assert_eq!(base62::<RANDOM_CHARS>(&[0; 32]).as_str(), "0".repeat(43));
        assert_eq!(base62::<CHECKSUM_CHARS>(&u32::MAX.to_be_bytes()).as_str(), "4gfFC3");
        assert!(base62::<44>(&[255; 32]).starts_with('0'), "43 characters are enough");
    }

    #[test]
    fn a_text_shows_no_secret_of_a_key_in_it() {
        let key = token(0, [7; 32]).reveal().to_owned();
        let shown = "ck_00000000-0000-0000-0000-000000000000_…";
        for (before, behind) in [("", ""), ("no ", "."), ("ck_", " ck_x"), ("…", "…")] {
            assert_eq!(Token::hidden_in(&format!("{before}{key}{behind}")), format!("{before}{shown}{behind}"));
        }
        assert_eq!(Token::hidden_in(&format!("{key},{}", &key[..60])), format!("{shown},{shown}"));
        assert_eq!(Token::hidden_in("nothing"), "nothing");
    }

    #[test]
    fn a_key_prints_without_its_secret() {
        let token = Token::generate(ApplicationId(Uuid::nil()), Entropy).unwrap();
        assert_eq!(format!("{token:?}"), "ck_00000000-0000-0000-0000-000000000000_…");
    }
}
