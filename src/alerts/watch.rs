//! Checks the server at intervals, and sends what has changed. An alert that cannot be sent is tried again. Nothing that
//! may hang is waited for: neither the store, nor the disk, nor the destination.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use event::limits::{ALERT_INTERVAL, ALERT_RETRY_DELAY_MAX, ALERT_RETRY_DELAY_MIN, ALERT_SAVE_DURATION_MAX};
use event::{Applied, Backoff, Millis, Progress, Stop};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::condition::{Conditions, Facts, ViewFacts};
use super::message::AlertMessage;
use super::section::AlertSettings;
use super::state::{AlertState, Streaks};
use super::{Alerts, ShownAlerts};
use crate::destinations::{Outcome, Verdict};
use crate::log::DiskBytes;
use crate::store::{NewDeadLetters, Store, StoreError, StoreHealth};

pub struct AlertWatch {
    pub alerts: Alerts,
    /// The data folder.
    pub data: PathBuf,
    pub progress: Progress,
    pub health: StoreHealth,
    pub store: Store,
    /// The time for which each view lets events wait on purpose.
    pub waits: BTreeMap<String, Duration>,
    pub stop: Stop,
}

/// Work that may hang. There is one piece of it at a time.
struct Background<T>(Option<JoinHandle<T>>);

/// The attempts to send.
#[derive(Default)]
struct Attempts {
    running: Option<(AlertMessage, JoinHandle<Outcome>)>,
    /// The pauses after failures, and when the next attempt may begin, by condition.
    delays: BTreeMap<String, (Backoff, Instant)>,
    last_error: Option<String>,
}

/// The state on the disk.
struct Saved {
    file: PathBuf,
    state: Option<AlertState>,
    writing: Background<std::io::Result<()>>,
}

impl AlertWatch {
    /// Starts to watch, if the configuration names a destination.
    pub fn start(self) {
        if let Some(settings) = self.alerts.settings().cloned() {
            let watch = tokio::spawn(self.run(settings));
            tokio::spawn(event::end_process_on_panic(watch));
        }
    }

    async fn run(self, settings: AlertSettings) {
        let file = self.data.join("alerts.json");
        let of_file = file.clone();
        let read = tokio::task::spawn_blocking(move || AlertState::read(&of_file)).await;
        let mut state = read.unwrap_or_default();
        let mut saved = Saved { file, state: Some(state.clone()), writing: Background(None) };
        let (mut attempts, mut streaks) = (Attempts::default(), Streaks::default());
        let (mut disk, mut dead_letters) = (Background(None), Background(None));
        let mut check_at = Instant::now();
        loop {
            if Instant::now() >= check_at {
                let mut facts = self.facts(&state, settings.lag_max, &mut disk, &mut dead_letters).await;
                let now = Millis::now();
                facts.new_dead_letters = facts.new_dead_letters.map(|found| state.count_new(found, now));
                let conditions = Conditions::of(&facts, |condition| state.holds(condition));
                state.note(&conditions, &mut streaks, now);
                check_at = Instant::now() + ALERT_INTERVAL;
            }
            let next = attempts.next(&state);
            if let Some(next) = &next {
                state.note_attempt(next);
            }
            // A full disk keeps no alert from being sent. Unsaved, one is sent again after a restart, with the same id.
            saved.save(&state).await;
            if let Some(next) = next {
                attempts.begin(next, &settings);
            }
            self.alerts
                .show(ShownAlerts { raised: state.raised.clone(), last_error: attempts.last_error.clone() });
            tokio::select! {
                () = self.stop.wait() => return,
                () = tokio::time::sleep_until(check_at) => {}
                (message, outcome) = attempts.ended() => attempts.note(message, outcome, &mut state),
            }
        }
    }

