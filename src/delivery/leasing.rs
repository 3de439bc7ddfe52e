//! Leases deliveries for the lanes of one destination, and finds the lanes. It never leases more than can be attempted soon.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::LogId;
use event::limits::{
    DELIVERY_POLL_INTERVAL, LANES_INTERVAL_MIN, LANES_MAX, LEASE_DURATION_EXTRA, LEASES_TOGETHER_MAX,
    OLD_LANES_INTERVAL,
};
use tokio::sync::Semaphore;

use super::lane::{Lane, Pace, Waiting};
use crate::destinations::Destination;
use crate::store::{LeaseId, LeaseRequest, Store, StoreError};

pub struct Leasing {
    leases: Leases,
    pub lanes: BTreeMap<String, Lane>,
    /// The last lane that began an attempt. The next one has its turn.
    pub turn: String,
    /// More could be leased, if outcomes were recorded.
    pub waits_for_records: bool,
    /// Some lanes were not asked yet.
    has_more: bool,
    /// When to look for hosts again, if the URL depends on the event.
    lanes_at: Instant,
    /// The lane after which the next look for lanes begins.
    lanes_after: String,
    /// The number of times that all lanes were looked for.
    rounds: u64,
    lost: Vec<LostLease>,
    lost_at: Instant,
}

/// Makes leases.
struct Leases {
    destination: Arc<Destination>,
    store: Store,
    /// The log of this node, which owns its leases.
    owner: LogId,
    /// Limits what is leased and not yet recorded.
    permits: Arc<Semaphore>,
}

/// A lease whose answer was lost. The store may still make it while the request is on its way.
struct LostLease {
    lease: LeaseId,
    until: Instant,
}

impl Leasing {
    pub fn new(destination: Arc<Destination>, store: Store, owner: LogId) -> Self {
        let now = Instant::now();
        let pace = Pace::of(&destination);
        let own = (destination.name.clone(), Lane::default());
        let permits = Arc::new(Semaphore::new(pace.leased_max()));
        Self {
            leases: Leases { destination, store, owner, permits },
            lanes: BTreeMap::from([own]),
            turn: String::new(),
            waits_for_records: false,
            has_more: false,
            lanes_at: now,
            lanes_after: String::new(),
            rounds: 0,
            lost: Vec::new(),
            lost_at: now,
        }
    }

