//! An SSH server: its host key, a login, a command.

use super::answer::{excerpt, reasons, without};
use super::postgres::faults_of_target;
use super::tls::millis;
use super::wire::Wire;
use super::{Fault, Net, Probe, Secret, Trouble};
use russh::client::{AuthResult, Handle, Handler, Session};
use russh::keys::ssh_key::Fingerprint;
use russh::keys::ssh_key::Kdf;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{ChannelMsg, Disconnect, Names, Preferred, client, kex};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What is read of a server.
const BYTES_MAX: usize = 16 << 20;

/// What is kept of each output of a command; the rest is read and forgotten.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// `ssh-keygen` takes 16 or 24 rounds unless told otherwise; each takes some milliseconds.
const ROUNDS_MAX: u32 = 256;

/// Key exchanges whose work is fixed: in a group exchange the server chooses how much there is.
const EXCHANGES: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::DH_G16_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

/// Settings of `ssh`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ssh {
    /// A name or an IP address.
    #[schemars(length(min = 1, max = 253))]
    host: String,
    /// The port.
    #[serde(default = "port")]
    #[schemars(range(min = 1))]
    port: u16,
    /// Who logs in. Without it nobody does: the server and its host key are looked at.
    username: Option<String>,
    /// The password.
    password: Option<Secret>,
    /// A private key as OpenSSH writes it, Ed25519 or ECDSA.
    private_key: Option<Secret>,
    /// The passphrase of the private key, if it has one.
    passphrase: Option<Secret>,
    /// The host key that is expected: a line of OpenSSH, `ssh-ed25519 AAAA…`, or its fingerprint, `SHA256:…`. Without it
    /// every host key is good, and the password is sent to whoever answers.
    host_key: Option<String>,
    /// A command to run after the login.
    #[schemars(length(max = 65_536))]
    command: Option<String>,
    /// What the command must exit with. Without it, any will do.
    expected_exit_code: Option<u32>,
}

/// What was found of an SSH server.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Whether the keys were exchanged, and the host key is the expected one.
    connected: bool,
    /// How long connecting took, with the login if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    connection_time_ms: Option<f64>,
    /// What the server says it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_version: Option<String>,
    /// The fingerprint of the host key, `SHA256:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    host_key_fingerprint: Option<String>,
    /// The algorithm of the host key, `ssh-ed25519`.
    #[serde(skip_serializing_if = "Option::is_none")]
    host_key_type: Option<String>,
    /// Whether the login succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    authenticated: Option<bool>,
    /// What the command exited with.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u32>,
    /// What it wrote, its first 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-ephemeral" = true))]
    stdout: Option<String>,
    /// The first 200 characters that it wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_excerpt: Option<String>,
    /// What it wrote as errors, its first 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-ephemeral" = true))]
    stderr: Option<String>,
    /// The first 200 characters that it wrote as errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_excerpt: Option<String>,
    /// How long the command took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    execution_time_ms: Option<f64>,
}

fn port() -> u16 {
    22
}

impl Probe for Ssh {
    const ID: &'static str = "ssh";
    const NAME: &'static str = "SSH";
    const DESCRIPTION: &'static str = "Connects to an SSH server, checks its host key, logs in and runs a command";

    type Findings = Found;

    fn faults(&self) -> Vec<Fault> {
        let mut faults = faults_of_target(&self.host, self.port);
        let has_secret = self.password.is_some() || self.private_key.is_some();
        if self.username.as_ref().is_some_and(String::is_empty) {
            faults.push(Fault::new("username", "Must not be empty"));
        }
        if self.username.is_none() && has_secret {
            faults.push(Fault::new("username", "Is needed with a password or a private key"));
        }
        if self.username.is_some() && !has_secret {
            faults.push(Fault::new("password", "A password or a private key is needed with a username"));
        }
        if self.username.is_none() && self.command.is_some() {
            faults.push(Fault::new("username", "Is needed with a command"));
        }
        if self.command.is_none() && self.expected_exit_code.is_some() {
            faults.push(Fault::new("expectedExitCode", "Is of use with a command only"));
        }
        if self.command.as_ref().is_some_and(|command| command.is_empty() || command.len() > 65_536) {
            faults.push(Fault::new("command", "Must have between 1 and 65536 bytes"));
        }
        if self.host_key.as_deref().is_some_and(|key| expected(key).is_none()) {
            let message = "Must be a public key like ssh-ed25519 AAAA… or a fingerprint like SHA256:…";
            faults.push(Fault::new("hostKey", message));
        }
        faults.extend(self.fault_of_key().map(|message| Fault::new("privateKey", message)));
        faults
    }

