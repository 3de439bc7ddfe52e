//! The one place where what was sent twice is recognised: between log and views. It goes through the
//! log ahead of them; views read only what has passed it, and leave out what it marked.
//!
//! Records without any identity pass untouched, and cost the store nothing.

mod identities;
mod stream_ends;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use event::limits::{
    BATCH_BYTES_MAX, BATCH_EVENTS_PACED_MIN, DEAD_LETTERS_LOGGED_MAX, DEDUP_ENTRIES_BATCH_MAX,
    DEDUP_INTERVAL_MIN, PAUSE_RECHECK_INTERVAL, PRUNE_ROWS_MAX, UNSAVED_DURATION_MAX, UNSAVED_POSITIONS_MAX,
};
use event::{Applied, Millis, Stalled, Stop};
use journal::failpoint;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::log::{EventLog, LogReader, ReadError, Traces};
use crate::store::{Backoff, Claim, Halt, Plan, Skipped, Store, StoreError, ViewTables};
use stream_ends::StreamEnds;

/// The deduplicator's name in metrics, logs and answers.
pub const NAME: &str = "dedup";
/// Its name in the store's rows and in records of the log. It is an older name: with another one, the deduplicator
/// would not find its position.
pub const STORED_NAME: &str = "gate";

/// Returns the name of a view, or of the deduplicator, as people know it.
pub fn shown_name(stored: &str) -> &str {
    if stored == STORED_NAME { NAME } else { stored }
}

const PRUNE_INTERVAL: Duration = Duration::from_secs(600);
/// How far the clock may have been set back without a row being deleted that still counts.
const CLOCK_STEP_MAX: Duration = Duration::from_secs(24 * 3600);

pub const SET_BACK: &str =
    "the store has gone back behind what was committed to it; it is caught up from the log";

/// What views need of the gate.
#[derive(Clone)]
pub struct Dedup {
    passed: watch::Receiver<u64>,
    streams: StreamEnds,
    stored: Arc<AtomicU64>,
    again: Arc<Notify>,
}

impl Dedup {
    /// Everything below has passed; grows, unless the store is set back.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.passed.clone()
    }

    /// Whether there is nothing of `stream` from `position` on, in what has passed.
    pub fn nothing_from(&self, stream: &str, position: u64) -> bool {
        self.streams.nothing_from(stream, position)
    }

    /// Where the gate stands in the store, as far as it knows.
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::SeqCst)
    }

    /// The store has gone back behind that: what it noted since has to be noted again before a view passes.
    pub fn begin_again(&self) {
        self.again.notify_one();
    }

    /// Starts the gate on a thread of its own: it reads the disk.
    pub fn start(
        log: &EventLog,
        store: &Store,
        window: Duration,
        progress: watch::Sender<Applied>,
        stop: &Stop,
        runtime: Handle,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (passed_sender, passed) = watch::channel(log.begin());
        let (streams, stored, again) =
            (StreamEnds::default(), Arc::<AtomicU64>::default(), Arc::<Notify>::default());
        let deduplicator = Deduplicator {
            streams: streams.clone(),
            reader: log.reader(),
            log: log.clone(),
            store: store.clone(),
            window,
            passed: passed_sender,
            progress,
            stop: stop.clone(),
            runtime,
            stored: 0,
            told: Arc::clone(&stored),
            again: Arc::clone(&again),
            at: 0,
            saved: Instant::now(),
            pruned: Instant::now(),
            prune_interval: prune_interval(),
            latest: None,
            backoff: Backoff::default(),
        };
        let thread =
            std::thread::Builder::new().name(NAME.to_owned()).spawn(move || deduplicator.run())?;
        Ok((Self { passed, streams, stored, again }, thread))
    }
}

struct Deduplicator {
    streams: StreamEnds,
    reader: LogReader,
    log: EventLog,
    store: Store,
    window: Duration,
    passed: watch::Sender<u64>,
    progress: watch::Sender<Applied>,
    stop: Stop,
    runtime: Handle,
    /// The position in the store, and the one reached: between them lies nothing with an identity.
    stored: u64,
    at: u64,
    /// The first of them, as views are told, and their word that the store has gone back behind it.
    told: Arc<AtomicU64>,
    again: Arc<Notify>,
    /// When the position was last stored.
    saved: Instant,
    pruned: Instant,
    prune_interval: Duration,
    /// When the latest event was received that the gate has read since it began.
    latest: Option<Millis>,
    backoff: Backoff,
}

enum News {
    Stop,
    Further,
    SetBack,
}

