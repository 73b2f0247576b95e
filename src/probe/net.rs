//! The only way of a probe to the network: names are resolved, addresses judged, and exactly the judged address is
//! connected to.

use super::resolver::Resolver;
use super::{Policy, Trouble};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::io::Errno;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// How long an address may keep the next one waiting: the connection attempt delay of RFC 8305.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// The network as a probe may use it, for one look: [`Net::again`] makes it ready for the next.
#[derive(Clone)]
pub struct Net {
    policy: Arc<Policy>,
    resolver: Arc<Resolver>,
    phase: Arc<Mutex<Phase>>,
    /// What is connected to is not the target.
    is_ours: bool,
}

/// What is being waited for.
#[derive(Default)]
struct Phase {
    text: Cow<'static, str>,
    /// It is not the target that is waited for.
    is_ours: bool,
}

/// A connection that was made.
#[derive(Debug)]
pub struct Dialed {
    /// It.
    pub stream: TcpStream,
    /// The address, which is the one that was judged.
    pub address: SocketAddr,
    /// How long resolving took; nothing for an IP address.
    pub dns: Duration,
    /// How long connecting took, with the addresses that did not answer.
    pub connect: Duration,
}

impl Net {
    /// With these rules.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy: Arc::new(policy), resolver: Arc::default(), phase: Arc::default(), is_ours: false }
    }

    /// Asks these name servers, and neither the system's nor `/etc/hosts`.
    #[must_use]
    pub fn asking(self, servers: Vec<SocketAddr>) -> Self {
        Self { resolver: Arc::new(Resolver::asking(servers)), ..self }
    }

    /// The same network for another look.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { phase: Arc::default(), ..self.clone() }
    }

    /// The same look, on its way to something of ours, like a proxy: what is waited for is not the target's fault.
    #[must_use]
    pub fn on_our_side(&self) -> Self {
        Self { is_ours: true, ..self.clone() }
    }

    /// What the operator allows.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Says what is being waited for, without secrets: it is told if it takes too long.
    pub fn phase(&self, waiting_for: impl Into<Cow<'static, str>>) {
        self.enter(waiting_for.into(), false);
    }

    /// Says that something of ours is being waited for: if it takes too long, the target is not to blame.
    pub fn phase_of_ours(&self, waiting_for: impl Into<Cow<'static, str>>) {
        self.enter(waiting_for.into(), true);
    }

    fn enter(&self, text: Cow<'static, str>, is_ours: bool) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = Phase { text, is_ours: is_ours || self.is_ours };
    }

    /// Not done in time, with what was waited for.
    #[must_use]
    pub fn too_late(&self, timeout: Duration) -> Trouble {
        let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = if phase.text.is_empty() { String::new() } else { format!(" ({})", phase.text) };
        let text = format!("No answer within {} ms{waiting}", timeout.as_millis());
        if phase.is_ours { Trouble::Ours(text) } else { Trouble::Target(text) }
    }

    /// The addresses of a host that may be connected to at this port, at least one. IP addresses stand for themselves.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Trouble> {
        let found = if let Some(ip) = literal(host) {
            vec![ip]
        } else {
            self.phase_of_ours(format!("resolving {host}"));
            self.resolver.addresses(host).await?
        };
        let (mut good, mut refusal) = (vec![], None);
        for ip in found {
            match self.judged(host, SocketAddr::new(ip, port)) {
                Ok(address) => good.push(address),
                Err(why) => refusal = Some(why),
            }
        }
        match refusal {
            Some(why) if good.is_empty() => Err(why),
            _ => Ok(good),
        }
    }

    /// A connection to a host.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Trouble> {
        self.dial(host, port).await.map(|dialed| dialed.stream)
    }

    /// A connection to a host, with how long it took.
    pub async fn dial(&self, host: &str, port: u16) -> Result<Dialed, Trouble> {
        let started = Instant::now();
        let addresses = self.resolve(host, port).await?;
        let dns = if literal(host).is_some() { Duration::ZERO } else { started.elapsed() };
        let started = Instant::now();
        let (stream, address) = self.first_of(host, port, &addresses).await?;
        // What a probe sends is small, and waited for. A connection that is gone shows when it is used.
        let _ = stream.set_nodelay(true);
        Ok(Dialed { stream, address, dns, connect: started.elapsed() })
    }

    /// The first that answers. Families take turns, and an address that does not answer keeps the next waiting only for a
    /// moment.
    async fn first_of(
        &self,
        host: &str,
        port: u16,
        addresses: &[SocketAddr],
    ) -> Result<(TcpStream, SocketAddr), Trouble> {
        if let [address] = addresses {
            self.phase(format!("connecting to {address}"));
            return attempt(*address).await;
        }
        self.phase(format!("connecting to {host} port {port}"));
        let (mut waiting, mut trying) = (in_turns(addresses), FuturesUnordered::new());
        let mut last = None;
        loop {
            trying.extend(waiting.pop_front().map(attempt));
            let next = trying.next();
            let patience = if waiting.is_empty() { Duration::MAX } else { NEXT_ADDRESS };
            let Ok(outcome) = tokio::time::timeout(patience, next).await else { continue };
            match (outcome, &last) {
                (Some(Ok(connected)), _) => return Ok(connected),
                // That we have no way to one address does not excuse the target, which refused at another.
                (Some(Err(Trouble::Ours(_))), Some(Trouble::Target(_))) => {}
                (Some(Err(why)), _) => last = Some(why),
                (None, _) => break,
            }
        }
        Err(last.unwrap_or_else(|| Trouble::Target(format!("{host} has no address"))))
    }

    /// The address, if it may be connected to. For what is not a TCP connection.
    pub fn judged(&self, host: &str, address: SocketAddr) -> Result<SocketAddr, Trouble> {
        match self.policy.refusal(host, address) {
            Some(why) => Err(Trouble::Ours(format!("{host} may not be connected to: {why}"))),
            None => Ok(address),
        }
    }
}

