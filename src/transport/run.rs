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
    must_be_in_time(deadline)?;
    if is_query {
        let done = timeout_at(deadline, AssertUnwindSafe(call).catch_unwind()).await.map_err(|_| Error::Deadline)?;
        return done.map_err(|_| Error::bug("a query panicked"));
    }
    let task = tasks.spawn(call.instrument(tracing::Span::current()));
    let done = timeout_at(deadline, task).await.map_err(|_| Error::Deadline)?;
    done.map_err(|why| Error::bug(format!("a mutation panicked: {why}")))
}

/// Refuses what is too late already.
pub(super) fn must_be_in_time(deadline: Instant) -> Result<()> {
    if Instant::now() < deadline { Ok(()) } else { Err(Error::Deadline) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_nothing_more() {
        let tasks = TaskTracker::new();
        let late = Instant::now() + Duration::from_mins(1);
        for is_query in [true, false] {
            let done = run(is_query, late, &tasks, async { panic!("on purpose") }).await;
            assert!(matches!(done, Err::<(), _>(Error::Internal(_))), "{done:?}");
        }
    }

    #[tokio::test]
    async fn what_is_late_already_does_not_run() {
        let done = run(false, Instant::now(), &TaskTracker::new(), async { panic!("it ran") }).await;
        assert!(matches!(done, Err::<(), _>(Error::Deadline)));
    }

    #[tokio::test]
    async fn a_deadline_ends_a_query_and_lets_a_mutation_finish() {
        let tasks = TaskTracker::new();
        let (finished, query_finishes) = tokio::sync::oneshot::channel::<()>();
        let query = async move {
            tokio::time::sleep(Duration::from_millis(60)).await;
            let _ = finished.send(());
        };
        assert!(matches!(run(true, soon(), &tasks, query).await, Err(Error::Deadline)));
        assert!(query_finishes.await.is_err(), "the query was given up");

        let (finished, mutation_finishes) = tokio::sync::oneshot::channel::<()>();
        let mutation = async move {
            tokio::time::sleep(Duration::from_millis(60)).await;
            let _ = finished.send(());
        };
        assert!(matches!(run(false, soon(), &tasks, mutation).await, Err(Error::Deadline)));
        assert!(mutation_finishes.await.is_ok(), "the mutation went on");
    }
}
