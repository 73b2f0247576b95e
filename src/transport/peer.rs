//! What is known of each peer, and who has been waited for too long.
//!
//! One task looks at all connections, so none needs timers of its own. hyper has no such limits: it knows when a head
//! is late, but nothing of a peer that does not read, nor of an HTTP/2 connection on which only pings happen.

use super::socket::Protocol;
use super::{Limits, Metrics};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How late a limit may strike. Looking at 4,096 connections takes well under a millisecond.
const LOOK: Duration = Duration::from_millis(250);

/// Who is asked to leave, and has nothing in our hands, has this long for it: a GOAWAY and its answer cross the sea.
const LEAVING: Duration = Duration::from_millis(500);

/// What an HTTP/2 connection may send without any request: a flood of pings or settings. It is twice the window of a
/// connection, as the rest of a body whose request was refused may still be under way.
const QUIET_BYTES_MAX: usize = 2 * 1024 * 1024;

/// All connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Peers(Arc<Inner>);

struct Inner {
    limits: Limits,
    metrics: Metrics,
    numbers: AtomicU64,
    /// Those that are not cut.
    known: Mutex<HashMap<u64, Arc<Peer>>>,
}

/// One connection.
pub(super) struct Peer {
    /// It answers what it has begun, and then ends.
    pub(super) leave: CancellationToken,
    /// It ends now.
    pub(super) cut: CancellationToken,
    numbers: AtomicU64,
    state: Mutex<State>,
}

/// A connection is known for as long as this lives, or until it is cut.
pub(super) struct Known {
    pub(super) peer: Arc<Peer>,
    number: u64,
    peers: Peers,
}

/// A request in our hands, until its answer is handed over whole.
pub(super) struct InHand {
    peer: Arc<Peer>,
    listens: bool,
}

/// What a connection waits for.
struct State {
    in_hand: usize,
    /// Those in our hands whose peers only listen, for as long as they like.
    listening: usize,
    has_called: bool,
    /// Since when there is nothing in our hands.
    quiet_since: Instant,
    /// What has come since then.
    quiet_bytes: usize,
    /// Since when a head of HTTP/1.1 has been on its way.
    head_since: Option<Instant>,
    /// Since when the socket takes no more.
    blocked_since: Option<Instant>,
    /// Pieces of HTTP/2 answers that were handed over, and have not been followed by a next.
    untaken: HashMap<u64, Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Stay,
    Leave,
    Cut,
}

impl Peers {
    pub(super) fn new(limits: Limits, metrics: Metrics) -> Self {
        Self(Arc::new(Inner { limits, metrics, numbers: AtomicU64::default(), known: Mutex::default() }))
    }

    /// A connection that was accepted; `None` if all that there may be are being served.
    pub(super) fn meet(&self, stop: &CancellationToken, cut: &CancellationToken) -> Option<Known> {
        if self.known().len() >= self.0.limits.connections && !self.make_room() {
            self.0.metrics.connections_refused.inc();
            return None;
        }
        let peer = Arc::new(Peer {
            leave: stop.child_token(),
            cut: cut.child_token(),
            numbers: AtomicU64::default(),
            state: Mutex::new(State::new(Instant::now())),
        });
        let number = self.0.numbers.fetch_add(1, Ordering::Relaxed);
        self.known().insert(number, peer.clone());
        self.0.metrics.connections.inc();
        Some(Known { peer, number, peers: self.clone() })
    }

