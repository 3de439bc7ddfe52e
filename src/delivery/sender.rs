//! Sends what is due to one destination. The task leases deliveries, makes attempts, and hands their outcomes to the
//! recorder. It waits for nothing that belongs to another destination.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::limits::{
    ATTEMPTS_CUT_OFF_ALONE_MIN, ATTEMPTS_CUT_OFF_MAX, DELIVERY_POLL_INTERVAL, LANES_INTERVAL_MIN, LANES_MAX,
    LEASE_DURATION_EXTRA, LEASED_WAIT_DURATION_MAX,
};
use event::{Backoff, LogId, Stop};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::attempt::{Ended, attempt, not_made};
use super::lane::{Lane, Pace, Waiting};
use super::next_step;
use super::recorder::Recording;
use super::state::DestinationStates;
use crate::destinations::{Destination, Verdict};
use crate::store::{AfterAttempt, AttemptRecord, LeaseId, LeaseRequest, Store, StoreError};

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
    lanes: BTreeMap<String, Lane>,
    /// The lane after which the next look for lanes begins.
    lanes_after: String,
    /// The last lane that began an attempt. The next one has its turn.
    turn: String,
    /// When to look for hosts again, if the URL depends on the event.
    lanes_at: Instant,
    /// The store is not asked before, because it is in trouble.
    store_at: Instant,
    backoff: Backoff,
    /// Limits what is leased and not yet recorded.
    leased: Arc<Semaphore>,
    /// Leases whose answer was lost.
    lost: Vec<LeaseId>,
    /// More could be leased, if outcomes were recorded.
    waits_for_records: bool,
    attempts: JoinSet<Ended>,
}

