//! Running a call: its deadline, its panics, and what a caller who goes away cancels.

use crate::error::{Error, Result};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Runs a query in place, so that it ends when its caller goes away; runs anything else as a task of its own, so that
/// nothing is left half done.
pub(super) async fn run<T: Send + 'static>(
    is_query: bool,
    deadline: Instant,
    tasks: &TaskTracker,
    call: impl Future<Output = T> + Send + 'static,
) -> Result<T> {
    // A future is polled before its timer: what is too late already must not win by being quick.
    if Instant::now() >= deadline {
        return Err(Error::Deadline);
    }
    if is_query {
        let done = timeout_at(deadline, AssertUnwindSafe(call).catch_unwind()).await.map_err(|_| Error::Deadline)?;
        return done.map_err(|_| Error::bug("a query panicked"));
    }
    let task = tasks.spawn(call.instrument(tracing::Span::current()));
    let done = timeout_at(deadline, task).await.map_err(|_| Error::Deadline)?;
    done.map_err(|why| Error::bug(format!("a mutation panicked: {why}")))
}