/// What one reading of the log brought.
struct Look {
    /// Up to here there is nothing to ask the store.
    clear: u64,
    identities: identities::Identities,
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
            }
        }
        if self.at > self.stored && self.stored_is_known() {
            // Only saves the next start some reading; without it, the same positions pass again.
            let _ = self.runtime.block_on(self.store.apply(Arc::new(Plan::new(self.claim(self.at)))));
        }
    }

    fn stored_is_known(&self) -> bool {
        self.progress.borrow().stalled.is_none()
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        let log = self.log.id();
        let claim = Claim { view: STORED_NAME.to_owned(), log, from: self.log.begin(), to: self.log.begin() };
        self.runtime.block_on(self.store.begin_view(claim, ViewTables::default()))?;
        self.stored =
            self.runtime.block_on(self.store.position(STORED_NAME, log))?.unwrap_or_else(|| self.log.begin());
        self.streams.begin(self.stored);
        self.at = self.stored;
        self.told.store(self.stored, Ordering::SeqCst);
        self.passed.send_replace(self.at);
        match self.log.end() > self.at {
            // What stopped the gate is mended only once something goes through.
            true => self.progress.send_modify(|applied| applied.position = self.at),
            false => self.publish(),
        }
        Ok(())
    }

    /// Runs until it is to stop, or something needs a person.
    fn follow(&mut self) -> Result<(), Halt> {
        let mut end = self.log.follow();
        loop {
            let stop = self.stop.clone();
            let at = self.at;
            let news = async {
                tokio::select! {
                    () = stop.wait() => News::Stop,
                    () = self.again.notified() => News::SetBack,
                    news = end.wait_for(|end| *end > at) => news.map_or(News::Stop, |_| News::Further),
                    () = tokio::time::sleep(self.prune_interval) => News::Further,
                }
            };
            match self.runtime.block_on(news) {
                News::Stop => return Ok(()),
                News::SetBack => return Err(Halt::Wait(SET_BACK.to_owned())),
                News::Further => {}
            }
            let (begun, known) = (Instant::now(), *end.borrow());
            let look = self.look().map_err(|error| Halt::Pause(error.to_string()))?;
            if look.clear > self.at {
                self.at = look.clear;
                self.publish();
            }
            let overdue = self.at > self.stored && self.saved.elapsed() >= UNSAVED_DURATION_MAX;
            if look.end > self.at || self.at - self.stored > UNSAVED_POSITIONS_MAX || overdue {
                self.save(look)?;
            }
            self.prune();
            if self.at - at >= BATCH_EVENTS_PACED_MIN as u64 && self.at >= known {
                std::thread::sleep(DEDUP_INTERVAL_MIN.saturating_sub(begun.elapsed()));
            }
        }
    }

    fn look(&mut self) -> Result<Look, ReadError> {
        let (identities, traces) = (identities::Identities::default(), Traces::default());
        let mut look = Look { clear: self.at, identities, traces, end: self.at };
        let window = self.window();
        let records = self.reader.read(self.at, BATCH_BYTES_MAX)?;
        let log = self.log.id();
        let mut ends = stream_ends::RecordEnds::default();
        for record in records.iter() {
            let record = record?;
            if record.has_identity() {
                identities::entries(&record, log, window, &mut look.identities)?;
                look.traces.note(&record);
            }
            if let Some(header) = &record.header {
                self.latest = self.latest.max(Some(header.received));
            }
            look.end = record.end();
            ends.note(record.header.as_ref().map(|header| header.stream), look.end);
            if look.identities.is_empty() {
                look.clear = look.end;
            }
            if look.identities.len() >= DEDUP_ENTRIES_BATCH_MAX {
                break;
            }
        }
        // Before anything of it passes: a view that sees it pass has to find its events.
        self.streams.note(ends);
        Ok(look)
    }

    fn save(&mut self, look: Look) -> Result<(), StoreError> {
        let mut plan = Plan::new(self.claim(look.end));
        (plan.seen, plan.corrected) = (look.identities.seen, look.identities.corrected);
        let plan = Arc::new(plan);
        let progress = self.progress.clone();
        let waiting = move |reason: &str| {
            progress.send_modify(|applied| applied.stalled = Some(Stalled::Waiting(reason.to_owned())));
        };
        failpoint::hit("gate.judged");
        let outcome = self.runtime.block_on(self.store.apply_surely(Arc::clone(&plan), &self.stop, waiting));
        failpoint::hit("gate.saved");
        if let Some(skipped) = outcome.transpose()? {
            let conflicts = skipped.iter().filter(|skipped| !skipped.same_body).count();
            if !skipped.is_empty() {
                tracing::info!(repeats = skipped.len() - conflicts, conflicts, "sent before, left out");
            }
            if conflicts > 0 {
                report(&plan, &skipped, &look.traces);
            }
            metrics::counter!("millrace_repeats_total").increment(skipped.len() as u64);
            (self.stored, self.at) = (look.end, look.end);
            self.told.store(self.stored, Ordering::SeqCst);
            self.saved = Instant::now();
            self.backoff = Backoff::default();
            self.publish();
        }
        Ok(())
    }

    fn claim(&self, to: u64) -> Claim {
        Claim { view: STORED_NAME.to_owned(), log: self.log.id(), from: self.stored, to }
    }

    fn publish(&self) {
        self.pass();
        self.progress.send_replace(Applied { position: self.at, stalled: None });
    }

    fn pass(&self) {
        self.passed.send_if_modified(|passed| {
            let further = self.at > *passed;
            *passed = self.at.max(*passed);
            further
        });
    }

    fn wait(&mut self, reason: String) {
        let delay = self.backoff.pause();
        tracing::warn!(reason, delay_ms = delay.as_millis() as u64, "gate waits for its store");
        self.progress.send_modify(|applied| applied.stalled = Some(Stalled::Waiting(reason)));
        self.runtime.block_on(self.stop.within(delay));
    }

    fn pause(&self, reason: &str) {
        tracing::error!(reason, "gate stands still");
        self.progress.send_modify(|applied| applied.stalled = Some(Stalled::Paused(reason.to_owned())));
        self.runtime.block_on(self.stop.within(PAUSE_RECHECK_INTERVAL));
    }

    /// For how long ids are known, as of what is read next. Leaps of the machine's clock are added, for as long as
    /// they matter: ids from before a leap seem older than they are by that much.
    fn window(&self) -> Duration {
        self.window.saturating_add(self.log.ages().leapt_since(self.at, self.window))
    }

    /// Forgets what is older than the window, a little at a time, and again soon while there is more.
    fn prune(&mut self) {
        if self.pruned.elapsed() < self.prune_interval {
            return;
        }
        self.pruned = Instant::now();
        failpoint::hit("gate.forgets");
        let Some(latest) = self.latest else { return };
        let before = forgotten_before(latest, Millis::now(), self.window());
        self.prune_interval = match self.runtime.block_on(self.store.prune_dedup(before, PRUNE_ROWS_MAX)) {
            Ok(rows) if rows >= PRUNE_ROWS_MAX => Duration::ZERO,
            Ok(_) => prune_interval(),
            Err(error) => {
                tracing::warn!(%error, "old ids could not be forgotten; tried again later");
                prune_interval()
            }
        };
    }
}

