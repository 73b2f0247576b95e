//! `websocket`: whether a server speaks WebSocket, and answers in it.

use super::http::named;
use super::secret::is_credential;
use super::tls::{TlsOptions, millis, plain};
use super::veil::Veil;
use super::{Fault, Net, Probe, Secret, Trouble};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Uri, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Url;

/// The longest message that is read.
const MESSAGE_MAX: usize = 1_048_576;

/// Messages that are looked through for the expected one, and what they may be together.
const MESSAGES_MAX: usize = 1_000;
const MESSAGES_BYTES_MAX: usize = 4 * MESSAGE_MAX;

/// What may be sent.
const SEND_MAX: usize = 65_536;

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_millis(50);

/// Opens a WebSocket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebSocket {
    /// Where to, beginning with ws:// or wss://; without user and password.
    #[schemars(length(max = 8192), url)]
    url: String,
    /// Headers to send, by name.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Headers whose values are secret, by name.
    #[serde(default)]
    secret_headers: BTreeMap<String, Secret>,
    /// The subprotocols to offer; the server must choose one.
    #[serde(default)]
    #[schemars(length(max = 20))]
    subprotocols: Vec<String>,
    /// A text to send.
    #[schemars(length(max = 65536))]
    send: Option<String>,
    /// A text that a message of the server must contain. Without it no message is waited for.
    #[schemars(length(min = 1, max = 65536))]
    expect: Option<String>,
    /// Whom to trust, and who one is.
    #[serde(default)]
    tls: TlsOptions,
    #[serde(skip)]
    #[schemars(skip)]
    plan: OnceLock<Box<Plan>>,
}

/// What the settings mean.
#[derive(Debug)]
struct Plan {
    url: Url,
    uri: Uri,
    headers: HeaderMap,
    /// Lines of headers.
    secrets: Secret,
}

/// What was found.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The status of the answer to the request; 101 opens a WebSocket.
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    /// The subprotocol that the server chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    subprotocol: Option<String>,
    /// The address that was connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_address: Option<String>,
    /// How long it took until the WebSocket was open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    connection_time_ms: Option<f64>,
    /// How long it then took until the expected message came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    response_time_ms: Option<f64>,
    /// The last message, as text. Never stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-ephemeral" = true))]
    message: Option<String>,
}

impl Probe for WebSocket {
    const ID: &'static str = "websocket";
    const NAME: &'static str = "WebSocket";
    const DESCRIPTION: &'static str = "Opens a WebSocket, and looks whether an expected message comes";

    type Findings = Found;

    fn faults(&self) -> Vec<Fault> {
        match Plan::of(self) {
            Ok(plan) => {
                let _ = self.plan.set(Box::new(plan));
                vec![]
            }
            Err(faults) => faults,
        }
    }

    fn host(&self) -> Option<String> {
        let plan = self.plan.get()?;
        Some(format!("{}:{}", plan.url.host_str()?, plan.url.port_or_known_default()?))
    }

    async fn look(&self, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        let plan = self.plan.get();
        let place = plan.and_then(|plan| Some((plan, plan.url.host_str()?, plan.url.port_or_known_default()?)));
        let Some((plan, host, port)) = place else {
            return Err(Trouble::Ours("The settings of the check are wrong".into()));
        };
        let started = Instant::now();
        let dialed = net.dial(host, port).await?;
        found.remote_address = Some(dialed.address.to_string());
        if plan.url.scheme() == "wss" {
            let stream = net.tls(dialed.stream, host, &self.tls, &[b"http/1.1"]).await?;
            return self.talk(plan, net, stream, started, found).await;
        }
        self.talk(plan, net, dialed.stream, started, found).await
    }
}

impl WebSocket {
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        plan: &Plan,
        net: &Net,
        stream: S,
        started: Instant,
        found: &mut Found,
    ) -> Result<(), Trouble> {
        let mut socket = open(plan, net, stream, found).await?;
        found.connection_time_ms = Some(millis(started.elapsed()));
        let opened = Instant::now();
        if let Some(text) = &self.send {
            net.phase("sending the message");
            socket.send(Message::text(text.clone())).await.map_err(|why| failed(&why))?;
        }
        if let Some(expected) = &self.expect {
            net.phase("waiting for the expected message");
            await_message(&mut socket, expected, found).await?;
            found.response_time_ms = Some(millis(opened.elapsed()));
        }
        // What the server makes of a farewell does not matter.
        let _ = tokio::time::timeout(FAREWELL, socket.close(None)).await;
        Ok(())
    }
}

async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    plan: &Plan,
    net: &Net,
    stream: S,
    found: &mut Found,
) -> Result<WebSocketStream<Veil<S>>, Trouble> {
    net.phase("waiting for the WebSocket to open");
    let mut request = plan.uri.clone().into_client_request().map_err(|why| failed(&why))?;
    request.headers_mut().extend(plan.headers.clone());
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
        .read_buffer_size(8_192);
    let stream = Veil::new(stream, &plan.secrets);
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, answer)) => {
            found.status_code = Some(answer.status().as_u16());
            let chosen = answer.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
            found.subprotocol = chosen.map(|name| plain(&String::from_utf8_lossy(name.as_bytes()), 100));
            Ok(socket)
        }
        Err(Error::Http(answer)) => {
            found.status_code = Some(answer.status().as_u16());
            Err(Trouble::Target(format!("Answers {} instead of opening a WebSocket", answer.status())))
        }
        Err(why) => Err(failed(&why)),
    }
}

