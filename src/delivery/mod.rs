//! Delivery: sends notifications that are due to their destinations, retries what fails, and makes dead letters of what
//! keeps failing. Deliveries and their due times are in the store, so they outlive the process.

mod attempt;
mod breaker;
mod dead_letter;
mod lane;
mod leasing;
mod next_step;
mod recorder;
mod sender;
mod state;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;

use event::limits::{DELIVERY_STOP_DURATION_MAX, OUTCOMES_TOGETHER_MAX};
use event::{Backoff, LogId, Stop};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::destinations::Destination;
use crate::store::{DeliveryDecision, DeliveryKey, Store, StoreError};
use crate::views::Running;
use recorder::{NotificationViews, Recorder};
use sender::Sender;

pub use dead_letter::{Edited, UnsentError};
pub use state::{DestinationStates, LastOutcomes};

/// Everything that delivery needs.
pub struct Settings<'a> {
    pub store: Store,
    /// The log of this node.
    pub owner: LogId,
    pub destinations: &'a BTreeMap<String, Arc<Destination>>,
    pub views: &'a BTreeMap<String, Running>,
    /// Changes when a view has queued notifications.
    pub queued: watch::Sender<()>,
}

/// The handle of delivery. Clones share it.
#[derive(Clone)]
pub struct Delivery {
    pub states: DestinationStates,
    pub destinations: BTreeMap<String, Arc<Destination>>,
    store: Store,
    views: NotificationViews,
    queued: watch::Sender<()>,
}

/// Ends delivery.
pub struct DeliveryEnd {
    stop: Stop,
    give_up: Stop,
    tasks: Vec<JoinHandle<()>>,
}

impl Delivery {
    /// Starts a task for each destination, and one that records the outcomes.
    pub fn start(settings: Settings<'_>) -> (Self, DeliveryEnd) {
        let (stop, give_up) = (Stop::default(), Stop::default());
        let states = DestinationStates::default();
        let views = NotificationViews::of(settings.views);
        let (outcomes, incoming) = mpsc::channel(OUTCOMES_TOGETHER_MAX);
        let store = settings.store.clone();
        let recorder =
            Recorder { store: store.clone(), views: views.clone(), incoming, give_up: give_up.clone() };
        let mut tasks =
            vec![tokio::spawn(async { event::end_process_on_panic(tokio::spawn(recorder.run())).await })];
        let senders: Vec<Sender> = settings
            .destinations
            .values()
            .map(|destination| Sender {
                destination: Arc::clone(destination),
                store: store.clone(),
                owner: settings.owner,
                states: states.clone(),
                paused: states.follow(),
                queued: settings.queued.subscribe(),
                outcomes: outcomes.clone(),
                stop: stop.clone(),
            })
            .collect();
        tasks.push(tokio::spawn(begin(senders, states.clone(), store.clone(), settings.owner, stop.clone())));
        tokio::spawn(states.clone().keep_reading(store.clone(), stop.clone()));
        tokio::spawn(upkeep::forget_old_attempts(store.clone(), stop.clone()));
        let destinations = settings.destinations.clone();
        let delivery = Self { states, destinations, store, views, queued: settings.queued };
        (delivery, DeliveryEnd { stop, give_up, tasks })
    }

    /// Pauses a destination: no attempt begins until it is resumed.
    pub async fn pause(&self, name: &str, reason: &str) -> Result<(), StoreError> {
        self.states.pause(&self.store, name, reason).await?;
        tracing::info!(destination = name, reason, "destination is paused");
        Ok(())
    }

    pub async fn resume(&self, name: &str) -> Result<(), StoreError> {
        self.states.resume(&self.store, name).await?;
        tracing::info!(destination = name, "destination is resumed");
        Ok(())
    }

    /// Makes everything due that waits for a retry at a destination. Returns how many deliveries that are.
    pub async fn make_due(&self, name: &str) -> Result<usize, StoreError> {
        let due = self.store.make_due(name).await?;
        self.queued.send_replace(());
        Ok(due)
    }

    /// Carries out a decision about a dead letter. Returns `false` if somebody else has decided meanwhile, or if nothing is
    /// left to send.
    async fn decide(&self, decision: DeliveryDecision) -> Result<bool, StoreError> {
        let table = self.views.table(&decision.key.view);
        let key = decision.key.clone();
        let decided = self.store.decide_delivery(DeliveryDecision { table, ..decision }).await?;
        if decided {
            self.note_queued(&key);
        }
        Ok(decided)
    }

    /// Tells delivery and subscribers that the state of a notification has changed.
    fn note_queued(&self, key: &DeliveryKey) {
        self.views.note(std::slice::from_ref(key));
        self.queued.send_replace(());
    }
}

/// Ends the leases of an earlier process, whose attempts were cut off, and then sends.
async fn begin(senders: Vec<Sender>, states: DestinationStates, store: Store, owner: LogId, stop: Stop) {
    let mut backoff = Backoff::default();
    let ready = async || {
        states.read(&store).await?;
        store.end_leases_of(owner).await
    };
    loop {
        match ready().await {
            Ok(0) => break,
            Ok(cut_off) => {
                tracing::info!(attempts = cut_off, "attempts that were cut off are repeated");
                break;
            }
            Err(error) => {
                tracing::debug!(%error, "delivery waits for the store");
                if stop.within(backoff.pause()).await {
                    return;
                }
            }
        }
    }
    let running: Vec<JoinHandle<()>> = senders.into_iter().map(|sender| tokio::spawn(sender.run())).collect();
    for sender in running {
        event::end_process_on_panic(sender).await;
    }
}

impl DeliveryEnd {
    /// Begins no further attempt, and waits until those that run are recorded, for a short time. Others are repeated after
    /// the next start.
    pub async fn close(self) {
        self.stop.ask();
        let ended = async {
            for mut task in self.tasks {
                let waited = tokio::time::timeout(DELIVERY_STOP_DURATION_MAX, &mut task).await;
                if waited.is_err() {
                    self.give_up.ask();
                    task.abort();
                }
            }
        };
        ended.await;
    }
}
