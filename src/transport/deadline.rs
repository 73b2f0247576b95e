//! The deadline of a request: `grpc-timeout` or `x-timeout-ms`, on both protocols.

use crate::error::{Error, Result};
use http::HeaderMap;
use std::time::Duration;
use tokio::time::Instant;

/// Until when a request is answered: what the caller asks for, at most what the server allows.
pub(super) fn read(headers: &HeaderMap, most: Duration) -> Result<Instant> {
    Ok(Instant::now() + asked(headers)?.map_or(most, |asked| asked.min(most)))
}

/// What the caller asks for, if it asks.
pub(super) fn asked(headers: &HeaderMap) -> Result<Option<Duration>> {
    let mut wanted: Option<Duration> = None;
    for (name, parse) in [("grpc-timeout", grpc as fn(&str) -> _), ("x-timeout-ms", millis)] {
        for value in headers.get_all(name) {
            let asked = value.to_str().ok().and_then(parse);
            let asked = asked.ok_or_else(|| Error::Malformed(format!("Malformed {name}")))?;
            wanted = Some(wanted.map_or(asked, |known| known.min(asked)));
        }
    }
    Ok(wanted)
}

/// `100m`, `5S`: at most 8 digits and a unit.
fn grpc(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = number(digits, 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3_600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn millis(text: &str) -> Option<Duration> {
    number(text, 12).map(Duration::from_millis)
}

fn number(digits: &str, most: usize) -> Option<u64> {
    let plain = !digits.is_empty() && digits.len() <= most && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_grpc() {
        assert_eq!(grpc("200m"), Some(Duration::from_millis(200)));
        assert_eq!(grpc("1H"), Some(Duration::from_hours(1)));
        assert_eq!(grpc("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "5", "S", "5s", "-5S", "+5S", "123456789S", "5 S", "5.0S", "é", "1é"] {
            assert_eq!(grpc(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_server_has_the_last_word() {
        let most = Duration::from_secs(30);
        let at = |name: &'static str, value: &'static str| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            read(&headers, most).map(|end| end.saturating_duration_since(Instant::now()))
        };
        assert!(at("grpc-timeout", "1H").unwrap() <= most);
        assert!(at("x-timeout-ms", "50").unwrap() <= Duration::from_millis(50));
        assert!(at("x-timeout-ms", "soon").is_err());
    }
}
