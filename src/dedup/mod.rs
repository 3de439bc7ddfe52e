//! The stage between log and views that recognises events that were sent twice. It reads the log ahead of the views.
//! Views read only up to its position, and skip the events that it has marked as repeats.
//!
//! Records without an identity (client id, upload line or correction) need no query and no row in the store.

mod identities;
mod stream_ends;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use event::limits::{
    BATCH_BYTES_MAX, BATCH_EVENTS_PACED_MIN, DEDUP_ENTRIES_BATCH_MAX, DEDUP_INTERVAL_MIN,
    PAUSE_RECHECK_INTERVAL, PRUNE_ROWS_MAX, UNSAVED_DURATION_MAX, UNSAVED_POSITIONS_MAX,
};
use event::{Applied, Backoff, DedupProgress, Millis, SkippedEvents, Stalled, Stop};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::log::{EventLog, LogReader, ReadError, Traces};
use crate::store::{
    Claim, ClockJumps, DEDUP_NAME, DEDUP_STORED_NAME, Halt, Plan, Skipped, Store, StoreError, ViewTables,
    publish_pause,
};
use identities::Identities;
use stream_ends::StreamEnds;

/// How often old ids are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);
/// Ids stay in the store for this time after they have expired, in case the clock was moved back.
const CLOCK_STEP_MAX: Duration = Duration::from_secs(24 * 3600);

/// The reason for waiting if the store has lost commits, for instance because an older copy was restored.
pub const STORE_WENT_BACK: &str =
    "the store has lost commits; the missing events are applied again from the log";

/// How long ids are remembered.
#[derive(Clone, Debug)]
pub struct Windows {
    /// The window of ids for which nothing else is configured.
    pub default: Duration,
    /// The windows of all sources, and the default one, in order.
    pub all: Vec<Duration>,
}

/// The interface of dedup for views.
#[derive(Clone)]
pub struct Dedup {
    passed: watch::Receiver<u64>,
    streams: StreamEnds,
    stored: Arc<AtomicU64>,
    restart: Arc<Notify>,
}

impl Dedup {
    /// Returns a watch of the position up to which views may read. It only grows, unless the store has lost commits.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.passed.clone()
    }

    /// Returns whether the log has no event of `stream` between `position` and the position of dedup.
    pub fn has_no_events_from(&self, stream: &str, position: u64) -> bool {
        self.streams.has_no_events_from(stream, position)
    }

    /// Returns the position of dedup in the store, as far as it is known.
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::SeqCst)
    }

    /// Tells dedup that the store has lost commits. Dedup then starts again from the stored position, so that no view
    /// reads events whose ids are not in the store.
    pub fn restart(&self) {
        self.restart.notify_one();
    }

    /// Starts dedup on its own thread, because reading the log blocks.
    pub fn start(
        log: &EventLog,
        store: &Store,
        windows: Windows,
        progress: DedupProgress,
        stop: &Stop,
        runtime: Handle,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (passed_sender, passed) = watch::channel(log.begin());
        let (streams, stored, restart) =
            (StreamEnds::default(), Arc::<AtomicU64>::default(), Arc::<Notify>::default());
        let deduplicator = Deduplicator {
            streams: streams.clone(),
            reader: log.reader(),
            log: log.clone(),
            store: store.clone(),
            windows,
            passed: passed_sender,
            progress: progress.applied,
            skipped: progress.skipped,
            stop: stop.clone(),
            runtime,
            stored: 0,
            stored_for_views: Arc::clone(&stored),
            restart: Arc::clone(&restart),
            at: 0,
            saved: Instant::now(),
            pruned: Instant::now(),
            prune_interval: prune_interval(),
            latest: None,
            backoff: Backoff::default(),
        };
        let thread = event::start_thread(DEDUP_NAME, move || deduplicator.run())?;
        Ok((Self { passed, streams, stored, restart }, thread))
    }
}

struct Deduplicator {
    streams: StreamEnds,
    reader: LogReader,
    log: EventLog,
    store: Store,
    windows: Windows,
    passed: watch::Sender<u64>,
    progress: watch::Sender<Applied>,
    skipped: SkippedEvents,
    stop: Stop,
    runtime: Handle,
    /// The position in the store.
    stored: u64,
    /// The position that is reached. No event between `stored` and `at` has an identity.
    at: u64,
    /// A copy of `stored` that views can read.
    stored_for_views: Arc<AtomicU64>,
    /// Notified by a view that finds the store behind `stored`.
    restart: Arc<Notify>,
    /// When the position was last stored.
    saved: Instant,
    pruned: Instant,
    prune_interval: Duration,
    /// The latest time of receipt among the events that were read since the start.
    latest: Option<Millis>,
    backoff: Backoff,
}

enum Wakeup {
    Stop,
    /// The log has more events, or it is time to prune.
    Work,
    StoreWentBack,
}

/// The result of one read of the log.
struct ReadBatch {
    /// No event below this position needs the store.
    clear_until: u64,
    identities: Identities,
    traces: Traces,
    end: u64,
}

