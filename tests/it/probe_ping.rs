//! The `ping` probe on loopback, and where nobody answers. Where the system forbids pings, it has to say so.

use crate::probe_tls::{faults, look};
use checkmate::probe::{Seen, Trouble};
use serde_json::{Value, json};

/// Whether this system permits pings; if not, that is what the probe has to say.
fn is_permitted(seen: &Seen) -> bool {
    let Some(Trouble::Ours(why)) = &seen.trouble else { return true };
    assert!(why.contains("net.ipv4.ping_group_range"), "{why}");
    false
}

#[tokio::test]
async fn loopback_answers_every_packet() {
    for host in ["127.0.0.1", "localhost", "::1"] {
        let settings = json!({ "host": host, "count": 2, "intervalMs": 100, "payloadBytes": 1400 });
        let seen = look("ping", &settings).await;
        if matches!(&seen.trouble, Some(Trouble::Ours(why)) if host == "::1" && why.contains("could not be pinged")) {
            // A machine without IPv6.
            continue;
        }
        if !is_permitted(&seen) {
            return;
        }
        assert_eq!(seen.trouble, None, "{host}");
        let found = &seen.findings;
        assert_eq!((&found["packetsSent"], &found["packetsReceived"]), (&json!(2), &json!(2)));
        assert_eq!(found["packetLoss"].as_f64(), Some(0.0));
        let of = |field: &str| found[field].as_f64().unwrap();
        assert!(of("minLatency") <= of("avgLatency") && of("avgLatency") <= of("maxLatency"), "{found:?}");
        assert!((seen.latency.as_secs_f64() * 1_000.0 - of("avgLatency")).abs() < 0.01, "the latency is the mean");
    }
}

#[tokio::test]
async fn who_answers_nothing_is_down() {
    // TEST-NET-2 is nobody's (RFC 5737).
    let settings = json!({ "host": "198.51.100.1", "count": 2, "intervalMs": 100, "packetTimeoutMs": 50 });
    let seen = look("ping", &settings).await;
    match &seen.trouble {
        Some(Trouble::Target(why)) => {
            assert_eq!(why, "198.51.100.1 answered none of 2 packets");
            assert_eq!(seen.findings["packetLoss"].as_f64(), Some(100.0));
        }
        // A machine without a way out, or one that forbids pings.
        Some(Trouble::Ours(why)) => assert!(why.contains("could not be pinged") || why.contains("ping_group"), "{why}"),
        // A network that answers for everybody; what is lost is judged beside the rule.
        None => assert_eq!(seen.findings["packetsReceived"], 2),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_address_of_the_other_version_is_not_asked() {
    let seen = look("ping", &json!({ "host": "127.0.0.1", "ipVersion": "6" })).await;
    assert_eq!(seen.trouble, Some(Trouble::Target("127.0.0.1 has no address of IPv6".into())));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (path, value) in [
        ("host", json!("")),
        ("count", json!(0)),
        ("count", json!(11)),
        ("intervalMs", json!(99)),
        ("packetTimeoutMs", json!(0)),
        ("payloadBytes", json!(1_401)),
        ("ipVersion", json!("5")),
        ("maxPacketLossPercent", json!(101)),
        ("maxPacketLossPercent", json!(-1)),
    ] {
        let mut settings: Value = json!({ "host": "127.0.0.1" });
        settings[path] = value;
        assert_eq!(faults("ping", &settings), [path], "{settings}");
    }
}