/// Others may come before the one that is expected: servers greet, and tell everybody everything.
async fn await_message<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    expected: &str,
    found: &mut Found,
) -> Result<(), Trouble> {
    let mut bytes = 0;
    for _ in 0..MESSAGES_MAX {
        let message = match socket.next().await {
            Some(Ok(message)) => message,
            Some(Err(why)) => return Err(failed(&why)),
            None => return Err(Trouble::Target("Closed the WebSocket before the expected message came".into())),
        };
        let text = match message {
            Message::Text(text) => text.as_str().to_owned(),
            Message::Binary(binary) => String::from_utf8_lossy(&binary).into_owned(),
            Message::Close(_) => {
                return Err(Trouble::Target("Closed the WebSocket before the expected message came".into()));
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        bytes += text.len();
        let is_it = text.contains(expected);
        found.message = Some(text);
        if is_it {
            return Ok(());
        }
        if bytes > MESSAGES_BYTES_MAX {
            break;
        }
    }
    Err(Trouble::Target("Sends many messages, but not the expected one".into()))
}

/// What is wrong with the other side.
fn failed(why: &Error) -> Trouble {
    let io = if let Error::Io(why) = why { Some(why.kind()) } else { None };
    let is_cut = matches!(
        why,
        Error::Protocol(ProtocolError::HandshakeIncomplete | ProtocolError::ResetWithoutClosingHandshake)
    );
    let is_bomb = matches!(why, Error::AttackAttempt | Error::Capacity(CapacityError::TooManyHeaders));
    let text = if is_cut || io == Some(ErrorKind::UnexpectedEof) {
        "Closed the connection".into()
    } else if matches!(io, Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)) {
        "Reset the connection".into()
    } else if matches!(why, Error::ConnectionClosed | Error::AlreadyClosed) {
        "Closed the WebSocket".into()
    } else if matches!(why, Error::Capacity(CapacityError::MessageTooLong { .. })) {
        format!("Sends a message longer than {MESSAGE_MAX} bytes")
    } else if is_bomb {
        "Answers with more headers than are accepted".into()
    } else {
        format!("Does not speak WebSocket: {}", plain(&why.to_string(), 200))
    };
    Trouble::Target(text)
}

impl Plan {
    fn of(settings: &WebSocket) -> Result<Self, Vec<Fault>> {
        let mut faults = settings.tls.faults("tls");
        let place = place(&settings.url).map_err(|why| faults.push(Fault::new("url", why))).ok();
        let (headers, secrets) = headers(settings, &mut faults);
        if settings.send.as_ref().is_some_and(|text| text.len() > SEND_MAX) {
            faults.push(Fault::new("send", format!("Must have at most {SEND_MAX} bytes")));
        }
        if settings.expect.as_ref().is_some_and(|text| text.is_empty() || text.len() > SEND_MAX) {
            faults.push(Fault::new("expect", format!("Must have 1 to {SEND_MAX} bytes")));
        }
        match place {
            Some((url, uri)) if faults.is_empty() => Ok(Self { url, uri, headers, secrets }),
            _ => Err(faults),
        }
    }
}

fn place(text: &str) -> Result<(Url, Uri), &'static str> {
    if text.len() > 8_192 {
        return Err("Must have at most 8192 characters");
    }
    let mut url = Url::parse(text).map_err(|_| "Is not a URL")?;
    if !matches!(url.scheme(), "ws" | "wss") {
        return Err("Must begin with ws:// or wss://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("Must not have a user or a password in it: use secretHeaders");
    }
    if url.port() == Some(0) {
        return Err("Must not have port 0");
    }
    url.set_fragment(None);
    let uri = url.as_str().parse().map_err(|_| "Is not a URL that HTTP can ask for")?;
    Ok((url, uri))
}

/// What may be seen, and lines of what may not.
fn headers(settings: &WebSocket, faults: &mut Vec<Fault>) -> (HeaderMap, Secret) {
    let (mut headers, mut secrets) = (HeaderMap::new(), String::new());
    let open = settings.headers.iter().map(|(name, value)| ("headers", name, value.as_str()));
    let secret = settings.secret_headers.iter().map(|(name, value)| ("secretHeaders", name, value.reveal()));
    for (setting, name, text) in open.chain(secret) {
        match named(name, text) {
            Ok((name, _)) if name.as_str().starts_with("sec-websocket-") => {
                faults.push(Fault::new(format!("{setting}.{name}"), "Is set by the request itself"));
            }
            Ok(_) if setting == "headers" && is_credential(name) => {
                let why = "Would be stored and shown as it is: use secretHeaders";
                faults.push(Fault::new(format!("headers.{name}"), why));
            }
            // It is sent in any case, and once.
            Ok((name, value)) if setting == "headers" || name == header::HOST => drop(headers.insert(name, value)),
            Ok((name, _)) => {
                headers.remove(&name);
                secrets.extend([name.as_str(), ": ", text, "\r\n"]);
            }
            Err(why) => faults.push(Fault::new(format!("{setting}.{name}"), why)),
        }
    }
    if settings.headers.len() + settings.secret_headers.len() > 100 {
        faults.push(Fault::new("headers", "Must be at most 100, with the secret ones"));
    }
    let is_token = |name: &String| !name.is_empty() && http::HeaderName::try_from(name).is_ok();
    if settings.subprotocols.len() > 20 || !settings.subprotocols.iter().all(is_token) {
        faults.push(Fault::new("subprotocols", "Must be at most 20 names of subprotocols"));
    } else if let (false, Ok(value)) =
        (settings.subprotocols.is_empty(), HeaderValue::from_str(&settings.subprotocols.join(", ")))
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    (headers, secrets.into())
}
