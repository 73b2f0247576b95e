//! `smtp`: a mail server, as far as a client comes without sending mail.

use super::talk::{Reply, Talk, days_remaining};
use super::tls::{TlsOptions, millis};
use super::{Fault, Net, Probe, Secret, Trouble};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Capabilities that are kept.
const CAPABILITIES_MAX: usize = 50;

/// Speaks to a mail server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Smtp {
    /// The host name or IP address.
    #[schemars(length(min = 1, max = 253))]
    host: String,
    /// The port.
    #[serde(default = "mail")]
    #[schemars(range(min = 1))]
    port: u16,
    /// How to introduce oneself.
    #[serde(default = "checkmate")]
    #[schemars(length(min = 1, max = 253))]
    ehlo_name: String,
    /// Whether to go on over TLS.
    #[serde(default)]
    start_tls: StartTls,
    /// Whether TLS begins at once.
    #[serde(default)]
    use_tls: bool,
    /// Whom to trust, and who one is.
    #[serde(default)]
    tls: TlsOptions,
    /// Who to be. It is told over TLS only.
    auth: Option<Auth>,
    /// A sender that has to be accepted. No mail is sent.
    #[schemars(length(min = 1, max = 320))]
    from: Option<String>,
    /// A recipient that has to be accepted from the sender.
    #[schemars(length(min = 1, max = 320))]
    to: Option<String>,
}

/// Whether to go on over TLS.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum StartTls {
    /// No.
    #[default]
    None,
    /// If the server can.
    Optional,
    /// It is down if it cannot.
    Required,
}

/// A user.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Auth {
    /// The name.
    #[schemars(length(min = 1, max = 320))]
    username: String,
    /// The password.
    password: Secret,
}

fn mail() -> u16 {
    25
}

fn checkmate() -> String {
    "checkmate".into()
}

/// What was found.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// What the server said first.
    #[serde(skip_serializing_if = "Option::is_none")]
    banner: Option<String>,
    /// What it can, as it says last: `SIZE 10240000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Vec<String>>,
    /// Whether it offers TLS in the open.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_tls_offered: Option<bool>,
    /// How long connecting took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    connection_time_ms: Option<f64>,
    /// How long the conversation took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    response_time_ms: Option<f64>,
    /// Whole days until the certificate expires; negative once it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "days"))]
    certificate_days_remaining: Option<i64>,
    /// The code of the last reply that decided something.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_code: Option<u16>,
}

impl Probe for Smtp {
    const ID: &'static str = "smtp";
    const NAME: &'static str = "SMTP";
    const DESCRIPTION: &'static str = "Speaks to a mail server, without sending mail";

    type Findings = Found;

    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.tls.faults("tls");
        let mut fault = |is_one: bool, path: &str, message: &str| {
            if is_one {
                faults.push(Fault::new(path, message));
            }
        };
        fault(self.host.is_empty() || self.host.len() > 253, "host", "Must have 1 to 253 characters");
        fault(self.port == 0, "port", "Must be from 1 to 65535");
        fault(!is_word(&self.ehlo_name, 253), "ehloName", "Must have 1 to 253 characters, and no blanks");
        for (path, address) in [("from", &self.from), ("to", &self.to)] {
            let is_bad = address.as_ref().is_some_and(|address| !is_word(address, 320) || address.contains(['<', '>']));
            fault(is_bad, path, "Is not an address");
        }
        fault(self.to.is_some() && self.from.is_none(), "from", "There is a recipient, so there has to be a sender");
        fault(self.use_tls && self.start_tls != StartTls::None, "startTls", "TLS begins at once already");
        let is_open = !self.use_tls && self.start_tls != StartTls::Required;
        fault(self.auth.is_some() && is_open, "auth", "Passwords are sent over TLS only: useTls, or startTls required");
        let name = self.auth.as_ref().map(|auth| auth.username.as_str());
        fault(name.is_some_and(|name| name.is_empty() || name.contains('\0')), "auth.username", "Is not a name");
        faults
    }

    fn host(&self) -> Option<String> {
        Some(format!("{}:{}", self.host, self.port))
    }

    async fn look(&self, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        let dialed = net.dial(&self.host, self.port).await?;
        found.connection_time_ms = Some(millis(dialed.connect));
        let started = Instant::now();
        let mut talk = if self.use_tls {
            let stream = net.tls(dialed.stream, &self.host, &self.tls, &[]).await?;
            found.certificate_days_remaining = days_remaining(&stream);
            Talk::new(stream)
        } else {
            Talk::new(dialed.stream)
        };
        let outcome = self.converse(&mut talk, net, found).await;
        found.response_time_ms = Some(millis(started.elapsed()));
        outcome
    }

    fn latency(found: &Found) -> Option<Duration> {
        let parts = found.connection_time_ms.zip(found.response_time_ms);
        parts.map(|(connection, response)| Duration::from_secs_f64((connection + response) / 1_000.0))
    }
}

