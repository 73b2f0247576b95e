//! `dns`: one question to one name server, with nothing between: no cache, no search domains.

mod exchange;
mod server;

use super::tls::{TlsOptions, millis, plain};
use super::{Fault, Net, Probe, Trouble};
use exchange::exchange;
use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use server::Server;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Values that are kept.
const VALUES_MAX: usize = 100;

/// What is kept of a value: more than a key in a TXT record has.
const VALUE_CHARS_MAX: usize = 1_000;

/// What fits through nearly every network in one piece (DNS flag day 2020).
const UDP_BYTES_MAX: u16 = 1_232;

/// Asks a name server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dns {
    /// The name that is asked about. For PTR it may be an IP address.
    #[schemars(length(min = 1, max = 253))]
    hostname: String,
    /// What is asked.
    #[serde(default)]
    record_type: Type,
    /// Who is asked: a host name or IP address, and perhaps a port. If absent, those that this system asks.
    #[schemars(length(min = 1, max = 260))]
    nameserver: Option<String>,
    /// How it is asked.
    #[serde(default)]
    protocol: Protocol,
    /// The answer that is good. NXDOMAIN can be it.
    #[serde(default)]
    expected_rcode: Rcode,
    /// Whether an answer without a record of the type is bad, where NOERROR is expected.
    #[serde(default = "yes")]
    require_records: bool,
    /// Whether the server may ask others.
    #[serde(default = "yes")]
    recursion_desired: bool,
    /// How long an attempt may take, in milliseconds. There are two over UDP, and one over TCP and TLS.
    #[serde(default = "two_seconds")]
    #[schemars(range(min = 50, max = 30000))]
    attempt_timeout_ms: u64,
    /// Whom to trust, and who one is, over TLS.
    #[serde(default)]
    tls: TlsOptions,
}

/// A type of record.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum Type {
    /// IPv4 addresses.
    #[default]
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Another name.
    Cname,
    /// Mail servers.
    Mx,
    /// Texts.
    Txt,
    /// Name servers.
    Ns,
    /// Who keeps the zone.
    Soa,
    /// Servers of a service.
    Srv,
    /// Who may sign certificates.
    Caa,
    /// The name of an address.
    Ptr,
}

impl Type {
    fn wire(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Cname => RecordType::CNAME,
            Self::Mx => RecordType::MX,
            Self::Txt => RecordType::TXT,
            Self::Ns => RecordType::NS,
            Self::Soa => RecordType::SOA,
            Self::Srv => RecordType::SRV,
            Self::Caa => RecordType::CAA,
            Self::Ptr => RecordType::PTR,
        }
    }
}

/// How a server is asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// UDP, and TCP where an answer does not fit.
    #[default]
    Udp,
    /// TCP.
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
}

/// What a server says of a question.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum Rcode {
    /// There is such a name.
    #[default]
    NoError,
    /// There is none.
    NxDomain,
    /// The server could not find out.
    ServFail,
    /// The server does not want to say.
    Refused,
    /// The server does not understand the question.
    FormErr,
    /// The server does not answer such questions.
    NotImp,
}

fn yes() -> bool {
    true
}

fn two_seconds() -> u64 {
    2_000
}

/// What was found.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The records of the type, sorted: addresses and names as they are, MX as `10 mail.example.com`, the texts of a TXT
    /// record joined, others as in a zone file.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<String>>,
    /// How many records of the type there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "count"))]
    record_count: Option<usize>,
    /// What the server said of the question: `NOERROR`, `NXDOMAIN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rcode: Option<String>,
    /// How long the answer took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    resolution_time_ms: Option<f64>,
    /// For how long the records may be kept: the shortest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "s"))]
    ttl_seconds: Option<u32>,
    /// Whether the server keeps the zone itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    authoritative: Option<bool>,
    /// Whether the server says that it has verified the signatures.
    #[serde(skip_serializing_if = "Option::is_none")]
    dnssec_authenticated: Option<bool>,
    /// Whether the answer did not fit into a packet, and was asked for again over TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
    /// Who answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
}

impl Probe for Dns {
    const ID: &'static str = "dns";
    const NAME: &'static str = "DNS";
    const DESCRIPTION: &'static str = "Asks a name server about a name";

