//! Reads and changes of deliveries and their attempts.

use std::sync::Arc;

use event::limits::NOTIFICATIONS_LOOKED_UP_MAX;
use event::{LogId, Millis};

use super::delivery::{
    AttemptRecord, DeliveryDecision, DeliveryKey, LeaseId, LeaseRequest, Leased, StoredAttempt,
    StoredDelivery, ViewTableLookup,
};
use super::{Cell, Store, StoreError};

const DELIVERIES: &str = "millrace_deliveries";
const DELIVERY_COLUMNS: &str = "view, notification, destination, state, due, failed, attempts, CASE WHEN lease IS NULL THEN 0 ELSE 1 END, updated";

/// Returns two texts between which the lanes of the hosts of a destination are. A space and the tilde enclose every host.
fn lanes_of_hosts(destination: &str) -> [String; 2] {
    [format!("{destination} "), format!("{destination} ~")]
}

impl Store {
    /// Leases deliveries that are due, the longest waiting first.
    pub async fn lease(&self, request: LeaseRequest) -> Result<Vec<Leased>, StoreError> {
        either!(self: Sqlite | Remote, store => store.lease(request).await)
    }

    /// Records what became of attempts, in one transaction. Ignores those whose lease somebody else has taken over.
    /// `tables` are the tables of the views, which show the status. Returns the ids of the changed notifications.
    pub async fn record_attempts(
        &self,
        records: Arc<Vec<AttemptRecord>>,
        tables: ViewTableLookup,
    ) -> Result<Vec<DeliveryKey>, StoreError> {
        either!(self: Sqlite | Remote, store => store.record_attempts(records, tables).await)
    }

    /// Carries out what a person has decided about a notification that could not be sent. Returns `false`, and changes
    /// nothing, if somebody else has decided meanwhile, or if nothing is left to send.
    pub async fn decide_delivery(&self, decision: DeliveryDecision) -> Result<bool, StoreError> {
        either!(self: Sqlite | Remote, store => store.decide_delivery(decision).await)
    }

    /// Makes the deliveries due that an earlier process of this node had leased.
    pub async fn end_leases_of(&self, owner: LogId) -> Result<usize, StoreError> {
        let sql =
            "UPDATE millrace_deliveries SET due = 0 WHERE state = 0 AND owner = ? AND lease IS NOT NULL";
        self.change(sql.to_owned(), vec![owner.into()]).await
    }

    /// Makes all waiting deliveries of a destination due, unless an attempt is being made now.
    pub async fn make_due(&self, destination: &str) -> Result<usize, StoreError> {
        let sql =
            "UPDATE millrace_deliveries SET due = 0 WHERE state = 0 AND destination = ? AND lease IS NULL";
        self.change(sql.to_owned(), vec![destination.into()]).await
    }

    /// Returns the lanes of the hosts of `destination` that have waiting deliveries, each with the milliseconds until one is
    /// due: the first ones after `after`, at most `count_max`.
    pub async fn lanes_after(
        &self,
        destination: &str,
        after: &str,
        count_max: usize,
    ) -> Result<Vec<(String, i64)>, StoreError> {
        let [first, end] = lanes_of_hosts(destination);
        let after = if after.is_empty() { first } else { after.to_owned() };
        // Each step jumps over all deliveries of a lane.
        let sql = format!(
            "WITH RECURSIVE lanes (lane, number) AS (\
             SELECT min(lane), 1 FROM millrace_deliveries WHERE state = 0 AND lane > ? AND lane < ? \
             UNION ALL SELECT (SELECT min(later.lane) FROM millrace_deliveries AS later \
             WHERE later.state = 0 AND later.lane > lanes.lane AND later.lane < ?), number + 1 \
             FROM lanes WHERE lanes.lane IS NOT NULL AND number < {count_max}) \
             SELECT lane, (SELECT min(first.due) FROM millrace_deliveries AS first \
             WHERE first.state = 0 AND first.lane = lanes.lane) - {} FROM lanes WHERE lane IS NOT NULL ORDER BY number",
            self.now_sql()
        );
        let mut parameters = vec![after.as_str().into(), end.as_str().into(), end.as_str().into()];
        parameters.extend(self.now_parameter());
        self.read(DELIVERIES, &sql, parameters).await
    }

