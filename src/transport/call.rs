//! One call in JSON that has passed the Gate: out of the reply cache, or prepared, run and kept.

use super::edge::Shared;
use super::envelope;
use super::reply_cache::{Finished, Form, Freshness, Look, Pledge};
use super::run;
use crate::access::gate::Admitted;
use crate::access::once::{Given, Once};
use crate::contract::Method;
use crate::contract::dispatch::Prepared;
use crate::error::{Error, Result};
use crate::json::Value;
use bytes::Bytes;
use tokio::time::Instant;

/// A call that is known, permitted and valid.
pub(super) struct Ready {
    /// What is called.
    pub(super) method: &'static Method,
    form: Form,
    state: State,
}

enum State {
    Kept(Finished),
    Prepared(Prepared, Option<Pledge>, Option<Once>),
}

/// Looks for a kept answer; if there is none, decodes and validates.
pub(super) fn prepare(
    shared: &Shared,
    admitted: Admitted,
    input: &Value<'_>,
    form: Form,
    freshness: Freshness,
    once: Option<Once>,
) -> Result<Ready> {
    let method = admitted.method();
    let mut pledge = None;
    if !method.depends_on.is_empty() {
        let text = serde_json::to_vec(input).map_err(|why| Error::bug(format!("an input cannot be written: {why}")))?;
        match shared.replies.look(&admitted, form, text.into(), freshness) {
            // It was valid when its answer was made, and what is valid stays so.
            Look::Hit(answer) => return Ok(Ready { method, form, state: State::Kept(answer) }),
            Look::Miss(given) => pledge = given,
        }
    }
    let admitted = match &once {
        Some(once) => admitted.deferring(once.deferred()),
        None => admitted,
    };
    let prepared = shared.dispatch(method)?.prepare(admitted, input)?;
    Ok(Ready { method, form, state: State::Prepared(prepared, pledge, once) })
}

impl Ready {
    /// Runs it, unless its answer is there already.
    pub(super) async fn run(self, shared: &Shared, deadline: Instant) -> Result<Finished> {
        let Self { method, form, state } = self;
        let (prepared, pledge, once) = match state {
            State::Kept(answer) => {
                run::must_be_in_time(deadline)?;
                return Ok(answer);
            }
            State::Prepared(prepared, pledge, once) => (prepared, pledge, once),
        };
        let work = async move {
            let is_enveloped = form == Form::Enveloped;
            let made = prepared.run(is_enveloped).await?;
            let json = if is_enveloped { envelope::write(&made.json, made.meta.as_deref()) } else { made.json };
            // What is kept is counted by its length, so that is what it may take.
            Ok(Bytes::from(json.into_boxed_slice()))
        };
        let Some(once) = once else {
            let body = run::run(method.query, deadline, &shared.tasks, work).await??;
            let answer = Finished::json(body, method.query);
            if let Some(pledge) = pledge {
                shared.replies.keep(pledge, &answer);
            }
            return Ok(answer);
        };
        let Given { body, is_replayed } = run::run(false, deadline, &shared.tasks, once.answer(work)).await??;
        Ok(Finished { is_replayed, ..Finished::json(body, method.query) })
    }
}
