//! Sends what is due to one destination. The task leases deliveries, makes attempts, and hands their outcomes to the
//! recorder. It waits for nothing that belongs to another destination.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use event::limits::{ATTEMPTS_CUT_OFF_MAX, DELIVERY_POLL_INTERVAL, LEASED_WAIT_DURATION_MAX};
use event::{Backoff, LogId, Stop};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::attempt::{Ended, attempt, not_made};
use super::lane::{Pace, Waiting};
use super::leasing::{Leasing, in_turn};
use super::next_step;
use super::recorder::Recording;
use super::state::DestinationStates;
use crate::destinations::{Destination, Verdict};
use crate::store::{AfterAttempt, AttemptRecord, Store};

pub struct Sender {
    pub destination: Arc<Destination>,
    pub store: Store,
    /// The log of this node, which owns its leases.
    pub owner: LogId,
    pub states: DestinationStates,
    pub paused: watch::Receiver<BTreeMap<String, String>>,
    /// Changes when notifications may have been queued.
    pub queued: watch::Receiver<()>,
    pub outcomes: mpsc::Sender<Recording>,
    pub stop: Stop,
}

/// The work of the task.
struct Work {
    leasing: Leasing,
    /// The store is not asked before, because it is in trouble.
    store_at: Instant,
    backoff: Backoff,
    attempts: JoinSet<Ended>,
}

impl Sender {
    /// Runs until a stop is asked for, and then until the attempts have ended.
    pub async fn run(mut self) {
        let leasing = Leasing::new(Arc::clone(&self.destination), self.store.clone(), self.owner);
        let (store_at, backoff) = (Instant::now(), Backoff::default());
        let mut work = Work { leasing, store_at, backoff, attempts: JoinSet::new() };
        while !self.stop.asked() {
            let is_paused = self.states.is_paused(&self.destination.name);
            if is_paused {
                self.give_back(&mut work).await;
            } else {
                if Instant::now() >= work.store_at {
                    match work.leasing.fill().await {
                        Ok(()) => work.backoff = Backoff::default(),
                        Err(error) => {
                            tracing::debug!(destination = self.destination.name, %error, "delivery waits for the store");
                            work.store_at = Instant::now() + work.backoff.pause();
                        }
                    }
                }
                self.begin_attempts(&mut work).await;
            }
            let now = Instant::now();
            let poll = now + DELIVERY_POLL_INTERVAL;
            let wake_at = if is_paused { poll } else { work.leasing.wake_at(work.store_at) };
            let permits = work.leasing.permits();
            let may_lease = work.leasing.waits_for_records && !is_paused && now >= work.store_at;
            tokio::select! {
                biased;
                () = self.stop.wait() => break,
                Some(ended) = work.attempts.join_next(), if !work.attempts.is_empty() => {
                    self.end_attempt(&mut work, ended).await;
                    while let Some(ended) = work.attempts.try_join_next() {
                        self.end_attempt(&mut work, ended).await;
                    }
                }
                changed = self.queued.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    work.leasing.look_again();
                }
                changed = self.paused.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    work.leasing.look_again();
                }
                _ = permits.acquire(), if may_lease => {}
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
        self.give_back(&mut work).await;
        while let Some(ended) = work.attempts.join_next().await {
            self.end_attempt(&mut work, ended).await;
        }
    }

