//! The positions up to which views have applied the log. Each view publishes its position here. Sources and the API
//! read it to wait until an event is visible and to show the lag, and so need not know the views.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, RwLock};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::limits::WAIT_PAUSED_DURATION_MAX;
use crate::{Millis, PositionState, SkippedEvents};

/// The state of one view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Everything below this position is applied. 0 until the position is known.
    pub position: u64,
    /// False until the store has told the position.
    pub known: bool,
    /// The reason why the view does not continue, as a message for the operator.
    pub stalled: Option<Stalled>,
}

impl Applied {
    /// Returns the state of a view that runs, and has applied everything below `position`.
    pub fn at(position: u64) -> Self {
        Self { position, known: true, stalled: None }
    }

    /// Sets the position, and leaves the reason why the view does not continue.
    pub fn set_position(&mut self, position: u64) {
        (self.position, self.known) = (position, true);
    }

    /// Returns whether a person has to act.
    pub fn is_paused(&self) -> bool {
        matches!(self.stalled, Some(Stalled::Paused(_)))
    }

    /// Returns the position, or `None` until the store has told it.
    pub fn position_if_known(&self) -> Option<u64> {
        self.known.then_some(self.position)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stalled {
    /// The store does not answer or is busy. The view tries again until it succeeds.
    Waiting(String),
    /// A person has to act: a table or a permission is missing, or a column is too narrow.
    Paused(String),
}

/// The states of all views of this node, by name.
#[derive(Clone, Default)]
pub struct Progress {
    views: Arc<RwLock<BTreeMap<String, Entry>>>,
    /// When the first event was received that a view has not applied, for each view that is behind.
    oldest: Arc<RwLock<BTreeMap<String, Millis>>>,
    skipped: SkippedEvents,
}

/// The entry of dedup, which only dedup may write.
pub struct DedupProgress {
    pub applied: watch::Sender<Applied>,
    pub skipped: SkippedEvents,
}

struct Entry {
    /// The stream that the view applies. Dedup, which processes all streams, has `None`.
    stream: Option<String>,
    applied: watch::Sender<Applied>,
}

impl Progress {
    /// Adds a view and returns its entry, which only the view's runner may write.
    pub fn register(&self, view: &str, stream: &str) -> watch::Sender<Applied> {
        self.add(view, Some(stream))
    }

    /// Adds the entry of dedup, which is shown as `name` beside the views.
    pub fn register_dedup(&self, name: &str) -> DedupProgress {
        DedupProgress { applied: self.add(name, None), skipped: self.skipped.clone() }
    }

    /// Returns the events that dedup skipped since the start.
    pub fn skipped(&self) -> &SkippedEvents {
        &self.skipped
    }

    fn add(&self, view: &str, stream: Option<&str>) -> watch::Sender<Applied> {
        let (sender, _) = watch::channel(Applied::default());
        let entry = Entry { stream: stream.map(str::to_owned), applied: sender.clone() };
        crate::write_lock(&self.views).insert(view.to_owned(), entry);
        sender
    }

    pub fn all(&self) -> BTreeMap<String, Applied> {
        self.snapshot(|_| true)
    }

    /// Returns the views of one stream, without dedup.
    pub fn of_stream(&self, stream: &str) -> BTreeMap<String, Applied> {
        self.snapshot(|entry| entry.is_of(stream))
    }

    /// Returns the states of dedup and of all views, by name. `end` is the end of the log.
    pub fn states(&self, end: u64) -> BTreeMap<String, PositionState> {
        self.shown(end, |_| true)
    }

    /// Returns the states of dedup and of the views of one stream.
    pub fn states_of_stream(&self, stream: &str, end: u64) -> BTreeMap<String, PositionState> {
        self.shown(end, |entry| entry.stream.as_deref().is_none_or(|of| of == stream))
    }

    fn shown(&self, end: u64, which: impl Fn(&Entry) -> bool) -> BTreeMap<String, PositionState> {
        let shown = |(name, applied): (String, Applied)| {
            let lag_seconds = self.lag_seconds(&name);
            (name, PositionState::of(applied, end, lag_seconds))
        };
        self.snapshot(which).into_iter().map(shown).collect()
    }

    /// Replaces the times of the first events that are not applied.
    pub fn note_oldest(&self, oldest: BTreeMap<String, Millis>) {
        *crate::write_lock(&self.oldest) = oldest;
    }

    /// Returns for how many seconds the first event that a view has not applied has been waiting, as last measured.
    pub fn lag_seconds(&self, view: &str) -> u64 {
        let oldest = crate::read_lock(&self.oldest).get(view).copied();
        oldest.map_or(0, |received| received.seconds_until(Millis::now()))
    }

    fn snapshot(&self, which: impl Fn(&Entry) -> bool) -> BTreeMap<String, Applied> {
        let views = crate::read_lock(&self.views);
        let entries = views.iter().filter(|(_, entry)| which(entry));
        entries.map(|(name, entry)| (name.clone(), entry.applied.borrow().clone())).collect()
    }

    /// Waits until dedup and every view have applied all events below `end` or are paused. Returns whether all have
    /// applied them; after `timeout` it returns `false`.
    pub async fn drained(&self, end: u64, timeout: Duration) -> bool {
        let drained = async {
            let mut all = true;
            for mut receiver in self.receivers(|_| true) {
                all &= settled(&mut receiver, end).await;
            }
            all
        };
        tokio::time::timeout(timeout, drained).await.unwrap_or(false)
    }

    /// Waits until dedup and every view of `stream` have processed all events below `end`. Returns `false` if one of
    /// them stays paused: only a person can help then, so the sender gets an answer now.
    pub async fn processed(&self, stream: &str, end: u64) -> bool {
        let receivers = self.receivers(|entry| entry.stream.is_none() || entry.is_of(stream));
        let mut waiting: Vec<_> =
            receivers.into_iter().map(|receiver| Box::pin(reached_unless_paused(receiver, end))).collect();
        poll_fn(|context| {
            let mut all = true;
            waiting.retain_mut(|one| match one.as_mut().poll(context) {
                Poll::Ready(has_reached) => {
                    all &= has_reached;
                    false
                }
                Poll::Pending => true,
            });
            if all && !waiting.is_empty() { Poll::Pending } else { Poll::Ready(all) }
        })
        .await
    }

    /// Waits until every view of `stream` has applied all events below `end`, also if one of them is paused. Returns
    /// `false` after `timeout`.
    pub async fn reached(&self, stream: &str, end: u64, timeout: Duration) -> bool {
        let reached = all_reached(self.receivers(|entry| entry.is_of(stream)), end);
        tokio::time::timeout(timeout, reached).await.unwrap_or(false)
    }

    /// Waits until dedup has processed all events below `end`. Returns `false` after `timeout`.
    pub async fn dedup_reached(&self, end: u64, timeout: Duration) -> bool {
        let reached = all_reached(self.receivers(|entry| entry.stream.is_none()), end);
        tokio::time::timeout(timeout, reached).await.unwrap_or(false)
    }

    fn receivers(&self, which: impl Fn(&Entry) -> bool) -> Vec<watch::Receiver<Applied>> {
        let views = crate::read_lock(&self.views);
        views.values().filter(|entry| which(entry)).map(|entry| entry.applied.subscribe()).collect()
    }
}

impl Entry {
    fn is_of(&self, stream: &str) -> bool {
        self.stream.as_deref() == Some(stream)
    }
}

/// Waits until a view has applied all events below `end` or is paused. Returns whether it has applied them.
async fn settled(receiver: &mut watch::Receiver<Applied>, end: u64) -> bool {
    let is_settled = |applied: &Applied| applied.position >= end || applied.is_paused();
    receiver.wait_for(is_settled).await.is_ok_and(|applied| applied.position >= end)
}

/// Waits until a view has applied all events below `end`. Returns `false` if it stays paused.
async fn reached_unless_paused(mut receiver: watch::Receiver<Applied>, end: u64) -> bool {
    loop {
        if settled(&mut receiver, end).await {
            return true;
        }
        let continues = receiver.wait_for(|applied| !applied.is_paused());
        if !matches!(timeout(WAIT_PAUSED_DURATION_MAX, continues).await, Ok(Ok(_))) {
            return false;
        }
    }
}

/// Waits until each has applied all events below `end`. Returns `false` if one of them ends before.
async fn all_reached(receivers: Vec<watch::Receiver<Applied>>, end: u64) -> bool {
    for mut receiver in receivers {
        if receiver.wait_for(|applied| applied.position >= end).await.is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_for_dedup_does_not_wait_for_views_and_vice_versa() {
        let progress = Progress::default();
        let dedup = progress.register_dedup("dedup").applied;
        let view = progress.register("revenue", "sales");
        progress.register("other", "others");
        let names = |views: BTreeMap<String, Applied>| views.into_keys().collect::<Vec<_>>();
        let shown = |views: BTreeMap<String, PositionState>| views.into_keys().collect::<Vec<_>>();
        assert_eq!(names(progress.of_stream("sales")), ["revenue"]);
        assert_eq!(names(progress.all()), ["dedup", "other", "revenue"]);
        assert_eq!(shown(progress.states_of_stream("sales", 9)), ["dedup", "revenue"]);
        assert_eq!(shown(progress.states(9)), ["dedup", "other", "revenue"]);
        dedup.send_replace(Applied::at(7));
        assert!(progress.dedup_reached(7, Duration::ZERO).await);
        assert!(!progress.reached("sales", 7, Duration::ZERO).await);
        view.send_replace(Applied::at(8));
        assert!(progress.reached("sales", 8, Duration::ZERO).await);
        assert!(!progress.dedup_reached(8, Duration::ZERO).await);
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_who_waits_for_an_answer_does_not_wait_for_what_is_paused() {
        let progress = Progress::default();
        let dedup = progress.register_dedup("dedup").applied;
        let (view, other) = (progress.register("revenue", "sales"), progress.register("other", "others"));
        let slow = progress.register("a", "sales");
        let paused = |position| Applied {
            stalled: Some(Stalled::Paused("a table is missing".to_owned())),
            ..Applied::at(position)
        };
        // The clock is not real. `None` means that there was no answer within a minute.
        let answer = || async { timeout(Duration::from_secs(60), progress.processed("sales", 7)).await.ok() };
        other.send_replace(paused(3));
        assert_eq!(answer().await, None, "a view of another stream does not count");
        dedup.send_replace(paused(3));
        assert_eq!(answer().await, Some(false), "dedup is paused");
        dedup.send_replace(Applied::at(7));
        assert_eq!(answer().await, None, "both views are behind");
        view.send_replace(paused(3));
        assert_eq!(answer().await, Some(false), "one view is paused, and another one is behind");
        view.send_replace(paused(7));
        assert_eq!(answer().await, None, "the other one is still behind");
        slow.send_replace(Applied::at(8));
        assert_eq!(answer().await, Some(true), "a paused view that has processed the events");
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_who_waits_is_answered_when_a_paused_view_was_mended() {
        let progress = Progress::default();
        let view = progress.register("revenue", "sales");
        let paused = Some(Stalled::Paused("a table is missing".to_owned()));
        view.send_replace(Applied { stalled: paused, ..Applied::at(3) });
        let mend = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            view.send_replace(Applied::at(3));
            tokio::time::sleep(Duration::from_secs(9)).await;
            view.send_replace(Applied::at(7));
        };
        assert!(tokio::join!(progress.processed("sales", 7), mend).0);
    }
}