impl Sender {
    /// Runs until a stop is asked for, and then until the attempts have ended.
    pub async fn run(mut self) {
        let now = Instant::now();
        let mut work = Work {
            lanes: BTreeMap::new(),
            lanes_after: String::new(),
            turn: String::new(),
            lanes_at: now,
            store_at: now,
            backoff: Backoff::default(),
            leased: Arc::new(Semaphore::new(self.pace().leased_max())),
            lost: Vec::new(),
            waits_for_records: false,
            attempts: JoinSet::new(),
        };
        work.lanes.insert(self.destination.name.clone(), Lane::default());
        while !self.stop.asked() {
            let is_paused = self.states.is_paused(&self.destination.name);
            if is_paused {
                self.give_back(&mut work).await;
            } else {
                if Instant::now() >= work.store_at {
                    match self.fill(&mut work).await {
                        Ok(()) => work.backoff = Backoff::default(),
                        Err(error) => {
                            tracing::debug!(destination = self.destination.name, %error, "delivery waits for the store");
                            work.store_at = Instant::now() + work.backoff.pause();
                        }
                    }
                }
                self.begin_attempts(&mut work).await;
            }
            let wake_at = wake_at(&work, is_paused);
            let leased = Arc::clone(&work.leased);
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
                    look_again(&mut work);
                }
                changed = self.paused.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    look_again(&mut work);
                }
                _ = leased.acquire(), if work.waits_for_records && !is_paused => {}
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
        self.give_back(&mut work).await;
        while let Some(ended) = work.attempts.join_next().await {
            self.end_attempt(&mut work, ended).await;
        }
    }

    /// Leases deliveries for every lane that has room.
    async fn fill(&self, work: &mut Work) -> Result<(), StoreError> {
        let now = Instant::now();
        while let Some(lease) = work.lost.last() {
            self.store.end_lease(*lease).await?;
            work.lost.pop();
        }
        if self.destination.may_have_hosts() && now >= work.lanes_at {
            self.find_lanes(work).await?;
            work.lanes_at = now + DELIVERY_POLL_INTERVAL;
        }
        work.waits_for_records = false;
        for lanes in in_turn(&work.turn) {
            for (name, lane) in work.lanes.range_mut::<str, _>(lanes) {
                let wanted = lane.wanted(&self.pace(), now);
                let free = work.leased.available_permits();
                work.waits_for_records |= wanted > 0 && free == 0;
                let wanted = wanted.min(free);
                if wanted > 0 && self.is_due(name, lane).await? {
                    self.lease(name, lane, wanted, &work.leased, &mut work.lost).await?;
                }
            }
        }
        Ok(())
    }

    /// Returns whether deliveries of a lane are due. Otherwise, the lane is not asked again before they are.
    async fn is_due(&self, name: &str, lane: &mut Lane) -> Result<bool, StoreError> {
        // A look costs no write, which matters to a database that is idle. After a full lease, more is probably due.
        if std::mem::take(&mut lane.had_more) {
            return Ok(true);
        }
        match self.store.due_in(name).await? {
            Some(..=0) => Ok(true),
            due => {
                let poll = DELIVERY_POLL_INTERVAL;
                let pause = due.map_or(poll, |millis| Duration::from_millis(millis.max(1).unsigned_abs()));
                lane.due = Some(Instant::now() + pause.min(poll));
                Ok(false)
            }
        }
    }

    /// Leases deliveries of a lane.
    async fn lease(
        &self,
        name: &str,
        lane: &mut Lane,
        wanted: usize,
        permits: &Arc<Semaphore>,
        lost: &mut Vec<LeaseId>,
    ) -> Result<(), StoreError> {
        let request = LeaseRequest {
            lane: name.to_owned(),
            deliveries_max: wanted,
            owner: self.owner,
            lease: LeaseId::fresh(),
            millis: (self.destination.attempt_within() + LEASE_DURATION_EXTRA).as_millis() as i64,
        };
        let lease = request.lease;
        let leased = match self.store.lease(request).await {
            Ok(leased) => leased,
            Err(error) => {
                lost.push(lease);
                return Err(error);
            }
        };
        failpoint::hit("delivery.leased");
        lane.is_alone = leased.iter().any(|one| one.cut_off >= ATTEMPTS_CUT_OFF_ALONE_MIN);
        lane.had_more = leased.len() == wanted || lane.is_alone;
        for one in leased {
            let permit =
                Arc::clone(permits).try_acquire_owned().expect("no more than is available is leased");
            lane.waiting.push_back(Waiting { leased: one, since: Instant::now(), permit });
        }
        Ok(())
    }

    /// Finds the hosts for which deliveries wait, and forgets those for which none do.
    async fn find_lanes(&self, work: &mut Work) -> Result<(), StoreError> {
        let own = &self.destination.name;
        let found = self.store.lanes_after(own, &work.lanes_after, LANES_MAX).await?;
        // With more hosts, the next look continues there.
        work.lanes_after = match found.last() {
            Some(last) if found.len() == LANES_MAX => last.clone(),
            Some(_) | None => String::new(),
        };
        work.lanes.retain(|name, lane| name == own || !lane.is_idle() || found.contains(name));
        for lane in found {
            work.lanes.entry(lane).or_default();
        }
        Ok(())
    }

    fn pace(&self) -> Pace {
        Pace { at_once: self.destination.at_once, many_hosts: self.destination.has_many_hosts() }
    }

    async fn begin_attempts(&self, work: &mut Work) {
        let now = Instant::now();
        let (mut too_old, mut cut_off) = (Vec::new(), Vec::new());
        let pace = self.pace();
        let Work { lanes, turn, attempts, .. } = work;
        for names in in_turn(&turn.clone()) {
            for (name, lane) in lanes.range_mut::<str, _>(names) {
                while lane.running < lane.at_once(&pace, now) && attempts.len() < pace.in_all() {
                    let Some(waiting) = lane.waiting.pop_front() else { break };
                    if now.duration_since(waiting.since) > LEASED_WAIT_DURATION_MAX {
                        // Its lease could end during the attempt.
                        too_old.push(waiting);
                        continue;
                    }
                    if waiting.leased.cut_off >= ATTEMPTS_CUT_OFF_MAX {
                        cut_off.push(waiting);
                        continue;
                    }
                    lane.running += 1;
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
            let reason = format!("the process ended during {ATTEMPTS_CUT_OFF_MAX} attempts");
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
        if let Some(lane) = work.lanes.get_mut(&lane) {
            lane.running -= 1;
            lane.note(sent);
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
        for lane in work.lanes.values_mut() {
            for waiting in lane.waiting.drain(..) {
                self.hand_over(not_made(waiting)).await;
            }
        }
    }
}

/// Returns when there may be something to do, if nothing else happens.
fn wake_at(work: &Work, is_paused: bool) -> Instant {
    let now = Instant::now();
    let poll = now + DELIVERY_POLL_INTERVAL;
    if is_paused {
        return poll;
    }
    let ready = |lane: &Lane| {
        let may_begin = now + lane.breaker.pause(now);
        if lane.waiting.is_empty() {
            lane.due.unwrap_or(poll).max(may_begin).max(work.store_at)
        } else {
            may_begin
        }
    };
    // A lane that is ready now waits for an attempt to end.
    work.lanes.values().map(ready).chain([work.lanes_at]).filter(|at| *at > now).fold(poll, Instant::min)
}

/// Returns the names after `turn`, and then those up to it, so that all lanes have their turn.
fn in_turn(turn: &str) -> [(Bound<&str>, Bound<&str>); 2] {
    [(Bound::Excluded(turn), Bound::Unbounded), (Bound::Unbounded, Bound::Included(turn))]
}

/// Lets all lanes look for deliveries that are due now.
fn look_again(work: &mut Work) {
    work.lanes_at = work.lanes_at.min(Instant::now() + LANES_INTERVAL_MIN);
    work.lanes.values_mut().for_each(|lane| lane.due = None);
}

/// Returns a random number between 0 and 1.
fn random_fraction() -> f64 {
    f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX)
}
