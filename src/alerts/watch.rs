//! Looks at the server at intervals, and sends what has changed. An alert that cannot be sent is tried again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use event::limits::{
    ALERT_INTERVAL, ALERT_RETRY_DELAY_MAX, ALERT_RETRY_DELAY_MIN, METRICS_STORE_DURATION_MAX,
};
use event::{Backoff, Millis, Progress, Stop};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::condition::{Conditions, Facts, ViewFacts};
use super::message::AlertMessage;
use super::raised::AlertState;
use super::section::AlertSettings;
use super::{Alerts, ShownAlerts};
use crate::destinations::{Outcome, Verdict};
use crate::log::DiskBytes;
use crate::store::{Store, StoreHealth};

const DEAD_LETTERS: &str = "dead-letters";

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

/// An attempt to send an alert.
type Sending = (AlertMessage, JoinHandle<Outcome>);

/// The attempts to send.
struct Attempts {
    running: Option<Sending>,
    backoff: Backoff,
    /// No attempt begins before.
    next_at: Instant,
    last_error: Option<String>,
}

impl AlertWatch {
    /// Starts to watch, if the configuration names a destination.
    pub fn start(self) {
        if let Some(settings) = self.alerts.settings().cloned() {
            tokio::spawn(self.run(settings));
        }
    }

    async fn run(self, settings: AlertSettings) {
        let file = self.data.join("alerts.json");
        let of_file = file.clone();
        let read = tokio::task::spawn_blocking(move || AlertState::read(&of_file)).await;
        let mut state = read.unwrap_or_default();
        let mut attempts = Attempts {
            running: None,
            backoff: Backoff::new(ALERT_RETRY_DELAY_MIN, ALERT_RETRY_DELAY_MAX),
            next_at: Instant::now(),
            last_error: None,
        };
        let mut saved = Some(state.clone());
        let mut look_at = Instant::now();
        loop {
            if Instant::now() >= look_at {
                self.look(&mut state, settings.lag_max).await;
                look_at = Instant::now() + ALERT_INTERVAL;
            }
            // A full disk keeps no alert from being sent. Unsaved, one is sent again after a restart, with the same id.
            if saved.as_ref() != Some(&state) {
                saved = save(&state, &file, saved.is_some()).await.then(|| state.clone());
            }
            attempts.begin(&state, &settings);
            self.alerts.show(ShownAlerts {
                raised: state.raised.values().cloned().collect(),
                last_error: attempts.last_error.clone(),
            });
            tokio::select! {
                () = self.stop.wait() => return,
                () = tokio::time::sleep_until(look_at) => {}
                ended = Attempts::ended(&mut attempts.running) => attempts.note(ended, &mut state),
            }
        }
    }

    async fn look(&self, state: &mut AlertState, lag_max: Duration) {
        let data = self.data.clone();
        let disk = tokio::task::spawn_blocking(move || DiskBytes::of(&data)).await.ok().flatten();
        let view = |(name, applied): (String, event::Applied)| {
            let waits = self.waits.get(&name).copied().unwrap_or_default();
            let lag = Duration::from_secs(self.progress.lag_seconds(&name));
            (name, ViewFacts { applied, lag, lag_max: lag_max + waits })
        };
        let views = self.progress.all().into_iter().map(view).collect();
        let facts = Facts { views, store: self.health.state(), disk };
        let mut conditions = Conditions::of(&facts, |condition| state.holds(condition));
        let now = Millis::now();
        match timeout(METRICS_STORE_DURATION_MAX, self.store.open_dead_letters()).await {
            Ok(Ok(open)) => {
                if let Some(new) = state.dead_letters.note(open, now) {
                    let message = if new == 1 {
                        format!("There is a new dead letter; {open} open.")
                    } else {
                        format!("There are {new} new dead letters; {open} open.")
                    };
                    conditions.add(
                        DEAD_LETTERS,
                        format!("{message} `millrace dead-letter list` shows the reasons."),
                        "There are no new dead letters any more.",
                    );
                }
            }
            Ok(Err(_)) | Err(_) => drop(conditions.unknown.insert(DEAD_LETTERS.to_owned())),
        }
        state.note(conditions, now);
    }
}

impl Attempts {
    fn begin(&mut self, state: &AlertState, settings: &AlertSettings) {
        if self.running.is_some() || Instant::now() < self.next_at {
            return;
        }
        let Some(next) = state.next_to_send() else { return };
        let (settings, alert) = (settings.clone(), next.clone());
        let sending = tokio::spawn(async move { settings.send(&alert).await });
        self.running = Some((next, sending));
    }

    /// Waits for the end of the running attempt.
    async fn ended(running: &mut Option<Sending>) -> (AlertMessage, Outcome) {
        let Some((_, sending)) = running else { return std::future::pending().await };
        let ended = sending.await;
        let outcome =
            ended.unwrap_or_else(|error| Outcome::failed(format!("the attempt ended early: {error}")));
        let (alert, _) = running.take().expect("it has just ended");
        (alert, outcome)
    }

    fn note(&mut self, (alert, outcome): (AlertMessage, Outcome), state: &mut AlertState) {
        if outcome.verdict == Verdict::Sent {
            state.note_sent(&alert);
            (self.last_error, self.next_at) = (None, Instant::now());
            self.backoff = Backoff::new(ALERT_RETRY_DELAY_MIN, ALERT_RETRY_DELAY_MAX);
        } else {
            let (error, delay) = (outcome.error.unwrap_or_default(), self.backoff.pause());
            tracing::warn!(
                condition = alert.condition,
                phase = alert.phase,
                error,
                delay_seconds = delay.as_secs(),
                "an alert could not be sent; millrace tries again"
            );
            (self.last_error, self.next_at) = (Some(error), Instant::now() + delay);
        }
    }
}

/// Returns whether the state is on the disk now. `logs` says whether a failure is logged.
async fn save(state: &AlertState, file: &Path, logs: bool) -> bool {
    let (state, path) = (state.clone(), file.to_owned());
    let written = tokio::task::spawn_blocking(move || state.write(&path)).await;
    let error = match written {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    if logs {
        tracing::warn!(file = %file.display(), error, "the state of the alerts could not be written; millrace tries again");
    }
    false
}
