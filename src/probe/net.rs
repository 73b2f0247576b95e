//! The only way of a probe to the network: names are resolved, addresses judged, and exactly the judged address is
//! connected to.

use super::{Policy, Trouble};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;

/// The network as a probe may use it, for one look: [`Net::again`] makes it ready for the next.
#[derive(Clone)]
pub struct Net {
    policy: Arc<Policy>,
    phase: Arc<Mutex<Cow<'static, str>>>,
}

impl Net {
    /// With these rules.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy: Arc::new(policy), phase: Arc::default() }
    }

    /// The same network for another look.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { phase: Arc::default(), ..self.clone() }
    }

    /// What the operator allows.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Says what is being waited for, without secrets: it is told if it takes too long.
    pub fn phase(&self, waiting_for: impl Into<Cow<'static, str>>) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = waiting_for.into();
    }

    /// Not done in time, with what was waited for.
    #[must_use]
    pub fn too_late(&self, timeout: Duration) -> Trouble {
        let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = if phase.is_empty() { String::new() } else { format!(" ({phase})") };
        Trouble::Target(format!("No answer within {} ms{waiting}", timeout.as_millis()))
    }

    /// The addresses of a host that may be connected to at this port. IP addresses stand for themselves.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Trouble> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<SocketAddr> = match bare.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => {
                self.phase(format!("resolving {host}"));
                let found = tokio::net::lookup_host((host, port)).await;
                found.map_err(|why| Trouble::Target(format!("{host} cannot be resolved: {why}")))?.collect()
            }
        };
        found.into_iter().map(|address| self.judged(host, address)).collect()
    }

    /// A connection to a host.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Trouble> {
        let mut last = Trouble::Target(format!("{host} has no address"));
        for address in self.resolve(host, port).await? {
            match self.connect_to(address).await {
                Ok(stream) => return Ok(stream),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<TcpStream, Trouble> {
        self.phase(format!("connecting to {address}"));
        TcpStream::connect(address).await.map_err(|why| Trouble::Target(format!("{address}: {why}")))
    }

    /// The address, if it may be connected to. For what is not a TCP connection.
    pub fn judged(&self, host: &str, address: SocketAddr) -> Result<SocketAddr, Trouble> {
        match self.policy.refusal(host, address) {
            Some(why) => Err(Trouble::Ours(format!("{host} may not be connected to: {why}"))),
            None => Ok(address),
        }
    }
}
