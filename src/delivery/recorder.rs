//! Records the outcomes of attempts at all destinations, many in one transaction. An outcome is kept until the store has
//! it: without a record, the attempt would be repeated.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::limits::{OUTCOMES_TOGETHER_MAX, RETRY_DELAY_MIN};
use event::{Backoff, Stop};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::store::{AttemptRecord, DeliveryKey, Store, StoreError, Table, ViewTableLookup};
use crate::views::{Changes, Running};

/// An outcome with its part of what a destination may have leased.
pub struct Recording {
    pub record: AttemptRecord,
    pub permit: OwnedSemaphorePermit,
}

/// The views of notifications, by name.
#[derive(Clone)]
pub struct NotificationViews(Arc<BTreeMap<String, (Arc<Table>, Changes)>>);

impl NotificationViews {
    pub fn of(views: &BTreeMap<String, Running>) -> Self {
        let view = |(name, running): (&String, &Running)| {
            let table = Arc::clone(running.view.notifications()?.table());
            Some((name.clone(), (table, running.changes.clone())))
        };
        Self(Arc::new(views.iter().filter_map(view).collect()))
    }

    pub fn table(&self, view: &str) -> Option<Arc<Table>> {
        self.0.get(view).map(|(table, _)| Arc::clone(table))
    }

    /// Tells the subscribers of notifications that these have changed.
    pub fn note(&self, changed: &[DeliveryKey]) {
        for (view, (_, changes)) in self.0.iter() {
            let of_view = changed.iter().filter(|key| key.view == *view);
            changes.note_rows(of_view.map(|key| key.notification.as_str()));
        }
    }
}

pub struct Recorder {
    pub store: Store,
    pub views: NotificationViews,
    pub incoming: mpsc::Receiver<Recording>,
    /// Ends the attempts to record outcomes that the store does not take.
    pub give_up: Stop,
}

impl Recorder {
    /// Runs until all senders are gone and everything is recorded.
    pub async fn run(mut self) {
        let mut together = Vec::with_capacity(OUTCOMES_TOGETHER_MAX);
        while self.incoming.recv_many(&mut together, OUTCOMES_TOGETHER_MAX).await > 0 {
            // The permits are returned once the outcomes are recorded.
            let (records, _permits): (Vec<_>, Vec<_>) =
                together.drain(..).map(|one| (one.record, one.permit)).unzip();
            if !self.record(records).await {
                return;
            }
        }
    }

    /// Returns `false` if the outcomes were given up. Their attempts are repeated after the next start.
    async fn record(&self, records: Vec<AttemptRecord>) -> bool {
        failpoint::hit("delivery.attempted");
        let records = Arc::new(records);
        let views = self.views.clone();
        let table_of: ViewTableLookup = Arc::new(move |view: &str| views.table(view));
        let mut backoff = Backoff::default();
        loop {
            match self.store.record_attempts(Arc::clone(&records), Arc::clone(&table_of)).await {
                Ok(changed) => {
                    self.views.note(&changed);
                    failpoint::hit("delivery.recorded");
                    return true;
                }
                Err(StoreError::Closed) => return false,
                Err(error @ (StoreError::Data(_) | StoreError::Blocked(_) | StoreError::NoTable(_))) => {
                    tracing::debug!(%error, "outcomes are recorded one by one");
                    return self.record_each(&records, &table_of).await;
                }
                Err(error) => {
                    let delay = backoff.pause();
                    tracing::warn!(
                        %error,
                        outcomes = records.len(),
                        delay_ms = delay.as_millis() as u64,
                        "the outcomes of deliveries could not be recorded; millrace tries again"
                    );
                    if self.give_up.within(delay).await {
                        return false;
                    }
                }
            }
        }
    }

    /// Records outcomes one by one. A view's table that cannot be written, such as one that somebody has dropped, keeps no
    /// outcome from being recorded.
    async fn record_each(&self, records: &[AttemptRecord], table_of: &ViewTableLookup) -> bool {
        let without_tables: ViewTableLookup = Arc::new(|_: &str| None);
        for record in records {
            let mut tables = table_of;
            loop {
                let one = Arc::new(vec![record.clone()]);
                match self.store.record_attempts(one, Arc::clone(tables)).await {
                    Ok(changed) => {
                        self.views.note(&changed);
                        break;
                    }
                    Err(StoreError::Closed) => return false,
                    Err(StoreError::Transient(_)) => {}
                    Err(error) => {
                        let DeliveryKey { view, notification, .. } = &record.key;
                        tracing::error!(view, notification, %error, "the status of a notification cannot be written into its table");
                        tables = &without_tables;
                    }
                }
                if self.give_up.within(RETRY_DELAY_MIN).await {
                    return false;
                }
            }
        }
        true
    }
}
