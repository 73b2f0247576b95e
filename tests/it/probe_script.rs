//! The probe that runs a program: what it may see, what it may take, and that nothing of it remains.

use crate::probe_fakes::{A_MOMENT, LONG, blamed, faults, ours};
use checkmate::probe::{Kind, Net, Policy, Seen};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

async fn run(settings: Value, patience: Duration) -> Seen {
    let policy = Policy { scripts: true, ..Policy::default() };
    (Kind::named("script").unwrap().prepare)(&settings).unwrap().look(&Net::new(policy), patience).await
}

/// What a shell is told.
async fn shell(text: &str) -> Seen {
    run(json!({"command": "/bin/sh", "args": ["-c", text]}), LONG).await
}

fn written(seen: &Seen) -> &str {
    seen.findings["stdout"].as_str().unwrap()
}

#[tokio::test]
async fn nothing_runs_unless_the_operator_allows_it() {
    let settings = json!({"command": "/bin/true"});
    let seen = crate::probe_fakes::look("script", &settings, LONG).await;
    assert!(ours(&seen).contains("switched off"));
    assert_eq!(run(settings, LONG).await.trouble, None);
}

#[tokio::test]
async fn what_it_exits_with_is_the_verdict() {
    let seen = shell("echo out; echo error >&2").await;
    assert_eq!(seen.trouble, None);
    let expected = json!({
        "exitCode": 0, "success": true, "timedOut": false, "stdout": "out\n", "stderr": "error\n",
        "stdoutExcerpt": "out", "stderrExcerpt": "error",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&seen.findings[name], value, "{name}");
    }
    let seen = shell("echo why >&2; exit 3").await;
    assert_eq!((blamed(&seen), &seen.findings["exitCode"]), ("The script exited with 3: why", &json!(3)));
    let seen = shell("kill -9 $$").await;
    assert_eq!((blamed(&seen), &seen.findings["signal"]), ("The script was ended by signal 9", &json!(9)));
    for command in ["/no/such/program", "/etc/passwd", "/bin"] {
        let seen = run(json!({"command": command}), LONG).await;
        assert!(ours(&seen).contains("cannot be run here"), "{seen:?}");
    }
}

#[tokio::test]
async fn it_sees_what_was_declared_and_nothing_else() {
    let settings =
        json!({"command": "/usr/bin/env", "env": {"ONE": "1 $HOME"}, "secretEnv": {"TWO": "hunter2-hunter2"}});
    let seen = run(settings, LONG).await;
    let mut lines: Vec<_> = written(&seen).lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["LANG=C.UTF-8", "ONE=1 $HOME", "PATH=/usr/bin:/bin", "TWO=***"]);
    let seen = shell("readlink /proc/self/fd/0; pwd; printf %s \"$*\"").await;
    assert_eq!(written(&seen), "/dev/null\n/\n");
    let seen = run(json!({"command": "/bin/echo", "args": ["$(id)", "; exit 1", "-n"], "cwd": "/tmp"}), LONG).await;
    assert_eq!(written(&seen), "$(id) ; exit 1 -n\n");
}

#[tokio::test]
async fn it_inherits_no_descriptor() {
    let ours = std::fs::File::open("/etc/passwd").unwrap();
    let seen = shell("cd /proc/self/fd; for each in *; do readlink $each; done; true").await;
    assert!(written(&seen).starts_with("/dev/null\n"), "{seen:?}");
    assert!(!written(&seen).contains("/etc/passwd") && !written(&seen).contains("socket:"), "{seen:?}");
    // What we inherited ourselves, as from cargo, is closed where a shell can name it; this is the listing's own.
    let low = shell("ls /proc/self/fd").await;
    let low: Vec<_> = written(&low).lines().filter(|number| number.len() == 1).collect();
    assert_eq!(low, ["0", "1", "2", "3"]);
    drop(ours);
}

#[tokio::test]
async fn it_takes_no_more_than_it_may() {
    let seen = shell("ulimit -t; ulimit -v; ulimit -n; ulimit -f; ulimit -c").await;
    assert_eq!(written(&seen), "60\n524288\n64\n32768\n0\n");
    let seen = shell("head -c 10000000 /dev/zero | tr '\\0' x; echo end >&2").await;
    assert_eq!((written(&seen).len(), &seen.findings["stderr"]), (64 << 10, &json!("end\n")));
    assert_eq!(seen.findings["stdoutExcerpt"].as_str().unwrap().len(), 200);
}

/// The processes whose environment has this.
fn processes(mark: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let has = |path: &Path| {
        std::fs::read(path.join("environ"))
            .is_ok_and(|text| text.windows(mark.len()).any(|part| part == mark.as_bytes()))
    };
    all.filter(|path| has(path)).map(|path| path.to_string_lossy().into_owned()).collect()
}

async fn nothing_remains(mark: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !processes(mark).is_empty() {
        assert!(Instant::now() < deadline, "{:?} remain", processes(mark));
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn when_its_time_is_up_all_of_it_is_gone() {
    let mark = "MARK=when-its-time-is-up";
    let text = "trap '' TERM; sleep 60 & (sleep 60; sleep 60) & while :; do sleep 1; done";
    let settings = json!({"command": "/bin/sh", "args": ["-c", text], "env": {"MARK": "when-its-time-is-up"}});
    let looked = tokio::spawn(run(settings, A_MOMENT));
    let deadline = Instant::now() + Duration::from_secs(2);
    while processes(mark).len() < 4 {
        assert!(Instant::now() < deadline, "it does not start: {:?}", processes(mark));
        sleep(Duration::from_millis(5)).await;
    }
    let seen = looked.await.unwrap();
    assert_eq!(blamed(&seen), "No answer within 1000 ms (waiting for the script to end)");
    for (name, value) in json!({"exitCode": -1, "timedOut": true, "success": false}).as_object().unwrap() {
        assert_eq!(&seen.findings[name], value, "{name}");
    }
    nothing_remains(mark).await;
}

#[tokio::test]
async fn what_it_leaves_in_the_background_ends_with_it() {
    let mark = "MARK=left-in-the-background";
    let settings = json!({
        "command": "/bin/sh", "args": ["-c", "sleep 60 & echo done"], "env": {"MARK": "left-in-the-background"},
    });
    let started = Instant::now();
    let seen = run(settings, LONG).await;
    assert_eq!((&seen.trouble, written(&seen)), (&None, "done\n"));
    assert!(started.elapsed() < Duration::from_secs(15));
    nothing_remains(mark).await;
}

#[tokio::test]
async fn one_that_hides_does_not_keep_the_look_waiting() {
    let started = Instant::now();
    let seen = shell("setsid sleep 30 & echo done").await;
    assert_eq!((&seen.trouble, written(&seen)), (&None, "done\n"));
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[test]
fn faults_name_the_setting() {
    for (settings, expected) in [
        (json!({"command": "/bin/true"}), vec![]),
        (json!({"command": "true"}), vec!["command"]),
        (json!({"command": "/bin/true", "cwd": "tmp"}), vec!["cwd"]),
        (json!({"command": "/bin/true", "env": {"A=B": "1"}}), vec!["env.A=B"]),
        (json!({"command": "/bin/true", "secretEnv": {"": "1"}}), vec!["secretEnv."]),
        (json!({"command": "/bin/true", "env": {"A": "1"}, "secretEnv": {"A": "1"}}), vec!["secretEnv.A"]),
        (json!({"command": "/bin/true", "args": ["\0"]}), vec![""]),
    ] {
        assert_eq!(faults("script", &settings), expected, "{settings}");
    }
}