    fn host(&self) -> Option<String> {
        Some(format!("{}:{}", self.host, self.port))
    }

    async fn look(&self, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        let key = self.key().await?;
        let started = Instant::now();
        let stream = net.connect(&self.host, self.port).await?;
        // The crate leaves a task with the connection, which ends when the guard does.
        let (wire, _look) = Wire::new(stream, BYTES_MAX).guarded();
        let mut handle = self.meet(net, wire, found).await?;
        found.connection_time_ms = Some(millis(started.elapsed()));
        let Some(username) = &self.username else { return Ok(()) };
        net.phase("waiting for the login");
        found.authenticated = Some(false);
        self.log_in(&mut handle, username, key).await?;
        found.authenticated = Some(true);
        found.connection_time_ms = Some(millis(started.elapsed()));
        if let Some(command) = &self.command {
            net.phase("waiting for the command");
            self.run(&handle, command, found).await?;
        }
        // The answer is there; whether the goodbye arrives does not change it.
        drop(handle.disconnect(Disconnect::ByApplication, "", "").await);
        Ok(())
    }
}

impl Ssh {
    fn secrets(&self) -> Vec<&Secret> {
        [&self.password, &self.passphrase].into_iter().flatten().collect()
    }

    fn fault_of_key(&self) -> Option<&'static str> {
        let text = self.private_key.as_ref()?.reveal();
        let Ok(key) = PrivateKey::from_openssh(text) else { return Some("Is not a private key as OpenSSH writes it") };
        if matches!(key.kdf(), Kdf::Bcrypt { rounds, .. } if *rounds > ROUNDS_MAX) {
            return Some("Has more than 256 rounds for its passphrase");
        }
        if key.algorithm().is_rsa() || key.algorithm().is_dsa() {
            return Some("Must be Ed25519 or ECDSA");
        }
        (key.is_encrypted() && self.passphrase.is_none()).then_some("Needs its passphrase")
    }

    async fn key(&self) -> Result<Option<PrivateKeyWithHashAlg>, Trouble> {
        let Some(text) = self.private_key.clone() else { return Ok(None) };
        let passphrase = self.passphrase.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let key = PrivateKey::from_openssh(text.reveal())?;
            match passphrase {
                Some(passphrase) if key.is_encrypted() => key.decrypt(passphrase.reveal()),
                _ => Ok(key),
            }
        });
        match opened.await {
            Ok(Ok(key)) => Ok(Some(PrivateKeyWithHashAlg::new(Arc::new(key), None))),
            _ => Err(Trouble::Ours("The private key cannot be opened: is the passphrase right?".into())),
        }
    }

    /// Exchanges keys, and looks at the host's.
    async fn meet(&self, net: &Net, wire: Wire, found: &mut Found) -> Result<Handle<Guest>, Trouble> {
        net.phase("waiting for the key exchange");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let guest = Guest { expected: self.host_key.as_deref().and_then(expected), seen: Arc::clone(&seen) };
        let connected = client::connect_stream(Arc::new(config()), wire, guest).await;
        let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        found.server_version = seen.version;
        found.host_key_type = seen.key.as_ref().map(|key| key.algorithm().to_string());
        found.host_key_fingerprint = seen.key.as_ref().map(|key| key.fingerprint(HashAlg::Sha256).to_string());
        if let (Some(expected), Some(is)) = (seen.mismatch, &found.host_key_fingerprint) {
            return Err(Trouble::Target(format!("The host key is {is}, not {expected} as expected")));
        }
        let handle = connected.map_err(|why| self.trouble("No key exchange", &why))?;
        found.connected = true;
        Ok(handle)
    }

    async fn log_in(
        &self,
        handle: &mut Handle<Guest>,
        username: &str,
        key: Option<PrivateKeyWithHashAlg>,
    ) -> Result<(), Trouble> {
        let mut refused = "no way to log in".to_owned();
        if let Some(key) = key {
            match handle
                .authenticate_publickey(username, key)
                .await
                .map_err(|why| self.trouble("Login failed", &why))?
            {
                AuthResult::Success => return Ok(()),
                AuthResult::Failure { .. } => refused = "the private key was refused".into(),
            }
        }
        if let Some(password) = &self.password {
            let answer = handle.authenticate_password(username, password.reveal()).await;
            match answer.map_err(|why| self.trouble("Login failed", &why))? {
                AuthResult::Success => return Ok(()),
                AuthResult::Failure { .. } => refused = "the password was refused".into(),
            }
        }
        Err(Trouble::Target(format!("Login failed: {refused}")))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "most messages of a channel are not for who runs a command")]
    async fn run(&self, handle: &Handle<Guest>, command: &str, found: &mut Found) -> Result<(), Trouble> {
        let started = Instant::now();
        let failed = |why: &russh::Error| self.trouble("The command cannot be run", why);
        let mut channel = handle.channel_open_session().await.map_err(|why| failed(&why))?;
        channel.exec(true, command).await.map_err(|why| failed(&why))?;
        let (mut out, mut error, mut signal) = (vec![], vec![], None);
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => keep(&mut out, &data),
                ChannelMsg::ExtendedData { data, .. } => keep(&mut error, &data),
                ChannelMsg::ExitStatus { exit_status } => found.exit_code = Some(exit_status),
                ChannelMsg::ExitSignal { signal_name, .. } => signal = Some(format!("{signal_name:?}")),
                ChannelMsg::Failure => return Err(Trouble::Target("The server refuses to run the command".into())),
                ChannelMsg::Close => break,
                _ => {}
            }
        }
        found.execution_time_ms = Some(millis(started.elapsed()));
        let (out, error) = (self.text(&out), self.text(&error));
        (found.stdout_excerpt, found.stderr_excerpt) = (Some(excerpt(&out, &[])), Some(excerpt(&error, &[])));
        (found.stdout, found.stderr) = (Some(out), Some(error));
        match (found.exit_code, signal, self.expected_exit_code) {
            (None, Some(signal), _) => {
                Err(Trouble::Target(format!("The command was ended by {}", excerpt(&signal, &[]))))
            }
            (None, None, _) => Err(Trouble::Target("The connection ended before the command did".into())),
            (Some(is), _, Some(expected)) if is != expected => {
                Err(Trouble::Target(format!("The command exited with {is}, not {expected}")))
            }
            _ => Ok(()),
        }
    }

    fn text(&self, output: &[u8]) -> String {
        without(&String::from_utf8_lossy(output), &self.secrets())
    }

    fn trouble(&self, what: &str, why: &russh::Error) -> Trouble {
        let russh::Error::NoCommonAlgo { kind, theirs, .. } = why else {
            return Trouble::Target(format!("{what}: {}", reasons(why, &self.secrets())));
        };
        let theirs = excerpt(&theirs.join(", "), &[]);
        Trouble::Ours(format!("{what}: the server speaks nothing that is spoken here as {kind:?}, but {theirs}"))
    }
}