impl Deduplicator {
    fn run(mut self) {
        while !self.stop.asked() {
            match self.begin().map_err(Halt::from).and_then(|()| self.follow()) {
                Ok(()) => break,
                Err(Halt::Pause(reason)) => self.pause(&reason),
                Err(Halt::Wait(reason)) => self.wait(reason),
                Err(Halt::ReadAgain(reason)) => {
                    tracing::info!(reason, "dedup reads its position again");
                    self.wait(reason);
                }
            }
        }
        if self.at > self.stored && self.stored_is_known() {
            // This only saves the next start some reading, so an error does not matter.
            let _ = self.runtime.block_on(self.store.apply(Arc::new(Plan::new(self.claim(self.at)))));
        }
    }

    fn stored_is_known(&self) -> bool {
        self.progress.borrow().stalled.is_none()
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        let log = self.log.id();
        let claim = Claim {
            view: DEDUP_STORED_NAME.to_owned(),
            log,
            from: self.log.begin(),
            to: self.log.begin(),
            definition: None,
        };
        self.runtime.block_on(self.store.begin_view(claim, ViewTables::default()))?;
        self.runtime.block_on(self.store.add_missing_expiries(self.windows.default, PRUNE_ROWS_MAX))?;
        self.stored = self
            .runtime
            .block_on(self.store.position(DEDUP_STORED_NAME, log))?
            .unwrap_or_else(|| self.log.begin());
        self.streams.begin(self.stored);
        self.at = self.stored;
        self.skipped.begin(self.at);
        self.stored_for_views.store(self.stored, Ordering::SeqCst);
        self.passed.send_replace(self.at);
        if self.log.end() > self.at {
            self.progress.send_modify(|applied| applied.set_position(self.at));
        } else {
            self.publish();
        }
        Ok(())
    }

    /// Runs until the stop signal. Fails if it has to wait for the store or for a person.
    fn follow(&mut self) -> Result<(), Halt> {
        let mut end = self.log.follow();
        loop {
            let stop = self.stop.clone();
            let at = self.at;
            let wakeup = async {
                tokio::select! {
                    () = stop.wait() => Wakeup::Stop,
                    () = self.restart.notified() => Wakeup::StoreWentBack,
                    more = end.wait_for(|end| *end > at) => more.map_or(Wakeup::Stop, |_| Wakeup::Work),
                    () = tokio::time::sleep(self.prune_interval) => Wakeup::Work,
                }
            };
            match self.runtime.block_on(wakeup) {
                Wakeup::Stop => return Ok(()),
                Wakeup::StoreWentBack => return Err(Halt::ReadAgain(STORE_WENT_BACK.to_owned())),
                Wakeup::Work => {}
            }
            let (begun, known) = (Instant::now(), *end.borrow());
            let batch = self.read_batch().map_err(|error| Halt::Pause(error.to_string()))?;
            if batch.clear_until > self.at {
                self.at = batch.clear_until;
                self.skipped.add(std::iter::empty(), self.at);
                self.publish();
            }
            let overdue = self.at > self.stored && self.saved.elapsed() >= UNSAVED_DURATION_MAX;
            if batch.end > self.at || self.at - self.stored > UNSAVED_POSITIONS_MAX || overdue {
                self.save(batch)?;
            }
            self.prune();
            if self.at - at >= BATCH_EVENTS_PACED_MIN as u64 && self.at >= known {
                std::thread::sleep(DEDUP_INTERVAL_MIN.saturating_sub(begun.elapsed()));
            }
        }
    }

    fn read_batch(&mut self) -> Result<ReadBatch, ReadError> {
        let (identities, traces) = (Identities::default(), Traces::default());
        let mut batch = ReadBatch { clear_until: self.at, identities, traces, end: self.at };
        let records = self.reader.read(self.at, BATCH_BYTES_MAX)?;
        let log = self.log.id();
        let mut ends = stream_ends::RecordEnds::default();
        for record in records.iter() {
            let record = record?;
            if record.has_identity() {
                identities::collect(&record, log, self.windows.default, &mut batch.identities)?;
                batch.traces.note(&record);
            }
            if let Some(header) = &record.header {
                self.latest = self.latest.max(Some(header.received));
            }
            batch.end = record.end();
            ends.note(record.header.as_ref().map(|header| header.stream), batch.end);
            if batch.identities.is_empty() {
                batch.clear_until = batch.end;
            }
            if batch.identities.len() >= DEDUP_ENTRIES_BATCH_MAX {
                break;
            }
        }
        // This must come before the new position is published: a view that sees the position must find its events.
        self.streams.note(ends);
        Ok(batch)
    }

