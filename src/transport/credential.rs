//! The credential of a request, read the same way on both protocols.

use crate::access::gate::Credential;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::net::IpAddr;

/// No key is longer; what is longer is not read.
const HEADER_BYTES_MAX: usize = 512;

/// Who is at the other end of the connection, in the extensions of each request. What headers say about other hops is not
/// believed: anybody can write it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// What stands in `Authorization`. More than one header, another scheme or odd bytes are a credential that is not good.
pub(super) fn read(headers: &HeaderMap) -> Credential<'_> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(header) = all.next() else { return Credential::None };
    let text = header.to_str().ok().filter(|text| text.len() <= HEADER_BYTES_MAX && all.next().is_none());
    match text.and_then(|text| text.split_once(' ')) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Credential::Bearer(key.trim()),
        _ => Credential::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let value = |bytes: &&[u8]| (AUTHORIZATION, http::HeaderValue::from_bytes(bytes).unwrap());
        values.iter().map(value).collect()
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_once() {
        assert!(matches!(read(&headers(&[])), Credential::None));
        for good in [&b"Bearer ck"[..], b"bearer ck", b"BEARER  ck "] {
            assert!(matches!(read(&headers(&[good])), Credential::Bearer("ck")), "{good:?}");
        }
        for bad in [&b""[..], b"Bearer", b"Basic abc", b"ck", b"Bearer \xff"] {
            assert!(matches!(read(&headers(&[bad])), Credential::Unreadable), "{bad:?}");
        }
        assert!(matches!(read(&headers(&[b"Bearer a", b"Bearer a"])), Credential::Unreadable));
        assert!(matches!(read(&headers(&[&[b'x'; 600]])), Credential::Unreadable));
    }
}
