//! What can be wrong with an SQLite file: damaged, foreign, not to be written, or on a disk that is full.

use crate::cluster::{is_root, until};
use crate::process::Running;
use crate::raw::Raw;
use crate::server::{Caller, Server, is_postgres};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tonic_types::StatusExt;

const PAGE: usize = 4_096;
/// The promise; a busy machine is quick enough for it.
const HEALED_WITHIN: Duration = Duration::from_secs(5);

fn serve(database: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_checkmate"));
    serving(&mut command, database);
    command
}

fn serving(command: &mut Command, database: &Path) {
    command.env_clear().env("CHECKMATE_DATABASE", format!("sqlite://{}", database.display()));
    command.env("CHECKMATE_LISTEN", "127.0.0.1:0").current_dir(database.parent().unwrap());
}

/// How it ends; if it starts instead, it is stopped.
fn ended(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (waited, patience) = (Instant::now(), Duration::from_secs(20));
    while child.try_wait().unwrap().is_none() && waited.elapsed() < patience {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    // It has ended already if all is well.
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

/// The file of a server that was used and stopped, whole and with nothing beside it.
async fn whole_file() -> Vec<u8> {
    let server = Server::start().await;
    for n in 0..50 {
        server
            .admin()
            .call("catalog.createSystem", json!({"name": format!("{n}"), "description": "x".repeat(500)}))
            .await;
    }
    let path = server.folder().join("checkmate.db");
    let server = server.restart_with(|_| {}).await;
    let bytes = std::fs::read(path).unwrap();
    drop(server);
    assert!(bytes.len() > 10 * PAGE);
    bytes
}

/// Bytes that look like nothing, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A copy with other bytes from a place on.
fn overwritten(bytes: &[u8], at: usize, by: &[u8]) -> Vec<u8> {
    [&bytes[..at], by, &bytes[at + by.len()..]].concat()
}

/// The server ends by itself, says why in one line that names the file, and leaves it as it was.
fn refused(done: &Output, path: &Path, says: &str, case: &str) {
    let text = String::from_utf8_lossy(&done.stderr);
    let line = text.lines().find(|line| line.starts_with("checkmate: ")).unwrap_or_default();
    assert_eq!((done.status.code(), done.stdout.as_slice()), (Some(1), &b""[..]), "{case}: {text}");
    assert!(line.contains(says) && line.contains(path.to_str().unwrap()), "{case}: {line}");
}

#[tokio::test]
async fn a_file_that_is_damaged_or_not_ours_is_refused_in_words_and_left_as_it_is() {
    if is_postgres() {
        return;
    }
    let good = whole_file().await;
    let (not_ours, damaged) = ("is not an SQLite database", "is damaged and was left as it is");
    let mut cases = vec![
        ("a header that is garbled".to_owned(), overwritten(&good, 0, b"garbled garbled!"), not_ours),
        ("noise".to_owned(), noise(100_000), not_ours),
        ("a text".to_owned(), b"hello\n".to_vec(), not_ours),
        // SQLite itself takes it for empty, and would begin anew.
        ("one byte".to_owned(), vec![b'S'], not_ours),
    ];
    for length in [15, 17, 50, 100, 1_000, PAGE, 2 * PAGE, good.len() / 2, good.len() - PAGE, good.len() - 1] {
        let says = if length < 18 { not_ours } else { damaged };
        cases.push((format!("cut off at {length}"), good[..length].to_vec(), says));
    }
    for page in [1, 2, good.len() / PAGE / 2, good.len() / PAGE - 1] {
        cases.push((format!("noise on page {page}"), overwritten(&good, page * PAGE, &noise(PAGE)), damaged));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkmate.db");
    for (case, bytes, says) in cases {
        std::fs::write(&path, &bytes).unwrap();
        refused(&ended(&mut serve(&path)), &path, says, &case);
        assert!(std::fs::read(&path).unwrap() == bytes, "{case}: the file was changed");
    }
}

#[tokio::test]
async fn a_file_with_rubbish_beside_it_is_used() {
    if is_postgres() {
        return;
    }
    let good = whole_file().await;
    let folder = tempfile::tempdir().unwrap();
    for (suffix, rubbish) in [("", vec![]), ("-wal", noise(50_000)), ("-shm", noise(32_768))] {
        let path = folder.path().join(format!("beside{suffix}.db"));
        let main = if suffix.is_empty() { &[][..] } else { &good };
        std::fs::write(&path, main).unwrap();
        if !suffix.is_empty() {
            std::fs::write(format!("{}{suffix}", path.display()), rubbish).unwrap();
        }
        drop(Running::start(&mut serve(&path)));
        let mut raw = Raw::open(&format!("sqlite://{}", path.display())).await;
        let systems = raw.count("select count(*) from catalog_system").await;
        assert_eq!(systems, if suffix.is_empty() { 0 } else { 50 }, "{suffix}");
    }
}

#[tokio::test]
async fn a_file_or_folder_that_may_not_be_used_is_refused_in_words() {
    if is_postgres() {
        return;
    }
    let good = whole_file().await;
    let folder = tempfile::tempdir().unwrap();
    let folder_of = |case: &str| {
        let made = folder.path().join(case);
        std::fs::create_dir(&made).unwrap();
        made
    };
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(folder.path(), 0o777);
    let a_folder = folder_of("a-folder").join("checkmate.db");
    std::fs::create_dir(&a_folder).unwrap();
    mode(a_folder.parent().unwrap(), 0o777);
    let mut cases = vec![(a_folder, "is a folder")];
    for (case, file_mode, folder_mode, says) in [
        ("read-only", 0o444, 0o777, "for reading and writing: Permission denied"),
        ("unreadable", 0o000, 0o777, "for reading and writing: Permission denied"),
        ("in-a-read-only-folder", 0o666, 0o555, "Permission denied"),
    ] {
        let path = folder_of(case).join("checkmate.db");
        std::fs::write(&path, &good).unwrap();
        mode(&path, file_mode);
        mode(path.parent().unwrap(), folder_mode);
        cases.push((path, says));
    }
    for (path, says) in cases {
        let done = ended(&mut as_somebody(&path));
        refused(&done, &path, says, says);
        assert!(path.is_dir() || std::fs::metadata(&path).unwrap().len() == good.len() as u64, "{says}: changed");
        // So that the folder can be removed.
        mode(path.parent().unwrap(), 0o777);
    }
}

/// Root may do everything, so it is somebody else then.
fn as_somebody(database: &Path) -> Command {
    if !is_root() {
        return serve(database);
    }
    // The folder of the build need not be open to everybody.
    let program: PathBuf = database.parent().unwrap().parent().unwrap().join("checkmate");
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_checkmate"), &program).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    serving(&mut command, database);
    command
}

#[tokio::test]
async fn damage_met_while_running_is_an_error_and_never_a_wrong_answer() {
    if is_postgres() {
        return;
    }
    let server = Server::start().await;
    for n in 0..50 {
        server
            .admin()
            .call("catalog.createSystem", json!({"name": format!("{n}"), "description": "x".repeat(500)}))
            .await;
    }
    let right = server.admin().call("catalog.getSystems", json!({})).await;
    // What a start reads is in the file then, and not in the log beside it.
    let server = server.restart_with(|_| {}).await;
    let path = server.folder().join("checkmate.db");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, overwritten(&bytes, PAGE, &noise(bytes.len() - PAGE))).unwrap();
    let mut failures = 0;
    for _ in 0..50 {
        let request = server.admin().request("POST", "/api/catalog/getSystems").json(&json!({}));
        let answer = request.send().await.unwrap();
        let (status, body) = (answer.status().as_u16(), answer.json::<serde_json::Value>().await.unwrap());
        match status {
            200 => assert_eq!(body, right),
            500 => assert_eq!(body["code"], "INTERNAL_SERVER_ERROR"),
            status => assert_eq!((status, &body["code"]), (503, &json!("SERVICE_UNAVAILABLE"))),
        }
        failures += usize::from(status != 200);
    }
    assert!(failures > 0, "the damage was met");
}

/// A limit on the size of files is what an unprivileged test has of a full disk.
fn limit_files(server: &Running, bytes: &str) {
    let process = server.child.id().to_string();
    let done = Command::new("prlimit").args(["--pid", &process, &format!("--fsize={bytes}:unlimited")]).status();
    assert!(done.unwrap().success());
}

async fn is_written(caller: &Caller, name: &str) -> bool {
    let answer = caller.json("catalog.createSystem", json!({"name": name})).await;
    if answer.status != 200 {
        answer.refused(503, "SERVICE_UNAVAILABLE", "The database cannot be written to");
        assert_eq!(answer.header("retry-after"), "1");
    }
    answer.status == 200
}

#[tokio::test]
async fn while_the_disk_is_full_reads_go_on_and_writes_are_refused_and_it_heals_by_itself() {
    if is_postgres() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkmate.db");
    // The signal that comes with the limit would end the process; a full disk sends none.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\"", env!("CARGO_BIN_EXE_checkmate")]);
    serving(&mut command, &path);
    let server = Running::start(&mut command);
    let admin = server.with_key(&server.key());
    let mut written = vec![];
    for round in 0..3 {
        for n in 0..5 {
            assert!(is_written(&admin, &format!("{round}-{n}")).await);
            written.push(format!("{round}-{n}"));
        }
        let log = std::fs::metadata(folder.path().join("checkmate.db-wal")).unwrap().len();
        limit_files(&server, &log.to_string());
        let mut refused = 0;
        for n in 0..20 {
            let name = format!("{round}-full-{n}");
            // What still fits is written.
            if is_written(&admin, &name).await {
                written.push(name);
            } else {
                refused += 1;
            }
            assert_eq!(admin.call("catalog.getSystems", json!({})).await.as_array().unwrap().len(), written.len());
            assert_eq!(
                admin.grpc("catalog.getSystems", &json!({})).await.unwrap().as_array().unwrap().len(),
                written.len()
            );
        }
        assert!(refused > 10, "the disk was full: {refused}");
        let status = admin.grpc("catalog.createSystem", &json!({"name": "x"})).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert!(status.get_details_retry_info().is_some());
        assert_eq!(admin.get("/readyz").await.status, 200, "reading goes on");
        limit_files(&server, "unlimited");
        let name = format!("{round}-healed");
        until("healed", HEALED_WITHIN, async || is_written(&admin, &name).await).await;
        written.push(name);
    }
    let stored = admin.call("catalog.getSystems", json!({})).await;
    let mut stored: Vec<_> = stored.as_array().unwrap().iter().map(|system| system["name"].as_str().unwrap()).collect();
    stored.sort_unstable();
    written.sort_unstable();
    assert_eq!(stored, written);
    let mut raw = Raw::open(&format!("sqlite://{}", path.display())).await;
    assert_eq!(raw.text("pragma integrity_check").await, "ok");
    assert_eq!(
        raw.count("select count(*) from change where kind = 'system.created'").await,
        i64::try_from(written.len()).unwrap()
    );
}