fn prune_interval() -> Duration {
    match failpoint::skips("gate.pause_before_forgetting") {
        true => Duration::from_millis(20),
        false => PRUNE_INTERVAL,
    }
}

/// By the time of what was read last: in a store that is being caught up, what is old today was not old yet
/// when its repeat came. But not by a time that has not come: one event that was received while the clock was
/// ahead would have all ids forgotten.
fn forgotten_before(latest: Millis, now: Millis, window: Duration) -> Millis {
    let kept = (window + CLOCK_STEP_MAX).as_millis() as i64;
    Millis(latest.min(now).0.saturating_sub(kept))
}

/// A line for each letter that was made of what proved to be no mere repeat, but not for very many.
fn report(plan: &Plan, skipped: &[Skipped], traces: &Traces) {
    let unlike = skipped.iter().filter(|one| !one.same_body).map(|one| one.position);
    let unlike: HashSet<u64> = unlike.collect();
    let dead_letters = plan.seen.iter().flat_map(|seen| &seen.conflict);
    let made: Vec<_> = dead_letters.filter(|letter| unlike.contains(&letter.position)).collect();
    metrics::counter!("millrace_dead_letters_total", "view" => NAME).increment(made.len() as u64);
    for letter in made.iter().take(DEAD_LETTERS_LOGGED_MAX) {
        let traceparent = traces.of(letter.position);
        tracing::warn!(view = NAME, letter = %letter.id, position = letter.position, traceparent, "an event became a dead letter");
    }
    let more = made.len().saturating_sub(DEAD_LETTERS_LOGGED_MAX);
    if more > 0 {
        tracing::warn!(view = NAME, more, "more events became dead letters");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_forgotten_by_the_log_s_time_and_never_by_one_to_come() {
        let (window, day) = (Duration::from_secs(7 * 24 * 3600), 24 * 3600 * 1000);
        let before = |latest, now| forgotten_before(Millis(latest), Millis(now), window).0;
        assert_eq!(before(100 * day, 100 * day), 92 * day);
        assert_eq!(before(50 * day, 100 * day), 42 * day, "a log that is caught up");
        assert_eq!(before(5_000 * day, 100 * day), 92 * day, "a clock that was ahead for one event");
    }
}