/// An IP address in the one form that means the same to everybody: no decimal, octal or shortened ones.
fn literal(host: &str) -> Option<IpAddr> {
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(six) => six.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

/// The families alternate, beginning with that of the first.
fn in_turns(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let starts_with_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(|one| one.is_ipv4() == starts_with_v4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = VecDeque::with_capacity(addresses.len());
    loop {
        let before = turns.len();
        turns.extend(first.next());
        turns.extend(second.next());
        if turns.len() == before {
            turns.truncate(ADDRESSES_MAX);
            return turns;
        }
    }
}

async fn attempt(address: SocketAddr) -> Result<(TcpStream, SocketAddr), Trouble> {
    let stream = TcpStream::connect(address).await.map_err(|why| blamed(address, &why))?;
    Ok((stream, address))
}

/// Whose trouble it is that an address cannot be reached, in words.
#[must_use]
pub fn blamed(address: SocketAddr, why: &io::Error) -> Trouble {
    let ours = |what: &str| Trouble::Ours(format!("{address} could not be tried: {what}"));
    let target = |what: &str| Trouble::Target(format!("{address} {what}"));
    match Errno::from_io_error(why) {
        Some(Errno::MFILE | Errno::NFILE) => ours("no more files can be opened here"),
        Some(Errno::NOBUFS | Errno::NOMEM) => ours("no memory is left here"),
        Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => ours("no port is left here"),
        Some(Errno::NETUNREACH | Errno::NETDOWN) => ours("there is no route to it"),
        Some(Errno::AFNOSUPPORT) => ours("this machine does not speak its address family"),
        Some(Errno::ACCESS | Errno::PERM) => ours("this machine does not permit it"),
        Some(Errno::HOSTUNREACH) if has_no_route(address) => ours("there is no route to it"),
        Some(Errno::HOSTUNREACH | Errno::HOSTDOWN) => {
            target("cannot be reached: its network says that it is not there")
        }
        Some(Errno::CONNREFUSED) => target("refuses connections"),
        Some(Errno::CONNRESET) => target("reset the connection"),
        Some(Errno::TIMEDOUT) => target("does not answer"),
        _ => target(&format!("cannot be connected to: {why}")),
    }
}

/// The same error says that a router, or the neighbourhood, has no such host; then there is a way to it. To connect a
/// datagram socket looks the route up and sends nothing.
fn has_no_route(address: SocketAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form() {
        for (text, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[192.0.2.1]", None),
            ("[2001:db8::1", None),
            ("0300.0.2.1", None),
            ("127.1", None),
            ("2130706433", None),
            ("0x7f000001", None),
            ("fe80::1%eth0", None),
            ("example.com", None),
        ] {
            assert_eq!(literal(text).map(|ip| ip.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn families_take_turns_and_are_not_tried_without_end() {
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 1);
        let turns = in_turns(&["::1", "::2", "::3", "1.1.1.1", "2.2.2.2"].map(at));
        assert_eq!(turns, ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"].map(at));
        let many: Vec<_> = (1..100).map(|last| at(&format!("192.0.2.{last}"))).collect();
        assert_eq!(in_turns(&many).len(), ADDRESSES_MAX);
    }

    #[test]
    fn what_is_missing_here_is_not_the_targets_fault() {
        let address = "127.0.0.1:1".parse().unwrap();
        let blame = |errno: Errno| blamed(address, &errno.into());
        for errno in [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NETUNREACH, Errno::ACCESS, Errno::PERM] {
            assert!(matches!(blame(errno), Trouble::Ours(_)), "{errno:?}");
        }
        // Loopback has a route, so it is a host that is not there.
        for errno in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::TIMEDOUT, Errno::HOSTUNREACH] {
            assert!(matches!(blame(errno), Trouble::Target(_)), "{errno:?}");
        }
    }
}
