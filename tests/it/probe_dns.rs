//! The `dns` probe against name servers that answer, lie, stay silent, or say half.

use crate::probe_tls::{Authority, Target, faults, look, targets};
use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CAA, CNAME, MX, NS, PTR, SOA, SRV, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn answer_to(query: &Message) -> Message {
    let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    answer.add_queries(query.queries.clone());
    answer
}

fn with(query: &Message, data: Vec<RData>) -> Message {
    let mut answer = answer_to(query);
    let owner = query.queries[0].name().clone();
    for (number, data) in data.into_iter().enumerate() {
        answer.add_answer(Record::from_rdata(owner.clone(), 300 - u32::try_from(number).unwrap(), data));
    }
    answer
}

/// What is sent for a question: packets over UDP (`true`) or messages over TCP.
type Answers = Arc<dyn Fn(&Message, bool) -> Vec<Vec<u8>> + Send + Sync>;

struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

async fn framed<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answers: Answers) {
    let Ok(length) = stream.read_u16().await else { return };
    let mut question = vec![0; length.into()];
    stream.read_exact(&mut question).await.unwrap();
    for answer in answers(&Message::from_vec(&question).unwrap(), false) {
        let _ = stream.write_u16(u16::try_from(answer.len()).unwrap()).await;
        let _ = stream.write_all(&answer).await;
    }
    let _ = stream.flush().await;
    let _ = stream.read(&mut [0; 1]).await;
}

impl Server {
    async fn new(answers: impl Fn(&Message, bool) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let answers: Answers = Arc::new(answers);
        let (socket, listener) = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()).await {
                break (socket, listener);
            }
        };
        let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (count, over_udp) = (asked.clone(), answers.clone());
        let udp = tokio::spawn(async move {
            let mut packet = [0; 4_096];
            loop {
                let (length, from) = socket.recv_from(&mut packet).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                for answer in over_udp(&Message::from_vec(&packet[..length]).unwrap(), true) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        let tcp = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                framed(stream, answers.clone()).await;
            }
        });
        Self { address, asked, _tasks: [udp, tcp].map(AbortOnDropHandle::new) }
    }

    /// Answers with this over whatever it is asked.
    async fn telling(answer: impl Fn(&Message) -> Message + Send + Sync + 'static) -> Self {
        Self::new(move |query, _| vec![answer(query).to_vec().unwrap()]).await
    }

    fn asks(&self, more: &Value) -> Value {
        asking(self.address, more)
    }
}

fn asking(address: SocketAddr, more: &Value) -> Value {
    let mut settings = json!({ "hostname": "example.com", "nameserver": address.to_string(), "attemptTimeoutMs": 300 });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

#[tokio::test]
async fn every_type_is_written_as_clients_know_it() {
    let server = Server::telling(|query| {
        let host = || name("mail.example.com.");
        with(
            query,
            match query.queries[0].query_type() {
                RecordType::A => [4, 3].map(|last| RData::A(A(Ipv4Addr::new(192, 0, 2, last)))).to_vec(),
                RecordType::AAAA => vec![RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))],
                RecordType::CNAME => vec![RData::CNAME(CNAME(host()))],
                RecordType::MX => vec![RData::MX(MX::new(10, host()))],
                RecordType::TXT => vec![RData::TXT(TXT::new(vec!["v=spf1 ".into(), "-all\n".into()]))],
                RecordType::NS => vec![RData::NS(NS(host()))],
                RecordType::SOA => vec![RData::SOA(SOA::new(host(), name("admin.example.com."), 7, 1, 2, 3, 4))],
                RecordType::SRV => vec![RData::SRV(SRV::new(1, 2, 443, host()))],
                RecordType::CAA => {
                    vec![RData::CAA(CAA::new_issue(false, Some(name("letsencrypt.org")), vec![]))]
                }
                RecordType::PTR => {
                    assert_eq!(query.queries[0].name().to_ascii(), "1.2.0.192.in-addr.arpa.");
                    vec![RData::PTR(PTR(host()))]
                }
                other => panic!("{other}"),
            },
        )
    })
    .await;
    for (of, expected) in [
        ("A", json!(["192.0.2.3", "192.0.2.4"])),
        ("AAAA", json!(["::1"])),
        ("CNAME", json!(["mail.example.com"])),
        ("MX", json!(["10 mail.example.com"])),
        ("TXT", json!(["v=spf1 -all"])),
        ("NS", json!(["mail.example.com"])),
        ("SOA", json!(["mail.example.com. admin.example.com. 7 1 2 3 4"])),
        ("SRV", json!(["1 2 443 mail.example.com."])),
        ("CAA", json!(["0 issue \"letsencrypt.org\""])),
        ("PTR", json!(["mail.example.com"])),
    ] {
        for protocol in ["udp", "tcp"] {
            let hostname = if of == "PTR" { "192.0.2.1" } else { "example.com" };
            let more = json!({ "recordType": of, "protocol": protocol, "hostname": hostname });
            let seen = look("dns", &server.asks(&more)).await;
            assert_eq!((targets(&seen), &seen.findings["values"]), ("", &expected), "{of} {protocol}");
            assert_eq!(seen.findings["rcode"], "NOERROR");
        }
    }
}

