//! Pages of a list by keyset: a token says behind which row the next page starts.
//!
//! A token is sealed with the instance key over the list, its filters and the position, so that only what was issued
//! for the same question is accepted; it holds nothing secret.

use crate::access::instance::hmac;
use crate::error::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

/// A request for a page of a list. Generated.
pub trait Paged {
    /// How many rows at most.
    fn page_size(&self) -> Option<i32>;
    /// Where the page starts.
    fn page_token(&self) -> Option<&str>;
    /// The list and its filters, which a token holds for.
    fn bound_to(&self) -> Vec<u8>;
}

/// A row of a list.
pub trait Row {
    /// Where it stands in the order of the list.
    fn position(&self) -> String;
    /// About how many bytes it takes in an answer: what its caller wrote, not the few that every row has.
    fn bytes(&self) -> usize;
}

/// Which rows of a list are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The position behind which it starts; `None` at the beginning.
    pub after: Option<String>,
    /// How many rows at most.
    pub size: usize,
}

/// A page of this many rows when the caller does not say.
const PAGE_SIZE: usize = 100;

impl Page {
    /// The unpaged procedures answer up to this many rows: beyond it an answer of some megabytes helps nobody, and a
    /// page at a time does.
    pub const UNPAGED_MAX: usize = 10_000;

    /// The unpaged procedures answer up to this many bytes of what callers wrote; a few such answers at once must not
    /// exhaust the memory.
    pub const UNPAGED_BYTES_MAX: usize = 32 * 1024 * 1024;

    /// A page ends early at this many bytes, so that it fits the 4 MiB that gRPC clients accept by default.
    pub const BYTES_MAX: usize = 3 * 1024 * 1024;

    /// All rows, for an unpaged procedure.
    #[must_use]
    pub fn all() -> Self {
        Self { after: None, size: Self::UNPAGED_MAX }
    }

    /// What to ask the database for: one row more than wanted tells whether there is a next page.
    #[must_use]
    pub fn limit(&self) -> i64 {
        i64::try_from(self.size).unwrap_or(i64::MAX).saturating_add(1)
    }

    /// Refuses the answer of an unpaged procedure that would be too long, naming the paged one.
    pub fn whole<T: Row>(&self, rows: Vec<T>, paged: &str) -> Result<Vec<T>> {
        if rows.len() > self.size {
            return Err(Error::Refused(format!("There are more than {}; page with {paged}", self.size)));
        }
        if rows.iter().map(Row::bytes).sum::<usize>() > Self::UNPAGED_BYTES_MAX {
            let max = Self::UNPAGED_BYTES_MAX >> 20;
            return Err(Error::Refused(format!("They take more than {max} MiB; page with {paged}")));
        }
        Ok(rows)
    }
}

/// Seals and opens page tokens.
#[derive(Clone)]
pub struct PageKey([u8; 32]);

/// Enough to make guessing pointless; a token is no credential.
const SEAL_BYTES: usize = 16;

impl PageKey {
    /// A key for page tokens.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The page that a request asks for; `None` if its token was not issued for it.
    pub fn open(&self, request: &impl Paged) -> Option<Page> {
        let size = request.page_size().and_then(|size| usize::try_from(size).ok()).unwrap_or(PAGE_SIZE);
        let Some(token) = request.page_token() else { return Some(Page { after: None, size }) };
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (seal, position) = bytes.split_at_checked(SEAL_BYTES)?;
        let good: bool = self.seal(request, position).ct_eq(seal).into();
        let position = std::str::from_utf8(position).ok().filter(|_| good)?;
        Some(Page { after: Some(position.to_owned()), size })
    }

    /// Cuts off what is too much for the page, and says where the next one starts, if there is one.
    pub fn cut<T: Row>(&self, request: &impl Paged, page: &Page, rows: &mut Vec<T>) -> Option<String> {
        let mut bytes = 0;
        let fits = |row: &&T| {
            bytes += row.bytes();
            bytes <= Page::BYTES_MAX
        };
        // One row always fits: a page without any would never end.
        let size = rows.iter().take(page.size).take_while(fits).count().max(1);
        let more = rows.len() > size;
        rows.truncate(size);
        let last = rows.last().filter(|_| more)?;
        Some(self.token(request, &last.position()))
    }

    /// A token for the page behind a position.
    pub fn token(&self, request: &impl Paged, position: &str) -> String {
        let mut token = self.seal(request, position.as_bytes()).to_vec();
        token.extend(position.as_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    fn seal(&self, request: &impl Paged, position: &[u8]) -> [u8; SEAL_BYTES] {
        let bound = request.bound_to();
        let full = hmac(&self.0, &[&(bound.len() as u64).to_be_bytes(), &bound, position]);
        let mut seal = [0; SEAL_BYTES];
        seal.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        seal
    }
}
