//! How a check is carried out: one look with its repetitions, what it found, and the verdict.

use super::domain::Health;
use super::mask::Mask;
use super::vault::Secrets;
use crate::contract::issue::{Issues, Path};
use crate::probe::assertion::{self, Assertion, Judged, Ready};
use crate::probe::{Fault, Kind, Net, Prepared, Seen, Trouble};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What is needed to look, in memory.
pub struct Plan {
    kind: &'static Kind,
    prepared: Arc<dyn Prepared>,
    assertions: Vec<Assertion>,
    /// The same, ready to judge.
    ready: Vec<Ready>,
    mask: Mask,
    pace: Pace,
}

/// How patient a look is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long it may take.
    pub timeout: Duration,
    /// How often it is repeated if it failed.
    pub retries: u32,
    /// How long before the first repetition; each further one waits twice as long.
    pub backoff: Duration,
    /// A good one that takes longer is degraded.
    pub degraded_above: Option<Duration>,
    /// Repetitions end within this: then the next run is due. The first look has its whole time all the same.
    pub within: Duration,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The verdict.
    pub verdict: Health,
    /// Why, if it is not healthy.
    pub message: Option<String>,
    /// How long the last look took.
    pub latency: Duration,
    /// What was found.
    pub findings: Map<String, Value>,
    /// What each assertion saw.
    pub judged: Vec<(Assertion, Judged)>,
    /// How many looks it took.
    pub attempts: u32,
}

impl Looked {
    /// It did not come to a look.
    pub(super) fn not_begun(why: &str) -> Self {
        Self {
            verdict: Health::Unknown,
            message: Some(why.to_owned()),
            latency: Duration::ZERO,
            findings: Map::new(),
            judged: vec![],
            attempts: 0,
        }
    }

    /// It failed, but the check would have gone on where the call could not wait.
    fn undecided(self) -> Self {
        let last = self.message.unwrap_or_default();
        let why =
            format!("Not decided, for the time of the call was up before that of the check. The last look: {last}");
        Self { verdict: Health::Unknown, message: Some(why), ..self }
    }
}

impl Plan {
    /// Makes a plan from whole settings, or says what is wrong with them, with where in the input.
    pub fn new(
        kind: &'static Kind,
        settings: &Value,
        secrets: &Secrets,
        mut assertions: Vec<Assertion>,
        pace: Pace,
    ) -> Result<Self, Vec<Fault>> {
        // Tens of thousands of plans are held for as long as the server runs: none of them has room to spare.
        assertions.shrink_to_fit();
        let below = |fault: Fault| Fault { path: join("config", &fault.path), message: fault.message };
        let prepared = (kind.prepare)(settings);
        let (mut ready, mut faults) = (Vec::with_capacity(assertions.len()), vec![]);
        for (index, one) in assertions.iter().enumerate() {
            let of_this = |fault: Fault| Fault { path: join(&format!("assertions[{index}]"), &fault.path), ..fault };
            match one.prepare(&kind.schemas().findings) {
                Ok(one) => ready.push(one),
                Err(wrong) => faults.extend(wrong.into_iter().map(of_this)),
            }
        }
        match prepared {
            Ok(prepared) if faults.is_empty() => {
                Ok(Self { kind, prepared, assertions, ready, mask: Mask::of(settings, secrets), pace })
            }
            Ok(_) => Err(faults),
            Err(of_settings) => {
                faults.extend(of_settings.into_iter().map(below));
                Err(faults)
            }
        }
    }

