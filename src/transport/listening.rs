//! Those who listen to changes: how many there may be, and for how long each may go on.
//!
//! A stream is let in once and lives for hours, so its caller is judged again before each message, and, as there may be
//! none for long, all of them by one task.

use super::credential::Peer;
use super::{Limits, Metrics, deadline};
use crate::access::{Admitted, ApplicationId, Caller, Gate, Identity, Network};
use crate::contract::Method;
use crate::error::{Error, Result};
use bytes::Bytes;
use http::HeaderMap;
use http::request::Parts;
use http_body::{Frame, SizeHint};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, Sleep, interval, sleep};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Half of the 100 ms in which a change of access is to be felt everywhere. A look costs about a microsecond each.
const LOOK: Duration = Duration::from_millis(50);

/// A place is free when somebody stops listening; nobody knows when.
const RETRY_AFTER_S: u64 = 10;

const STOPPING: Error = Error::Unavailable("The server stops");

/// All who listen. Cheap to clone.
#[derive(Clone)]
pub struct Listeners(Arc<Inner>);

struct Inner {
    gate: Gate,
    most: usize,
    most_each: usize,
    metrics: Metrics,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    next: u64,
    streams: HashMap<u64, Stream>,
    /// How many each has.
    of: HashMap<Who, usize>,
    has_stopped: bool,
}

struct Stream {
    caller: Arc<Caller>,
    method: &'static Method,
    end: oneshot::Sender<Error>,
}

/// For whom streams are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Application(ApplicationId),
    Network(Network),
}

/// Somebody who listens, for as long as this lives.
pub(super) struct Listening {
    of: Listeners,
    number: u64,
    who: Who,
    caller: Arc<Caller>,
    method: &'static Method,
    end: oneshot::Receiver<Error>,
    /// What its caller asked for; nobody else sets a stream an end.
    asked: Option<Duration>,
    until: Option<Pin<Box<Sleep>>>,
}

impl Listeners {
    /// Nobody listens yet.
    #[must_use]
    pub fn new(gate: Gate, limits: &Limits, metrics: Metrics) -> Self {
        let (most, most_each) = (limits.listeners, limits.listeners_each);
        Self(Arc::new(Inner { gate, most, most_each, metrics, known: Mutex::default() }))
    }

    /// Lets somebody listen, unless there are too many.
    pub(super) fn admit(&self, admitted: &Admitted, head: &Parts) -> Result<Listening> {
        let Peer(peer) = head.extensions.get().ok_or_else(|| Error::bug("a request from nowhere"))?;
        let asked = deadline::asked(&head.headers)?;
        let (caller, method) = (admitted.caller(), admitted.method());
        let who = match &caller.identity {
            Identity::Application { id, .. } => Who::Application(*id),
            Identity::Anonymous | Identity::Server(_) => Who::Network(Network::of(*peer)),
        };
        let (sender, end) = oneshot::channel();
        let mut known = self.known();
        if known.has_stopped {
            return Err(STOPPING);
        }
        if known.of.get(&who).is_some_and(|count| *count >= self.0.most_each) {
            return Err(Error::TooMany { retry_after_s: RETRY_AFTER_S });
        }
        if known.streams.len() >= self.0.most {
            return Err(Error::Unavailable("Too many are listening"));
        }
        let number = known.next;
        known.next += 1;
        *known.of.entry(who).or_default() += 1;
        known.streams.insert(number, Stream { caller: caller.clone(), method, end: sender });
        drop(known);
        self.0.metrics.listeners.inc();
        Ok(Listening { of: self.clone(), number, who, caller, method, end, asked, until: None })
    }

    /// Ends those who may not listen any more, and all when the server stops.
    pub(super) async fn judge(self, stopping: CancellationToken, cut: CancellationToken) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => self.end_some(),
                () = stopping.cancelled() => break,
                () = cut.cancelled() => break,
            }
        }
        let mut known = self.known();
        known.has_stopped = true;
        for (_, stream) in known.streams.drain() {
            // It may have ended by itself.
            let _ = stream.end.send(STOPPING);
        }
    }

    fn end_some(&self) {
        let mut known = self.known();
        let judged = known.streams.iter().map(|(number, stream)| (*number, self.may(&stream.caller, stream.method)));
        let ended: Vec<_> = judged.filter_map(|(number, may)| Some((number, may.err()?))).collect();
        for (number, why) in ended {
            if let Some(stream) = known.streams.remove(&number) {
                // It may have ended by itself.
                let _ = stream.end.send(why);
            }
        }
    }

    fn may(&self, caller: &Arc<Caller>, method: &'static Method) -> Result<()> {
        self.0.gate.admit(method, &self.0.gate.renew(caller)?)?;
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listening {
    /// From now on it has the time that its caller asked for.
    pub(super) fn begins(&mut self) {
        self.until = self.asked.map(|asked| Box::pin(sleep(asked)));
    }

    /// Refuses the next message when its caller may not listen any more.
    pub(super) fn may_go_on(&self) -> Result<()> {
        self.of.may(&self.caller, self.method)
    }

    /// Waits until it has to end, and says why.
    pub(super) async fn ends(&mut self) -> Error {
        poll_fn(|context| self.poll_end(context)).await
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        if let Poll::Ready(why) = Pin::new(&mut self.end).poll(context) {
            return Poll::Ready(why.unwrap_or(STOPPING));
        }
        let Some(until) = &mut self.until else { return Poll::Pending };
        ready!(until.as_mut().poll(context));
        Poll::Ready(Error::Deadline)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut known = self.of.known();
        known.streams.remove(&self.number);
        if let Some(count) = known.of.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                known.of.remove(&self.who);
            }
        }
        drop(known);
        self.of.0.metrics.listeners.dec();
    }
}

/// The body of a stream in gRPC.
pub(super) struct Followed {
    body: tonic::body::Body,
    /// None: it has ended.
    listening: Option<Listening>,
}

impl Followed {
    pub(super) fn new(body: tonic::body::Body, listening: Listening) -> Self {
        Self { body, listening: Some(listening) }
    }

    fn end(&mut self, why: Error) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.listening = None;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(Status::from(why).add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(listening) = &mut self.listening else { return Poll::Ready(None) };
        if let Poll::Ready(why) = listening.poll_end(context) {
            return self.end(why);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let is_message = frame.as_ref().is_some_and(|frame| frame.as_ref().is_ok_and(Frame::is_data));
        if is_message {
            let may = self.listening.as_ref().map_or(Ok(()), Listening::may_go_on);
            if let Err(why) = may {
                return self.end(why);
            }
        } else {
            self.listening = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.listening.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
