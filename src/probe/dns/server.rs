//! Whom to ask.

use super::Protocol;
use crate::probe::{Net, Trouble};
use hickory_resolver::system_conf::read_system_conf;
use std::net::{IpAddr, SocketAddr};

/// Servers of the system that are asked, one after another; a resolver of the system asks no more.
const SERVERS_MAX: usize = 3;

/// A server that somebody named.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
}

/// A server that can be asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) address: SocketAddr,
    /// The name for TLS.
    pub(super) name: String,
    /// Nobody chose it for this check: that it does not answer is not what the check is about.
    pub(super) is_of_the_system: bool,
}

impl Server {
    /// `9.9.9.9`, `9.9.9.9:53`, `2620:fe::fe`, `[2620:fe::fe]:53`, `dns.example.com`, `dns.example.com:53`.
    pub(super) fn parse(text: &str, protocol: Protocol) -> Option<Self> {
        let usual = usual_port(protocol);
        if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Some(Self { host: ip.to_string(), port: usual });
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() > 0).then(|| Self { host: address.ip().to_string(), port: address.port() });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
            None => (text, usual),
        };
        let is_host = |letter: char| letter.is_alphanumeric() || "-._".contains(letter);
        (!host.is_empty() && host.len() <= 253 && host.chars().all(is_host))
            .then(|| Self { host: host.to_owned(), port })
    }

    pub(super) async fn addresses(self, net: &Net) -> Result<Vec<Asked>, Trouble> {
        let found = net.resolve(&self.host, self.port).await?;
        // The others are the same server.
        let first = found.into_iter().take(1);
        Ok(first.map(|address| Asked { address, name: self.host.clone(), is_of_the_system: false }).collect())
    }
}

/// Those that the operator gave this system. They are asked whatever the rules say of where probes may connect: the same
/// servers are asked about the names of all other targets.
pub(super) async fn of_the_system(net: &Net, protocol: Protocol) -> Result<Vec<Asked>, Trouble> {
    net.phase_of_ours("reading which name servers this system asks");
    let read = tokio::task::spawn_blocking(read_system_conf).await;
    let unknown = || Trouble::Ours("Which name servers this system asks cannot be read".into());
    let (config, _) = read.map_err(|_| unknown())?.map_err(|_| unknown())?;
    let asked = |ip: IpAddr| Asked {
        address: SocketAddr::new(ip, usual_port(protocol)),
        name: ip.to_string(),
        is_of_the_system: true,
    };
    Ok(config.name_servers().iter().take(SERVERS_MAX).map(|server| asked(server.ip)).collect())
}

fn usual_port(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Udp | Protocol::Tcp => 53,
        Protocol::Tls => 853,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_with_or_without_a_port() {
        for (text, expected) in [
            ("9.9.9.9", Some(("9.9.9.9", 53))),
            ("9.9.9.9:5353", Some(("9.9.9.9", 5353))),
            ("2620:fe::fe", Some(("2620:fe::fe", 53))),
            ("[2620:fe::fe]", Some(("2620:fe::fe", 53))),
            ("[2620:fe::fe]:5353", Some(("2620:fe::fe", 5353))),
            ("dns.example.com", Some(("dns.example.com", 53))),
            ("dns.example.com:5353", Some(("dns.example.com", 5353))),
            ("dns.example.com:0", None),
            ("dns.example.com:x", None),
            ("dns example", None),
            ("", None),
        ] {
            let found = Server::parse(text, Protocol::Udp);
            assert_eq!(found.as_ref().map(|server| (server.host.as_str(), server.port)), expected, "{text}");
        }
        assert_eq!(Server::parse("9.9.9.9", Protocol::Tls).unwrap().port, 853);
    }
}