impl Smtp {
    async fn converse(&self, talk: &mut Talk, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        net.phase("waiting for the greeting");
        let greeting = talk.reply().await?;
        found.banner = Some(greeting.told(&[]));
        self.good(&greeting, "greets", found)?;
        let hello = format!("EHLO {}", self.ehlo_name);
        net.phase("waiting for the answer to EHLO");
        let mut capabilities = self.good(&talk.ask(&hello).await?, "answered to EHLO", found)?;
        found.capabilities = Some(capabilities.clone());
        let is_offered = capabilities.iter().any(|line| line.eq_ignore_ascii_case("STARTTLS"));
        if !self.use_tls {
            found.start_tls_offered = Some(is_offered);
        }
        match self.start_tls {
            StartTls::Required if !is_offered => {
                return Err(Trouble::Target("The server does not offer STARTTLS".into()));
            }
            StartTls::Required | StartTls::Optional if is_offered => {
                self.encrypt(talk, net, found).await?;
                capabilities = self.good(&talk.ask(&hello).await?, "answered to EHLO over TLS", found)?;
                found.capabilities = Some(capabilities.clone());
            }
            StartTls::Required | StartTls::Optional | StartTls::None => {}
        }
        if let Some(auth) = &self.auth {
            net.phase("waiting to be let in");
            self.log_in(auth, talk, &capabilities, found).await?;
        }
        if let Some(from) = &self.from {
            net.phase("waiting for the addresses to be accepted");
            self.good(
                &talk.ask(&format!("MAIL FROM:<{from}>")).await?,
                "does not take the sender: it answered",
                found,
            )?;
            if let Some(to) = &self.to {
                let reply = talk.ask(&format!("RCPT TO:<{to}>")).await?;
                self.good(&reply, "does not take the recipient: it answered", found)?;
            }
            talk.ask("RSET").await?;
        }
        // Whoever does not say goodbye is not down.
        let _ = talk.send("QUIT").await;
        Ok(())
    }

    async fn encrypt(&self, talk: &mut Talk, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        net.phase("waiting for the server to begin TLS");
        self.good(&talk.ask("STARTTLS").await?, "answered to STARTTLS", found)?;
        let open = std::mem::replace(talk, Talk::new(tokio::io::empty()));
        let (encrypted, days) = open.encrypted(net, &self.host, &self.tls).await?;
        *talk = encrypted;
        found.certificate_days_remaining = days;
        Ok(())
    }

    async fn log_in(
        &self,
        auth: &Auth,
        talk: &mut Talk,
        capabilities: &[String],
        found: &mut Found,
    ) -> Result<(), Trouble> {
        let offered = |way: &str| {
            let lines = capabilities.iter().map(|line| line.to_ascii_uppercase());
            lines
                .filter_map(|line| line.strip_prefix("AUTH").map(str::to_owned))
                .any(|ways| ways.split([' ', '=']).any(|offered| offered == way))
        };
        let (name, password) = (&auth.username, auth.password.reveal());
        let reply = if offered("PLAIN") {
            let both = BASE64_STANDARD.encode(format!("\0{name}\0{password}"));
            talk.ask(&format!("AUTH PLAIN {both}")).await?
        } else if offered("LOGIN") {
            self.expect(&talk.ask("AUTH LOGIN").await?, 334, found)?;
            self.expect(&talk.ask(&BASE64_STANDARD.encode(name)).await?, 334, found)?;
            talk.ask(&BASE64_STANDARD.encode(password)).await?
        } else {
            return Err(Trouble::Target("The server offers neither AUTH PLAIN nor AUTH LOGIN".into()));
        };
        self.expect(&reply, 235, found)
    }

    fn expect(&self, reply: &Reply, code: u16, found: &mut Found) -> Result<(), Trouble> {
        found.reply_code = Some(reply.code);
        if reply.code == code {
            return Ok(());
        }
        Err(Trouble::Target(format!("The server does not let the user in: {}", self.told(reply))))
    }

    /// The lines behind the first, if the reply is a good one.
    fn good(&self, reply: &Reply, what: &str, found: &mut Found) -> Result<Vec<String>, Trouble> {
        found.reply_code = Some(reply.code);
        if !(200..300).contains(&reply.code) {
            return Err(Trouble::Target(format!("The server {what} {}", self.told(reply))));
        }
        let lines = reply.lines.iter().skip(1).take(CAPABILITIES_MAX);
        Ok(lines.map(|line| super::talk::said(line, &[])).collect())
    }

    fn told(&self, reply: &Reply) -> String {
        let secrets: Vec<_> = self.auth.iter().map(|auth| &auth.password).collect();
        reply.told(&secrets)
    }
}

/// What can stand in a command without ending it.
fn is_word(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && !text.chars().any(|letter| letter.is_whitespace() || letter.is_control())
}
