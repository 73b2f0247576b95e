//! `ping`: echo requests of ICMP, sent by this process.

use super::net::blamed;
use super::tls::millis;
use super::{Fault, Net, Probe, Trouble};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence, SurgeError};
use tokio::time::{Instant, sleep_until};

/// Sends echo requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ping {
    /// The host name or IP address.
    #[schemars(length(min = 1, max = 253))]
    host: String,
    /// How many packets.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 10))]
    count: u16,
    /// How long from one packet to the next, in milliseconds, if it is answered before.
    #[serde(default = "a_fifth_second")]
    #[schemars(range(min = 100, max = 10000))]
    interval_ms: u64,
    /// How long a packet is waited for, in milliseconds.
    #[serde(default = "second")]
    #[schemars(range(min = 10, max = 30000))]
    packet_timeout_ms: u64,
    /// What a packet carries, in bytes.
    #[serde(default = "usual")]
    #[schemars(range(max = 1400))]
    payload_bytes: usize,
    /// The version of IP.
    #[serde(default)]
    ip_version: IpVersion,
    /// It is down when more packets than these are lost, in percent. All lost is always down.
    #[serde(default = "nearly_all")]
    #[schemars(range(min = 0, max = 100))]
    max_packet_loss_percent: f64,
}

/// A version of IP.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub enum IpVersion {
    /// Whatever the host has first.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// IPv4.
    #[serde(rename = "4")]
    V4,
    /// IPv6.
    #[serde(rename = "6")]
    V6,
}

fn three() -> u16 {
    3
}

fn a_fifth_second() -> u64 {
    200
}

fn second() -> u64 {
    1_000
}

fn usual() -> usize {
    56
}

fn nearly_all() -> f64 {
    99.0
}

/// What was found.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The address that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// How many packets were sent.
    #[schemars(extend("x-chart-unit" = "count"))]
    packets_sent: u16,
    /// How many were answered.
    #[schemars(extend("x-chart-unit" = "count"))]
    packets_received: u16,
    /// How many were not, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "%"))]
    packet_loss: Option<f64>,
    /// The fastest answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    min_latency: Option<f64>,
    /// The mean of the answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    avg_latency: Option<f64>,
    /// The slowest answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    max_latency: Option<f64>,
    #[serde(skip)]
    #[schemars(skip)]
    total: Duration,
}

impl Probe for Ping {
    const ID: &'static str = "ping";
    const NAME: &'static str = "Ping";
    const DESCRIPTION: &'static str = "Sends ICMP echo requests, and counts the answers";

    type Findings = Found;

    fn faults(&self) -> Vec<Fault> {
        [
            ((1..=253).contains(&self.host.len()), "host", "Must have 1 to 253 characters"),
            ((1..=10).contains(&self.count), "count", "Must be from 1 to 10"),
            ((100..=10_000).contains(&self.interval_ms), "intervalMs", "Must be from 100 to 10000"),
            ((10..=30_000).contains(&self.packet_timeout_ms), "packetTimeoutMs", "Must be from 10 to 30000"),
            (self.payload_bytes <= 1_400, "payloadBytes", "Must be at most 1400"),
            ((0.0..=100.0).contains(&self.max_packet_loss_percent), "maxPacketLossPercent", "Must be from 0 to 100"),
        ]
        .into_iter()
        .filter(|(is_good, ..)| !is_good)
        .map(|(_, path, message)| Fault::new(path, message))
        .collect()
    }

    fn host(&self) -> Option<String> {
        Some(self.host.clone())
    }

    async fn look(&self, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        let ip = self.address(net).await?;
        found.address = Some(ip.to_string());
        let kind = if ip.is_ipv4() { ICMP::V4 } else { ICMP::V6 };
        // An unprivileged socket is tried first. The task that reads it ends with the client.
        let client = Client::new(&Config::builder().kind(kind).build()).map_err(|why| unable(&why))?;
        let mut pinger = client.pinger(ip, PingIdentifier(rand_identifier())).await;
        pinger.timeout(Duration::from_millis(self.packet_timeout_ms));
        net.phase(format!("waiting for {ip} to answer a ping"));
        let payload = vec![0; self.payload_bytes];
        for number in 0..self.count {
            let due = Instant::now() + Duration::from_millis(self.interval_ms);
            found.packets_sent += 1;
            match pinger.ping(PingSequence(number), &payload).await {
                Ok((_, took)) => found.answered(took),
                Err(why) => found.lost(ip, &why)?,
            }
            if number + 1 < self.count {
                sleep_until(due).await;
            }
        }
        self.verdict(ip, found)
    }

