//! Where a probe may connect.

use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// What the operator allows and denies. Judged on the address that is connected to.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// If there are any, only these.
    pub allow: Vec<Rule>,
    /// Never these.
    pub deny: Vec<Rule>,
    /// Neither private addresses nor loopback.
    pub deny_private: bool,
    /// Whether scripts may be run.
    pub scripts: bool,
}

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

impl Policy {
    /// Why it may not connect there, if it may not. `host` is the name as the settings have it.
    #[must_use]
    pub fn refusal(&self, _host: &str, _address: SocketAddr) -> Option<&'static str> {
        None
    }
}

impl Rule {
    /// Whether it is about this target.
    #[must_use]
    pub fn is_about(&self, host: &str, ip: IpAddr, port: u16) -> bool {
        let is_host = match &self.host {
            Host::Any => true,
            Host::Net(net) => net.contains(&ip),
            Host::Name(name) => host.eq_ignore_ascii_case(name),
            Host::Below(name) => {
                host.len() > name.len() && host.to_ascii_lowercase().ends_with(&format!(".{name}"))
            }
        };
        is_host && self.port.is_none_or(|own| own == port)
    }
}
