//! The probe of SSH, against a server made of the same crate that lies, and a real one.

use crate::probe_fakes::{A_MOMENT, LONG, bad_targets_are_blamed, blamed, env, faults, look, nobody, ours, real, with};
use getrandom::SysRng;
use russh::keys::ssh_key::rand_core::UnwrapErr;
use russh::keys::{Algorithm, HashAlg, PrivateKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session};
use russh::{Channel, ChannelId};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

fn settings(port: u16) -> Value {
    json!({"host": "127.0.0.1", "port": port, "username": "u", "password": "hunter2-hunter2"})
}

/// Lets `u` in and does what the command says.
#[derive(Clone, Default)]
struct Host {
    logins: Arc<AtomicUsize>,
}

impl Handler for Host {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        self.logins.fetch_add(1, Ordering::SeqCst);
        Ok(if (user, password) == ("u", "hunter2-hunter2") { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        let handle = session.handle();
        match command {
            b"refuse" => return session.channel_failure(id),
            b"hang" => return session.channel_success(id),
            b"leave" => return Err(russh::Error::Disconnect),
            b"endless" => {
                tokio::spawn(async move { while handle.data(id, vec![b'x'; 32 << 10]).await.is_ok() {} });
                return session.channel_success(id);
            }
            _ => {}
        }
        session.channel_success(id)?;
        session.data(id, [b"out ", command].concat())?;
        session.extended_data(id, 1, b"hunter2-hunter2 is no secret".to_vec())?;
        session.exit_status_request(id, 3)?;
        session.eof(id)?;
        session.close(id)
    }
}

/// A host, its key and how often somebody tried to log in.
async fn host() -> (SocketAddr, PrivateKey, Arc<AtomicUsize>) {
    let key = PrivateKey::random(&mut UnwrapErr(SysRng), Algorithm::Ed25519).unwrap();
    let host = Host::default();
    let logins = Arc::clone(&host.logins);
    let config = Config { keys: vec![key.clone()], auth_rejection_time: Duration::ZERO, ..Config::default() };
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (config, host) = (Arc::clone(&config), host.clone());
            tokio::spawn(async move {
                if let Ok(session) = russh::server::run_stream(config, stream, host).await {
                    // However it ends.
                    let _ = session.await;
                }
            });
        }
    });
    (address, key, logins)
}

#[tokio::test]
async fn bad_targets() {
    bad_targets_are_blamed("ssh", &settings(1), b"SSH-2.0-x\r\n").await;
}

#[tokio::test]
async fn a_refused_connection_is_the_targets() {
    let seen = look("ssh", &settings(nobody().await.port()), LONG).await;
    assert!(blamed(&seen).contains("refuses"), "{seen:?}");
}

#[tokio::test]
async fn a_command_is_run() {
    let (address, key, _) = host().await;
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    let more = json!({"command": "anything", "hostKey": key.public_key().to_openssh().unwrap()});
    let seen = look("ssh", &with(settings(address.port()), &more), LONG).await;
    assert_eq!(seen.trouble, None);
    let expected = json!({
        "connected": true, "authenticated": true, "exitCode": 3, "hostKeyFingerprint": fingerprint,
        "hostKeyType": "ssh-ed25519", "stdout": "out anything", "stdoutExcerpt": "out anything",
        "stderr": "*** is no secret",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&seen.findings[name], value, "{name}");
    }
    assert!(seen.findings["serverVersion"].as_str().unwrap().starts_with("SSH-2.0-russh"));
    for (command, why) in [
        ("refuse", "The server refuses to run the command"),
        ("leave", "The connection ended before the command did"),
        ("hang", "No answer within 1000 ms (waiting for the command)"),
        ("endless", "The connection ended before the command did"),
    ] {
        let patience = if command == "hang" { A_MOMENT } else { LONG };
        let seen = look("ssh", &with(settings(address.port()), &json!({"command": command})), patience).await;
        assert_eq!(blamed(&seen), why, "{command}");
    }
    let more = json!({"command": "x", "expectedExitCode": 0});
    let seen = look("ssh", &with(settings(address.port()), &more), LONG).await;
    assert_eq!(blamed(&seen), "The command exited with 3, not 0");
}