fn config() -> client::Config {
    let mut preferred = Preferred { kex: Cow::Borrowed(EXCHANGES), ..Preferred::DEFAULT };
    // There is no RSA here: a server that has another key is to use that.
    preferred.key =
        preferred.key.iter().filter(|algorithm| !matches!(algorithm, Algorithm::Rsa { .. })).cloned().collect();
    client::Config { preferred, ..client::Config::default() }
}

fn expected(text: &str) -> Option<Fingerprint> {
    let text = text.trim();
    if text.starts_with("SHA256:") {
        return text.parse().ok();
    }
    Some(PublicKey::from_openssh(text).ok()?.fingerprint(HashAlg::Sha256))
}

fn keep(kept: &mut Vec<u8>, data: &[u8]) {
    let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
    kept.extend(data.iter().take(room));
}

/// Who looks at the host key: nothing else is said before.
struct Guest {
    expected: Option<Fingerprint>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    version: Option<String>,
    key: Option<PublicKey>,
    /// Which key was expected instead.
    mismatch: Option<Fingerprint>,
}

impl Handler for Guest {
    type Error = russh::Error;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        // Certificates are not asked for.
        let PublicKeyOrCertificate::PublicKey { key, .. } = offered else { return Ok(false) };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is = key.fingerprint(HashAlg::Sha256);
        seen.key = Some(key.clone());
        seen.mismatch = self.expected.filter(|expected| *expected != is);
        Ok(seen.mismatch.is_none())
    }

    async fn kex_done(&mut self, _: Option<&[u8]>, _: &Names, session: &mut Session) -> Result<(), russh::Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.version.get_or_insert_with(|| excerpt(&String::from_utf8_lossy(session.remote_sshid()), &[]));
        Ok(())
    }
}
