//! The dialer of probes: names by a server that answers, refuses, lies or is silent; addresses that hang or refuse; and
//! the policy, which is asked about exactly the address that is connected to.

use checkmate::probe::{Net, Policy, Trouble};
use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::task::AbortOnDropHandle;

/// A name server that gives each name the same answer, and how often it was asked for IPv4.
pub struct Names {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Names {
    /// With no answer code it is silent.
    pub async fn answering(code: Option<ResponseCode>, addresses: &[&str]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 4_096];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let Some(code) = code else { continue };
                let question = Message::from_vec(&buffer[..length]).unwrap();
                count.fetch_add(usize::from(question.queries[0].query_type() == RecordType::A), Ordering::Relaxed);
                let mut answer = Message::response(question.metadata.id, OpCode::Query);
                let asked = question.queries[0].clone();
                answer.metadata.response_code = code;
                answer.metadata.recursion_available = true;
                for ip in addresses.iter().filter(|ip| RData::from(**ip).record_type() == asked.query_type()) {
                    answer.add_answer(Record::from_rdata(asked.name().clone(), 60, RData::from(*ip)));
                }
                answer.add_query(asked);
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        Self { address, asked, _task: AbortOnDropHandle::new(task) }
    }

    pub fn net(&self, policy: Policy) -> Net {
        Net::new(policy).asking(vec![self.address])
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port where nobody listens.
async fn closed_port() -> u16 {
    listener().await.1
}

fn policy(allow: &[&str], deny: &[&str]) -> Policy {
    let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Policy { allow: rules(allow), deny: rules(deny), ..Policy::default() }
}

#[tokio::test]
async fn an_address_and_localhost_need_no_resolver() {
    let (_listener, port) = listener().await;
    // Nobody listens there either.
    let net = Net::new(Policy::default()).asking(vec!["127.0.0.1:1".parse().unwrap()]);
    for host in ["127.0.0.1", "localhost", "LOCALHOST.", "a.localhost"] {
        let dialed = net.dial(host, port).await.expect(host);
        assert_eq!(dialed.address, SocketAddr::from(([127, 0, 0, 1], port)), "{host}");
        assert_eq!(dialed.stream.peer_addr().unwrap(), dialed.address);
    }
}

#[tokio::test]
async fn a_name_is_asked_for_once_and_its_address_connected_to() {
    let (_listener, port) = listener().await;
    let names = Names::answering(Some(ResponseCode::NoError), &["127.0.0.1"]).await;
    let net = names.net(Policy::default());
    let dialed = net.dial("target.example", port).await.unwrap();
    assert_eq!(dialed.address.ip().to_string(), "127.0.0.1");
    assert!(dialed.dns > Duration::ZERO && dialed.connect > Duration::ZERO);
    net.again().connect("target.example", port).await.unwrap();
    assert_eq!(names.asked.load(Ordering::Relaxed), 1, "the answer is good for a minute");
}

#[tokio::test]
async fn no_such_name_is_the_targets_trouble_and_no_resolver_ours() {
    for (code, is_ours, word) in [
        (ResponseCode::NXDomain, false, "no such name"),
        (ResponseCode::NoError, false, "no address"),
        (ResponseCode::ServFail, true, "the resolver answers"),
        (ResponseCode::Refused, true, "the resolver answers"),
    ] {
        let names = Names::answering(Some(code), &[]).await;
        let trouble = names.net(Policy::default()).connect("target.example.", 1).await.unwrap_err();
        let (text, ours) = match trouble {
            Trouble::Ours(text) => (text, true),
            Trouble::Target(text) | Trouble::Degraded(text) => (text, false),
        };
        assert_eq!(ours, is_ours, "{code}: {text}");
        assert!(text.contains(word), "{code}: {text}");
    }
}

#[tokio::test]
async fn a_silent_resolver_is_our_trouble_also_when_time_is_up() {
    let names = Names::answering(None, &[]).await;
    let net = names.net(Policy::default());
    let limit = Duration::from_millis(200);
    assert!(tokio::time::timeout(limit, net.connect("target.example", 1)).await.is_err());
    let trouble = net.too_late(limit);
    assert!(matches!(&trouble, Trouble::Ours(text) if text.contains("resolving target.example")), "{trouble:?}");
}

#[tokio::test]
async fn a_refusal_is_the_targets() {
    let trouble = Net::new(Policy::default()).connect("127.0.0.1", closed_port().await).await.unwrap_err();
    assert!(matches!(&trouble, Trouble::Target(text) if text.contains("refuses")), "{trouble:?}");
    // One address that cannot be tried does not excuse the others.
    let names = Names::answering(Some(ResponseCode::NoError), &["2001:db8::1", "127.0.0.1"]).await;
    let net = names.net(policy(&[], &["2001:db8::/32"]));
    let trouble = net.connect("target.example", closed_port().await).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Target(_)), "{trouble:?}");
}

#[tokio::test]
async fn an_address_that_hangs_does_not_keep_the_next_waiting() {
    let (_listener, port) = listener().await;
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 2], port)).into()).unwrap();
    full.listen(0).unwrap();
    let hanging = SocketAddr::from(([127, 0, 0, 2], port));
    let mut held = vec![];
    // Once nobody takes the connections, the system does not answer any more.
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(hanging)).await {
        held.push(stream.unwrap());
    }
    let names = Names::answering(Some(ResponseCode::NoError), &["127.0.0.2", "127.0.0.1"]).await;
    let started = Instant::now();
    let dialed = names.net(Policy::default()).dial("target.example", port).await.unwrap();
    assert_eq!(dialed.address.ip().to_string(), "127.0.0.1");
    let took = started.elapsed();
    assert!((Duration::from_millis(200)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn what_a_name_stands_for_is_judged() {
    let (listener, port) = listener().await;
    for (address, policy, word) in [
        ("169.254.169.254", Policy::default(), "metadata"),
        ("::ffff:169.254.169.254", Policy::default(), "metadata"),
        ("127.0.0.1", Policy { deny_private: true, ..Policy::default() }, "this machine"),
        ("127.0.0.1", policy(&[], &["127.0.0.0/8"]), "operator denies"),
        ("127.0.0.1", policy(&["192.0.2.0/24"], &[]), "not among"),
        ("127.0.0.1", policy(&[], &["target.example"]), "operator denies"),
    ] {
        let names = Names::answering(Some(ResponseCode::NoError), &[address]).await;
        let trouble = names.net(policy).connect("target.example", port).await.unwrap_err();
        assert!(matches!(&trouble, Trouble::Ours(text) if text.contains(word)), "{address}: {trouble:?}");
    }
    // Of several the good ones are used.
    let names = Names::answering(Some(ResponseCode::NoError), &["169.254.169.254", "127.0.0.1"]).await;
    names.net(Policy::default()).connect("target.example", port).await.unwrap();
    let accepted = listener.accept().await.unwrap();
    assert!(accepted.1.ip().is_loopback());
    // What an old parser would take for loopback is a name, and nobody's.
    for host in ["2130706433", "0x7f.1", "0177.0.0.1"] {
        let names = Names::answering(Some(ResponseCode::NXDomain), &[]).await;
        assert!(matches!(names.net(Policy::default()).connect(host, port).await, Err(Trouble::Target(_))), "{host}");
    }
}