    /// Returns the permits for what is leased.
    pub fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.leases.permits)
    }

    /// Leases deliveries for the lanes that have room. Few at a time, so that their attempts begin soon.
    pub async fn fill(&mut self) -> Result<(), StoreError> {
        (self.waits_for_records, self.has_more) = (false, false);
        let now = Instant::now();
        self.end_lost(now).await?;
        if self.leases.destination.may_have_hosts() && now >= self.lanes_at {
            self.find_lanes(now).await?;
        }
        let pace = Pace::of(&self.leases.destination);
        let mut made = 0;
        for names in in_turn(&self.turn) {
            for (name, lane) in self.lanes.range_mut::<str, _>(names) {
                let wanted = lane.wanted(&pace, now);
                let free = self.leases.permits.available_permits();
                self.waits_for_records |= wanted > 0 && free == 0;
                let wanted = wanted.min(free);
                if wanted == 0 || !self.leases.is_due(name, lane).await? {
                    continue;
                }
                if made == LEASES_TOGETHER_MAX {
                    (lane.is_due, self.has_more) = (true, true);
                    return Ok(());
                }
                if let Err((error, lost)) = self.leases.lease(name, lane, wanted).await {
                    self.lost.push(lost);
                    return Err(error);
                }
                made += 1;
            }
        }
        Ok(())
    }

    /// Ends the leases whose answer was lost. One that is made late would keep its deliveries from being attempted.
    async fn end_lost(&mut self, now: Instant) -> Result<(), StoreError> {
        if now < self.lost_at {
            return Ok(());
        }
        for LostLease { lease, .. } in &self.lost {
            self.leases.store.end_lease(*lease).await?;
        }
        self.lost.retain(|lost| lost.until > now);
        self.lost_at = now + DELIVERY_POLL_INTERVAL;
        Ok(())
    }

    /// Finds the hosts for which deliveries wait, and forgets those for which none do.
    async fn find_lanes(&mut self, now: Instant) -> Result<(), StoreError> {
        let own = &self.leases.destination.name;
        let found = self.leases.store.lanes_after(own, &self.lanes_after, LANES_MAX).await?;
        // With more hosts, the next look continues there.
        let is_last_page = found.len() < LANES_MAX;
        self.lanes_after = match found.last() {
            Some((last, _)) if !is_last_page => last.clone(),
            Some(_) | None => String::new(),
        };
        for (name, due_in) in found {
            let lane = self.lanes.entry(name).or_default();
            lane.note_due(due_in);
            lane.seen = self.rounds;
        }
        let many_hosts = Pace::of(&self.leases.destination).many_hosts;
        self.lanes_at = now
            + match (is_last_page, many_hosts) {
                (false, _) => LANES_INTERVAL_MIN,
                (true, true) => DELIVERY_POLL_INTERVAL,
                (true, false) => OLD_LANES_INTERVAL,
            };
        if is_last_page {
            let rounds = self.rounds;
            self.lanes.retain(|name, lane| name == own || !lane.is_idle() || lane.seen == rounds);
            self.rounds += 1;
        }
        Ok(())
    }

    /// Lets all lanes look for deliveries that are due now.
    pub fn look_again(&mut self) {
        if Pace::of(&self.leases.destination).many_hosts {
            self.lanes_at = self.lanes_at.min(Instant::now() + LANES_INTERVAL_MIN);
        } else {
            self.lanes.values_mut().for_each(|lane| lane.due = None);
        }
    }

    /// Returns when there may be something to do, if nothing else happens. The store is not asked before `store_at`.
    pub fn wake_at(&self, store_at: Instant) -> Instant {
        let now = Instant::now();
        let poll = now + DELIVERY_POLL_INTERVAL;
        if self.has_more {
            return store_at.max(now);
        }
        let ready = |lane: &Lane| {
            let may_begin = now + lane.breaker.pause(now);
            if lane.waiting.is_empty() {
                lane.due.unwrap_or(poll).max(may_begin).max(store_at)
            } else {
                may_begin
            }
        };
        // A lane that is ready now waits for an attempt to end.
        let ready = self.lanes.values().map(ready).chain([self.lanes_at.max(store_at)]);
        ready.filter(|at| *at > now).fold(poll, Instant::min)
    }
}

impl Leases {
    /// Returns whether deliveries of a lane are due. Otherwise, the lane is not asked again before they are.
    async fn is_due(&self, name: &str, lane: &mut Lane) -> Result<bool, StoreError> {
        // A look costs no write, which matters to a database that is idle.
        if !std::mem::take(&mut lane.is_due) {
            let due_in = self.store.due_in(name).await?;
            lane.note_due(due_in.unwrap_or(i64::MAX));
            return Ok(std::mem::take(&mut lane.is_due));
        }
        Ok(true)
    }

    /// Leases deliveries of a lane.
    async fn lease(&self, name: &str, lane: &mut Lane, wanted: usize) -> Result<(), (StoreError, LostLease)> {
        let within = self.destination.attempt_within() + LEASE_DURATION_EXTRA;
        let lease = LeaseId::fresh();
        let request = LeaseRequest {
            lane: name.to_owned(),
            deliveries_max: wanted,
            owner: self.owner,
            lease,
            millis: within.as_millis() as i64,
        };
        let leased = self.store.lease(request).await;
        let leased = leased.map_err(|error| (error, LostLease { lease, until: Instant::now() + within }))?;
        failpoint::hit("delivery.leased");
        // After a full lease, more is probably due.
        lane.is_due = leased.len() == wanted;
        for one in leased {
            let permit =
                Arc::clone(&self.permits).try_acquire_owned().expect("no more than is available is leased");
            lane.waiting.push_back(Waiting { leased: one, since: Instant::now(), permit });
        }
        Ok(())
    }
}

impl Lane {
    /// Notes in how many milliseconds the first delivery is due. Nobody says so when another node queues one, so the lane is
    /// asked again soon in any case.
    fn note_due(&mut self, millis: i64) {
        self.is_due = millis <= 0;
        let pause = Duration::from_millis(millis.max(0).unsigned_abs()).min(DELIVERY_POLL_INTERVAL);
        self.due = (!self.is_due).then(|| Instant::now() + pause);
    }
}

/// Returns the names after `turn`, and then those up to it, so that all lanes have their turn.
pub fn in_turn(turn: &str) -> [(Bound<&str>, Bound<&str>); 2] {
    [(Bound::Excluded(turn), Bound::Unbounded), (Bound::Unbounded, Bound::Included(turn))]
}