    async fn facts(
        &self,
        state: &AlertState,
        lag_max: Duration,
        disk: &mut Background<Option<DiskBytes>>,
        dead_letters: &mut Background<Result<NewDeadLetters, StoreError>>,
    ) -> Facts {
        let view = |(name, applied): (String, Applied)| {
            let waits = self.waits.get(&name).copied().unwrap_or_default();
            let lag = Duration::from_secs(self.progress.lag_seconds(&name));
            (name, ViewFacts { applied, lag, lag_max: lag_max + waits })
        };
        let (data, store, known_until) =
            (self.data.clone(), self.store.clone(), state.dead_letters_known_until);
        let disk = disk.latest(|| tokio::task::spawn_blocking(move || DiskBytes::of(&data))).await;
        let count = async move { store.new_dead_letters(known_until).await };
        let counted = dead_letters.latest(|| tokio::spawn(count)).await;
        Facts {
            views: self.progress.all().into_iter().map(view).collect(),
            store: self.health.state(),
            disk: disk.flatten(),
            new_dead_letters: counted.and_then(Result::ok),
        }
    }
}

impl<T> Background<T> {
    /// Returns the result if the work has ended, and starts it again. Returns `None` while it runs.
    async fn latest(&mut self, start: impl FnOnce() -> JoinHandle<T>) -> Option<T> {
        let ended = self.0.take_if(|work| work.is_finished());
        if self.0.is_none() {
            self.0 = Some(start());
        }
        ended?.await.ok()
    }
}

impl Saved {
    /// Writes the state if it has changed. Waits for the disk only for a moment.
    async fn save(&mut self, state: &AlertState) {
        let writes_already = self.writing.0.as_ref().is_some_and(|work| !work.is_finished());
        if self.state.as_ref() == Some(state) || writes_already {
            return;
        }
        let (copy, file) = (state.clone(), self.file.clone());
        let writing = self.writing.0.insert(tokio::task::spawn_blocking(move || copy.write(&file)));
        let error = match timeout(ALERT_SAVE_DURATION_MAX, writing).await {
            Ok(Ok(Ok(()))) => {
                self.state = Some(state.clone());
                return;
            }
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the disk does not answer".to_owned(),
        };
        // Only the first failure of several is logged.
        if self.state.take().is_some() {
            log_unsaved(&self.file, &error);
        }
    }
}

fn log_unsaved(file: &Path, error: &str) {
    tracing::warn!(file = %file.display(), error, "the state of the alerts could not be written; millrace tries again");
}

impl Attempts {
    /// Returns the next alert to send, if no other one is being sent.
    fn next(&self, state: &AlertState) -> Option<AlertMessage> {
        let may_send = |condition: &str| {
            self.delays.get(condition).is_none_or(|(_, next_at)| Instant::now() >= *next_at)
        };
        if self.running.is_some() { None } else { state.next_to_send(may_send) }
    }

    fn begin(&mut self, message: AlertMessage, settings: &AlertSettings) {
        let (settings, sent) = (settings.clone(), message.clone());
        self.running = Some((message, tokio::spawn(async move { settings.send(&sent).await })));
    }

    /// Waits for the end of the running attempt.
    async fn ended(&mut self) -> (AlertMessage, Outcome) {
        let Some((_, sending)) = &mut self.running else { return std::future::pending().await };
        let ended = sending.await;
        let outcome =
            ended.unwrap_or_else(|error| Outcome::failed(format!("the attempt ended early: {error}")));
        let (message, _) = self.running.take().expect("it has just ended");
        (message, outcome)
    }

    fn note(&mut self, message: AlertMessage, outcome: Outcome, state: &mut AlertState) {
        if outcome.verdict == Verdict::Sent {
            state.note_sent(&message);
            self.delays.remove(&message.condition);
            self.last_error = None;
            return;
        }
        let error = outcome.error.unwrap_or_default();
        let first = || (Backoff::new(ALERT_RETRY_DELAY_MIN, ALERT_RETRY_DELAY_MAX), Instant::now());
        let (backoff, next_at) = self.delays.entry(message.condition.clone()).or_insert_with(first);
        let delay = backoff.pause();
        *next_at = Instant::now() + delay;
        let (condition, phase, delay_seconds) = (message.condition, message.phase, delay.as_secs());
        tracing::warn!(
            condition,
            phase,
            error,
            delay_seconds,
            "an alert could not be sent; millrace tries again"
        );
        self.last_error = Some(error);
        self.delays.retain(|condition, _| state.raised.contains_key(condition));
    }
}