    /// Whom it asks: looks at one host are bounded.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        self.prepared.host()
    }

    /// The kind of check.
    #[must_use]
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// Looks, again if it failed and is to be repeated.
    pub async fn look(&self, net: &Net) -> Looked {
        self.look_until(net, None).await
    }

    /// The same, at an end by then: somebody waits for it. What the check itself would have had more time for is not
    /// decided.
    pub async fn look_until(&self, net: &Net, until: Option<Instant>) -> Looked {
        /// The shortest that the contract allows: less is not worth a look.
        const LEAST: Duration = Duration::from_millis(100);
        let within = Instant::now() + self.pace.within.max(self.pace.timeout);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let started = Instant::now();
            let most = self.pace.timeout.min(within.saturating_duration_since(started).max(LEAST));
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(started));
            let patience = most.min(left);
            let looked = self.judge(self.prepared.look(&net.again(), patience).await, attempts);
            if matches!(looked.verdict, Health::Healthy | Health::Degraded) {
                return looked;
            }
            if patience < most && started.elapsed() >= patience {
                return looked.undecided();
            }
            let pause = self.pace.backoff.saturating_mul(1 << (attempts - 1).min(16));
            if attempts > self.pace.retries || Instant::now() + pause + LEAST > within {
                return looked;
            }
            if until.is_some_and(|until| until.saturating_duration_since(Instant::now()) <= pause) {
                return looked.undecided();
            }
            sleep(pause).await;
        }
    }

    fn judge(&self, seen: Seen, attempts: u32) -> Looked {
        let Seen { mut findings, trouble, latency } = seen;
        // An assertion about what could not be found says nothing.
        let could_look = !matches!(trouble, Some(Trouble::Ours(_)));
        let judged: Vec<_> = if could_look {
            self.assertions.iter().cloned().zip(assertion::judge(&self.ready, &findings)).collect()
        } else {
            vec![]
        };
        let failed = judged.iter().find(|(_, judged)| !judged.passed);
        let failed = failed.map(|(assertion, judged)| explained(assertion, judged));
        let slow = self.pace.degraded_above.filter(|most| latency > *most);
        let (verdict, message) = match (trouble, failed, slow) {
            (Some(Trouble::Ours(why)), ..) => (Health::Unknown, Some(why)),
            (Some(Trouble::Target(why)), ..) | (_, Some(why), _) => (Health::Unhealthy, Some(why)),
            (Some(Trouble::Degraded(why)), ..) => (Health::Degraded, Some(why)),
            (None, None, Some(most)) => {
                let (took, most) = (latency.as_millis(), most.as_millis());
                (Health::Degraded, Some(format!("It took {took} ms, more than {most} ms")))
            }
            (None, None, None) => (Health::Healthy, None),
        };
        let message = message.map(|text| self.mask.text(text));
        self.mask.object(&mut findings);
        let judged = judged.into_iter().map(|(assertion, mut judged): (Assertion, Judged)| {
            judged.actual.iter_mut().for_each(|actual| self.mask.value(actual));
            judged.message = judged.message.map(|text| self.mask.text(text));
            (assertion, judged)
        });
        Looked { verdict, message, latency, judged: judged.collect(), findings, attempts }
    }

    /// What a run keeps, as JSON: without what is never stored, and at most 4 KiB.
    #[must_use]
    pub fn detail(&self, looked: &Looked) -> String {
        let ephemeral = &self.kind.schemas().ephemeral;
        let is_kept = |field: &String| !ephemeral.contains(field);
        let kept = |findings: &Map<String, Value>| -> Map<String, Value> {
            let fields = findings.iter().filter(|(field, _)| is_kept(field));
            fields.map(|(field, value)| (field.clone(), value.clone())).collect()
        };
        let hidden: Vec<_> = self.ready.iter().map(Ready::is_ephemeral).collect();
        detail(looked, kept(&looked.findings), &hidden)
    }
}

/// The most bytes of what a run keeps.
const DETAIL_BYTES_MAX: usize = 4_096;

fn detail(looked: &Looked, mut findings: Map<String, Value>, hidden: &[bool]) -> String {
    let judged = |with_values: bool| -> Vec<Value> {
        let one = |((assertion, judged), hidden): (&(Assertion, Judged), &bool)| {
            let mut shown = serde_json::to_value(assertion).unwrap_or_default();
            if let Value::Object(shown) = &mut shown {
                shown.insert("passed".into(), judged.passed.into());
                if with_values && !hidden {
                    shown.insert("actual".into(), judged.actual.clone().unwrap_or(Value::Null));
                }
            }
            shown
        };
        looked.judged.iter().zip(hidden).map(one).collect()
    };
    let whole = |findings: &Map<String, Value>, assertions: Vec<Value>| {
        json!({
            "status": looked.verdict.word(),
            "latencyMs": millis(looked.latency),
            "message": looked.message,
            "metadata": findings,
            "assertions": assertions,
            "attempts": looked.attempts,
        })
        .to_string()
    };
    let text = whole(&findings, judged(true));
    if text.len() <= DETAIL_BYTES_MAX {
        return text;
    }
    // The numbers are short, and what charts are made of.
    findings.retain(|_, value| matches!(value, Value::Number(_) | Value::Bool(_)));
    findings.insert("truncated".into(), true.into());
    let text = whole(&findings, judged(false));
    if text.len() <= DETAIL_BYTES_MAX { text } else { whole(&findings, vec![]) }
}

/// Why an assertion does not hold, with the words in front that existing clients know.
fn explained(assertion: &Assertion, judged: &Judged) -> String {
    let said = || format!("{} {}", assertion.field, assertion.operator.as_str());
    format!("Assertion failed: {}", judged.message.clone().unwrap_or_else(said))
}

/// Milliseconds with three places.
#[must_use]
pub fn millis(time: Duration) -> f64 {
    let (seconds, micros) = (time.as_secs(), time.subsec_micros());
    let whole = seconds.saturating_mul(1_000_000).saturating_add(u64::from(micros));
    #[expect(clippy::cast_precision_loss, reason = "exact up to 285 years")]
    let micros = whole as f64;
    micros / 1_000.0
}

/// Faults as violations of an input, below a place in it.
#[must_use]
pub(super) fn issues(faults: Vec<Fault>, below: &str) -> Issues {
    let mut issues = Issues::default();
    for fault in faults {
        let mut path = Path::default();
        let whole = join(below, &fault.path);
        for step in whole.split('.').flat_map(|step| step.split_inclusive('[')) {
            match step.trim_end_matches('[').strip_suffix(']').map(str::parse) {
                Some(Ok(index)) => path.push_index(index),
                _ if step.trim_end_matches('[').is_empty() => {}
                _ => path.push_key(step.trim_end_matches('[')),
            }
        }
        issues.add(&path, fault.message);
    }
    issues
}

fn join(above: &str, below: &str) -> String {
    match (above.is_empty(), below.is_empty()) {
        (true, _) => below.to_owned(),
        (_, true) => above.to_owned(),
        _ => format!("{above}.{below}"),
    }
}
