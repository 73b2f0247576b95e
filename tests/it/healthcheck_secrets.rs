//! The secrets of health checks: what servers repeat of them, where they must not be written in the open, another
//! instance key, and one canary in each secret field of each strategy, which is to be found nowhere.

use crate::probe_tls::Authority;
use crate::raw::Raw;
use crate::server::{Caller, Server};
use checkmate::access::InstanceKey;
use russh::keys::ssh_key::rand_core::UnwrapErr;
use russh::keys::{Algorithm, PrivateKey};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that says what it hears: to HTTP as the body of an answer, to others as it came.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = vec![0; 65_536];
                while let Ok(length @ 1..) = stream.read(&mut heard).await {
                    let text = heard[..length].to_vec();
                    let is_http = text.windows(6).any(|part| part == b"HTTP/1");
                    let status = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                    let said = if is_http { [status.into_bytes(), text].concat() } else { text };
                    if stream.write_all(&said).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// Saves a check and attaches it to a new system.
async fn saved(admin: &Caller, strategy: &str, config: &Value) -> String {
    let new =
        json!({"name": strategy, "strategyId": strategy, "config": config, "intervalSeconds": 3600, "timeoutMs": 1000});
    let check = admin.call("healthcheck.createConfiguration", new).await["id"].as_str().unwrap().to_owned();
    let system = admin.call("catalog.createSystem", json!({"name": strategy})).await;
    let body = json!({"systemId": system["id"], "body": {"configurationId": check}});
    admin.call("healthcheck.associateSystem", body).await;
    check
}

#[tokio::test]
async fn a_password_does_not_come_back_in_base64() {
    let server = Server::start().await;
    let (admin, url) = (server.admin(), format!("http://127.0.0.1:{}/", echo().await));
    for password in ["hunter2-hunter2", "pw"] {
        let config = json!({"url": url, "basicAuth": {"username": "u", "password": password}, "storeBodyBytes": 1024});
        let assertion = json!({"field": "body", "operator": "contains", "value": "nothing that is there"});
        let input = json!({"strategyId": "http", "config": config, "assertions": [assertion]});
        let seen = admin.json("healthcheck.testHealthCheck", input).await.text;
        let check = saved(&admin, "http", &config).await;
        let ran = admin.json("healthcheck.runHealthCheckNow", json!({"configurationId": check})).await.text;
        let encoded = if password == "pw" { "dTpwdw" } else { "dTpodW50ZXIyLWh1bnRlcjI" };
        for text in [seen, ran] {
            assert!(text.to_lowercase().contains("authorization: basic ***"), "it is repeated, and masked: {text}");
            assert!(!text.contains(encoded) && !text.contains("hunter2"), "{text}");
        }
    }
}

#[tokio::test]
async fn credentials_are_refused_where_everybody_reads_them() {
    let server = Server::start().await;
    let admin = server.admin();
    for (strategy, config, field, instead) in [
        (
            "http",
            json!({"url": "http://a/", "headers": {"Authorization": "x"}}),
            "headers.Authorization",
            "bearerToken",
        ),
        ("http", json!({"url": "http://a/", "headers": {"cookie": "x"}}), "headers.cookie", "secretHeaders"),
        (
            "http",
            json!({"url": "http://a/", "headers": {"Proxy-Authorization": "x"}}),
            "headers.Proxy-Authorization",
            "secretHeaders",
        ),
        ("websocket", json!({"url": "ws://a/", "headers": {"Cookie": "x"}}), "headers.Cookie", "secretHeaders"),
        (
            "grpc",
            json!({"host": "a", "port": 1, "metadata": {"authorization": "x"}}),
            "metadata.authorization",
            "secretMetadata",
        ),
    ] {
        let new = json!({"name": "x", "strategyId": strategy, "config": config, "intervalSeconds": 60});
        let answer = admin.json("healthcheck.createConfiguration", new.clone()).await;
        let issue = &answer.body["data"]["issues"][0];
        let named: String =
            issue["path"].as_array().unwrap().iter().map(|step| step.as_str().unwrap()).collect::<Vec<_>>().join(".");
        assert_eq!((answer.status, named), (400, format!("config.{field}")), "{}", answer.text);
        assert!(issue["message"].as_str().unwrap().contains(instead), "{}", answer.text);
        assert_eq!(
            admin.grpc("healthcheck.createConfiguration", &new).await.unwrap_err().code(),
            tonic::Code::InvalidArgument
        );
    }
}

#[tokio::test]
async fn another_instance_key_opens_and_seals_anew_what_an_old_one_sealed() {
    let server = Server::start().await;
    let url = format!("http://127.0.0.1:{}/", echo().await);
    let config = json!({"url": url, "bearerToken": "hunter2-hunter2", "storeBodyBytes": 1024});
    let check = saved(&server.admin(), "http", &config).await;
    let run = json!({"configurationId": check});
    let old = server.config.instance_key.clone().unwrap();
    let new = "cd".repeat(32);

    // Without the old key it is lost, and that is said.
    let server = server.restart_with(|config| config.instance_key = Some(new.clone().into())).await;
    let refused = server.admin().json("healthcheck.runHealthCheckNow", run.clone()).await;
    assert!(refused.status == 400 && refused.text.contains("another instance key"), "{}", refused.text);

    let server = server.restart_with(|config| config.old_instance_keys = vec![old]).await;
    let sent = |ran: &Value| ran[0]["result"].to_string().to_lowercase().contains("bearer ***");
    let ran = server.admin().call("healthcheck.runHealthCheckNow", run.clone()).await;
    assert!(sent(&ran), "{ran}");
    let (name, started) = (InstanceKey::parse(&new).unwrap().name, Instant::now());
    while !Raw::open(&server.config.database).await.dump().await.contains(&format!("{name}:")) {
        assert!(started.elapsed() < Duration::from_secs(20), "it is sealed anew");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let server = server.restart_with(|config| config.old_instance_keys = vec![]).await;
    let ran = server.admin().call("healthcheck.runHealthCheckNow", run).await;
    assert!(sent(&ran), "the old key is not needed any more: {ran}");
}

#[tokio::test]
async fn push_tokens_outlive_the_instance_key() {
    let server = Server::start().await;
    let check = saved(&server.admin(), "heartbeat", &json!({})).await;
    let made = server.admin().call("healthcheck.regeneratePushToken", json!({"configurationId": check})).await;
    let token = made["token"].as_str().unwrap().to_owned();
    let report = json!({"token": token});
    let reported = async |server: &Server| server.admin().json("healthcheck.reportResult", report.clone()).await.status;
    let old = server.config.instance_key.clone().unwrap();

    let new = "cd".repeat(32);
    let server = server.restart_with(|config| config.instance_key = Some(new.into())).await;
    assert_eq!(reported(&server).await, 200);

    // As it was stored before: known as long as the key is, and kept in the new form once it is used.
    let tag = InstanceKey::parse(&old).unwrap().old_push_tag(&token);
    let as_before = "update healthcheck_check set push_tag = $1";
    Raw::open(&server.config.database).await.execute_with(as_before, &tag).await;
    assert_eq!(reported(&server).await, 403, "nobody knows the old key");
    let server = server.restart_with(|config| config.old_instance_keys = vec![old]).await;
    assert_eq!(reported(&server).await, 200);
    let server = server.restart_with(|config| config.old_instance_keys = vec![]).await;
    assert_eq!(reported(&server).await, 200);
}

/// The places of secrets that a schema has; `*` is any name.
fn places(schema: &Value, root: &Value, at: &str, depth: usize, found: &mut BTreeSet<String>) {
    if depth > 12 {
        return;
    }
    if schema["writeOnly"] == json!(true) {
        found.insert(at.to_owned());
    }
    if let Some(target) = schema["$ref"].as_str() {
        places(root.pointer(target.trim_start_matches('#')).unwrap(), root, at, depth + 1, found);
    }
    for several in ["oneOf", "anyOf", "allOf"] {
        for one in schema[several].as_array().into_iter().flatten() {
            places(one, root, at, depth + 1, found);
        }
    }
    for (name, one) in schema["properties"].as_object().into_iter().flatten() {
        places(one, root, &format!("{at}/{name}"), depth + 1, found);
    }
    if schema["additionalProperties"].is_object() {
        places(&schema["additionalProperties"], root, &format!("{at}/*"), depth + 1, found);
    }
}

/// Secrets that are found nowhere else.
struct Canaries<'s> {
    server: &'s Server,
    count: usize,
    authority: Authority,
}

impl Canaries<'_> {
    fn next(&mut self) -> String {
        self.count += 1;
        let canary = format!("canary {}/{}+{}", self.count, uuid::Uuid::now_v7().simple(), "x&\"");
        self.server.secrets().canary(&canary);
        canary
    }

    /// The first two lines hold what is private; behind them is the public key, which stands in the certificate as well.
    fn pem(&self, pem: &str) -> String {
        for line in pem.lines().skip(1).take(2) {
            self.server.secrets().canary(line);
        }
        pem.to_owned()
    }

    fn tls(&mut self) -> Value {
        let identity = self.authority.issue(&["client"], |_| {});
        json!({"clientCertificate": identity.pem(), "clientKey": self.pem(&identity.key.serialize_pem())})
    }

    fn ssh_key(&mut self) -> String {
        let key = PrivateKey::random(&mut UnwrapErr(getrandom::SysRng), Algorithm::Ed25519).unwrap();
        let text = key.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap().to_string();
        // The first line of every key is the same.
        for line in text.lines().skip(2).filter(|line| !line.starts_with('-')) {
            self.server.secrets().canary(line);
        }
        text
    }

    /// Settings of every strategy that has secrets, which together fill every field of them.
    fn configs(&mut self, port: u16) -> Vec<(&'static str, Value)> {
        let host = |more: Value| {
            let mut config = json!({"host": "127.0.0.1", "port": port});
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            config
        };
        let (http, ws) = (format!("http://127.0.0.1:{port}/"), format!("ws://127.0.0.1:{port}/"));
        vec![
            (
                "http",
                json!({"url": http, "basicAuth": {"username": "u", "password": self.next()},
                "secretHeaders": {"x-key": self.next(), "cookie": self.next()}, "tls": self.tls(), "storeBodyBytes": 1024}),
            ),
            (
                "http",
                json!({"url": http, "bearerToken": self.next(), "storeBodyBytes": 1024, "method": "POST", "body": "x"}),
            ),
            ("websocket", json!({"url": ws, "secretHeaders": {"authorization": self.next()}, "tls": self.tls()})),
            ("grpc", host(json!({"secretMetadata": {"authorization": self.next()}, "tls": self.tls()}))),
            ("tcp", host(json!({"send": "x", "expect": "y", "tls": self.tls()}))),
            ("tls", host(json!({"tls": self.tls()}))),
            (
                "dns",
                json!({"hostname": "a.test", "nameserver": format!("127.0.0.1:{port}"), "protocol": "tcp", "tls": self.tls()}),
            ),
            ("mysql", host(json!({"user": "u", "password": self.next(), "tlsOptions": self.tls()}))),
            (
                "postgres",
                host(json!({"user": "u", "database": "d", "password": self.next(), "tlsOptions": self.tls()})),
            ),
            ("redis", host(json!({"username": "u", "password": self.next(), "tlsOptions": self.tls()}))),
            (
                "smtp",
                host(json!({"auth": {"username": "u", "password": self.next()}, "useTls": true, "tls": self.tls()})),
            ),
            ("ssh", host(json!({"username": "u", "password": self.next()}))),
            ("ssh", host(json!({"username": "u", "privateKey": self.ssh_key(), "passphrase": self.next()}))),
            (
                "script",
                json!({"command": "/bin/sh", "args": ["-c", "echo $S; echo $S >&2; exit 3"], "secretEnv": {"S": self.next()}}),
            ),
        ]
    }
}

