//! Targets of probes: some that misbehave, in every way that needs no protocol, and those that `.ci/run` starts.

use checkmate::probe::{Kind, Net, Policy, Seen, Trouble};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Long enough for an answer on loopback, short enough to wait for its absence.
pub const A_MOMENT: Duration = Duration::from_secs(1);

/// Long enough for anything that comes.
pub const LONG: Duration = Duration::from_secs(20);

/// Looks once.
pub async fn look(kind: &str, settings: &Value, patience: Duration) -> Seen {
    let prepared = (Kind::named(kind).unwrap().prepare)(settings).unwrap_or_else(|faults| panic!("{faults:?}"));
    prepared.look(&Net::new(Policy::default()), patience).await
}

/// The settings that are at fault.
pub fn faults(kind: &str, settings: &Value) -> Vec<String> {
    let prepared = (Kind::named(kind).unwrap().prepare)(settings);
    prepared.err().unwrap_or_default().into_iter().map(|fault| fault.path).collect()
}

/// Some settings with others over them; null takes away.
pub fn with(mut settings: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        settings[name] = value.clone();
    }
    settings.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    settings
}

/// What the target is blamed for.
pub fn blamed(seen: &Seen) -> &str {
    match &seen.trouble {
        Some(Trouble::Target(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// What we blame ourselves for.
pub fn ours(seen: &Seen) -> &str {
    match &seen.trouble {
        Some(Trouble::Ours(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// A server that serves each connection like this, one after the other.
pub async fn serve<F: Future<Output = ()> + Send>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    address
}

/// What a server does when it has said everything.
#[derive(Clone)]
pub enum Then {
    /// Nothing, until the other end is gone.
    Listens,
    Closes,
    /// Says this, again and again.
    Pours(Vec<u8>),
}

/// A server that says these things, one after each thing that it hears; one that opens says the first at once.
pub async fn says(words: Vec<Vec<u8>>, opens: bool, then: Then) -> SocketAddr {
    serve(move |mut stream| {
        let (words, then) = (words.clone(), then.clone());
        async move {
            for (number, word) in words.iter().enumerate() {
                if (number > 0 || !opens) && hear(&mut stream).await.is_empty() {
                    return;
                }
                if stream.write_all(word).await.is_err() {
                    return;
                }
            }
            match then {
                Then::Listens => while !hear(&mut stream).await.is_empty() {},
                Then::Closes => {}
                Then::Pours(word) => while stream.write_all(&word).await.is_ok() {},
            }
        }
    })
    .await
}

/// What is said next; nothing, when the other end is gone.
pub async fn hear(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = vec![0; 64 << 10];
    let length = stream.read(&mut heard).await.unwrap_or(0);
    heard.truncate(length);
    heard
}

/// What a bad target does with a connection.
#[derive(Clone, Copy, Debug)]
enum Bad {
    Hangs,
    Resets,
    Closes,
    Drips(&'static [u8]),
    Garbage,
    Endless(u8),
}

impl Bad {
    async fn treat(self, stream: &mut TcpStream) {
        match self {
            Self::Hangs => {}
            Self::Resets => socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap(),
            Self::Closes => stream.shutdown().await.unwrap(),
            Self::Drips(text) => {
                for byte in text.iter().cycle() {
                    if stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            }
            Self::Garbage => {
                let mut state = 0x2545_F491_u32;
                let bytes = std::iter::repeat_with(|| {
                    state ^= state << 13;
                    state ^= state >> 17;
                    state ^= state << 5;
                    state.to_le_bytes()[1]
                });
                // It may be gone before the end.
                let _ = stream.write_all(&bytes.take(64 << 10).collect::<Vec<_>>()).await;
            }
            Self::Endless(byte) => {
                let bytes = vec![byte; 16 << 10];
                while stream.write_all(&bytes).await.is_ok() {}
            }
        }
    }
}

/// Of every bad target it is said that it is bad, in time, and nothing remains.
pub async fn bad_targets_are_blamed(kind: &str, settings: &Value, greeting: &'static [u8]) {
    let all = [Bad::Hangs, Bad::Resets, Bad::Closes, Bad::Drips(greeting), Bad::Garbage];
    for bad in all.into_iter().chain([0, b'A', b'\n', 0xFF, greeting[0]].map(Bad::Endless)) {
        let (ended, mut end) = mpsc::channel(1);
        let address = serve(move |mut stream| {
            let ended = ended.clone();
            async move {
                bad.treat(&mut stream).await;
                if !matches!(bad, Bad::Resets) {
                    while !hear(&mut stream).await.is_empty() {}
                }
                drop(stream);
                ended.send(()).await.unwrap();
            }
        })
        .await;
        let started = Instant::now();
        let settings = with(settings.clone(), &json!({"host": "127.0.0.1", "port": address.port()}));
        let seen = look(kind, &settings, A_MOMENT).await;
        assert!(started.elapsed() < LONG, "{bad:?} took {:?}", started.elapsed());
        let why = blamed(&seen);
        assert!(!why.is_empty() && why.chars().count() < 400, "{bad:?}: {why}");
        let gave_up = why.starts_with("No answer within 1000 ms (");
        assert!(gave_up || !matches!(bad, Bad::Hangs), "{bad:?}: {why}");
        assert!(!gave_up || started.elapsed() >= A_MOMENT, "{bad:?}: {why}");
        timeout(Duration::from_secs(2), end.recv()).await.unwrap_or_else(|_| panic!("{bad:?}: the connection remains"));
    }
}

/// Nobody listens there.
pub async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// A real server, from a variable like `postgres://user:password@127.0.0.1:5432/database`.
pub struct Real {
    pub user: String,
    pub password: String,
    pub host: String,
    pub port: u16,
    pub path: String,
}

/// The real server, if there is one.
pub fn real(variable: &str) -> Option<Real> {
    let url = env(variable)?;
    let rest = url.split_once("://").unwrap().1;
    let (login, rest) = rest.split_once('@').unwrap();
    let (target, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = target.split_once(':').unwrap();
    let [user, password, host, path] = [user, password, host, path].map(str::to_owned);
    Some(Real { user, password, host, port: port.parse().unwrap(), path })
}

/// A server with a certificate of its own is trusted by who is told to, and by nobody else.
pub async fn tls_is_spoken_and_verified(kind: &str, settings: &Value, switch: &str) {
    let certificate = std::fs::read_to_string(env("TEST_PROBE_CERTIFICATE").unwrap()).unwrap();
    let ask = async |options: Value| {
        let settings = with(settings.clone(), &json!({switch: true, "tlsOptions": options}));
        look(kind, &settings, LONG).await
    };
    assert_eq!(ask(json!({"customCa": certificate})).await.trouble, None);
    assert_eq!(ask(json!({"skipVerification": true})).await.trouble, None);
    assert!(blamed(&ask(json!({})).await).contains("certificate"));
    let other = ask(json!({"customCa": certificate, "serverName": "other.example"})).await;
    assert!(blamed(&other).contains("other.example"), "{other:?}");
    assert_eq!(
        faults(kind, &with(settings.clone(), &json!({"tlsOptions": {"customCa": "x"}}))),
        ["tlsOptions.customCa"]
    );
}

/// A variable that `.ci/run` sets.
#[expect(clippy::disallowed_methods, reason = "which servers there are is the environment's to say")]
pub fn env(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        eprintln!("skipped: {variable} is not set");
    }
    value
}
