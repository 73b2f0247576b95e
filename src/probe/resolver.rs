//! Names into addresses: by `/etc/hosts` and the resolvers of the system, which are read again when they change.
//!
//! "There is no such name" is the target's affair, "no resolver answers" is ours, and the two are never mixed up: that is
//! why both address families are asked for here, each with an outcome of its own.

use super::Trouble;
use futures_util::future::{Either, select};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How often the files are looked at.
const REREAD: Duration = Duration::from_secs(10);

/// How long the second address family may keep the first waiting: the resolution delay of RFC 8305.
const SECOND_FAMILY: Duration = Duration::from_millis(50);

/// A check notices a change of DNS after at most this, however long the record may be kept.
const KEPT: Duration = Duration::from_mins(1);

/// A name that is new shows soon.
const KEPT_NEGATIVE: Duration = Duration::from_secs(5);

/// The longest that a resolver is waited for before it is asked again, once: nobody gives a check half a minute.
const ANSWER: Duration = Duration::from_secs(2);

const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Asks for addresses.
#[derive(Default)]
pub(super) struct Resolver {
    /// Instead of the system's.
    servers: Option<Vec<SocketAddr>>,
    read: Mutex<Option<Arc<Read>>>,
    reading: tokio::sync::Mutex<()>,
}

/// What the files said.
struct Read {
    looked: Instant,
    changed: [Option<SystemTime>; 2],
    asked: Arc<Asked>,
}

struct Asked {
    resolver: Option<TokioResolver>,
    hosts: Hosts,
}

impl Resolver {
    /// Asks these servers, and neither the system's nor `/etc/hosts`.
    pub(super) fn asking(servers: Vec<SocketAddr>) -> Self {
        Self { servers: Some(servers), ..Self::default() }
    }

