//! Where a probe may connect.

pub use super::rule::Rule;
use BlockKind::{LinkLocal, Loopback, Metadata, NoTarget, Private};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the operator allows and denies. Judged on the address that is connected to, in every form that it takes: what is
/// denied as IPv4 is denied inside of IPv6 as well.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// If there are any, only these. What is denied by default is opened by a rule with an address or a network inside of
    /// it, and a private address by its name as well.
    pub allow: Vec<Rule>,
    /// Never these.
    pub deny: Vec<Rule>,
    /// Neither private addresses nor loopback.
    pub deny_private: bool,
    /// Whether scripts may be run.
    pub scripts: bool,
}

/// Addresses that are not like others.
struct Block {
    net: IpNet,
    kind: BlockKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BlockKind {
    /// Whoever reads it becomes the machine.
    Metadata,
    LinkLocal,
    /// Never one target.
    NoTarget,
    Private,
    Loopback,
}

/// The narrowest first: the first that an address is in counts.
const BLOCKS: [Block; 26] = [
    // Cloud metadata: AWS, Azure, Google and others; AWS and Google by IPv6; Alibaba; Azure's agent; Oracle Classic.
    v4([169, 254, 169, 254], 32, Metadata),
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, Metadata),
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, Metadata),
    v4([100, 100, 100, 200], 32, Metadata),
    v4([168, 63, 129, 16], 32, Metadata),
    v4([192, 0, 0, 192], 32, Metadata),
    v4([169, 254, 0, 0], 16, LinkLocal),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, LinkLocal),
    v4([0, 0, 0, 0], 8, NoTarget),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, NoTarget),
    v4([224, 0, 0, 0], 4, NoTarget),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, NoTarget),
    v4([240, 0, 0, 0], 4, NoTarget),
    v4([127, 0, 0, 0], 8, Loopback),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, Loopback),
    // RFC 1918; RFC 6598, behind a carrier's NAT; RFC 6890, of protocols; RFC 2544, of benchmarks; RFC 4193; RFC 3879.
    v4([10, 0, 0, 0], 8, Private),
    v4([172, 16, 0, 0], 12, Private),
    v4([192, 168, 0, 0], 16, Private),
    v4([100, 64, 0, 0], 10, Private),
    v4([192, 0, 0, 0], 24, Private),
    v4([198, 18, 0, 0], 15, Private),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Private),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Private),
    // A NAT64 of one's own (RFC 8215), packets to discard (RFC 6666), and the dummy prefix of RFC 9780.
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, Private),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, NoTarget),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, NoTarget),
];

const fn v4(ip: [u8; 4], prefix: u8, kind: BlockKind) -> Block {
    let [a, b, c, d] = ip;
    Block { net: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)), kind }
}

const fn v6(ip: [u16; 8], prefix: u8, kind: BlockKind) -> Block {
    let mut bits = 0;
    let mut rest: &[u16] = &ip;
    while let [segment, after @ ..] = rest {
        bits = (bits << 16) | *segment as u128;
        rest = after;
    }
    Block { net: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), prefix)), kind }
}

impl Block {
    /// Whether what the rule is about is open although it is in here. `0.0.0.0/0` means much, but not the metadata of a
    /// cloud; and who has a name in the DNS chooses its address.
    fn is_opened_by(&self, rule: &Rule) -> bool {
        rule.is_inside(&self.net) || (rule.is_named() && matches!(self.kind, Private | Loopback))
    }
}