    fn latency(found: &Found) -> Option<Duration> {
        found.total.checked_div(found.packets_received.into())
    }
}

impl Ping {
    async fn address(&self, net: &Net) -> Result<IpAddr, Trouble> {
        let found = net.resolve(&self.host, 0).await?;
        let is_good = |address: &&SocketAddr| match self.ip_version {
            IpVersion::Auto => true,
            IpVersion::V4 => address.is_ipv4(),
            IpVersion::V6 => address.is_ipv6(),
        };
        let missing = || {
            let version = if matches!(self.ip_version, IpVersion::V6) { "6" } else { "4" };
            Trouble::Target(format!("{} has no address of IPv{version}", self.host))
        };
        found.iter().find(is_good).map(SocketAddr::ip).ok_or_else(missing)
    }

    fn verdict(&self, ip: IpAddr, found: &Found) -> Result<(), Trouble> {
        let (sent, received) = (found.packets_sent, found.packets_received);
        let loss = found.packet_loss.unwrap_or_default();
        if received == 0 {
            return Err(Trouble::Target(format!("{ip} answered none of {sent} packets")));
        }
        if loss > self.max_packet_loss_percent {
            return Err(Trouble::Target(format!("{ip} answered {received} of {sent} packets: {loss} % are lost")));
        }
        Ok(())
    }
}

impl Found {
    fn answered(&mut self, took: Duration) {
        let ms = millis(took);
        self.packets_received += 1;
        self.total += took;
        self.min_latency = Some(self.min_latency.map_or(ms, |least| least.min(ms)));
        self.max_latency = Some(self.max_latency.map_or(ms, |most| most.max(ms)));
        self.avg_latency = self.total.checked_div(self.packets_received.into()).map(millis);
        self.count_lost();
    }

    /// A packet that was sent and not answered is lost; one that could not be sent tells nothing about the target.
    fn lost(&mut self, ip: IpAddr, why: &SurgeError) -> Result<(), Trouble> {
        if let SurgeError::IOError(why) = why {
            if why.kind() == io::ErrorKind::PermissionDenied {
                return Err(unable(why));
            }
            if let Trouble::Ours(_) = blamed(SocketAddr::new(ip, 0), why) {
                return Err(Trouble::Ours(format!("{ip} could not be pinged: {why}")));
            }
        }
        self.count_lost();
        Ok(())
    }

    fn count_lost(&mut self) {
        let (sent, received) = (f64::from(self.packets_sent), f64::from(self.packets_received));
        self.packet_loss = Some(((1.0 - received / sent) * 1_000.0).round() / 10.0);
    }
}

/// Tells answers to this look from those to another one.
fn rand_identifier() -> u16 {
    let mut bits = [0; 2];
    // Without randomness it is one number for all, and answers are told apart by their address still.
    let _ = getrandom::fill(&mut bits);
    u16::from_ne_bytes(bits)
}

fn unable(why: &io::Error) -> Trouble {
    Trouble::Ours(if why.kind() == io::ErrorKind::PermissionDenied {
        "This system does not permit pings: the group of the process has to be in net.ipv4.ping_group_range, \
         or the process needs CAP_NET_RAW"
            .into()
    } else {
        format!("No socket for pings could be opened: {why}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_judged_by_what_is_allowed_and_all_lost_is_down() {
        let ip: IpAddr = [192, 0, 2, 1].into();
        for (max, answered, words) in [
            (99.0, 3, ""),
            (99.0, 1, ""),
            (99.0, 0, "answered none of 3"),
            (100.0, 0, "answered none of 3"),
            (0.0, 3, ""),
            (0.0, 2, "33.3 % are lost"),
            (33.3, 2, ""),
            (33.2, 2, "answered 2 of 3 packets"),
        ] {
            let settings = serde_json::json!({ "host": "a", "maxPacketLossPercent": max });
            let ping: Ping = serde_json::from_value(settings).unwrap();
            let mut found = Found::default();
            for number in 0..3 {
                found.packets_sent += 1;
                if number < answered {
                    found.answered(Duration::from_millis(10));
                } else {
                    found.lost(ip, &SurgeError::NetworkError).unwrap();
                }
            }
            let verdict = format!("{:?}", ping.verdict(ip, &found));
            assert!(
                verdict.contains(words) && (words.is_empty() == (verdict == "Ok(())")),
                "{max} {answered}: {verdict}"
            );
        }
    }
}
