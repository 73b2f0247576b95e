//! Looks that somebody waits for: within the turns of all looks, and at an end before the time of the call is, so that
//! there is always an answer that says what came of it.

use super::plan::{Looked, Plan};
use super::service::Healthchecks;
use crate::access::Call;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What is kept back of the time of a call, to store what came of it and to answer.
const TO_ANSWER: Duration = Duration::from_secs(1);

/// Where nobody has set a time.
const LONGEST: Duration = Duration::from_mins(5);

impl Healthchecks {
    /// Looks for a caller. With the number of an association not while the same is being looked at.
    pub(super) async fn look_for(&self, plan: &Plan, association: Option<i64>, until: Instant) -> Looked {
        let turns = &self.kernel.turns;
        let _going = match association {
            Some(number) => match timeout_at(until, turns.begin(number)).await {
                Ok(going) => Some(going),
                Err(_) => return Looked::not_begun("Not run: the run before was still going on when the time was up"),
            },
            None => None,
        };
        match timeout_at(until, turns.take(plan.host())).await {
            Ok(_turn) => plan.look_until(&self.kernel.net, Some(until)).await,
            Err(_) => Looked::not_begun("Not run: other looks at the same host took until the time was up"),
        }
    }
}

/// When a look for a call ends at the latest.
pub(super) fn until(call: &Call) -> Instant {
    let now = Instant::now();
    let left = call.until.map_or(LONGEST, |until| until.saturating_duration_since(now));
    now + left.saturating_sub(TO_ANSWER.min(left / 4))
}

/// How long a look may take that nobody has set a time for: it is the target's fault if it takes longer, so there is a
/// little more time than that.
pub(super) fn patience(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).mul_f32(0.9)
}