    /// Ends those who exceed their limits, until told to stop.
    pub(super) async fn watch(self, stop: CancellationToken) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let now = Instant::now();
            self.known().retain(|_, peer| {
                let verdict = peer.state().verdict(&self.0.limits, now);
                match verdict {
                    Verdict::Stay => {}
                    Verdict::Leave => peer.leave.cancel(),
                    Verdict::Cut => self.cut(peer),
                }
                verdict != Verdict::Cut
            });
        }
    }

    /// Ends the connection that costs an honest client least: one that never called before one that did, one that
    /// only listens last, and of those the one that has been waited for longest. False if all are being served.
    ///
    /// Refusing the newest instead would let whoever came first keep everybody else out.
    pub(super) fn make_room(&self) -> bool {
        let mut known = self.known();
        let waited = known.iter().filter_map(|(number, peer)| {
            let state = peer.state();
            Some(((state.in_hand > 0, state.has_called, state.waited_since()?), *number))
        });
        let first = waited.min().and_then(|(_, number)| known.remove(&number));
        first.inspect(|peer| self.cut(peer)).is_some()
    }

    fn cut(&self, peer: &Peer) {
        self.0.metrics.connections_cut.inc();
        peer.cut.cancel();
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, Arc<Peer>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.peers.known().remove(&self.number);
        self.peers.0.metrics.connections.dec();
    }
}

impl Peer {
    /// A request was read.
    pub(super) fn begin(self: &Arc<Self>) -> InHand {
        let mut state = self.state();
        (state.in_hand, state.has_called) = (state.in_hand + 1, true);
        (state.head_since, state.quiet_bytes) = (None, 0);
        InHand { peer: self.clone(), listens: false }
    }

    /// So many bytes have come. What comes over HTTP/1.1 while no request is being answered is a head.
    pub(super) fn reads(&self, protocol: Protocol, bytes: usize) {
        let mut state = self.state();
        if state.in_hand > 0 {
            return;
        }
        state.quiet_bytes += bytes;
        match protocol {
            Protocol::Http1 => drop(state.head_since.get_or_insert_with(Instant::now)),
            Protocol::Http2 if state.quiet_bytes > QUIET_BYTES_MAX => self.cut.cancel(),
            Protocol::Http2 => {}
        }
    }

    /// Whether the socket took what was written. Over HTTP/1.1 the rest of an answer is written when nothing is in our
    /// hands any more: who takes it is not quiet.
    pub(super) fn writes(&self, protocol: Protocol, taken: bool) {
        let mut state = self.state();
        if taken {
            state.blocked_since = None;
            if state.in_hand == 0 && protocol == Protocol::Http1 {
                state.quiet_since = Instant::now();
            }
        } else {
            state.blocked_since.get_or_insert_with(Instant::now);
        }
    }

    /// Whether something that was written is still unsent.
    pub(super) fn is_blocked(&self) -> bool {
        self.state().blocked_since.is_some()
    }

    /// The number of an answer.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A piece of an answer was handed over.
    pub(super) fn hands(&self, answer: u64) {
        self.state().untaken.insert(answer, Instant::now());
    }

    /// The piece was taken: the next one is asked for, or the answer is at its end.
    pub(super) fn takes(&self, answer: u64) {
        self.state().untaken.remove(&answer);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InHand {
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Its peer only listens from now on. Strangers may do so, so it makes room when nobody else does.
    pub(super) fn listens(mut self) -> Self {
        let mut state = self.peer.state();
        state.listening += 1;
        state.quiet_since = Instant::now();
        drop(state);
        self.listens = true;
        self
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut state = self.peer.state();
        state.in_hand -= 1;
        state.listening -= usize::from(self.listens);
        if state.in_hand == 0 {
            state.quiet_since = Instant::now();
        }
    }
}

impl State {
    fn new(now: Instant) -> Self {
        Self {
            in_hand: 0,
            listening: 0,
            has_called: false,
            quiet_since: now,
            quiet_bytes: 0,
            head_since: None,
            blocked_since: None,
            untaken: HashMap::new(),
        }
    }

    fn verdict(&self, limits: &Limits, now: Instant) -> Verdict {
        let is_over = |since: Option<Instant>, limit: Duration| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= limit)
        };
        if is_over(self.unread_since(), Duration::from_secs(limits.unread_s)) {
            return Verdict::Cut;
        }
        if self.in_hand > 0 {
            return Verdict::Stay;
        }
        let (head, idle) = (Duration::from_secs(limits.header_s), Duration::from_secs(limits.idle_s));
        let quiet_since = Some(self.quiet_since);
        if is_over(self.head_since, head) || is_over(quiet_since, idle + LEAVING) {
            return Verdict::Cut;
        }
        if is_over(quiet_since, idle) { Verdict::Leave } else { Verdict::Stay }
    }