    type Findings = Found;

    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.tls.faults("tls");
        if let Err(why) = self.name() {
            faults.push(Fault::new("hostname", why));
        }
        if self.nameserver.as_deref().is_some_and(|text| Server::parse(text, self.protocol).is_none()) {
            faults.push(Fault::new("nameserver", "Is not a host name or IP address, with or without a port"));
        }
        if !(50..=30_000).contains(&self.attempt_timeout_ms) {
            faults.push(Fault::new("attemptTimeoutMs", "Must be from 50 to 30000"));
        }
        faults
    }

    fn host(&self) -> Option<String> {
        let server = Server::parse(self.nameserver.as_deref()?, self.protocol)?;
        Some(format!("{}:{}", server.host, server.port))
    }

    async fn look(&self, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        let query = self.query().map_err(Trouble::Target)?;
        let servers = match self.nameserver.as_deref().and_then(|text| Server::parse(text, self.protocol)) {
            Some(server) => server.addresses(net).await?,
            None => server::of_the_system(net, self.protocol).await?,
        };
        let mut last = Trouble::Ours("This system has no name server".into());
        for server in servers {
            let started = Instant::now();
            match exchange(self, net, &server, &query).await {
                Ok((answer, was_truncated)) => {
                    found.resolution_time_ms = Some(millis(started.elapsed()));
                    found.truncated = Some(was_truncated);
                    found.server = Some(server.address.to_string());
                    found.fill(&answer, self.record_type.wire());
                    return self.verdict(&answer, found);
                }
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    fn latency(found: &Found) -> Option<Duration> {
        found.resolution_time_ms.map(|ms| Duration::from_secs_f64(ms / 1_000.0))
    }
}

impl Dns {
    fn name(&self) -> Result<Name, String> {
        if let (Type::Ptr, Ok(ip)) = (self.record_type, self.hostname.parse::<IpAddr>()) {
            return Ok(Name::from(ip));
        }
        let mut name = Name::from_utf8(&self.hostname).map_err(|why| format!("Is not a name: {why}"))?;
        name.set_fqdn(true);
        Ok(name)
    }

    fn query(&self) -> Result<Message, String> {
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(|why| format!("There is no randomness: {why}"))?;
        let mut query = Message::new(u16::from_ne_bytes(id), MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = self.recursion_desired;
        // "I would like to know" (RFC 6840, 5.7).
        query.metadata.authentic_data = true;
        query.add_query(Query::query(self.name()?, self.record_type.wire()));
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX);
        query.set_edns(edns);
        Ok(query)
    }

    fn verdict(&self, answer: &Message, found: &Found) -> Result<(), Trouble> {
        let (rcode, expected) = (rcode(answer.metadata.response_code), self.expected_rcode.name());
        if rcode != expected {
            return Err(Trouble::Target(format!("The answer is {rcode}, and not {expected}")));
        }
        if self.require_records && self.expected_rcode == Rcode::NoError && found.record_count == Some(0) {
            return Err(Trouble::Target(format!("{} has no {} record", self.hostname, self.record_type.wire())));
        }
        Ok(())
    }
}

impl Rcode {
    fn name(self) -> &'static str {
        rcode(match self {
            Self::NoError => ResponseCode::NoError,
            Self::NxDomain => ResponseCode::NXDomain,
            Self::ServFail => ResponseCode::ServFail,
            Self::Refused => ResponseCode::Refused,
            Self::FormErr => ResponseCode::FormErr,
            Self::NotImp => ResponseCode::NotImp,
        })
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the others are answers to updates and signatures")]
fn rcode(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::BADVERS => "BADVERS",
        ResponseCode::NotAuth => "NOTAUTH",
        _ => "OTHER",
    }
}

impl Found {
    fn fill(&mut self, answer: &Message, wanted: RecordType) {
        let metadata = &answer.metadata;
        // Names that lead to the one with the records are not what was asked for.
        let records = || answer.answers.iter().filter(|record| record.record_type() == wanted);
        let mut values: Vec<_> = records().take(VALUES_MAX).map(|record| written(&record.data)).collect();
        // Servers shuffle them.
        values.sort();
        self.values = Some(values);
        self.record_count = Some(records().count());
        self.ttl_seconds = records().map(|record| record.ttl).min();
        self.rcode = Some(rcode(metadata.response_code).to_owned());
        self.authoritative = Some(metadata.authoritative);
        self.dnssec_authenticated = Some(metadata.authentic_data);
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the others are written as in a zone file")]
fn written(data: &RData) -> String {
    let bare = |name: &Name| {
        let name = name.to_ascii();
        name.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(&name).to_owned()
    };
    let text = match data {
        RData::CNAME(name) => bare(name),
        RData::NS(name) => bare(name),
        RData::PTR(name) => bare(name),
        RData::MX(mx) => format!("{} {}", mx.preference, bare(&mx.exchange)),
        RData::TXT(txt) => String::from_utf8_lossy(&txt.txt_data.concat()).into_owned(),
        other => other.to_string(),
    };
    plain(&text, VALUE_CHARS_MAX)
}