impl Policy {
    /// Why it may not connect there, if it may not. `host` is the name as the settings have it.
    #[must_use]
    pub fn refusal(&self, host: &str, address: SocketAddr) -> Option<&'static str> {
        let (forms, port) = (forms(address.ip()), address.port());
        let is_about = |rule: &Rule| forms.iter().flatten().any(|ip| rule.is_about(host, *ip, port));
        if self.deny.iter().any(is_about) {
            return Some("the operator denies it");
        }
        if !self.allow.is_empty() && !self.allow.iter().any(is_about) {
            return Some("it is not among what the operator allows");
        }
        let blocks = forms.iter().flatten().filter_map(|ip| BLOCKS.iter().find(|block| block.net.contains(ip)));
        let mut closed =
            blocks.filter(|block| !self.allow.iter().any(|rule| is_about(rule) && block.is_opened_by(rule)));
        closed.find_map(|block| match block.kind {
            Metadata => Some("it is the metadata service of a cloud"),
            LinkLocal => Some("it is a link-local address"),
            NoTarget => Some("it is a multicast, broadcast, unspecified or reserved address"),
            Private if self.deny_private => Some("it is a private address"),
            Loopback if self.deny_private => Some("it is this machine"),
            Private | Loopback => None,
        })
    }

    /// Why it may not have another resolve this name and connect there, if it may not: the address stays unknown, so only
    /// rules with names and ports can be kept to.
    #[must_use]
    pub fn refusal_of_name(&self, host: &str, port: u16) -> Option<&'static str> {
        let is_about = |rule: &Rule| rule.is_about_name(host, port);
        if self.deny.iter().any(is_about) {
            return Some("the operator denies it");
        }
        let is_allowed = self.allow.is_empty() || self.allow.iter().any(is_about);
        (!is_allowed).then_some("it is not among what the operator allows")
    }
}