#[tokio::test]
async fn what_the_answer_says_is_found() {
    let server = Server::telling(|query| {
        assert!(query.metadata.recursion_desired && query.metadata.authentic_data);
        let mut answer = with(query, (0..120).map(|last| RData::A(A(Ipv4Addr::new(192, 0, 2, last)))).collect());
        answer.metadata.authoritative = true;
        answer.metadata.authentic_data = true;
        // A name on the way is no record of the type.
        answer.add_answer(Record::from_rdata(name("a.b."), 1, RData::CNAME(CNAME(name("c.d.")))));
        answer
    })
    .await;
    let seen = look("dns", &server.asks(&json!({}))).await;
    assert_eq!(targets(&seen), "");
    let found = &seen.findings;
    assert_eq!(found["values"].as_array().unwrap().len(), 100);
    assert_eq!((&found["recordCount"], &found["ttlSeconds"]), (&json!(120), &json!(181)));
    assert_eq!((&found["authoritative"], &found["dnssecAuthenticated"]), (&json!(true), &json!(true)));
    assert_eq!(found["server"], json!(server.address.to_string()));
    assert!(found["resolutionTimeMs"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn an_answer_is_judged_by_what_is_expected() {
    let server = Server::telling(|query| {
        let mut answer = answer_to(query);
        answer.metadata.response_code = match query.queries[0].name().to_ascii().as_str() {
            "gone.example.com." => ResponseCode::NXDomain,
            "broken.example.com." => ResponseCode::ServFail,
            _ => ResponseCode::NoError,
        };
        answer
    })
    .await;
    for (hostname, more, words) in [
        ("gone.example.com", json!({}), "The answer is NXDOMAIN, and not NOERROR"),
        ("gone.example.com", json!({ "expectedRcode": "NXDOMAIN" }), ""),
        ("broken.example.com", json!({ "recordType": "MX" }), "The answer is SERVFAIL"),
        ("empty.example.com", json!({ "recordType": "MX" }), "empty.example.com has no MX record"),
        ("empty.example.com", json!({ "requireRecords": false }), ""),
        ("empty.example.com", json!({ "expectedRcode": "NXDOMAIN" }), "The answer is NOERROR, and not NXDOMAIN"),
    ] {
        let mut settings = server.asks(&more);
        settings["hostname"] = json!(hostname);
        let seen = look("dns", &settings).await;
        let found = targets(&seen);
        assert!(found.starts_with(words) && found.is_empty() == words.is_empty(), "{settings}: {seen:?}");
        assert_eq!(seen.findings["recordCount"], 0);
    }
}

#[tokio::test]
async fn an_answer_to_another_question_is_passed_over() {
    let server = Server::new(|query, _| {
        let good = with(query, vec![RData::A(A(Ipv4Addr::new(192, 0, 2, 1)))]);
        let evil = || with(query, vec![RData::A(A(Ipv4Addr::new(6, 6, 6, 6)))]);
        let (mut number, mut question, mut of, mut kind) = (evil(), evil(), evil(), evil());
        number.metadata.id = number.metadata.id.wrapping_add(1);
        question.queries[0].set_name(name("other.com."));
        of.queries[0].set_query_type(RecordType::AAAA);
        kind.metadata.message_type = MessageType::Query;
        let mut none = evil();
        none.queries.clear();
        let mut two = evil();
        two.add_query(Query::query(name("other.com."), RecordType::A));
        let strays = [number, question, of, kind, none, two].map(|stray| stray.to_vec().unwrap());
        strays.into_iter().chain([vec![], b"nonsense".to_vec(), good.to_vec().unwrap()]).collect()
    })
    .await;
    for protocol in ["udp", "tcp"] {
        let seen = look("dns", &server.asks(&json!({ "protocol": protocol }))).await;
        assert_eq!((targets(&seen), &seen.findings["values"]), ("", &json!(["192.0.2.1"])), "{protocol}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_asked_for_over_tcp() {
    let server = Server::new(|query, is_udp| {
        let texts = if is_udp { vec![] } else { vec![RData::TXT(TXT::new(vec!["x".repeat(200)])); 50] };
        let mut answer = with(query, texts);
        answer.metadata.truncation = is_udp;
        vec![answer.to_vec().unwrap()]
    })
    .await;
    let seen = look("dns", &server.asks(&json!({ "recordType": "TXT" }))).await;
    assert_eq!(targets(&seen), "");
    assert_eq!((&seen.findings["truncated"], &seen.findings["recordCount"]), (&json!(true), &json!(50)));
}

#[tokio::test]
async fn a_lost_packet_is_no_news_and_silence_is_the_named_servers_trouble() {
    let lost = Arc::new(AtomicUsize::new(0));
    let server = Server::new(move |query, _| match lost.fetch_add(1, Ordering::SeqCst) {
        0 => vec![],
        _ => vec![with(query, vec![RData::A(A(Ipv4Addr::LOCALHOST))]).to_vec().unwrap()],
    })
    .await;
    assert_eq!(targets(&look("dns", &server.asks(&json!({ "attemptTimeoutMs": 100 }))).await), "");
    assert_eq!(server.asked.load(Ordering::SeqCst), 2);

    let silent = Server::new(|_, _| vec![]).await;
    for (protocol, asked) in [("udp", 2), ("tcp", 2)] {
        let seen = look("dns", &silent.asks(&json!({ "protocol": protocol, "attemptTimeoutMs": 100 }))).await;
        assert!(targets(&seen).contains("does not answer"), "{seen:?}");
        assert_eq!(silent.asked.load(Ordering::SeqCst), asked);
    }
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for protocol in ["udp", "tcp"] {
        let seen = look("dns", &asking(nobody, &json!({ "protocol": protocol }))).await;
        assert!(targets(&seen).contains("refuses"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_server_that_lies_about_length_or_floods_is_not_believed() {
    let short = Target::serving(|mut stream| async move {
        let _ = stream.read(&mut [0; 512]).await;
        let _ = stream.write_all(&[0xff, 0xff, 1, 2, 3]).await;
    })
    .await;
    let flood = Target::serving(|mut stream| async move {
        let _ = stream.read(&mut [0; 512]).await;
        while stream.write_all(&[0, 3, 1, 2, 3]).await.is_ok() {}
    })
    .await;
    for (target, words) in [(&short, "closed the connection before"), (&flood, "no answer to the question")] {
        let seen = look("dns", &asking(target.address, &json!({ "protocol": "tcp" }))).await;
        assert!(targets(&seen).contains(words), "{seen:?}");
    }
    let flood = Server::new(|_, _| vec![b"nonsense".to_vec(); 60]).await;
    let seen = look("dns", &flood.asks(&json!({}))).await;
    assert!(targets(&seen).contains("no answer"), "{seen:?}");
}

#[tokio::test]
async fn dns_over_tls_wants_a_certificate_for_the_server() {
    let authority = Authority::new("An Authority");
    let config = authority.issue(&["127.0.0.1"], |_| {}).server(None, &[b"dot"]);
    let answers: Answers =
        Arc::new(|query, _| vec![with(query, vec![RData::A(A(Ipv4Addr::LOCALHOST))]).to_vec().unwrap()]);
    let target = Target::serving(move |stream| {
        let (config, answers) = (config.clone(), answers.clone());
        async move {
            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                framed(stream, answers).await;
            }
        }
    })
    .await;
    let ask = |tls: Value| asking(target.address, &json!({ "protocol": "tls", "tls": tls }));
    let seen = look("dns", &ask(json!({ "customCa": authority.pem() }))).await;
    assert_eq!((targets(&seen), &seen.findings["values"]), ("", &json!(["127.0.0.1"])));
    assert!(!targets(&look("dns", &ask(json!({}))).await).is_empty());
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (settings, expected) in [
        (json!({ "hostname": "_dmarc.example.com", "recordType": "TXT" }), vec![]),
        (json!({ "hostname": "münchen.example" }), vec![]),
        (json!({ "hostname": "2001:db8::1", "recordType": "PTR" }), vec![]),
        (json!({ "hostname": "a..b" }), vec!["hostname"]),
        (json!({ "hostname": "x".repeat(64) }), vec!["hostname"]),
        (json!({ "hostname": "a", "nameserver": "a b" }), vec!["nameserver"]),
        (json!({ "hostname": "a", "recordType": "ANY" }), vec!["recordType"]),
        (json!({ "hostname": "a", "attemptTimeoutMs": 1 }), vec!["attemptTimeoutMs"]),
    ] {
        assert_eq!(faults("dns", &settings), expected, "{settings}");
    }
}
