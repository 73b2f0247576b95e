//! Tokens with which results are reported. Whoever has one can report for one check, and nothing else.

use crate::error::Result;
use crate::world::Entropy;
use zeroize::Zeroizing;

/// Base62: it needs no quoting in a shell or a URL.
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 43 letters are 256 bits.
const LENGTH: usize = 43;

/// A new token: `hb_` and 43 letters.
pub(super) fn draw(entropy: Entropy) -> Result<Zeroizing<String>> {
    /// The largest multiple of 62 that a byte holds: above it the first letters would be drawn more often.
    const EVEN: u8 = 248;
    let mut token = Zeroizing::new(String::from("hb_"));
    while token.len() < LENGTH + 3 {
        let bytes = Zeroizing::new(entropy.bits256()?);
        let letters = bytes.iter().filter(|byte| **byte < EVEN);
        let letters = letters.filter_map(|byte| LETTERS.get(usize::from(byte % 62)));
        let missing = LENGTH + 3 - token.len();
        token.extend(letters.take(missing).map(|letter| char::from(*letter)));
    }
    Ok(token)
}

/// Whether a text can be a token at all.
pub(super) fn is_like_one(text: &str) -> bool {
    let letters = text.strip_prefix("hb_").unwrap_or_default();
    letters.len() == LENGTH && letters.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_like_one_and_another_each_time() {
        let (one, other) = (draw(Entropy).unwrap(), draw(Entropy).unwrap());
        assert!(is_like_one(&one) && is_like_one(&other) && one != other);
        for bad in ["", "hb_", "hb_short", &one[..45], &format!("{}x", *one), &one.replace("hb_", "ck_")] {
            assert!(!is_like_one(bad), "{bad}");
        }
    }
}
