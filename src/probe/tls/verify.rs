//! Whether a certificate is to be trusted, and if not, why not, in words.

use super::certificate::{Certificate, plain, rfc3339};
use crate::probe::Trouble;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, Error, OtherError, PeerIncompatible, SignatureScheme,
};
use std::fmt;
use std::io;
use std::sync::Arc;

/// Names of a certificate that an error tells.
const NAMES_TOLD: usize = 5;

/// Verifies as the web does, and trusts what the settings trust. The signature of the handshake is always verified: who
/// answers has the key of the certificate that is told about.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) web: Arc<WebPkiServerVerifier>,
    /// Trusted themselves, if they are what the server shows: certificates that signed themselves are often marked as
    /// authorities, which the web does not accept of a server.
    pub(super) trusted: Arc<[CertificateDer<'static>]>,
    /// Lets every certificate pass.
    pub(super) is_lenient: bool,
}

impl Verifier {
    /// Whether the certificate is to be trusted.
    pub(super) fn verdict(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let Err(why) = self.web.verify_server_cert(own, others, name, &[], now) else { return Ok(()) };
        let read = Certificate::read(own);
        let is_trusted = self.trusted.iter().any(|trusted| trusted.as_ref() == own.as_ref());
        if is_trusted && read.as_ref().is_some_and(Certificate::is_in_time) {
            return is_for(own, name);
        }
        let is_unknown = matches!(&why, Error::InvalidCertificate(CertificateError::UnknownIssuer));
        let is_own_authority = matches!(&why, Error::InvalidCertificate(CertificateError::Other(_)));
        if (is_unknown || is_own_authority) && read.is_some_and(|read| read.is_self_signed) {
            return Err(CertificateError::Other(OtherError(Arc::new(SelfSigned))).into());
        }
        Err(why)
    }
}

/// Whether a certificate is for this name.
pub(super) fn is_for(own: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    verify_server_name(&ParsedCertificate::try_from(own)?, name)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.is_lenient {
            self.verdict(own, others, name, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.web.verify_tls12_signature(message, own, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.web.verify_tls13_signature(message, own, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.web.supported_verify_schemes()
    }
}

/// Nobody vouches for it but itself.
#[derive(Debug)]
struct SelfSigned;

impl fmt::Display for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is self-signed, and not trusted by the settings")
    }
}

impl std::error::Error for SelfSigned {}

/// Why a handshake failed.
pub(super) fn failed(host: &str, why: &io::Error) -> Trouble {
    let inner = why.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let what = match (inner, why.kind()) {
        (Some(why), _) => words(why),
        (None, io::ErrorKind::UnexpectedEof) => "closed the connection during the TLS handshake".into(),
        (None, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            "reset the connection during the TLS handshake".into()
        }
        (None, _) => format!("broke off the TLS handshake: {why}"),
    };
    Trouble::Target(format!("{host} {what}"))
}

/// What an error says about the server, as the rest of a sentence.
pub(super) fn words(why: &Error) -> String {
    if let Error::InvalidCertificate(why) = why {
        return format!("has a certificate that is not good: {}", certificate(why));
    }
    if let Error::AlertReceived(AlertDescription::CertificateRequired) = why {
        return "asks for a client certificate".into();
    }
    if let Error::AlertReceived(alert) = why {
        return format!("refuses the TLS handshake: {alert:?}");
    }
    if let Error::InvalidMessage(_) = why {
        return "does not speak TLS".into();
    }
    if let Error::PeerIncompatible(
        PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
    ) = why
    {
        return "speaks only an older version of TLS than is accepted".into();
    }
    format!("fails in the TLS handshake: {}", plain(&why.to_string(), 200))
}

fn certificate(why: &CertificateError) -> String {
    let at = |time: &UnixTime| i64::try_from(time.as_secs()).ok().and_then(rfc3339).unwrap_or_default();
    if let CertificateError::ExpiredContext { not_after, .. } = why {
        return format!("it expired at {}", at(not_after));
    }
    if let CertificateError::NotValidYetContext { not_before, .. } = why {
        return format!("it is good only from {}", at(not_before));
    }
    if let CertificateError::NotValidForNameContext { expected, presented } = why {
        let told: Vec<_> = presented.iter().take(NAMES_TOLD).map(|name| told_name(name)).collect();
        let told = if told.is_empty() { "no name at all".into() } else { told.join(", ") };
        let more = if presented.len() > NAMES_TOLD { " and others" } else { "" };
        return format!("it is not for {}, but for {told}{more}", expected.to_str());
    }
    if let CertificateError::Other(OtherError(why)) = why {
        return plain(&why.to_string(), 200);
    }
    if *why == CertificateError::UnknownIssuer {
        return "nobody that is trusted has issued it, or the server does not send what lies between".into();
    }
    if *why == CertificateError::BadEncoding {
        return "it cannot be read".into();
    }
    plain(&why.to_string(), 200)
}

/// The names come as `DnsName("a.example")` and the like.
fn told_name(name: &str) -> String {
    plain(name.split('"').nth(1).unwrap_or(name), 100)
}
