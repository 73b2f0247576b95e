//! One call in JSON that has passed the Gate: out of the reply cache, or prepared, run and kept.

use super::edge::Shared;
use super::reply_cache::{Finished, Form, Freshness, Look, Pledge};
use super::run;
use super::{batch, envelope, events};
use crate::access::gate::Admitted;
use crate::access::once::{Given, Once};
use crate::contract::Method;
use crate::contract::dispatch::Prepared;
use crate::error::{Error, Result};
use crate::json::Value;
use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use std::future::ready;
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
    let admitted = admitted.meant_by(input);
    let method = admitted.method();
    if method.streams {
        return Err(events::by_itself(method));
    }
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
    /// Runs it, unless its answer is there already: then this is as small as it looks. Futures are moved as wholes, and
    /// those that run something are some KiB large, so they stand in a box.
    pub(super) fn run(self, shared: &Shared, deadline: Instant) -> Running<'_> {
        let Self { method, form, state } = self;
        match state {
            State::Kept(answer) => Either::Left(ready(run::must_be_in_time(deadline).map(|()| answer))),
            State::Prepared(prepared, pledge, None) => {
                Either::Right(Box::pin(make(shared, method, deadline, write(prepared, form), pledge)))
            }
            State::Prepared(prepared, _, Some(once)) => {
                Either::Right(Box::pin(make_once(shared, method, deadline, write(prepared, form), once)))
            }
        }
    }
}

/// A call that runs.
pub(super) type Running<'s> = Either<std::future::Ready<Result<Finished>>, BoxFuture<'s, Result<Finished>>>;

async fn write(prepared: Prepared, form: Form) -> Result<Bytes> {
    let made = prepared.run(form == Form::Enveloped).await?;
    let json = match form {
        Form::Enveloped => envelope::write(&made.json, made.meta.as_deref()),
        Form::Named(name) => batch::write([(name, &*made.json)]),
        Form::Plain | Form::Protobuf => made.json,
    };
    // What is kept is counted by its length, so that is what it may take.
    Ok(Bytes::from(json.into_boxed_slice()))
}

async fn make(
    shared: &Shared,
    method: &'static Method,
    deadline: Instant,
    work: impl Future<Output = Result<Bytes>> + Send + 'static,
    pledge: Option<Pledge>,
) -> Result<Finished> {
    let answer = Finished::json(run::run(method.query, deadline, &shared.tasks, work).await??, method.query);
    if let Some(pledge) = pledge {
        shared.replies.keep(pledge, &answer);
    }
    Ok(answer)
}

async fn make_once(
    shared: &Shared,
    method: &'static Method,
    deadline: Instant,
    work: impl Future<Output = Result<Bytes>> + Send + 'static,
    once: Once,
) -> Result<Finished> {
    let Given { body, is_replayed } = run::run(false, deadline, &shared.tasks, once.answer(work)).await??;
    Ok(Finished { is_replayed, ..Finished::json(body, method.query) })
}