    /// The addresses of a name, IPv6 first. Never empty.
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Trouble> {
        let bare = host.trim_end_matches('.');
        // RFC 6761: needs no resolver, and must not be asked for.
        let is_local = bare.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"));
        if is_local {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let name = Name::from_str_relaxed(host).map_err(|_| Trouble::Target(format!("{host} is not a host name")))?;
        let asked = self.asked().await;
        let listed = asked.listed(&name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let Some(resolver) = &asked.resolver else {
            return Err(Trouble::Ours(format!("{host} cannot be resolved: this machine has no resolver")));
        };
        both(resolver, &name).await.map_err(|why| explained(host, &why))
    }

    async fn asked(&self) -> Arc<Asked> {
        if let Some(fresh) = self.fresh() {
            return fresh;
        }
        let _reading = self.reading.lock().await;
        if let Some(fresh) = self.fresh() {
            return fresh;
        }
        let (servers, before) = (self.servers.clone(), self.lock().clone());
        let read = tokio::task::spawn_blocking(move || read(servers, before.as_deref())).await;
        let read = Arc::new(read.unwrap_or_else(|_| Read {
            looked: Instant::now(),
            changed: [None; 2],
            asked: Arc::new(Asked { resolver: None, hosts: Hosts::default() }),
        }));
        let asked = read.asked.clone();
        *self.lock() = Some(read);
        asked
    }

    fn fresh(&self) -> Option<Arc<Asked>> {
        self.lock().as_ref().filter(|read| read.looked.elapsed() < REREAD).map(|read| read.asked.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Read>>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(servers: Option<Vec<SocketAddr>>, before: Option<&Read>) -> Read {
    let changed = FILES.map(|file| std::fs::metadata(file).and_then(|file| file.modified()).ok());
    // What is the same keeps its cache.
    let same = before.filter(|before| before.changed == changed || servers.is_some());
    let asked = same.map_or_else(|| Arc::new(Asked::new(servers)), |before| before.asked.clone());
    Read { looked: Instant::now(), changed, asked }
}

impl Asked {
    fn new(servers: Option<Vec<SocketAddr>>) -> Self {
        let Some(servers) = servers else {
            let hosts = Hosts::from_system().unwrap_or_default();
            let resolver = system_conf::read_system_conf().ok().and_then(|(config, options)| built(config, options));
            return Self { resolver, hosts };
        };
        let server = |address: SocketAddr| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
            NameServerConfig::new(address.ip(), true, connections.into())
        };
        let config = ResolverConfig::from_name_servers(servers.into_iter().map(server).collect());
        Self { resolver: built(config, ResolverOpts::default()), hosts: Hosts::default() }
    }

    /// What `/etc/hosts` says, for which no resolver is asked.
    fn listed(&self, name: &Name) -> Vec<IpAddr> {
        let of = |family| self.hosts.lookup_static_host(&Query::query(name.clone(), family));
        let found = [RecordType::AAAA, RecordType::A].into_iter().filter_map(of);
        found.flat_map(|lookup| addresses(lookup.answers()).collect::<Vec<_>>()).collect()
    }
}

fn built(config: ResolverConfig, mut options: ResolverOpts) -> Option<TokioResolver> {
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = options.timeout.min(ANSWER);
    options.attempts = options.attempts.min(1);
    options.positive_max_ttl = Some(KEPT);
    options.negative_max_ttl = Some(KEPT_NEGATIVE);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().ok()
}

async fn both(resolver: &TokioResolver, name: &Name) -> Result<Vec<IpAddr>, NetError> {
    let ask = |family| async move {
        let found = resolver.lookup(name.clone(), family).await?;
        Ok::<_, NetError>(addresses(found.answers()).collect::<Vec<_>>())
    };
    let (six, four) = (pin!(ask(RecordType::AAAA)), pin!(ask(RecordType::A)));
    let (first, second) = match select(six, four).await {
        Either::Left((six, four)) => (six, Either::Left(four)),
        Either::Right((four, six)) => (four, Either::Right(six)),
    };
    let second = match &first {
        Ok(found) if !found.is_empty() => tokio::time::timeout(SECOND_FAMILY, second).await.unwrap_or(Ok(vec![])),
        _ => second.await,
    };
    match (first, second) {
        (Ok(first), Ok(second)) => {
            let mut found = [first, second].concat();
            found.sort_by_key(IpAddr::is_ipv4);
            Ok(found)
        }
        (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
        // That one family has no address says nothing while nobody answers for the other.
        (Err(why), Err(NetError::Dns(DnsError::NoRecordsFound(_))) | Ok(_)) | (_, Err(why)) => Err(why),
    }
}

fn addresses(records: &[hickory_resolver::proto::rr::Record]) -> impl Iterator<Item = IpAddr> {
    records.iter().filter_map(|record| record.data.ip_addr())
}

fn explained(host: &str, why: &NetError) -> Trouble {
    let ours = |why: String| Trouble::Ours(format!("{host} cannot be resolved: {why}"));
    if why.is_nx_domain() {
        return Trouble::Target(format!("{host} cannot be resolved: there is no such name"));
    }
    if let NetError::Dns(DnsError::NoRecordsFound(none)) = why {
        let is_without = none.response_code == ResponseCode::NoError;
        let refused = || ours(format!("the resolver answers {}", none.response_code));
        return if is_without { Trouble::Target(format!("{host} has no address")) } else { refused() };
    }
    // Also when the name servers of the name are to blame: a resolver that is cut off says the same.
    if let NetError::Dns(DnsError::ResponseCode(code)) = why {
        return ours(format!("the resolver answers {code}"));
    }
    if matches!(why, NetError::Timeout | NetError::NoConnections) {
        return ours("no resolver answers".into());
    }
    ours(format!("no resolver answers: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_is_not_the_target() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        for why in [NetError::Timeout, NetError::NoConnections, NetError::Busy, refused.into(), NetError::Truncated] {
            let trouble = explained("target.example", &why);
            assert!(matches!(trouble, Trouble::Ours(_)), "{trouble:?}");
        }
    }

    #[tokio::test]
    async fn the_files_of_the_system_are_read() {
        let resolver = Resolver::default();
        let asked = resolver.asked().await;
        assert!(Arc::ptr_eq(&asked, &resolver.asked().await), "and not each time");
        let listed = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        for line in listed.lines().map(|line| line.split('#').next().unwrap_or_default()) {
            let mut words = line.split_whitespace();
            let (Some(Ok(ip)), Some(name)) = (words.next().map(str::parse::<IpAddr>), words.next()) else { continue };
            let name = Name::from_str_relaxed(name).unwrap();
            assert!(asked.listed(&name).contains(&ip), "{line}");
        }
    }
}
