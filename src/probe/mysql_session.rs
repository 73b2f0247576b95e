//! The part of MySQL's protocol that a query needs, over a connection that is given. The packets and the logins are those
//! of `mysql_common`; every length that the server names is bounded before anything is allocated for it. The server cannot
//! ask for files, other hosts or more than one result: no such capability is offered.

use super::answer::{excerpt, value};
use super::postgres::BYTES_MAX;
use super::tls::TlsOptions;
use super::wire::Wire;
use super::{Net, Secret, Trouble};
use mysql_common::constants::CapabilityFlags;
use mysql_common::crypto;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, AuthSwitchRequest, HandshakePacket, HandshakeResponse, SslRequest};
use mysql_common::proto::MySerialize;
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A row, or what stands for one: more is not read.
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// What MySQL itself allows in a table.
const COLUMNS_MAX: u64 = 4_096;

/// A login is over after fewer packets than this.
const LOGIN_STEPS_MAX: usize = 8;

/// A key of 4096 bits as PEM. Encrypting with a longer one would take noticeable time.
const KEY_BYTES_MAX: usize = 1_024;

/// As long as the scrambles of all logins are.
const NONCE_BYTES: usize = 20;

/// The number of the encoding of texts, as the crate's own login says it.
const UTF8MB4: u8 = 45;

const OK: u8 = 0x00;
const MORE: u8 = 0x01;
const FILE: u8 = 0xFB;
const END: u8 = 0xFE;
const ERROR: u8 = 0xFF;

/// A statement that is not known: a variable or a syntax of newer servers.
const UNKNOWN: [u16; 2] = [1064, 1193];

/// What came of a query.
pub(super) struct Rows {
    /// How many; of a statement without rows, how many it affected.
    pub(super) count: u64,
    /// The first column of the first row.
    pub(super) value: Option<Value>,
}

/// A connection on which one may log in and ask.
pub(super) struct Session<'a> {
    wire: Wire,
    password: Option<&'a Secret>,
    sequence: u8,
    is_encrypted: bool,
    version: String,
    offered: CapabilityFlags,
    nonce: Vec<u8>,
    plugin: AuthPlugin<'static>,
}

/// What the server refused.
struct Refusal {
    code: u16,
    said: String,
}

impl<'a> Session<'a> {
    pub(super) fn new(wire: Wire, password: Option<&'a Secret>) -> Self {
        let (version, nonce, plugin) = (String::new(), vec![], AuthPlugin::MysqlNativePassword);
        let offered = CapabilityFlags::empty();
        Self { wire, password, sequence: 0, is_encrypted: false, version, offered, nonce, plugin }
    }

    /// Reads who the server is.
    pub(super) async fn greeting(&mut self) -> Result<(), Trouble> {
        let packet = self.read().await?;
        if let Some(refusal) = self.refusal(&packet) {
            return Err(refusal.trouble("Refused"));
        }
        let packet = ParseBuf(&packet).parse::<HandshakePacket<'_>>(()).map_err(|_| garbled("a greeting"))?;
        self.offered = packet.capabilities();
        if packet.protocol_version() != 10 || !self.offered.contains(CapabilityFlags::CLIENT_PROTOCOL_41) {
            return Err(garbled("a greeting of MySQL 4.1 or newer"));
        }
        self.version = excerpt(&packet.server_version_str(), &[]);
        self.nonce = packet.nonce();
        self.plugin = match packet.auth_plugin() {
            Some(AuthPlugin::CachingSha2Password) => AuthPlugin::CachingSha2Password,
            // Another one will be asked for by name.
            _ => AuthPlugin::MysqlNativePassword,
        };
        Ok(())
    }

    /// The same with TLS, after the greeting.
    pub(super) async fn encrypted(mut self, net: &Net, host: &str, options: &TlsOptions) -> Result<Self, Trouble> {
        if !self.offered.contains(CapabilityFlags::CLIENT_SSL) {
            return Err(Trouble::Target("The server offers no TLS".into()));
        }
        self.is_encrypted = true;
        let mut packet = vec![];
        SslRequest::new(self.capabilities(), PACKET_BYTES_MAX, UTF8MB4).serialize(&mut packet);
        self.write(&packet).await?;
        let stream = net.tls(self.wire, host, options, &[]).await?;
        Ok(Self { wire: Wire::new(stream, BYTES_MAX), ..self })
    }

    /// What the server says it is.
    pub(super) fn server_version(&self) -> String {
        self.version.clone()
    }

