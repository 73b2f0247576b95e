//! What is checked: a server of HTTP/1.1, with TLS or without, that answers 200 and closes, at many addresses.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{HandshakeKind, ServerConfig};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

/// One host is not asked more than eight things at once, and one address has not ports enough for all.
const ADDRESSES: u8 = 64;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\nconnection: close\r\n\r\nup\n";

/// The servers.
pub struct Target {
    port: u16,
    is_tls: bool,
    authority: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    arrivals: Mutex<Vec<Instant>>,
    whole_handshakes: AtomicU64,
}

impl Target {
    pub fn start(is_tls: bool) -> Result<Self> {
        let (authority, config) = identity()?;
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
        let listener = socket.listen(4_096)?;
        let (port, seen) = (listener.local_addr()?.port(), Arc::new(Seen::default()));
        let (acceptor, here) = (is_tls.then(|| TlsAcceptor::from(config)), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                here.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
                tokio::spawn(serve(stream, acceptor.clone(), here.clone()));
            }
        });
        Ok(Self { port, is_tls, authority, seen })
    }

    /// Where it is asked.
    pub fn urls(&self) -> Vec<String> {
        let scheme = if self.is_tls { "https" } else { "http" };
        addresses().map(|address| format!("{scheme}://{address}:{}", self.port)).collect()
    }

    /// Who signs for it, in PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    pub fn arrived(&self) -> u64 {
        self.seen.arrivals.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    pub fn whole_handshakes(&self) -> u64 {
        self.seen.whole_handshakes.load(Ordering::Relaxed)
    }

    pub fn forget(&self) {
        self.seen.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How long after this each arrival was.
    pub fn since(&self, start: Instant) -> Vec<Duration> {
        let arrivals = self.seen.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.iter().filter_map(|at| at.checked_duration_since(start)).collect()
    }
}

async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, seen: Arc<Seen>) {
    // Whoever breaks off shows as a run that is not healthy.
    match acceptor {
        None => drop(answer(stream).await),
        Some(acceptor) => {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            if stream.get_ref().1.handshake_kind() != Some(HandshakeKind::Resumed) {
                seen.whole_handshakes.fetch_add(1, Ordering::Relaxed);
            }
            drop(answer(stream).await);
        }
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    let mut heard = Vec::with_capacity(2_048);
    while !heard.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut heard).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(ANSWER).await?;
    Ok(stream.shutdown().await?)
}

fn addresses() -> impl Iterator<Item = Ipv4Addr> {
    (1..=ADDRESSES).map(|last| Ipv4Addr::new(127, 0, 0, last))
}

fn identity() -> Result<(String, Arc<ServerConfig>)> {
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names: Vec<_> = addresses().map(|address| address.to_string()).collect();
    let own = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    Ok((authority.pem(), Arc::new(builder.with_single_cert(vec![own.der().clone()], key)?)))
}
