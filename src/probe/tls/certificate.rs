//! What a certificate says.

use rustls::pki_types::CertificateDer;
use std::net::IpAddr;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// Names of one certificate that are told; a big provider puts hundreds into one.
const NAMES_MAX: usize = 100;

/// The longest text that is taken out of a certificate.
const TEXT_MAX: usize = 300;

const DAY_S: i64 = 86_400;

/// What a certificate says. Nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// From when it is good, in seconds since 1970.
    pub valid_from: i64,
    /// Until when it is good, in seconds since 1970.
    pub valid_to: i64,
    /// The names that it is for: DNS names and IP addresses.
    pub names: Vec<String>,
    /// Hexadecimal, `0a:1b`.
    pub serial: String,
    /// The object identifier's name, or its numbers.
    pub signature_algorithm: String,
    /// Who signed it is whose it is.
    pub is_self_signed: bool,
}

impl Certificate {
    /// Nothing if it is none.
    #[must_use]
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        let oid = &read.signature_algorithm.algorithm;
        let known = x509_parser::objects::oid2sn(oid, x509_parser::objects::oid_registry());
        Some(Self {
            subject: plain(&read.subject().to_string(), TEXT_MAX),
            issuer: plain(&read.issuer().to_string(), TEXT_MAX),
            valid_from: read.validity().not_before.timestamp(),
            valid_to: read.validity().not_after.timestamp(),
            names: names(&read),
            serial: plain(&read.raw_serial_as_string(), TEXT_MAX),
            signature_algorithm: known.map_or_else(|_| oid.to_id_string(), str::to_owned),
            is_self_signed: read.subject().as_raw() == read.issuer().as_raw(),
        })
    }

    /// Whole days until it expires; negative once it has.
    #[must_use]
    pub fn days_remaining(&self) -> i64 {
        (self.valid_to - ASN1Time::now().timestamp()).div_euclid(DAY_S)
    }

    /// The same, and nothing else of it; nothing if it is none.
    #[must_use]
    pub fn days_remaining_of(der: &CertificateDer<'_>) -> Option<i64> {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        Some((read.validity().not_after.timestamp() - ASN1Time::now().timestamp()).div_euclid(DAY_S))
    }

    /// Whether now is its time.
    #[must_use]
    pub fn is_in_time(&self) -> bool {
        (self.valid_from..=self.valid_to).contains(&ASN1Time::now().timestamp())
    }
}

fn names(read: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(found)) = read.subject_alternative_name() else { return vec![] };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(plain(name, TEXT_MAX)),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let six = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            four.or_else(|_| six()).ok().map(|ip| ip.to_string())
        }
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::RegisteredID(..)
        | GeneralName::Invalid(..) => None,
    };
    found.value.general_names.iter().filter_map(name).take(NAMES_MAX).collect()
}

/// The time as RFC 3339; nothing if no calendar has it.
pub(super) fn rfc3339(seconds: i64) -> Option<String> {
    jiff::Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// Text of a stranger, without what is not text, and not longer than so many characters.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().filter(|letter| !letter.is_control()).take(most + 1).collect();
    if let Some((end, _)) = shown.char_indices().nth(most) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}