#[tokio::test]
async fn nobody_logs_in_at_another_host() {
    let (address, key, logins) = host().await;
    let (_, other, _) = host().await;
    let [is, expected] = [&key, &other].map(|key| key.fingerprint(HashAlg::Sha256).to_string());
    for host_key in [expected.clone(), other.public_key().to_openssh().unwrap()] {
        let seen = look("ssh", &with(settings(address.port()), &json!({"hostKey": host_key})), LONG).await;
        assert_eq!(blamed(&seen), format!("The host key is {is}, not {expected} as expected"));
        assert_eq!((&seen.findings["connected"], &seen.findings["hostKeyFingerprint"]), (&json!(false), &json!(is)));
    }
    assert_eq!(logins.load(Ordering::SeqCst), 0);
    let without = json!({"username": null, "password": null, "hostKey": is});
    let seen = look("ssh", &with(settings(address.port()), &without), LONG).await;
    assert_eq!((&seen.trouble, &seen.findings["connected"]), (&None, &json!(true)));
    assert_eq!((logins.load(Ordering::SeqCst), seen.findings.get("authenticated")), (0, None));
    let wrong = look("ssh", &with(settings(address.port()), &json!({"password": "wrong"})), LONG).await;
    assert_eq!(blamed(&wrong), "Login failed: the password was refused");
    assert_eq!(wrong.findings["authenticated"], false);
}

#[tokio::test]
async fn nothing_remains_when_time_is_up() {
    let (address, _, _) = host().await;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let seen = look("ssh", &with(settings(address.port()), &json!({"command": "hang"})), A_MOMENT).await;
    assert!(blamed(&seen).starts_with("No answer within"));
    for _ in 0..100 {
        if tokio::runtime::Handle::current().metrics().num_alive_tasks() <= before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a task remains");
}

#[test]
fn faults_name_the_setting() {
    for (more, expected) in [
        (json!({}), vec![]),
        (json!({"port": 0}), vec!["port"]),
        (json!({"password": null}), vec!["password"]),
        (json!({"username": null}), vec!["username"]),
        (json!({"hostKey": "AA:BB"}), vec!["hostKey"]),
        (json!({"hostKey": "SHA256:tooshort"}), vec!["hostKey"]),
        (json!({"privateKey": "no key"}), vec!["privateKey"]),
        (json!({"expectedExitCode": 0}), vec!["expectedExitCode"]),
        (json!({"command": ""}), vec!["command"]),
    ] {
        assert_eq!(faults("ssh", &with(settings(1), &more)), expected, "{more}");
    }
}

#[tokio::test]
async fn a_real_server() {
    let Some(real) = real("TEST_PROBE_SSH") else { return };
    let [key, host_key] = ["TEST_PROBE_SSH_KEY", "TEST_PROBE_SSH_HOST_KEY"]
        .map(|variable| std::fs::read_to_string(env(variable).unwrap()).unwrap());
    let good = json!({
        "host": real.host, "port": real.port, "username": real.user, "privateKey": key, "hostKey": host_key,
        "command": "echo out; echo error >&2; exit 4",
    });
    let seen = look("ssh", &good, LONG).await;
    assert_eq!(seen.trouble, None);
    let expected = json!({"authenticated": true, "exitCode": 4, "stdout": "out\n", "stderr": "error\n"});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&seen.findings[name], value, "{name}");
    }
    assert!(seen.findings["serverVersion"].as_str().unwrap().starts_with("SSH-2.0-OpenSSH"));
    let seen = look("ssh", &with(good.clone(), &json!({"command": "kill -9 $$"})), LONG).await;
    assert_eq!(blamed(&seen), "The command was ended by KILL");
    let seen =
        look("ssh", &with(good.clone(), &json!({"command": "head -c 1000000 /dev/zero | tr '\\0' x"})), LONG).await;
    assert_eq!(seen.findings["stdout"].as_str().unwrap().len(), 64 << 10);
    let seen = look("ssh", &with(good.clone(), &json!({"privateKey": null, "password": "wrong"})), LONG).await;
    assert_eq!(blamed(&seen), "Login failed: the password was refused");
    let seen = look("ssh", &with(good.clone(), &json!({"passphrase": "of no use"})), LONG).await;
    assert_eq!(seen.trouble, None);

    let locked = PrivateKey::from_openssh(&key).unwrap().encrypt(&mut SysRng, "the passphrase").unwrap();
    let locked = locked.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap().to_string();
    let more = |passphrase: &str| json!({"privateKey": locked, "passphrase": passphrase});
    assert_eq!(look("ssh", &with(good.clone(), &more("the passphrase")), LONG).await.trouble, None);
    let seen = look("ssh", &with(good.clone(), &more("another")), LONG).await;
    assert!(ours(&seen).contains("cannot be opened"), "{seen:?}");
    assert_eq!(faults("ssh", &with(good, &json!({"privateKey": locked, "passphrase": null}))), ["privateKey"]);
}
