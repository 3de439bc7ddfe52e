//! Watches the database and the views: what is out of order is in the program log, in `/ready` and in the metrics
//! within seconds, and so is its recovery. A database that was away at the start is prepared and checked as soon as it
//! answers; until then no view works with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use event::limits::{KEYS_REFRESH_INTERVAL, STORE_PROBE_DURATION_MAX, STORE_PROBE_INTERVAL};
use event::{Applied, Millis, Progress, Stalled, Stop};
use tokio::time::timeout;

use super::outage::{Line, Outage};
use super::storage::{Attempt, StorePreparation};
use crate::admission::Keys;
use crate::log::EventLog;
use crate::store::{Store, StoreHealth, StoreState};

/// How long the database has to fail before that is an outage. A restart of a server takes less.
const CERTAIN_AFTER: Duration = Duration::from_secs(1);
/// The same for a view that waits while the database answers: for a lock, for example.
const VIEW_CERTAIN_AFTER: Duration = Duration::from_secs(3);

pub struct StoreWatch {
    pub log: EventLog,
    pub store: Store,
    pub keys: Keys,
    pub progress: Progress,
    pub health: StoreHealth,
    /// What is left to do before views may use the store; `None` once it is done.
    pub preparation: Option<StorePreparation>,
    pub stop: Stop,
}

#[derive(Default)]
struct Outages {
    store: Outage,
    since: Option<Millis>,
    views: BTreeMap<String, Outage>,
    paused: BTreeMap<String, bool>,
}

/// How far the views are behind the log.
struct Behind {
    events: u64,
    seconds: u64,
}

impl StoreWatch {
    pub async fn run(mut self) {
        let (mut outages, mut refreshed) = (Outages::default(), Instant::now());
        if let Some(preparation) = &self.preparation {
            // The start has reported this outage.
            outages.store = Outage::reported(Instant::now());
            let (since, reason) = (Millis::now(), preparation.unreachable_because.clone());
            outages.since = Some(since);
            self.health.set(StoreState::Down { since, reason });
        }
        loop {
            let failure = self.look().await;
            let behind = self.measure_lag().await;
            let states = self.progress.all();
            let recovered = self.report_store(&mut outages, failure, &states, &behind);
            self.report_views(&mut outages, &states);
            if (recovered || refreshed.elapsed() >= KEYS_REFRESH_INTERVAL) && self.health.is_up() {
                refreshed = Instant::now();
                self.refresh_keys().await;
            }
            if self.stop.within(STORE_PROBE_INTERVAL).await {
                return;
            }
        }
    }

    /// Returns why the database cannot be used, if it cannot, and whether that is certain at once.
    async fn look(&mut self) -> Option<(String, Duration)> {
        if let Some(preparation) = &mut self.preparation {
            match preparation.attempt(&self.store, &self.keys).await {
                Attempt::Admitted => self.preparation = None,
                Attempt::Unreachable(reason) => return Some((reason, Duration::ZERO)),
                Attempt::Wrong(reason) => {
                    self.health.set(StoreState::Wrong { reason });
                    return None;
                }
            }
        }
        match timeout(STORE_PROBE_DURATION_MAX, self.store.probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some((error.to_string(), CERTAIN_AFTER)),
            Err(_) => {
                let seconds = STORE_PROBE_DURATION_MAX.as_secs();
                Some((format!("the database has not answered for {seconds} s"), Duration::ZERO))
            }
        }
    }

    /// Notes for each view when the first event that it has not applied was received. Returns the largest lag.
    async fn measure_lag(&self) -> Behind {
        let (end, log) = (self.log.end(), self.log.clone());
        let positions: BTreeMap<String, u64> =
            self.progress.all().into_iter().map(|(view, applied)| (view, applied.position)).collect();
        let events = positions.values().map(|position| end.saturating_sub(*position)).max().unwrap_or(0);
        let read = move || {
            let behind = positions.into_iter().filter(|(_, position)| *position < end);
            let oldest = behind.filter_map(|(view, position)| Some((view, log.received_at(position)?)));
            oldest.collect::<BTreeMap<String, Millis>>()
        };
        let oldest = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        let now = Millis::now();
        let seconds = oldest.values().map(|received| received.seconds_until(now)).max().unwrap_or(0);
        self.progress.note_oldest(oldest);
        Behind { events, seconds }
    }