    fn save(&mut self, batch: ReadBatch) -> Result<(), StoreError> {
        let mut plan = Plan::new(self.claim(batch.end));
        (plan.seen, plan.corrected) = (batch.identities.seen, batch.identities.corrected);
        plan.clock_jumps = self.clock_jumps();
        let plan = Arc::new(plan);
        let progress = self.progress.clone();
        let waiting = move |reason: &str| {
            progress.send_modify(|applied| applied.stalled = Some(Stalled::Waiting(reason.to_owned())));
        };
        failpoint::hit("dedup.judged");
        let outcome =
            self.runtime.block_on(self.store.apply_with_retry(Arc::clone(&plan), &self.stop, waiting));
        failpoint::hit("dedup.saved");
        if let Some(skipped) = outcome.transpose()? {
            let conflicts = skipped.iter().filter(|skipped| !skipped.same_body).count();
            if !skipped.is_empty() {
                tracing::info!(
                    repeats = skipped.len() - conflicts,
                    conflicts,
                    "skipped events that were sent before"
                );
            }
            if conflicts > 0 {
                report_conflicts(&plan, &skipped, &batch.traces);
            }
            metrics::counter!("millrace_repeats_total").increment(skipped.len() as u64);
            let mut positions: Vec<u64> = skipped.iter().map(|skipped| skipped.position).collect();
            positions.sort_unstable();
            self.skipped.add(positions.into_iter(), batch.end);
            (self.stored, self.at) = (batch.end, batch.end);
            self.stored_for_views.store(self.stored, Ordering::SeqCst);
            self.saved = Instant::now();
            self.backoff = Backoff::default();
            self.publish();
        }
        Ok(())
    }

    fn claim(&self, to: u64) -> Claim {
        let view = DEDUP_STORED_NAME.to_owned();
        Claim { view, log: self.log.id(), from: self.stored, to, definition: None }
    }

    fn publish(&self) {
        self.pass();
        self.progress.send_replace(Applied::at(self.at));
    }

    fn pass(&self) {
        self.passed.send_if_modified(|passed| {
            let grows = self.at > *passed;
            *passed = self.at.max(*passed);
            grows
        });
    }

    fn wait(&mut self, reason: String) {
        let delay = self.backoff.pause();
        // The server reports a failure that lasts.
        tracing::debug!(reason, delay_ms = delay.as_millis() as u64, "dedup waits for the store");
        self.progress.send_modify(|applied| applied.stalled = Some(Stalled::Waiting(reason)));
        self.runtime.block_on(self.stop.within(delay));
    }

    fn pause(&self, reason: &str) {
        if publish_pause(&self.progress, reason) {
            tracing::error!(reason, "dedup is paused");
        }
        self.runtime.block_on(self.stop.within(PAUSE_RECHECK_INTERVAL));
    }

    /// Returns by how much the system clock has jumped ahead within each of the windows.
    fn clock_jumps(&self) -> ClockJumps {
        let jumped = |window: &Duration| (*window, self.log.ages().jumped_ahead_since(self.at, *window));
        ClockJumps(self.windows.all.iter().map(jumped).collect())
    }

    /// Deletes some of the ids that have expired, and continues soon if there are more.
    fn prune(&mut self) {
        if self.pruned.elapsed() < self.prune_interval {
            return;
        }
        self.pruned = Instant::now();
        failpoint::hit("dedup.forgets");
        let Some(latest) = self.latest else { return };
        let before = prune_before(latest, Millis::now(), self.clock_jumps().within(i64::MAX));
        self.prune_interval = match self.runtime.block_on(self.store.prune_dedup(before, PRUNE_ROWS_MAX)) {
            Ok(rows) if rows >= PRUNE_ROWS_MAX => Duration::ZERO,
            Ok(_) => prune_interval(),
            Err(error) => {
                tracing::warn!(%error, "old ids could not be deleted; dedup tries again later");
                prune_interval()
            }
        };
    }
}

fn prune_interval() -> Duration {
    if failpoint::skips("dedup.pause_before_forgetting") { Duration::from_millis(20) } else { PRUNE_INTERVAL }
}

/// Returns a time: ids that expired before it are deleted. It is based on the latest event that was read, because the store
/// may be catching up. Then an id that is old today was not old when its repeat was received. A time in the future is
/// ignored. Otherwise one event that was received while the clock was ahead would delete all ids.
fn prune_before(latest: Millis, now: Millis, jumped: i64) -> Millis {
    Millis(latest.min(now).0.saturating_sub(jumped).saturating_sub(CLOCK_STEP_MAX.as_millis() as i64))
}

/// Counts and logs the dead letters of the events that reuse an id with different content.
fn report_conflicts(plan: &Plan, skipped: &[Skipped], traces: &Traces) {
    let conflicts = skipped.iter().filter(|one| !one.same_body).map(|one| one.position);
    let conflicts: HashSet<u64> = conflicts.collect();
    let dead_letters = plan.seen.iter().flat_map(|seen| &seen.conflict);
    let stored = dead_letters.filter(|dead| conflicts.contains(&dead.position));
    let stored: Vec<_> = stored.map(|dead| (dead.id, dead.position)).collect();
    traces.report_dead_letters(DEDUP_NAME, &stored);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_pruned_by_the_time_of_the_log_and_never_by_a_future_time() {
        let day = 24 * 3600 * 1000;
        let before = |latest, now| prune_before(Millis(latest), Millis(now), 2 * day).0;
        assert_eq!(before(100 * day, 100 * day), 97 * day);
        assert_eq!(before(50 * day, 100 * day), 47 * day, "a store that is catching up");
        assert_eq!(before(5_000 * day, 100 * day), 97 * day, "a clock that was ahead for one event");
    }
}
