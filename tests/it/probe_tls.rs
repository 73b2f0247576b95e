//! The `tls` probe against servers with good certificates and with every kind of bad one; and what the probes that speak
//! TLS share: authorities of one's own, client certificates, the words of a refusal.

use checkmate::probe::{Kind, Net, Policy, Seen, Trouble};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// Signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.0).unwrap();
        Identity { chain: vec![own.der().clone(), self.0.der().clone()], key }
    }
}

impl Identity {
    pub fn self_signed(names: &[&str], is_authority: bool) -> Self {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        Self { chain: vec![own.der().clone()], key }
    }

    pub fn pem(&self) -> String {
        let encode = |der: &CertificateDer<'_>| {
            use base64::Engine;
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        };
        self.chain.iter().map(encode).collect()
    }

    /// A server's configuration, which asks for certificates of this authority if there is one.
    pub fn server(&self, clients: Option<&Authority>, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(self.chain.clone(), key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

/// Whoever connects is served by this, in a task that ends with the listener.
pub struct Target {
    pub address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Target {
    pub async fn serving<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serving.spawn(serve(stream));
            }
        });
        Self { address, _task: AbortOnDropHandle::new(task) }
    }

    async fn tls(config: Arc<ServerConfig>) -> Self {
        Self::serving(move |stream| {
            let config = config.clone();
            async move {
                if let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await {
                    let _ = stream.read(&mut [0; 16]).await;
                }
            }
        })
        .await
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

/// Looks once, with a second.
pub async fn look(kind: &str, settings: &Value) -> Seen {
    look_within(kind, settings, Duration::from_secs(1), &Net::new(Policy::default())).await
}

pub async fn look_within(kind: &str, settings: &Value, timeout: Duration, net: &Net) -> Seen {
    let prepared = (Kind::named(kind).unwrap().prepare)(settings);
    let prepared = prepared.unwrap_or_else(|faults| panic!("{settings}: {faults:?}"));
    prepared.look(net, timeout).await
}

/// The paths of the settings that something is wrong with.
pub fn faults(kind: &str, settings: &Value) -> Vec<String> {
    let prepared = (Kind::named(kind).unwrap().prepare)(settings);
    prepared.err().unwrap_or_default().into_iter().map(|fault| fault.path).collect()
}

/// The text of the target's trouble; empty: there is none.
#[track_caller]
pub fn targets(seen: &Seen) -> &str {
    match &seen.trouble {
        None => "",
        Some(Trouble::Target(text)) => text,
        Some(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_good_certificate_is_described() {
    let authority = Authority::new("An Authority");
    let target = Target::tls(authority.issue(&["localhost", "127.0.0.1"], |_| {}).server(None, &[])).await;
    for host in ["localhost", "127.0.0.1"] {
        let seen =
            look("tls", &json!({ "host": host, "port": target.port(), "tls": { "customCa": authority.pem() } })).await;
        assert_eq!(targets(&seen), "");
        let found = &seen.findings;
        for (field, expected) in [
            ("tlsVersion", json!("TLSv1.3")),
            ("subject", json!("CN=leaf")),
            ("issuer", json!("CN=An Authority")),
            ("validTo", json!("4096-01-01T00:00:00Z")),
            ("isValid", json!(true)),
            ("isSelfSigned", json!(false)),
            ("nameMatches", json!(true)),
            ("chainLength", json!(2)),
            ("dnsNames", json!(["localhost", "127.0.0.1"])),
        ] {
            assert_eq!(found.get(field), Some(&expected), "{field}: {found:?}");
        }
        assert!(found["daysRemaining"].as_i64().unwrap() > 700_000);
        assert!(found["handshakeTimeMs"].as_f64().unwrap() > 0.0);
        assert!(found["cipher"].as_str().unwrap().starts_with("TLS13_"));
    }
}

#[tokio::test]
async fn every_bad_certificate_is_refused_in_words_and_still_described() {
    let authority = Authority::new("An Authority");
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2024, 5, 6);
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(2090, 1, 1);
    let many: Vec<String> = (0..50).map(|number| format!("h{number}.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (name, identity, is_trusted, words, matches, is_self_signed) in [
        ("expired", authority.issue(&["localhost"], expired), true, "expired at 2024-05-06T00:00:00Z", true, false),
        ("too early", authority.issue(&["localhost"], early), true, "good only from 2090-01-01", true, false),
        (
            "wrong name",
            authority.issue(&["a.example"], |_| {}),
            true,
            "not for localhost, but for a.example",
            false,
            false,
        ),
        ("many names", authority.issue(&many, |_| {}), true, "h4.example and others", false, false),
        ("unknown issuer", authority.issue(&["localhost"], |_| {}), false, "nobody that is trusted", true, false),
        ("self-signed", Identity::self_signed(&["localhost"], false), false, "self-signed", true, true),
        ("its own authority", Identity::self_signed(&["localhost"], true), false, "self-signed", true, true),
    ] {
        let target = Target::tls(identity.server(None, &[])).await;
        let mut settings = json!({ "host": "localhost", "port": target.port(), "minDaysUntilExpiry": 0 });
        if is_trusted {
            settings["tls"] = json!({ "customCa": authority.pem() });
        }
        let seen = look("tls", &settings).await;
        assert!(targets(&seen).contains(words), "{name}: {:?}", seen.trouble);
        assert_eq!(seen.findings["isValid"], false, "{name}");
        assert_eq!(seen.findings["nameMatches"], matches, "{name}");
        assert_eq!(seen.findings["isSelfSigned"], is_self_signed, "{name}");
        // Whoever does not mind has it described all the same.
        settings["rejectUnauthorized"] = json!(false);
        let seen = look("tls", &settings).await;
        assert_eq!((targets(&seen), &seen.findings["isValid"]), ("", &json!(false)), "{name}");
    }
}

#[tokio::test]
async fn a_certificate_that_signed_itself_can_be_trusted() {
    for is_authority in [false, true] {
        let identity = Identity::self_signed(&["localhost"], is_authority);
        let target = Target::tls(identity.server(None, &[])).await;
        let settings =
            |host: &str| json!({ "host": host, "port": target.port(), "tls": { "customCa": identity.pem() } });
        let seen = look("tls", &settings("localhost")).await;
        assert_eq!((targets(&seen), &seen.findings["isValid"]), ("", &json!(true)), "{is_authority}");
        assert!(targets(&look("tls", &settings("127.0.0.1")).await).contains("not for 127.0.0.1"), "{is_authority}");
    }
}

fn since_2020() -> Duration {
    let then: jiff::Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
    jiff::Timestamp::now().duration_since(then).unsigned_abs()
}

#[tokio::test]
async fn the_days_that_are_left_count() {
    let authority = Authority::new("An Authority");
    let then = date_time_ymd(2020, 1, 1);
    let left = Duration::from_hours(10 * 24 + 1) + since_2020();
    let soon = |params: &mut CertificateParams| params.not_after = then + left;
    let target = Target::tls(authority.issue(&["localhost"], soon).server(None, &[])).await;
    for (min, warn, expected) in [
        (None, None, Some(Trouble::Target("The certificate of localhost expires in 10 days".into()))),
        (Some(11), None, Some(Trouble::Target("The certificate of localhost expires in 10 days".into()))),
        (Some(10), None, None),
        (Some(0), None, None),
        (Some(5), Some(20), Some(Trouble::Degraded("The certificate of localhost expires in 10 days".into()))),
        (Some(5), Some(10), None),
    ] {
        let mut settings =
            json!({ "host": "localhost", "port": target.port(), "tls": { "customCa": authority.pem() } });
        if let Some(min) = min {
            settings["minDaysUntilExpiry"] = json!(min);
        }
        if let Some(warn) = warn {
            settings["warnDaysUntilExpiry"] = json!(warn);
        }
        let seen = look("tls", &settings).await;
        assert_eq!(seen.trouble, expected, "{min:?} {warn:?}");
        assert_eq!(seen.findings["daysRemaining"], 10);
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_the_name_chosen() {
    let (authority, clients) = (Authority::new("An Authority"), Authority::new("Of Clients"));
    let identity = authority.issue(&["inner.example"], |_| {});
    let config = identity.server(Some(&clients), &[]);
    // TLS 1.3 tells a client only afterwards that it was refused.
    let target = Target::serving(move |stream| {
        let config = config.clone();
        async move {
            let mut stream = TlsAcceptor::from(config).accept(stream).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
        }
    })
    .await;
    let client = clients.issue(&["client.example"], |_| {});
    let options = json!({
        "customCa": authority.pem(), "clientCertificate": client.pem(), "clientKey": client.key.serialize_pem(),
        "minVersion": "1.3",
    });
    let settings = json!({ "host": "127.0.0.1", "port": target.port(), "serverName": "inner.example", "tls": options });
    let seen = look("tls", &settings).await;
    assert_eq!((targets(&seen), &seen.findings["nameMatches"]), ("", &json!(true)));
    let options: checkmate::probe::tls::TlsOptions = serde_json::from_value(settings["tls"].clone()).unwrap();
    let net = Net::new(Policy::default());
    let stream = net.connect("127.0.0.1", target.port()).await.unwrap();
    let mut stream = net.tls(stream, "inner.example", &options, &[]).await.unwrap();
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_so() {
    let plain = Target::serving(|mut stream| async move {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9\r\nand more that is no TLS at all").await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    let closing = Target::serving(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let hanging = Target::serving(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    for (target, words) in
        [(&plain, "does not speak TLS"), (&closing, "closed the connection"), (&hanging, "TLS handshake")]
    {
        let settings = json!({ "host": "127.0.0.1", "port": target.port() });
        let started = Instant::now();
        let seen = look_within("tls", &settings, Duration::from_millis(300), &Net::new(Policy::default())).await;
        assert!(targets(&seen).contains(words), "{words}: {:?}", seen.trouble);
        assert!(seen.findings.contains_key("connectionTimeMs"), "what was known is told");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let authority = Authority::new("An Authority");
    let (one, other) = (authority.issue(&["a"], |_| {}), authority.issue(&["b"], |_| {}));
    let key = one.key.serialize_pem();
    for (change, path) in [
        (json!({ "host": "" }), "host"),
        (json!({ "port": 0 }), "port"),
        (json!({ "port": "https" }), "port"),
        (json!({ "nonsense": 1 }), "nonsense"),
        (json!({ "minDaysUntilExpiry": 30, "warnDaysUntilExpiry": 30 }), "warnDaysUntilExpiry"),
        (json!({ "serverName": "a b" }), "serverName"),
        (json!({ "serverName": "a", "tls": { "serverName": "a" } }), "tls.serverName"),
        (json!({ "tls": { "serverName": "" } }), "tls.serverName"),
        (json!({ "tls": { "customCa": "nonsense" } }), "tls.customCa"),
        (json!({ "tls": { "customCa": key } }), "tls.customCa"),
        (json!({ "tls": { "clientKey": key } }), "tls.clientCertificate"),
        (json!({ "tls": { "clientCertificate": one.pem() } }), "tls.clientKey"),
        (json!({ "tls": { "clientCertificate": one.pem(), "clientKey": "nonsense" } }), "tls.clientKey"),
        (json!({ "tls": { "clientCertificate": other.pem(), "clientKey": key } }), "tls.clientKey"),
        (json!({ "tls": { "minVersion": "1.1" } }), "tls.minVersion"),
    ] {
        let mut settings = json!({ "host": "localhost" });
        settings.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(faults("tls", &settings), [path], "{change}");
    }
    assert_eq!(faults("tls", &json!({ "host": "localhost" })), [""; 0]);
}