/// The address, and what it leads to: IPv4 that is mapped (RFC 4291), compatible, translated (RFC 6052), or tunnelled by
/// 6to4 (RFC 3056) or Teredo (RFC 4380).
fn forms(ip: IpAddr) -> [Option<IpAddr>; 2] {
    let IpAddr::V6(six) = ip else { return [Some(ip), None] };
    if let Some(four) = six.to_ipv4_mapped() {
        return [Some(four.into()), None];
    }
    let [head @ .., high, low] = six.segments();
    let four = |high: u16, low: u16| Some(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)).into());
    let inner = match head {
        [0, 0, 0, 0, 0, 0] if high != 0 || low > 1 => four(high, low),
        // The old form of a mapped one.
        [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] | [0x64, 0xff9b, 1, ..] => four(high, low),
        [0x2002, high, low, ..] => four(high, low),
        [0x2001, 0, ..] => four(!high, !low),
        _ => None,
    };
    [Some(ip), inner]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Vec<Rule> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// The host is a name unless it is an address.
    fn refusal(policy: &Policy, target: &str) -> Option<&'static str> {
        let (host, address) = target.split_once('=').unwrap_or((target, target));
        let address = address.parse::<SocketAddr>().unwrap_or_else(|_| SocketAddr::new(address.parse().unwrap(), 80));
        policy.refusal(host, address)
    }

    #[test]
    fn what_is_denied_by_default_is_denied_in_every_form() {
        let policy = Policy::default();
        for (target, word) in [
            ("169.254.169.254", "metadata"),
            ("::ffff:169.254.169.254", "metadata"),
            ("::169.254.169.254", "metadata"),
            ("::ffff:0:169.254.169.254", "metadata"),
            ("64:ff9b::169.254.169.254", "metadata"),
            ("64:ff9b:1::169.254.169.254", "metadata"),
            ("2002:a9fe:a9fe::1", "metadata"),
            // Teredo hides the client's address by turning its bits.
            ("2001:0:4136:e378:8000:63bf:5601:5601", "metadata"),
            ("fd00:ec2::254", "metadata"),
            ("fd20:ce::254", "metadata"),
            ("100.100.100.200", "metadata"),
            ("168.63.129.16", "metadata"),
            ("192.0.0.192", "metadata"),
            ("64:ff9b::6464:64c8", "metadata"),
            ("169.254.0.1", "link-local"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("::ffff:169.254.1.1", "link-local"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("240.0.0.1", "reserved"),
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("::", "unspecified"),
            ("::ffff:0.0.0.0", "unspecified"),
            ("2002:e000:1::", "multicast"),
        ] {
            assert!(refusal(&policy, target).is_some_and(|why| why.contains(word)), "{target}");
        }
        let open = "127.0.0.1 ::1 ::ffff:127.0.0.1 10.0.0.1 172.31.255.255 192.168.1.1 100.64.0.1 fd12:3456::1 192.0.2.1 \
                    8.8.8.8 2001:db8::1 2606:4700::1111 2002:808:808::1 64:ff9b::8.8.8.8 169.253.255.255 223.255.255.255";
        for target in open.split_whitespace() {
            assert_eq!(refusal(&policy, target), None, "{target}");
        }
    }

    #[test]
    fn private_addresses_are_denied_at_one_switch() {
        let policy = Policy { deny_private: true, ..Policy::default() };
        let private = "127.0.0.1 127.255.0.1 ::1 ::ffff:127.0.0.1 10.0.0.1 172.16.0.1 192.168.1.1 100.127.0.1 fd12::1 \
                       fc00::1 fec0::1 198.18.0.1 ::127.0.0.1 64:ff9b::10.0.0.1 2002:a00:1::1 localhost=127.0.0.1";
        for target in private.split_whitespace() {
            assert!(refusal(&policy, target).is_some(), "{target}");
        }
        for target in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8"] {
            assert_eq!(refusal(&policy, target), None, "{target}");
        }
    }

    #[test]
    fn a_rule_opens_what_it_names_and_nothing_wider() {
        for (allow, deny_private, target, is_open) in [
            // What is denied by default, by an address or a network inside of it.
            ("169.254.169.254", false, "169.254.169.254", true),
            ("169.254.169.254:80", false, "169.254.169.254:80", true),
            ("169.254.169.254:80", false, "169.254.169.254:81", false),
            ("169.254.169.254", false, "::ffff:169.254.169.254", true),
            ("169.254.0.0/16", false, "169.254.1.1", true),
            ("169.254.0.0/16", false, "169.254.169.254", false),
            ("0.0.0.0/0", false, "169.254.1.1", false),
            ("0.0.0.0/0", false, "8.8.8.8", true),
            ("evil.example", false, "evil.example=169.254.169.254", false),
            (":80", false, "x=169.254.1.1", false),
            ("fe80::/10", false, "fe80::1", true),
            // Private ones, by their name as well.
            ("10.1.0.0/16", true, "10.1.2.3", true),
            ("10.1.0.0/16", true, "10.2.0.1", false),
            ("0.0.0.0/0", true, "10.1.2.3", false),
            ("db.internal", true, "db.internal=10.1.2.3", true),
            ("*.internal", true, "db.internal.=10.1.2.3", true),
            (":5432", true, "db.internal=10.1.2.3:5432", false),
            ("127.0.0.1", true, "127.0.0.1", true),
            ("127.0.0.1", true, "127.0.0.2", false),
            // Where there is a rule, there is nothing else.
            ("10.0.0.0/8", false, "8.8.8.8", false),
            ("example.com", false, "example.com=8.8.8.8", true),
            ("example.com", false, "www.example.com=8.8.8.8", false),
            ("*.example.com", false, "www.EXAMPLE.com=8.8.8.8", true),
            ("*.example.com", false, "example.com=8.8.8.8", false),
            ("*.example.com", false, "notexample.com=8.8.8.8", false),
            (":443", false, "x=8.8.8.8:443", true),
            (":443", false, "x=8.8.8.8:444", false),
        ] {
            let policy = Policy { allow: rules(&[allow]), deny_private, ..Policy::default() };
            assert_eq!(refusal(&policy, target).is_none(), is_open, "{allow} {target}");
        }
    }

    #[test]
    fn a_denial_is_stronger_than_a_permission() {
        for (deny, target) in [
            ("10.0.0.0/8", "10.1.1.1"),
            ("10.0.0.0/8", "::ffff:10.1.1.1"),
            ("10.0.0.0/8", "64:ff9b::10.1.1.1"),
            ("10.0.0.0/8", "2002:a01:101::1"),
            ("::ffff:10.0.0.0/104", "10.1.1.1"),
            ("bad.example", "BAD.example.=10.1.1.1"),
            (":25", "10.1.1.1:25"),
        ] {
            let allow = rules(&["10.1.1.1", "::/0", "bad.example"]);
            let policy = Policy { allow, deny: rules(&[deny]), ..Policy::default() };
            assert_eq!(refusal(&policy, target), Some("the operator denies it"), "{deny} {target}");
        }
    }

    #[test]
    fn a_name_that_another_resolves_is_judged_by_name() {
        let policy = Policy { deny: rules(&["*.internal", ":25"]), ..Policy::default() };
        assert!(policy.refusal_of_name("db.internal", 80).is_some());
        assert!(policy.refusal_of_name("example.com", 25).is_some());
        assert!(policy.refusal_of_name("example.com", 80).is_none());
        let policy = Policy { allow: rules(&["10.0.0.0/8", "example.com:80"]), ..Policy::default() };
        assert!(policy.refusal_of_name("example.com", 80).is_none());
        assert!(policy.refusal_of_name("example.com", 81).is_some());
    }
}