    /// Logs what has changed about the database, and publishes its state. Returns whether an outage is over.
    fn report_store(
        &self,
        outages: &mut Outages,
        failure: Option<(String, Duration)>,
        states: &BTreeMap<String, Applied>,
        behind: &Behind,
    ) -> bool {
        let is_wrong = matches!(self.health.state(), StoreState::Wrong { .. }) && self.preparation.is_some();
        if is_wrong && failure.is_none() {
            metrics::gauge!("millrace_store_up").set(0.0);
            return false;
        }
        // A file has no server that could be asked. Its views know whether they can write.
        let of_file = || {
            let waiting = states.values().find_map(waiting)?;
            self.store.is_file().then(|| (waiting.to_owned(), VIEW_CERTAIN_AFTER))
        };
        let now = Instant::now();
        let Some((reason, certain_after)) = failure.or_else(of_file) else {
            metrics::gauge!("millrace_store_up").set(1.0);
            self.health.set(StoreState::Up);
            outages.since = None;
            let ended = outages.store.note_success(now);
            if let Some(Line::Ends { lasted }) = &ended {
                tracing::info!(
                    store = self.store.name(),
                    outage_seconds = lasted.as_secs(),
                    behind_events = behind.events,
                    behind_seconds = behind.seconds,
                    "the database can be used again"
                );
            }
            return ended.is_some();
        };
        let line = outages.store.note_failure(now, certain_after);
        if outages.store.is_reported() {
            metrics::gauge!("millrace_store_up").set(0.0);
            let since = *outages.since.get_or_insert_with(Millis::now);
            self.health.set(StoreState::Down { since, reason: reason.clone() });
        }
        match line {
            Some(Line::Begins) => tracing::warn!(
                store = self.store.name(),
                reason,
                behind_events = behind.events,
                "the database cannot be used now; events are accepted, and the views apply them later"
            ),
            Some(Line::Continues { lasted }) => tracing::warn!(
                store = self.store.name(),
                reason,
                outage_seconds = lasted.as_secs(),
                behind_events = behind.events,
                behind_seconds = behind.seconds,
                "the database still cannot be used"
            ),
            Some(Line::Ends { .. }) | None => {}
        }
        false
    }

    /// Logs which views wait although the database can be used, and which continue.
    fn report_views(&self, outages: &mut Outages, states: &BTreeMap<String, Applied>) {
        let now = Instant::now();
        for (view, applied) in states {
            let is_paused = matches!(applied.stalled, Some(Stalled::Paused(_)));
            let was_paused = outages.paused.insert(view.clone(), is_paused) == Some(true);
            if was_paused && !is_paused {
                tracing::info!(view, position = applied.position, "view continues after a pause");
            }
            let outage = outages.views.entry(view.clone()).or_default();
            let reason = waiting(applied).filter(|_| self.health.is_up());
            let line = match reason {
                Some(_) => outage.note_failure(now, VIEW_CERTAIN_AFTER),
                None => outage.note_success(now),
            };
            let lag = self.log.end().saturating_sub(applied.position);
            match line {
                Some(Line::Begins) => {
                    tracing::warn!(
                        view,
                        reason,
                        lag,
                        "view cannot apply events now; it tries again until it can"
                    );
                }
                Some(Line::Continues { lasted }) => {
                    let seconds = lasted.as_secs();
                    tracing::warn!(view, reason, lag, seconds, "view still cannot apply events");
                }
                Some(Line::Ends { lasted }) if self.health.is_up() => {
                    tracing::info!(view, lag, seconds = lasted.as_secs(), "view applies events again");
                }
                Some(Line::Ends { .. }) | None => {}
            }
        }
    }

    async fn refresh_keys(&self) {
        if let Err(error) = self.keys.refresh(&self.store).await {
            tracing::warn!(%error, "the keys of the store could not be read; the known ones stay valid");
        }
    }
}

/// Returns the reason why a view waits, if it does.
fn waiting(applied: &Applied) -> Option<&str> {
    match &applied.stalled {
        Some(Stalled::Waiting(reason)) => Some(reason),
        _ => None,
    }
}