    async fn begin_attempts(&self, work: &mut Work) {
        let now = Instant::now();
        let (mut too_old, mut cut_off) = (Vec::new(), Vec::new());
        let pace = Pace::of(&self.destination);
        let Work { leasing: Leasing { lanes, turn, .. }, attempts, .. } = work;
        for names in in_turn(&turn.clone()) {
            for (name, lane) in lanes.range_mut::<str, _>(names) {
                while lane.running < lane.at_once(&pace, now) && attempts.len() < pace.in_all() {
                    let Some(waiting) = lane.next() else { break };
                    if now.duration_since(waiting.since) > LEASED_WAIT_DURATION_MAX {
                        // Its lease could end during the attempt.
                        too_old.push(waiting);
                        continue;
                    }
                    if waiting.leased.cut_off >= ATTEMPTS_CUT_OFF_MAX {
                        cut_off.push(waiting);
                        continue;
                    }
                    lane.begin(&waiting);
                    turn.clone_from(name);
                    attempts.spawn(attempt(name.clone(), Arc::clone(&self.destination), waiting));
                }
            }
        }
        for waiting in too_old {
            self.hand_over(not_made(waiting)).await;
        }
        for waiting in cut_off {
            // Its content may be what ends the process.
            let mut dead = not_made(waiting);
            dead.record.next = AfterAttempt::Dead;
            let reason = format!(
                "the outcome of {ATTEMPTS_CUT_OFF_MAX} attempts in a row is not known: the process ended during them"
            );
            tracing::warn!(
                destination = self.destination.name,
                notification = dead.record.key.notification,
                reason,
                "notification became a dead letter"
            );
            dead.record.error = Some(reason);
            self.hand_over(dead).await;
        }
    }

    async fn end_attempt(&self, work: &mut Work, ended: Result<Ended, tokio::task::JoinError>) {
        let ended = ended.expect("a panic ends the process");
        let Ended { lane, waiting, begun, duration, mut outcome } = ended;
        if outcome.verdict == Verdict::Gone && self.destination.has_many_hosts() {
            // One host does not speak for the others.
            outcome.verdict = Verdict::Refused;
        }
        let name = &self.destination.name;
        let sent = outcome.verdict == Verdict::Sent;
        if let Some(lane) = work.leasing.lanes.get_mut(&lane) {
            lane.end(sent);
            if sent && lane.breaker.succeeded() {
                tracing::info!(destination = name, "destination works again");
            } else if !sent && outcome.verdict != Verdict::Refused && lane.breaker.failed(Instant::now()) {
                let error = outcome.error.as_deref().unwrap_or_default();
                tracing::warn!(
                    destination = name,
                    error,
                    "destination is broken: it gets one attempt at a time until one succeeds"
                );
            }
        }
        if outcome.verdict == Verdict::Gone && !self.states.is_paused(name) {
            let reason = "the receiver answered 410: it wants no more";
            tracing::error!(destination = name, reason, "destination is paused");
            if let Err(error) = self.states.pause(&self.store, name, reason).await {
                tracing::warn!(destination = name, %error, "the pause could not be stored");
            }
        }
        let Waiting { leased, permit, .. } = waiting;
        let next = next_step::after(&outcome, leased.failed, &self.destination.retry, random_fraction());
        let label = match next {
            AfterAttempt::Sent => "sent",
            AfterAttempt::Retry { .. } | AfterAttempt::Resumed | AfterAttempt::NotMade => "failed",
            AfterAttempt::Dead => "dead-letter",
        };
        metrics::counter!("millrace_delivery_attempts_total", "destination" => name.clone(), "outcome" => label).increment(1);
        if let Some(error) = &outcome.error {
            let dead = next == AfterAttempt::Dead;
            let (notification, attempt) = (&leased.key.notification, leased.attempt);
            if dead {
                tracing::warn!(
                    destination = name,
                    notification,
                    attempt,
                    error,
                    "notification could not be sent and became a dead letter"
                );
            } else {
                tracing::debug!(destination = name, notification, attempt, error, "attempt failed");
            }
        }
        self.states.note_outcome(name, &outcome);
        let record = AttemptRecord {
            key: leased.key,
            lease: leased.lease,
            attempt: leased.attempt,
            begun,
            duration_millis: duration.as_millis() as i64,
            status: outcome.status,
            answer: outcome.answer,
            error: outcome.error,
            next,
        };
        self.hand_over(Recording { record, permit }).await;
    }

    async fn hand_over(&self, recording: Recording) {
        // It fails only if the recorder has given up at a stop.
        let _ = self.outcomes.send(recording).await;
    }

    /// Gives back what is leased but not attempted.
    async fn give_back(&self, work: &mut Work) {
        for lane in work.leasing.lanes.values_mut() {
            for waiting in lane.waiting.drain(..) {
                self.hand_over(not_made(waiting)).await;
            }
        }
    }
}

/// Returns a random number between 0 and 1.
fn random_fraction() -> f64 {
    f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX)
}