    /// Makes the deliveries of a lease due, because nobody knows of them: the answer to the lease was lost.
    pub async fn end_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        let sql = "UPDATE millrace_deliveries SET due = 0 WHERE state = 0 AND lease = ?";
        self.change(sql.to_owned(), vec![lease.into()]).await.map(drop)
    }

    /// Returns the SQL of the time by which due times are measured.
    fn now_sql(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "?",
            Self::Remote(store) => store.now_sql(),
        }
    }

    /// Returns the parameter of that SQL, if it has one.
    fn now_parameter(&self) -> Option<Cell> {
        matches!(self, Self::Sqlite(_)).then(|| Millis::now().into())
    }

    /// Returns how many milliseconds remain until a delivery of this lane is due; `None` if none waits.
    pub async fn due_in(&self, lane: &str) -> Result<Option<i64>, StoreError> {
        let sql = format!(
            "SELECT min(due) - {} FROM millrace_deliveries WHERE lane = ? AND state = 0",
            self.now_sql()
        );
        let mut parameters: Vec<Cell> = self.now_parameter().into_iter().collect();
        parameters.push(lane.into());
        let due: Option<Option<i64>> = self.read_first(DELIVERIES, &sql, parameters).await?;
        Ok(due.flatten())
    }

    /// Returns the number of deliveries of a destination that wait, at most `count_max`.
    pub async fn waiting(&self, destination: &str, count_max: usize) -> Result<i64, StoreError> {
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 AS one FROM millrace_deliveries \
             WHERE state = 0 AND (lane = ? OR (lane > ? AND lane < ?)) LIMIT {count_max}) AS waiting"
        );
        let [first, end] = lanes_of_hosts(destination);
        let parameters = vec![destination.into(), first.as_str().into(), end.as_str().into()];
        Ok(self.read_first(DELIVERIES, &sql, parameters).await?.unwrap_or(0))
    }

    /// Returns the deliveries of a notification.
    pub async fn deliveries_of(
        &self,
        view: &str,
        notification: &str,
    ) -> Result<Vec<StoredDelivery>, StoreError> {
        let sql = format!(
            "SELECT {DELIVERY_COLUMNS} FROM millrace_deliveries WHERE notification = ? AND view = ? ORDER BY destination"
        );
        self.read(DELIVERIES, &sql, vec![notification.into(), view.into()]).await
    }

    /// Returns the deliveries for an event, of all views.
    pub async fn deliveries_at(&self, log: LogId, position: u64) -> Result<Vec<StoredDelivery>, StoreError> {
        let sql = format!(
            "SELECT {DELIVERY_COLUMNS} FROM millrace_deliveries WHERE log_id = ? AND part = 0 AND position = ? ORDER BY view, notification, destination"
        );
        self.read(DELIVERIES, &sql, vec![log.into(), position.into()]).await
    }

    /// Returns the ids of the notifications that `view` has for the events at `positions`.
    pub async fn notifications_at(
        &self,
        view: &str,
        log: LogId,
        positions: &[u64],
    ) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        for page in positions.chunks(NOTIFICATIONS_LOOKED_UP_MAX) {
            let marks = vec!["?"; page.len()].join(", ");
            let sql = format!(
                "SELECT DISTINCT notification FROM millrace_deliveries WHERE view = ? AND log_id = ? AND part = 0 AND position IN ({marks})"
            );
            let mut parameters: Vec<Cell> = vec![view.into(), log.into()];
            parameters.extend(page.iter().map(|position| Cell::from(*position)));
            found.extend(self.read::<String>(DELIVERIES, &sql, parameters).await?);
        }
        Ok(found)
    }

    /// Returns where the event of a notification is in the logs.
    pub async fn event_of_delivery(&self, key: &DeliveryKey) -> Result<Option<(LogId, u64)>, StoreError> {
        let sql = "SELECT log_id, position FROM millrace_deliveries WHERE notification = ? AND view = ? AND destination = ?";
        self.read_first(DELIVERIES, sql, key.cells().to_vec()).await
    }

    /// Returns the attempts at a notification, in the order of their times.
    pub async fn attempts_of(
        &self,
        view: &str,
        notification: &str,
    ) -> Result<Vec<StoredAttempt>, StoreError> {
        let sql = "SELECT destination, attempt, begun, duration, outcome, status, answer, error FROM millrace_attempts \
                   WHERE notification = ? AND view = ? ORDER BY begun, destination, attempt";
        self.read("millrace_attempts", sql, vec![notification.into(), view.into()]).await
    }

    /// Returns what is sent to a destination, until it is sent.
    pub async fn content_of(&self, key: &DeliveryKey) -> Result<Option<String>, StoreError> {
        let sql = "SELECT content FROM millrace_delivery_contents WHERE notification = ? AND view = ? AND destination = ?";
        self.read_first("millrace_delivery_contents", sql, key.cells().to_vec()).await
    }

    /// Deletes everything about deliveries of these notifications.
    pub async fn forget_deliveries(&self, view: &str, notifications: &[String]) -> Result<(), StoreError> {
        let marks = vec!["?"; notifications.len()].join(", ");
        let mut parameters: Vec<Cell> = vec![view.into()];
        parameters.extend(notifications.iter().map(|id| Cell::from(id.as_str())));
        let tables = ["millrace_delivery_contents", "millrace_attempts", DELIVERIES];
        let delete = |table| {
            let sql = format!("DELETE FROM {table} WHERE view = ? AND notification IN ({marks})");
            (sql, parameters.clone())
        };
        self.change_all(tables.map(delete).into()).await.map(drop)
    }

    /// Deletes attempts from before a time, some at a time. Returns whether there may be more.
    pub async fn forget_old_attempts(&self, before: Millis, rows_max: usize) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT notification, view, destination, attempt FROM millrace_attempts WHERE begun < ? ORDER BY begun LIMIT {rows_max}"
        );
        let old: Vec<(String, String, String, i64)> =
            self.read("millrace_attempts", &sql, vec![before.into()]).await?;
        let delete = "DELETE FROM millrace_attempts WHERE notification = ? AND view = ? AND destination = ? AND attempt = ?";
        let more = old.len() == rows_max;
        let statements = old.into_iter().map(|(notification, view, destination, attempt)| {
            let mut key: Vec<Cell> = [notification, view, destination].map(Cell::Text).into();
            key.push(Cell::Integer(attempt));
            (delete.to_owned(), key)
        });
        self.change_all(statements.collect()).await?;
        Ok(more)
    }
}
