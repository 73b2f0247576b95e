//! One writer for all runs: they are stored in batches, each a transaction. A run that cannot be stored takes no other with
//! it, and while the database is away all of them wait.

use super::figures::Figures;
use super::lease::Share;
use crate::error::{Error, Result};
use crate::plugin::Kernel;
use crate::plugin::healthcheck::{Finished, record};
use crate::world::Clock;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// A batch is stored after this, or when it is full: a transaction costs a write to the disk, whatever is in it.
const COLLECTS_FOR: Duration = Duration::from_millis(200);
const BATCH_MAX: usize = 1_000;

/// When the database is away.
const AGAIN: Duration = Duration::from_millis(500);

/// Where runs go.
pub(super) trait Storing: Send + Sync + 'static {
    /// Stores all of them, or none.
    fn store(&self, runs: Vec<Finished>) -> impl Future<Output = Result<()>> + Send;
}

/// Into the database.
pub(super) struct Recorder {
    pub(super) kernel: Kernel,
    pub(super) clock: Clock,
    pub(super) share: Share,
}

impl Storing for Recorder {
    async fn store(&self, runs: Vec<Finished>) -> Result<()> {
        record(&self.kernel, runs, self.share.me(), self.clock.now()).await?;
        Ok(())
    }
}

/// Stores what comes until nobody sends any more. When it is `late`, what could not be stored until then is left out.
pub(super) async fn store(
    storing: impl Storing,
    figures: Figures,
    late: CancellationToken,
    mut finished: mpsc::Receiver<Finished>,
) {
    while let Some(first) = finished.recv().await {
        let mut batch = vec![first];
        let until = Instant::now() + COLLECTS_FOR;
        while batch.len() < BATCH_MAX {
            match timeout_at(until, finished.recv()).await {
                Ok(Some(next)) => batch.push(next),
                Ok(None) | Err(_) => break,
            }
        }
        figures.waiting.set(i64::try_from(batch.len() + finished.len()).unwrap_or(i64::MAX));
        store_all(&storing, batch, &figures, &late).await;
        figures.waiting.set(i64::try_from(finished.len()).unwrap_or(i64::MAX));
    }
}

/// Stores a batch, in smaller and smaller parts as long as something in it cannot be stored.
async fn store_all(storing: &impl Storing, batch: Vec<Finished>, figures: &Figures, late: &CancellationToken) {
    let mut parts = vec![batch];
    while let Some(mut part) = parts.pop() {
        let Err(why) = when_it_answers(storing, &part, late).await else { continue };
        if part.len() > 1 && !late.is_cancelled() {
            // The older ones first: a status follows from runs in their order.
            let newer = part.split_off(part.len() / 2);
            parts.extend([newer, part]);
            continue;
        }
        let associations: Vec<_> = part.iter().map(|run| run.association).take(10).collect();
        tracing::error!(cause = ?why, runs = part.len(), ?associations, "runs could not be stored");
        figures.lost.inc_by(u64::try_from(part.len()).unwrap_or(u64::MAX));
    }
}

/// Stores runs, again and again while the database is away.
async fn when_it_answers(storing: &impl Storing, part: &[Finished], late: &CancellationToken) -> Result<()> {
    loop {
        match late.run_until_cancelled(storing.store(part.to_vec())).await {
            Some(Err(Error::Unavailable(why))) => {
                tracing::warn!(why, runs = part.len(), "runs could not be stored; trying again");
                late.run_until_cancelled(sleep(AGAIN)).await;
            }
            Some(done) => return done,
            None => return Err(Error::Unavailable("The server ends, and the database is away")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Timestamp;
    use crate::plugin::healthcheck::domain::{Health, RunKind};
    use std::sync::{Arc, Mutex};

    /// Refuses whatever has one of these in it, and notes the rest.
    struct Fussy {
        poison: Vec<i64>,
        is_away: bool,
        stored: Arc<Mutex<Vec<i64>>>,
    }

    impl Storing for Fussy {
        async fn store(&self, runs: Vec<Finished>) -> Result<()> {
            if self.is_away {
                return Err(Error::Unavailable("away"));
            }
            if runs.iter().any(|run| self.poison.contains(&run.association)) {
                return Err(Error::bug("a poisoned run"));
            }
            self.stored.lock().unwrap().extend(runs.iter().map(|run| run.association));
            Ok(())
        }
    }

    fn run(association: i64) -> Finished {
        Finished {
            association,
            scheduled_at: Timestamp(association),
            kind: RunKind::Scheduled,
            verdict: Health::Healthy,
            latency_us: None,
            detail: None,
            lease: None,
        }
    }

    #[tokio::test]
    async fn what_cannot_be_stored_takes_nothing_else_with_it() {
        let (stored, figures) = (Arc::default(), Figures::default());
        let fussy = Fussy { poison: vec![0, 333, 334, 999], is_away: false, stored: Arc::clone(&stored) };
        let (done, finished) = mpsc::channel(1_000);
        for number in 0..1_000 {
            done.send(run(number)).await.unwrap();
        }
        drop(done);
        store(fussy, figures.clone(), CancellationToken::new(), finished).await;
        let expected: Vec<_> = (0..1_000).filter(|number| ![0, 333, 334, 999].contains(number)).collect();
        assert_eq!((&*stored.lock().unwrap(), figures.lost.get()), (&expected, 4), "in their order");
    }

    #[tokio::test]
    async fn the_end_does_not_wait_for_a_database_that_is_away_however_many_runs_wait() {
        const WAITING: i64 = 2_000;
        let (figures, late) = (Figures::default(), CancellationToken::new());
        let away = Fussy { poison: vec![], is_away: true, stored: Arc::default() };
        let (done, finished) = mpsc::channel(500);
        let writing = tokio::spawn(store(away, figures.clone(), late.clone(), finished));
        let sending = tokio::spawn(async move {
            for number in 0..WAITING {
                done.send(run(number)).await.unwrap();
            }
        });
        sleep(AGAIN + COLLECTS_FOR).await;
        assert!(!sending.is_finished(), "the rest waits with its turn");
        let began = Instant::now();
        late.cancel();
        sending.await.unwrap();
        writing.await.unwrap();
        assert_eq!(figures.lost.get(), u64::try_from(WAITING).unwrap());
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}