    pub(super) fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }

    /// Logs in, after the greeting.
    pub(super) async fn log_in(&mut self, user: &str, database: Option<&str>) -> Result<(), Trouble> {
        let proof = self.proof()?;
        let response = HandshakeResponse::new(
            Some(proof),
            // Chooses the encoding, utf8mb4; the server's own text about its version is not parsed.
            (8, 0, 0),
            Some(user.as_bytes()),
            database.map(str::as_bytes),
            Some(self.plugin.borrow()),
            self.capabilities(),
            None,
            PACKET_BYTES_MAX,
        );
        let mut packet = vec![];
        response.serialize(&mut packet);
        self.write(&packet).await?;
        for _ in 0..LOGIN_STEPS_MAX {
            let packet = self.read().await?;
            if let Some(refusal) = self.refusal(&packet) {
                return Err(refusal.trouble("Login failed"));
            }
            match packet.as_slice() {
                [OK, ..] => return Ok(()),
                [END, ..] => self.switch(&packet).await?,
                [MORE, 3] => {}
                [MORE, 4] => self.send_password().await?,
                _ => return Err(garbled("an answer to the login")),
            }
        }
        Err(garbled("an end of the login"))
    }

    fn capabilities(&self) -> CapabilityFlags {
        let wanted = CapabilityFlags::CLIENT_LONG_PASSWORD
            | CapabilityFlags::CLIENT_LONG_FLAG
            | CapabilityFlags::CLIENT_PROTOCOL_41
            | CapabilityFlags::CLIENT_TRANSACTIONS
            | CapabilityFlags::CLIENT_SECURE_CONNECTION
            | CapabilityFlags::CLIENT_PLUGIN_AUTH
            | CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA;
        let wanted = if self.is_encrypted { wanted | CapabilityFlags::CLIENT_SSL } else { wanted };
        wanted & self.offered
    }

    /// What shows that the password is known.
    fn proof(&self) -> Result<Vec<u8>, Trouble> {
        let known = match self.plugin {
            AuthPlugin::CachingSha2Password | AuthPlugin::MysqlNativePassword | AuthPlugin::Ed25519 => true,
            AuthPlugin::MysqlClearPassword => self.is_encrypted,
            // Broken; as slow as the server likes; unknown.
            AuthPlugin::MysqlOldPassword | AuthPlugin::MariadbParsec { .. } | AuthPlugin::Other(_) => false,
        };
        if !known {
            let name = String::from_utf8_lossy(self.plugin.as_bytes()).into_owned();
            return Err(Trouble::Ours(format!(
                "The server asks for a login that is not spoken here: {}",
                excerpt(&name, &[])
            )));
        }
        let proof = self.plugin.gen_data(self.password.map(Secret::reveal), &self.nonce);
        let mut packet = vec![];
        if let Some(proof) = proof {
            proof.serialize(&mut packet);
        }
        Ok(packet)
    }

    async fn switch(&mut self, packet: &[u8]) -> Result<(), Trouble> {
        let asked = ParseBuf(packet).parse::<AuthSwitchRequest<'_>>(());
        let asked = asked.map_err(|_| garbled("a request for another login"))?;
        self.plugin = asked.auth_plugin().into_owned();
        self.nonce = asked.plugin_data().to_vec();
        let proof = self.proof()?;
        self.write(&proof).await
    }

    /// The password itself, where the server does not remember it: through TLS, or encrypted with the server's key.
    async fn send_password(&mut self) -> Result<(), Trouble> {
        let mut password = self.password.map_or("", Secret::reveal).as_bytes().to_vec();
        password.push(0);
        if self.is_encrypted {
            return self.write(&password).await;
        }
        self.write(&[2]).await?;
        let packet = self.read().await?;
        if let Some(refusal) = self.refusal(&packet) {
            return Err(refusal.trouble("Login failed"));
        }
        let Some((&MORE, key)) = packet.split_first() else { return Err(garbled("its public key")) };
        if key.len() > KEY_BYTES_MAX || self.nonce.len() != NONCE_BYTES {
            return Err(garbled("a public key of at most 4096 bits"));
        }
        for (byte, nonce) in password.iter_mut().zip(self.nonce.iter().cycle()) {
            *byte ^= nonce;
        }
        // It panics on what is not a key.
        let encrypted = catch_unwind(AssertUnwindSafe(|| crypto::encrypt(&password, key)));
        self.write(&encrypted.map_err(|_| garbled("its public key"))?).await
    }

    /// Asks, and reads at most so many rows.
    pub(super) async fn query(&mut self, query: &str, rows_max: u64) -> Result<Rows, Trouble> {
        let rows = self.asked(query, rows_max).await?;
        rows.map_err(|refusal| refusal.trouble("Query failed"))
    }

    /// Tells the server something that it need not know.
    pub(super) async fn query_if_known(&mut self, query: &str) -> Result<(), Trouble> {
        match self.asked(query, 0).await? {
            Err(refusal) if !UNKNOWN.contains(&refusal.code) => Err(refusal.trouble("Query failed")),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn asked(&mut self, query: &str, rows_max: u64) -> Result<Result<Rows, Refusal>, Trouble> {
        self.sequence = 0;
        self.write(&[&[3], query.as_bytes()].concat()).await?;
        let packet = self.read().await?;
        if let Some(refusal) = self.refusal(&packet) {
            return Ok(Err(refusal));
        }
        let mut head = ParseBuf(&packet);
        match packet.first() {
            Some(&OK) => {
                head.skip(1);
                let count = head.checked_eat_lenenc_int().ok_or_else(|| garbled("an answer to the query"))?;
                return Ok(Ok(Rows { count, value: None }));
            }
            Some(&FILE) => return Err(Trouble::Target("The server asked for a file of ours, and gets none".into())),
            _ => {}
        }
        let columns = head.checked_eat_lenenc_int().filter(|count| (1..=COLUMNS_MAX).contains(count));
        for _ in 0..columns.ok_or_else(|| garbled("a number of columns"))? {
            self.read().await?;
        }
        if !is_end(&self.read().await?) {
            return Err(garbled("an end of the columns"));
        }
        self.rows(rows_max).await
    }

    async fn rows(&mut self, rows_max: u64) -> Result<Result<Rows, Refusal>, Trouble> {
        let mut rows = Rows { count: 0, value: None };
        loop {
            let packet = self.read().await?;
            if let Some(refusal) = self.refusal(&packet) {
                return Ok(Err(refusal));
            }
            if is_end(&packet) {
                return Ok(Ok(rows));
            }
            if rows.count == rows_max {
                return Err(Trouble::Target(format!("The query has more than {rows_max} rows")));
            }
            if rows.count == 0 && packet.first() != Some(&FILE) {
                let text = ParseBuf(&packet).checked_eat_lenenc_str().ok_or_else(|| garbled("a row"))?;
                rows.value = Some(value(&String::from_utf8_lossy(text), &self.secrets()));
            }
            rows.count += 1;
        }
    }

    /// Says goodbye, so that the server does not log a broken connection.
    pub(super) async fn quit(mut self) {
        self.sequence = 0;
        // The look has its answer; whether the goodbye arrives does not change it.
        drop(self.write(&[1]).await);
    }

    fn secrets(&self) -> Vec<&Secret> {
        self.password.into_iter().collect()
    }

    fn refusal(&self, packet: &[u8]) -> Option<Refusal> {
        let Some((&ERROR, &[low, high, ref said @ ..])) = packet.split_first() else { return None };
        let code = u16::from_le_bytes([low, high]);
        // Before the login there is no SQLSTATE.
        let (state, said) = match said {
            [b'#', state @ ..] if state.len() >= 5 => state.split_at(5),
            _ => (&[][..], said),
        };
        let (state, said) = (String::from_utf8_lossy(state), String::from_utf8_lossy(said));
        let state = if state.is_empty() { String::new() } else { format!(", SQLSTATE {state}") };
        Some(Refusal { code, said: excerpt(&format!("{said} ({code}{state})"), &self.secrets()) })
    }

    async fn read(&mut self) -> Result<Vec<u8>, Trouble> {
        let [low, middle, high, sequence] = {
            let mut head = [0; 4];
            self.wire.read_exact(&mut head).await.map_err(|why| lost(&why))?;
            head
        };
        let length = u32::from_le_bytes([low, middle, high, 0]);
        if length > PACKET_BYTES_MAX {
            return Err(Trouble::Target(format!("The server sends a packet of {length} bytes")));
        }
        self.sequence = sequence.wrapping_add(1);
        let mut packet = vec![0; length as usize];
        self.wire.read_exact(&mut packet).await.map_err(|why| lost(&why))?;
        Ok(packet)
    }

    async fn write(&mut self, packet: &[u8]) -> Result<(), Trouble> {
        // A query is bounded far below what one packet holds.
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX) & 0x00FF_FFFF;
        let head = length | u32::from(self.sequence) << 24;
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = [&head.to_le_bytes(), packet].concat();
        self.wire.write_all(&bytes).await.map_err(|why| lost(&why))?;
        self.wire.flush().await.map_err(|why| lost(&why))
    }
}

impl Refusal {
    fn trouble(self, what: &str) -> Trouble {
        Trouble::Target(format!("{what}: {}", self.said))
    }
}

fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&END) && packet.len() < 9
}

fn garbled(expected: &str) -> Trouble {
    Trouble::Target(format!("What came is not {expected}"))
}

fn lost(why: &std::io::Error) -> Trouble {
    Trouble::Target(format!("The connection was lost: {why}"))
}
