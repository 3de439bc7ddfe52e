//! Watches the database and the views: a failure is in the program log, in `/ready` and in the metrics within seconds,
//! and so is its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::limits::{KEYS_REFRESH_INTERVAL, RETRY_DELAY_MAX, STORE_PROBE_DURATION_MAX, STORE_PROBE_INTERVAL};
use event::{Applied, Millis, Progress, Stalled, Stop};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::outage::{Line, Outage};
use super::storage::Preparation;
use crate::admission::Keys;
use crate::log::EventLog;
use crate::store::{Store, StoreHealth, StoreState};

/// How long the database has to fail before that is an outage. A restart of a server takes less.
const CERTAIN_AFTER: Duration = Duration::from_secs(1);
/// The same for a file, which cannot be asked: its views know whether they can write.
const FILE_CERTAIN_AFTER: Duration = Duration::from_secs(3);
/// The same for a view that waits while the database answers, for a lock for example. After an outage, a view tries
/// again within the largest delay.
const VIEW_CERTAIN_AFTER: Duration = RETRY_DELAY_MAX.saturating_add(Duration::from_secs(3));

pub struct StoreWatch {
    pub log: EventLog,
    pub store: Store,
    pub keys: Keys,
    pub progress: Progress,
    pub health: StoreHealth,
    pub preparation: watch::Receiver<Preparation>,
    pub stop: Stop,
}

#[derive(Default)]
struct Outages {
    store: Outage,
    since: Option<Millis>,
    views: BTreeMap<String, Outage>,
    paused: BTreeMap<String, bool>,
}

/// The result of one look at the database.
enum Look {
    Works,
    /// The database cannot be used, for this reason. It is an outage once that has lasted for this long.
    Fails(String, Duration),
    /// The database answers, but is not the right one.
    Wrong(String),
}

/// How far the views are behind the log. Both are `None` if the store has not told the position of a view.
struct Behind {
    events: Option<u64>,
    seconds: Option<u64>,
}

impl StoreWatch {
    /// Starts to watch. A database that was away at the start is shown as down from now on.
    pub fn start(self) {
        let mut outages = Outages::default();
        if let Preparation::Pending(reason) = self.preparation.borrow().clone() {
            // The start has reported this outage.
            outages.store = Outage::reported(Instant::now());
            let since = Millis::now();
            outages.since = Some(since);
            self.show(StoreState::Down { since, reason });
        }
        let recovered = Arc::new(Notify::new());
        let keys = (self.keys.clone(), self.store.clone(), self.health.clone(), self.stop.clone());
        tokio::spawn(refresh_keys(keys, Arc::clone(&recovered)));
        tokio::spawn(self.run(outages, recovered));
    }

    async fn run(self, mut outages: Outages, recovered: Arc<Notify>) {
        loop {
            let failure = self.look().await;
            let behind = self.measure_lag().await;
            let states = self.progress.all();
            if self.report_store(&mut outages, failure, &states, &behind) {
                recovered.notify_one();
            }
            self.report_views(&mut outages, &states);
            if self.stop.within(STORE_PROBE_INTERVAL).await {
                return;
            }
        }
    }

    /// Returns why the database cannot be used, and for how long that has to last before it is reported.
    async fn look(&self) -> Look {
        match self.preparation.borrow().clone() {
            Preparation::Done => {}
            Preparation::Pending(reason) => return Look::Fails(reason, Duration::ZERO),
            Preparation::Wrong(reason) => return Look::Wrong(reason),
        }
        match timeout(STORE_PROBE_DURATION_MAX, self.store.probe()).await {
            Ok(Ok(())) => Look::Works,
            Ok(Err(error)) => Look::Fails(error.to_string(), CERTAIN_AFTER),
            Err(_) => {
                let seconds = STORE_PROBE_DURATION_MAX.as_secs();
                Look::Fails(format!("the database has not answered for {seconds} s"), Duration::ZERO)
            }
        }
    }

