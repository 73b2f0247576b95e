//! How an operator names targets: a network, an address or a name, and perhaps a port.

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer, de};
use std::net::IpAddr;
use std::str::FromStr;

/// Some targets: `10.0.0.0/8`, `192.0.2.1:22`, `[2001:db8::]/32`, `*.internal.example:5432`, `:25`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    host: Host,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    Net(IpNet),
    Name(String),
    Below(String),
}

impl Rule {
    /// Whether it is about this target.
    #[must_use]
    pub fn is_about(&self, host: &str, ip: IpAddr, port: u16) -> bool {
        match &self.host {
            Host::Net(net) => net.contains(&ip) && self.is_about_port(port),
            Host::Any | Host::Name(_) | Host::Below(_) => self.is_about_name(host, port),
        }
    }

    /// Whether it is about this name, whatever its address.
    pub(super) fn is_about_name(&self, host: &str, port: u16) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let is_host = match &self.host {
            Host::Any => true,
            Host::Net(_) => false,
            Host::Name(name) => host.eq_ignore_ascii_case(name),
            Host::Below(name) => {
                let below = host.len().checked_sub(name.len()).and_then(|at| host.split_at_checked(at));
                below.is_some_and(|(below, end)| {
                    end.eq_ignore_ascii_case(name) && below.len() > 1 && below.ends_with('.')
                })
            }
        };
        is_host && self.is_about_port(port)
    }

    fn is_about_port(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }

    /// Whether it is about one network or address that lies inside of this one.
    pub(super) fn is_inside(&self, net: &IpNet) -> bool {
        matches!(&self.host, Host::Net(own) if net.contains(own))
    }

    /// Whether it is about names.
    pub(super) fn is_named(&self) -> bool {
        matches!(&self.host, Host::Name(_) | Host::Below(_))
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is not a target: {why}");
        // IPv6 without a port needs no brackets.
        if let Some(net) = network(text).filter(|_| !text.contains('[')) {
            return net.map(|net| Self { host: Host::Net(net), port: None }).map_err(|why| wrong(&why));
        }
        // A colon inside of the brackets of an IPv6 address, or its prefix, begins no port.
        let after = text.rfind(']').unwrap_or(0);
        let (host, port) = match text.get(after..).and_then(|rest| rest.rfind(':')) {
            Some(at) => text.split_at_checked(after + at).unwrap_or((text, "")),
            None => (text, ""),
        };
        let port = match port.strip_prefix(':').map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(wrong("after the last colon a port from 1 to 65535 is expected")),
        };
        let bare = host.replace(['[', ']'], "");
        let is_bracketed = host.starts_with('[') && host.matches(']').count() == 1;
        let host = match network(&bare) {
            Some(Ok(IpNet::V6(_))) if !is_bracketed => {
                return Err(wrong("an IPv6 address before a port needs square brackets"));
            }
            Some(Ok(net)) => Host::Net(net),
            Some(Err(why)) => return Err(wrong(&why)),
            None if host.is_empty() && port.is_some() => Host::Any,
            None => named(host).map_err(wrong)?,
        };
        Ok(Self { host, port })
    }
}

/// Nothing if it does not look like a network or an address.
fn network(text: &str) -> Option<Result<IpNet, String>> {
    let net = match (text.parse::<IpAddr>(), text.split_once('/')) {
        (Ok(ip), _) => IpNet::from(ip),
        (Err(_), None) => return None,
        (Err(_), Some((ip, prefix))) => {
            let Ok(ip) = ip.parse::<IpAddr>() else {
                // It may have a port.
                return (!prefix.contains(':')).then(|| Err("before the slash an IP address is expected".into()));
            };
            let most = if ip.is_ipv4() { 32 } else { 128 };
            match prefix.parse::<u8>().ok().and_then(|prefix| IpNet::new(ip, prefix).ok()) {
                Some(net) => net,
                None if prefix.contains(':') && ip.is_ipv4() => return None,
                None => return Some(Err(format!("after the slash a number up to {most} is expected"))),
            }
        }
    };
    if net.addr() != net.network() {
        return Some(Err(format!("there are bits after its prefix; {} may be meant", net.trunc())));
    }
    // As addresses are judged: a mapped one is IPv4.
    Some(Ok(match net {
        IpNet::V6(six) if six.prefix_len() >= 96 => six
            .addr()
            .to_ipv4_mapped()
            .and_then(|four| Ipv4Net::new(four, six.prefix_len() - 96).ok())
            .map_or(net, IpNet::V4),
        IpNet::V4(_) | IpNet::V6(_) => net,
    }))
}

fn named(text: &str) -> Result<Host, &'static str> {
    let (name, is_below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_label = |label: &str| {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(is_good)
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err("a network, an IP address or a host name is expected, and then perhaps a port");
    }
    // What a resolver may take for an IPv4 address in an old form.
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err("an IPv4 address has four numbers up to 255");
    }
    Ok(if is_below { Host::Below(name) } else { Host::Name(name) })
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_meant() {
        let net = |text: &str| Host::Net(text.parse().unwrap());
        for (text, host, port) in [
            ("10.0.0.0/8", net("10.0.0.0/8"), None),
            ("10.0.0.0/8:22", net("10.0.0.0/8"), Some(22)),
            ("192.0.2.1", net("192.0.2.1/32"), None),
            ("192.0.2.1:22", net("192.0.2.1/32"), Some(22)),
            ("[2001:db8::]/32", net("2001:db8::/32"), None),
            ("[2001:db8::]/32:443", net("2001:db8::/32"), Some(443)),
            ("[2001:db8::/32]:443", net("2001:db8::/32"), Some(443)),
            ("2001:db8::/32", net("2001:db8::/32"), None),
            ("2001:db8::1", net("2001:db8::1/128"), None),
            ("[2001:db8::1]:443", net("2001:db8::1/128"), Some(443)),
            ("[2001:db8::1]", net("2001:db8::1/128"), None),
            ("*.Internal.example:5432", Host::Below("internal.example".into()), Some(5432)),
            ("db.example", Host::Name("db.example".into()), None),
            ("db.example.", Host::Name("db.example".into()), None),
            ("localhost:8080", Host::Name("localhost".into()), Some(8080)),
            (":25", Host::Any, Some(25)),
        ] {
            assert_eq!(text.parse(), Ok(Rule { host, port }), "{text}");
        }
        for (text, word) in [
            ("", "expected"),
            (":", "port"),
            (":0", "port"),
            (":65536", "port"),
            ("db.example:http", "port"),
            ("10.0.0.0/33", "up to 32"),
            ("10.0.0.1/8", "10.0.0.0/8"),
            ("2001:db8::/129", "up to 128"),
            ("10.0.0.256", "four numbers"),
            ("10.1", "four numbers"),
            ("example.com/8", "slash"),
            ("a b", "host name"),
            ("*", "host name"),
            ("*.*.example", "host name"),
            ("http://example.com", "expected"),
            ("[2001:db8::1", "expected"),
        ] {
            let why = text.parse::<Rule>().expect_err(text);
            assert!(why.contains(word), "{text}: {why}");
        }
        assert!(serde_json::from_str::<Rule>("\"10.0.0.1/8\"").is_err());
        assert!(serde_json::from_str::<Rule>("\"10.0.0.0/8\"").is_ok());
    }
}