/// Whether settings fill a place.
fn fills(config: &Value, place: &str) -> bool {
    let found = place.split('/').skip(1).try_fold(config, |at, step| match step {
        "*" => at.as_object()?.values().next(),
        name => at.get(name),
    });
    found.is_some()
}

/// `Server` and `Caller` search every answer, the log at every level, the metrics, and the files of the database.
#[tokio::test]
async fn a_canary_in_every_secret_field_is_found_nowhere() {
    let server = Server::start().await;
    let (admin, port) = (server.admin(), echo().await);
    let mut canaries = Canaries { server: &server, count: 0, authority: Authority::new("clients") };
    let configs = canaries.configs(port);
    for strategy in admin.call("healthcheck.getStrategies", json!({})).await.as_array().unwrap() {
        let (mut wanted, id) = (BTreeSet::new(), strategy["id"].as_str().unwrap());
        let schema = &strategy["configSchema"];
        assert!(schema.is_object(), "{strategy}");
        places(schema, schema, "", 0, &mut wanted);
        for place in wanted {
            let is_filled = configs.iter().any(|(kind, config)| *kind == id && fills(config, &place));
            assert!(is_filled, "{id} has a secret at {place}: give it a canary");
        }
    }
    for (strategy, config) in &configs {
        let tried = json!({"strategyId": strategy, "config": config, "timeoutMs": 700});
        admin.call("healthcheck.testHealthCheck", tried.clone()).await;
        admin.grpc("healthcheck.testHealthCheck", &tried).await.unwrap();
        let check = saved(&admin, strategy, config).await;
        let body = json!({"id": check, "body": {"description": "changed", "config": config}});
        admin.call("healthcheck.updateConfiguration", body.clone()).await;
        admin.grpc("healthcheck.updateConfiguration", &body).await.unwrap();
        let wrong = json!({"id": check, "body": {"assertions": [{"field": "nonsense", "operator": "isTrue"}], "config": config}});
        assert_eq!(admin.json("healthcheck.updateConfiguration", wrong).await.status, 400);
        let run = admin.call("healthcheck.runHealthCheckNow", json!({"configurationId": check})).await;
        let run = json!({"runId": run[0]["id"]});
        for (procedure, input) in [
            ("healthcheck.getConfiguration", json!({"id": check})),
            ("healthcheck.getHealthChecks", json!({})),
            ("healthcheck.getDetailedHistory", json!({"configurationId": check})),
            ("healthcheck.getRunById", run),
        ] {
            admin.call(procedure, input.clone()).await;
            admin.grpc(procedure, &input).await.unwrap();
        }
    }
}
