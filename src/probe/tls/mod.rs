//! `tls`: the certificate of a server, and how long it is good. What other probes need of TLS is here as well.

mod certificate;
mod options;
mod verify;

pub use certificate::Certificate;
pub(crate) use certificate::plain;
pub use options::{TlsOptions, TlsVersion};

use super::{Fault, Net, Probe, Trouble};
use certificate::rfc3339;
use rustls::ProtocolVersion;
use rustls::pki_types::{CertificateDer, UnixTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Looks at the certificate of a server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "clients write tls, as for every probe")]
pub struct Tls {
    /// The host name or IP address.
    #[schemars(length(min = 1, max = 253))]
    host: String,
    /// The port.
    #[serde(default = "https")]
    #[schemars(range(min = 1))]
    port: u16,
    /// The name that is asked for and that the certificate must have, where it is not the host.
    server_name: Option<String>,
    /// It is not good when it expires in fewer days than this; 0: however soon.
    #[serde(default = "month")]
    #[schemars(range(max = 3650))]
    min_days_until_expiry: u32,
    /// It is degraded when it expires in fewer days than this.
    #[schemars(range(min = 1, max = 3650))]
    warn_days_until_expiry: Option<u32>,
    /// Whether a certificate that is not to be trusted, of another name, or not of this time, is not good.
    #[serde(default = "yes")]
    reject_unauthorized: bool,
    /// Whom to trust, and who one is.
    #[serde(default)]
    tls: TlsOptions,
}

fn https() -> u16 {
    443
}

fn month() -> u32 {
    30
}

fn yes() -> bool {
    true
}

/// What was found.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// `TLSv1.3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_version: Option<&'static str>,
    /// The cipher suite.
    #[serde(skip_serializing_if = "Option::is_none")]
    cipher: Option<String>,
    /// Whose certificate it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// Who signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// From when it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_from: Option<String>,
    /// Until when it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_to: Option<String>,
    /// Whole days until it expires; negative once it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "days"))]
    days_remaining: Option<i64>,
    /// The names that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    dns_names: Option<Vec<String>>,
    /// Its number, given by who signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    /// How it is signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_algorithm: Option<String>,
    /// Whether it is to be trusted: its chain, its name and its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_valid: Option<bool>,
    /// Who signed it is whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_self_signed: Option<bool>,
    /// Whether it is for the name that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_matches: Option<bool>,
    /// How many certificates the server sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "count"))]
    chain_length: Option<usize>,
    /// How long connecting took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    connection_time_ms: Option<f64>,
    /// How long the handshake took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    handshake_time_ms: Option<f64>,
}

impl Probe for Tls {
    const ID: &'static str = "tls";
    const NAME: &'static str = "TLS certificate";
    const DESCRIPTION: &'static str =
        "Looks at the certificate of a server: whether it is to be trusted, and how long it is good";

    type Findings = Found;

    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.tls.faults("tls");
        if self.host.is_empty() || self.host.len() > 253 {
            faults.push(Fault::new("host", "Must have 1 to 253 characters"));
        }
        if self.port == 0 {
            faults.push(Fault::new("port", "Must be from 1 to 65535"));
        }
        if self.min_days_until_expiry > 3650 {
            faults.push(Fault::new("minDaysUntilExpiry", "Must be at most 3650"));
        }
        if self.warn_days_until_expiry.is_some_and(|days| !(1..=3650).contains(&days)) {
            faults.push(Fault::new("warnDaysUntilExpiry", "Must be from 1 to 3650"));
        }
        if self.warn_days_until_expiry.is_some_and(|days| days <= self.min_days_until_expiry) {
            faults.push(Fault::new("warnDaysUntilExpiry", "Must be more than minDaysUntilExpiry"));
        }
        if self.server_name.is_some() && self.tls.server_name.is_some() {
            faults.push(Fault::new("tls.serverName", "Is given as serverName already"));
        }
        if self.server_name.as_deref().is_some_and(|name| self.tls.name(name).is_err()) {
            faults.push(Fault::new("serverName", "Is not a host name or an IP address"));
        }
        faults
    }

    fn host(&self) -> Option<String> {
        Some(format!("{}:{}", self.host, self.port))
    }

    async fn look(&self, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        let name = self.server_name.as_deref().unwrap_or(&self.host);
        let dialed = net.dial(&self.host, self.port).await?;
        found.connection_time_ms = Some(millis(dialed.connect));
        let started = Instant::now();
        let stream = net.lenient_tls(dialed.stream, name, &self.tls).await?;
        found.handshake_time_ms = Some(millis(started.elapsed()));
        let (_, session) = stream.get_ref();
        let is_newest = session.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        found.tls_version = Some(if is_newest { "TLSv1.3" } else { "TLSv1.2" });
        found.cipher = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        let Some((own, others)) = session.peer_certificates().and_then(<[_]>::split_first) else {
            return Err(Trouble::Target(format!("{name} shows no certificate")));
        };
        let read = Certificate::read(own);
        let verdict = self.verdict(name, own, others)?;
        found.chain_length = Some(others.len() + 1);
        found.name_matches = Some(verify::is_for(own, &self.tls.name(name)?).is_ok());
        found.is_valid = Some(verdict.is_ok());
        let Some(read) = read else {
            return Err(Trouble::Target(format!("{name} shows a certificate that cannot be read")));
        };
        found.fill(&read);
        if self.reject_unauthorized && !self.tls.skip_verification {
            verdict.map_err(|why| Trouble::Target(format!("{name} {}", verify::words(&why))))?;
        }
        self.timely(name, read.days_remaining())
    }
}

impl Tls {
    fn verdict(
        &self,
        name: &str,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<Result<(), rustls::Error>, Trouble> {
        let ready = self.tls.ready().map_err(|fault| options::unready(&fault))?;
        Ok(ready.verifier.verdict(own, others, &self.tls.name(name)?, UnixTime::now()))
    }

    fn timely(&self, name: &str, days: i64) -> Result<(), Trouble> {
        let text = match days {
            ..0 => format!("The certificate of {name} has expired"),
            0 => format!("The certificate of {name} expires within a day"),
            1 => format!("The certificate of {name} expires in a day"),
            _ => format!("The certificate of {name} expires in {days} days"),
        };
        if self.min_days_until_expiry > 0 && days < i64::from(self.min_days_until_expiry) {
            return Err(Trouble::Target(text));
        }
        if self.warn_days_until_expiry.is_some_and(|warn| days < i64::from(warn)) {
            return Err(Trouble::Degraded(text));
        }
        Ok(())
    }
}

impl Found {
    fn fill(&mut self, read: &Certificate) {
        self.subject = Some(read.subject.clone());
        self.issuer = Some(read.issuer.clone());
        self.valid_from = rfc3339(read.valid_from);
        self.valid_to = rfc3339(read.valid_to);
        self.days_remaining = Some(read.days_remaining());
        self.dns_names = Some(read.names.clone());
        self.serial_number = Some(read.serial.clone());
        self.signature_algorithm = Some(read.signature_algorithm.clone());
        self.is_self_signed = Some(read.is_self_signed);
    }
}

/// Milliseconds, to a hundredth.
pub(crate) fn millis(took: std::time::Duration) -> f64 {
    (took.as_secs_f64() * 100_000.0).round() / 100.0
}