    fn show(&self, state: StoreState) {
        metrics::gauge!("millrace_store_up").set(if state == StoreState::Up { 1.0 } else { 0.0 });
        self.health.set(state);
    }

    /// Notes for each view when the first event that it has not applied was received. Returns the largest lag.
    async fn measure_lag(&self) -> Behind {
        let (end, log) = (self.log.end(), self.log.clone());
        let views = self.progress.all();
        let events = events_behind(&views, end);
        let known =
            views.into_iter().filter_map(|(view, applied)| Some((view, applied.position_if_known()?)));
        let positions: BTreeMap<String, u64> = known.collect();
        let read = move || {
            let behind = positions.into_iter().filter(|(_, position)| *position < end);
            let oldest = behind.filter_map(|(view, position)| Some((view, log.received_at(position)?)));
            oldest.collect::<BTreeMap<String, Millis>>()
        };
        let oldest = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        let now = Millis::now();
        let seconds = oldest.values().map(|received| received.seconds_until(now)).max().unwrap_or(0);
        self.progress.note_oldest(oldest);
        Behind { events, seconds: events.map(|_| seconds) }
    }

    /// Logs what has changed about the database, and publishes its state. Returns whether an outage is over.
    fn report_store(
        &self,
        outages: &mut Outages,
        look: Look,
        states: &BTreeMap<String, Applied>,
        behind: &Behind,
    ) -> bool {
        let of_file = || {
            let waiting = states.values().find_map(waiting)?;
            self.store.is_file().then(|| (waiting.to_owned(), FILE_CERTAIN_AFTER))
        };
        let now = Instant::now();
        let is_wrong = matches!(look, Look::Wrong(_));
        let failure = match look {
            Look::Wrong(reason) => Some((reason, Duration::ZERO)),
            Look::Fails(reason, certain_after) => Some((reason, certain_after)),
            Look::Works => of_file(),
        };
        let Some((reason, certain_after)) = failure else {
            self.show(StoreState::Up);
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
        if is_wrong && !outages.store.is_reported() {
            // The preparation has logged the reason.
            outages.store = Outage::reported(now);
        }
        let line = outages.store.note_failure(now, certain_after);
        if is_wrong {
            self.show(StoreState::Wrong { reason: reason.clone() });
        } else if outages.store.is_reported() {
            let since = *outages.since.get_or_insert_with(Millis::now);
            self.show(StoreState::Down { since, reason: reason.clone() });
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
            let is_paused = applied.is_paused();
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
            let lag = applied.position_if_known().map(|position| self.log.end().saturating_sub(position));
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
}

/// Returns the lag of the view that is furthest behind, or `None` if the position of a view is not known.
fn events_behind(views: &BTreeMap<String, Applied>, end: u64) -> Option<u64> {
    let lags = views.values().map(|applied| Some(end.saturating_sub(applied.position_if_known()?)));
    lags.collect::<Option<Vec<u64>>>().map(|lags| lags.into_iter().max().unwrap_or(0))
}

/// Reads the keys at intervals and after each outage, for changes by other nodes. This may wait for the database, so it
/// does not hold up the watch.
async fn refresh_keys((keys, store, health, stop): (Keys, Store, StoreHealth, Stop), recovered: Arc<Notify>) {
    loop {
        tokio::select! {
            () = stop.wait() => return,
            () = recovered.notified() => {}
            () = tokio::time::sleep(KEYS_REFRESH_INTERVAL) => {}
        }
        if !health.is_up() {
            continue;
        }
        if let Err(error) = keys.refresh(&store).await
            && !stop.asked()
        {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_not_known_while_a_position_is_not_known() {
        let views =
            |other: Applied| BTreeMap::from([("a".to_owned(), Applied::at(7)), ("b".to_owned(), other)]);
        assert_eq!(events_behind(&views(Applied::at(4)), 9), Some(5));
        assert_eq!(events_behind(&views(Applied::default()), 9), None);
        assert_eq!(events_behind(&BTreeMap::new(), 9), Some(0));
    }
}