    fn unread_since(&self) -> Option<Instant> {
        self.untaken.values().copied().chain(self.blocked_since).min()
    }

    /// Since when the peer has been waited for; `None` if the peer waits for us.
    fn waited_since(&self) -> Option<Instant> {
        let quiet = (self.in_hand == self.listening).then_some(self.quiet_since);
        self.unread_since().into_iter().chain(quiet).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64, change: impl FnOnce(&mut State, Instant)) -> Verdict {
        let start = Instant::now();
        let mut state = State::new(start);
        change(&mut state, start);
        state.verdict(&Limits::default(), start + Duration::from_secs(seconds))
    }

    #[test]
    fn who_is_quiet_is_asked_to_leave_and_then_made_to() {
        assert_eq!(after(59, |_, _| {}), Verdict::Stay);
        assert_eq!(after(60, |_, _| {}), Verdict::Leave);
        assert_eq!(after(61, |_, _| {}), Verdict::Cut);
        assert_eq!(after(1_000, |state, _| state.in_hand = 1), Verdict::Stay);
    }

    #[test]
    fn a_head_has_less_time_than_silence() {
        assert_eq!(after(9, |state, start| state.head_since = Some(start)), Verdict::Stay);
        assert_eq!(after(10, |state, start| state.head_since = Some(start)), Verdict::Cut);
    }

    #[test]
    fn who_does_not_read_is_cut_also_with_requests_in_hand() {
        let blocked = |state: &mut State, start| (state.in_hand, state.blocked_since) = (1, Some(start));
        assert_eq!((after(29, blocked), after(30, blocked)), (Verdict::Stay, Verdict::Cut));
        let stalled = |state: &mut State, start: Instant| {
            state.in_hand = 2;
            state.untaken.extend([(1, start), (2, start + Duration::from_secs(20))]);
        };
        assert_eq!((after(29, stalled), after(30, stalled)), (Verdict::Stay, Verdict::Cut));
    }

    #[test]
    fn who_talks_without_asking_for_anything_is_cut() {
        let peers = Peers::new(Limits::default(), Metrics::default());
        let known = peers.meet(&CancellationToken::new(), &CancellationToken::new()).unwrap();
        for _ in 0..3 {
            known.peer.reads(Protocol::Http2, QUIET_BYTES_MAX);
            drop(known.peer.begin());
        }
        assert!(!known.peer.cut.is_cancelled());
        known.peer.reads(Protocol::Http2, QUIET_BYTES_MAX);
        known.peer.reads(Protocol::Http2, 1);
        assert!(known.peer.cut.is_cancelled());
    }

    #[test]
    fn who_takes_the_rest_of_an_answer_is_not_quiet() {
        let peers = Peers::new(Limits::default(), Metrics::default());
        let known = peers.meet(&CancellationToken::new(), &CancellationToken::new()).unwrap();
        drop(known.peer.begin());
        let since = |known: &Known| known.peer.state().quiet_since;
        let before = since(&known);
        known.peer.writes(Protocol::Http2, true);
        assert_eq!(since(&known), before, "an answer to a ping");
        known.peer.writes(Protocol::Http1, true);
        assert!(since(&known) > before);
    }

    #[test]
    fn strangers_make_room_before_clients_and_who_is_served_never_does() {
        let peers = Peers::new(Limits::default(), Metrics::default());
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        let [served, listener, client, first, second] = std::array::from_fn(|_| peers.meet(&stop, &cut).unwrap());
        let _request = served.peer.begin();
        let _stream = listener.peer.begin().listens();
        drop(client.peer.begin());
        for next in [first, second, client, listener] {
            assert!(!next.peer.cut.is_cancelled() && peers.make_room() && next.peer.cut.is_cancelled());
        }
        assert!(!peers.make_room() && !served.peer.cut.is_cancelled());
    }
}
